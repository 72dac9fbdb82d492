"""Architectures to count: the published network with its own head, without its weights.

timm and torchvision networks are built with their parameters on the meta device; every
other source goes through `zoobench.models` and is counted as the features that it gives.
"""

from __future__ import annotations

import fnmatch
import gc
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from zoobench.costs.counted import batch_of, seconds_heard, sequence_length, shapes
from zoobench.costs.known import SOURCES
from zoobench.errors import UserError, unknown
from zoobench.features.incoming import to_device
from zoobench.schema import Ref

NETWORKS = ("timm", "torchvision")
"""Sources whose networks are built from torch's own code alone, with their heads."""

T = TypeVar("T")


@dataclass(frozen=True)
class Architecture:
    """`build()` gives a module in eval mode, `inputs(device)` the arguments of its call.

    `scope` says what a count of it holds; `meta` is False where it must be built for real; `call`
    is what runs it, the module itself where None. `seconds` are those of sound in its input.
    """

    name: str
    scope: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[torch.device], tuple[Any, ...]]
    shape: Any
    sequence_length: int | None = None
    seconds: float | None = None
    meta: bool = True
    call: Callable[..., Any] | None = None

    def built(self, run: Callable[[torch.nn.Module, torch.device], T]) -> T:
        """What `run` gives of the network: on meta where it lets us, else for real on the CPU."""
        if self.meta:
            try:
                with Lean():
                    module = self.build()
                return run(module.to("meta"), torch.device("meta"))
            except Exception:  # noqa: BLE001 - it reads values or mixes devices: many kinds of error
                gc.collect()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return run(self.build(), torch.device("cpu"))


def architecture(
    ref: Ref,
    input_size: tuple[int, int] | None = None,
    seq_len: int | None = None,
    weights: bool = False,
) -> Architecture:
    """The architecture that `ref` names, at (height, width) or `seq_len` tokens if given.

    With `weights` these are loaded, and what is counted are the features. Raises UserError for
    an unknown source or name, and for a size that it cannot have.
    """
    if input_size is not None and min(input_size) < 1:
        raise UserError(f"{ref.id}: the input size must be positive, not {input_size}")
    if weights or ref.source not in NETWORKS:
        return _loaded(ref, input_size, seq_len, weights)
    if seq_len is not None:
        raise UserError(f"{ref.id}: a sequence length is for text models; this one reads pictures")
    return _timm(ref, input_size) if ref.source == "timm" else _torchvision(ref, input_size)


def names(source: str, pattern: str = "*") -> list[str]:
    """Names of `source` that match any of the globs in `pattern` (commas between), sorted.

    Raises UserError for another source, and where nothing matches.
    """
    if source not in SOURCES:
        raise unknown("profile", "source to sweep", source, SOURCES)
    every = _names_of(source)
    globs = [glob.strip() for glob in pattern.split(",")]
    found = sorted(n for n in every if any(fnmatch.fnmatchcase(n, glob) for glob in globs))
    if not found:
        raise unknown("profile", f"{source} model", pattern, every)
    return found


def _names_of(source: str) -> tuple[str, ...]:
    from zoobench import models

    if source == "timm":
        return _timm_names()
    if source == "torchvision":
        return tuple(_torchvision_names())
    return tuple(card.name for card in models.list_cards(f"{source}/*"))


class Lean(TorchFunctionMode):
    """Tensors made by `torch.empty` without a device go to meta; the rest are real.

    Parameters are made so, while small values that a constructor reads (drop rates,
    window indices) come from other functions and stay readable. Random filling of a meta
    tensor costs nothing.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def quiet() -> AbstractContextManager[Any]:
    """Without the warnings that other libraries raise while a network is built."""
    return warnings.catch_warnings(action="ignore")


def _noise(shape: tuple[int, ...]) -> Callable[[torch.device], tuple[Any, ...]]:
    """(1, *shape) uniform noise, the same at every call."""

    def make(device: torch.device) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(0)
        return (torch.rand((1, *shape), generator=generator).to(device),)

    return make


@cache
def _timm_names() -> tuple[str, ...]:
    with quiet():
        import timm

        return tuple(timm.list_models())


def _timm(ref: Ref, input_size: tuple[int, int] | None) -> Architecture:
    with quiet():
        from timm.models import get_pretrained_cfg

    base = ref.name.partition(".")[0]
    if base not in _timm_names():
        raise unknown("", "timm model", ref.name, _timm_names())
    known = get_pretrained_cfg(ref.name if "." in ref.name else base, allow_unregistered=True)
    published = tuple(known.input_size) if known is not None else (3, 224, 224)
    size = (published[0], *input_size) if input_size else published

    def build() -> torch.nn.Module:
        import timm

        # Only a size that is not the published one: not every network takes any.
        other = {"img_size": size[1:]} if size != published else {}
        try:
            module: torch.nn.Module = timm.create_model(ref.name, pretrained=False, **other)
        except TypeError as error:  # a network of any size has no such argument
            if "img_size" not in str(error):
                raise
            module = timm.create_model(ref.name, pretrained=False)
        return module.eval()

    return Architecture(str(ref), "network with its head", build, _noise(size), [1, *size])


DETECTION_SIZE = (800, 800)
"""Where a detector's weights state no size; it resizes its input by its own rule."""


