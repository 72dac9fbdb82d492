"""The config.json of a timm repository, as far as it is believed.

It is a stranger's: what it may say is which of timm's own architectures to build, with which
sizes, numbers and names of layers, and how pictures are prepared. Where the weights lie is
never its to say: keys such as `url`, `file`, `hf_hub_id` and `source` are not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoobench import errors
from zoobench.errors import MissingWeights, Unsupported
from zoobench.models import folders

WORD = re.compile(r"[A-Za-z0-9_.-]{0,64}")
LARGEST = 2**16
"""No width, depth or size of a model is above it."""
BARRED = (
    "cache_dir", "cfg", "checkpoint_path", "device", "dtype", "exportable", "feature_cls",
    "features_only", "kwargs_filter", "model_cfg", "model_cls", "model_name", "no_jit",
    "out_indices", "pruned", "scriptable", "variant",
)  # fmt: skip
"""Arguments of timm's constructors that are not an architecture's own, beside `pretrained...`."""
NAMED = ("_layer", "_type", "_pool", "_init", "_embed", "_norm", "_mode", "_token")
"""Endings of the arguments that may be a word: the name of a layer, a pooling, a scheme."""


def _number(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return True
    return isinstance(value, (int, float)) and math.isfinite(value) and abs(value) <= LARGEST


def _numbers(value: Any) -> bool:
    """A number, or lists of them as deep as timm has any."""
    if isinstance(value, list):
        return len(value) <= 256 and all(
            _number(item)
            or (isinstance(item, list) and len(item) <= 256 and all(map(_number, item)))
            for item in value
        )
    return _number(value)


def _size(value: Any) -> bool:
    """(channels, height, width)."""
    whole = isinstance(value, list) and len(value) == 3 and all(type(x) is int for x in value)
    return whole and 1 <= value[0] <= 64 and all(8 <= side <= 8192 for side in value[1:])


def _channels(positive: bool) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        listed = isinstance(value, list) and 1 <= len(value) <= 64 and all(map(_number, value))
        return listed and all(type(x) in (int, float) and (x > 0 or not positive) for x in value)

    return check


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 2


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


def _words(value: Any) -> bool:
    """The name of a module, or several."""
    listed = value if isinstance(value, list) else [value]
    return all(isinstance(item, str) and WORD.fullmatch(item) is not None for item in listed)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**22


FIELDS: dict[str, Callable[[Any], bool]] = {
    "input_size": _size,
    "test_input_size": _size,
    "min_input_size": _size,
    "fixed_input_size": lambda value: isinstance(value, bool),
    "interpolation": _one_of("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "crop_pct": _share,
    "test_crop_pct": _share,
    "crop_mode": _one_of("center", "squash", "border"),
    "mean": _channels(positive=False),
    "std": _channels(positive=True),
    "num_classes": _count,
    "label_offset": _count,
    "pool_size": _numbers,
    "test_pool_size": _numbers,
    "first_conv": _words,
    "classifier": _words,
}
"""What is read of a `pretrained_cfg`, and what it may be. All else is passed over."""


def read(path: Path, what: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(architecture, pretrained_cfg, model arguments) of a repository's config.json.

    `what` names the model in messages. Raises MissingWeights where the file is not there or
    damaged, Unsupported where it asks for anything but an architecture of timm's.
    """
    body = folders.read_json(path)
    if body is None:
        raise MissingWeights(f"{what}: {path.parent} holds no config.json")
    return checked(body, f"{what}: its config.json")


def checked(body: Any, at: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """`read`, of what a file holds that messages call `at`. Raises Unsupported."""
    import timm

    if not isinstance(body, Mapping) or not isinstance(body.get("architecture"), str):
        raise Unsupported(f"{at} is not timm's: it names no architecture")
    name = body["architecture"].partition(".")[0]
    if not WORD.fullmatch(name) or not timm.is_model(name):
        raise Unsupported(f"{at}: {errors.unknown('', 'architecture', name, timm.list_models())}")
    inner = body.get("pretrained_cfg") or body
    arguments = body.get("model_args") or {}
    if not isinstance(inner, Mapping) or not isinstance(arguments, Mapping):
        raise Unsupported(f"{at}: pretrained_cfg or model_args is not a table")
    told = {**inner, **{k: body[k] for k in ("num_classes",) if k in body}}
    config = {k: told[k] for k in FIELDS if told.get(k) is not None}
    for key, value in config.items():
        if not FIELDS[key](value):
            raise Unsupported(f"{at}: {key} = {value!r} is not supported")
    for key, value in arguments.items():
        if not _allowed(key, value):
            raise Unsupported(f"{at}: model_args: {key} = {value!r} is not supported")
    _agree(config, arguments, at)
    return name, config, dict(arguments)


def _allowed(key: str, value: Any) -> bool:
    if key in BARRED or key.startswith("pretrained") or not key.isidentifier():
        return False
    if isinstance(value, str):
        return key.endswith(NAMED) and WORD.fullmatch(value) is not None
    return _numbers(value)


def _agree(config: Mapping[str, Any], arguments: Mapping[str, Any], at: str) -> None:
    """Raises Unsupported where both say something, and not the same: timm would then load the
    weights loosely, and leave at random what does not fit."""
    size = config.get("input_size")
    for key, said in (
        ("num_classes", config.get("num_classes")),
        ("in_chans", size[0] if size else 3),
    ):
        asked = arguments.get(key)
        if asked is not None and said is not None and asked != said:
            raise Unsupported(
                f"{at}: model_args: {key} = {asked!r} where the weights have {said!r}"
            )