@cache
def _torchvision_names() -> dict[str, str]:
    """name -> classification, detection or segmentation."""
    from torchvision import models

    modules = {"classification": models, "detection": models.detection}
    modules["segmentation"] = models.segmentation
    return {
        name: kind for kind, module in modules.items() for name in models.list_models(module=module)
    }


def torchvision_size(name: str) -> tuple[int, int]:
    """(height, width) that the default weights were measured at."""
    from torchvision import models

    kind = _torchvision_names()[name]
    if kind == "detection":
        own = re.search(r"(?:ssd|ssdlite)(\d+)_", name)
        return (int(own[1]), int(own[1])) if own else DETECTION_SIZE
    weights = getattr(models.get_model_weights(name), "DEFAULT", None)
    options = getattr(getattr(weights, "transforms", None), "keywords", {})
    side = options.get("crop_size") or options.get("resize_size") or 224
    side = side[0] if isinstance(side, (list, tuple)) else side
    return int(side), int(side)


def _torchvision(ref: Ref, input_size: tuple[int, int] | None) -> Architecture:
    from torchvision import models

    kinds = _torchvision_names()
    if ref.name not in kinds:
        raise unknown("", "torchvision model", ref.name, kinds)
    size = input_size or torchvision_size(ref.name)
    options: dict[str, Any] = {"weights": None}
    if kinds[ref.name] != "classification":
        options["weights_backbone"] = None
        if kinds[ref.name] == "segmentation" and not ref.name.startswith("lraspp"):
            options["aux_loss"] = True  # as in the network that the weights are for
    elif ref.name.startswith("vit_"):
        if size[0] != size[1]:
            raise UserError(f"{ref.id}: takes square pictures only, not {size[0]} x {size[1]}")
        options["image_size"] = size[0]
    elif ref.name in ("inception_v3", "googlenet"):
        options["init_weights"] = False  # minutes of scipy, for values that nobody reads
        # Its weights come without the auxiliary heads; Inception's come with them.
        options["aux_logits"] = ref.name == "inception_v3"

    def build() -> torch.nn.Module:
        module: torch.nn.Module = models.get_model(ref.name, **options)
        return module.eval()

    noise = _noise((3, *size))

    def pictures(device: torch.device) -> tuple[Any, ...]:
        return (list(noise(device)[0]),)

    inputs = pictures if kinds[ref.name] == "detection" else noise
    scope = f"{kinds[ref.name]} network with its head"
    return Architecture(str(ref), scope, build, inputs, [1, 3, *size])


def sized(ref: Ref, input_size: tuple[int, int] | None, seq_len: int | None) -> Ref:
    """`ref` with the options that zoobench.models knows for a size. Raises UserError."""
    if input_size is not None:
        if input_size[0] != input_size[1]:
            raise UserError(f"{ref.id}: takes square pictures only")
        ref = ref.with_options(input_size=input_size[0])
    return ref if seq_len is None else ref.with_options(length=seq_len)


def _loaded(
    ref: Ref, input_size: tuple[int, int] | None, seq_len: int | None, weights: bool
) -> Architecture:
    """What `zoobench.models` gives for `ref`, run for real; without `weights` random ones."""
    from zoobench import models
    from zoobench.models.weights import drawable, untrained

    ref = sized(ref, input_size, seq_len)
    if not weights and drawable(ref):
        ref = untrained(ref)
    backbone = models.load(models.resolve(ref))
    batch = batch_of(backbone, 1)
    return Architecture(
        name=ref.without("weights", "configuration").short,
        scope="features",
        build=lambda: backbone.module,
        inputs=lambda device: (to_device(batch, device),),
        shape=shapes(batch),
        sequence_length=sequence_length(batch),
        seconds=seconds_heard(backbone.input_spec),
        meta=False,
        call=backbone.embed,
    )
