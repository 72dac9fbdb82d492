"""open-clip/NAME@TAG: networks of pictures and texts of open_clip (extra open-clip).

    open-clip/ViT-B-32@laion2b_s34b_b79k      an architecture and the tag of its weights
    open-clip/ViT-B-32                        with the tag that the catalogue has for it
    open-clip/ViT-B-32?weights=FILE           with a checkpoint of one's own

As backbones they are their half that reads pictures, before the projection into the space that both
halves share where that is a matrix of its own; the other half reads texts, so that `as-is` and
`retrieval` judge them, too. Files come from open_clip's own downloads, read with weights_only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import MissingWeights, Unsupported, UserError, missing_extra, opening
from zoobench.files import expanded
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints, options, two_towers
from zoobench.models.backbones import ImageBackbone, finish, seeded
from zoobench.models.catalog import ZERO_SHOT
from zoobench.models.text import quiet
from zoobench.models.torchvision_ import forward
from zoobench.schema import ModelCard, Ref
from zoobench.views import TextTower

if TYPE_CHECKING:
    import torch

SOURCE, POOL = "open-clip", "pooled"
OPTIONS = ("weights", "input_size", "mean", "std", "interpolation", "pool")
LIBRARIES = ("open_clip_torch", "torchvision", "pillow")
DATA = {"laion2b": "LAION-2B", "webli": "WebLI", "openai": "WIT-400M"}
CATALOGUE: Mapping[str, tuple[str, str]] = {
    "RN50": ("openai", "MIT"),
    "ViT-B-32": ("laion2b_s34b_b79k", "MIT"),
    "ViT-B-16": ("laion2b_s34b_b88k", "MIT"),
    "ViT-L-14": ("laion2b_s32b_b82k", "MIT"),
    "convnext_base_w": ("laion2b_s13b_b82k", "MIT"),
    "ViT-B-16-SigLIP": ("webli", "Apache-2.0"),
    "ViT-B-16-SigLIP2": ("webli", "Apache-2.0"),
}
"""Architecture -> the tag of its weights where none is named, and their licence."""


def cards() -> tuple[ModelCard, ...]:
    return tuple(_card(Ref(SOURCE, name, tag)) for name, (tag, _) in CATALOGUE.items())


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref."""
    return _card(ref)


def _card(ref: Ref) -> ModelCard:
    tag, license = CATALOGUE.get(ref.name, ("", "unknown"))  # noqa: A001
    known = ref.revision == tag
    data = next((said for start, said in DATA.items() if ref.revision.startswith(start)), "unknown")
    return ModelCard(
        SOURCE, ref.name, "image", ref.revision, "downloaded by open_clip", pretrained_on=data,
        license=license if known else "unknown", family="clip", zero_shot=ZERO_SHOT,
    )  # fmt: skip


def architectures() -> list[str]:
    """The names that open_clip has a configuration for, read from its folder without importing it.
    Raises MissingExtra."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        raise missing_extra("open_clip", SOURCE, "a network of open_clip")
    return sorted(
        path.stem for path in (Path(found.origin).parent / "model_configs").glob("*.json")
    )


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for an unknown architecture or option, or one whose weights nobody names;
    MissingExtra. A tag is looked up when it is loaded."""
    at = opening(where)
    options.check_names(ref, where, OPTIONS)
    if ref.name not in (known := architectures()):
        raise errors.unknown(where, "model", ref.id, [f"{SOURCE}/{name}" for name in known])
    weights = ref.option("weights", "pretrained")
    if weights not in ("pretrained", "random") and ref.revision:
        raise UserError(f"{at}{ref.id}: its weights are a tag or a file, not both")
    if weights == "pretrained" and not ref.revision:
        if ref.name not in CATALOGUE:
            raise UserError(
                f"{at}{ref.id}: say the tag of its weights, {SOURCE}/{ref.name}@TAG, as "
                "open_clip.list_pretrained() names them"
            )
        ref = ref.at(CATALOGUE[ref.name][0])
    return options.normalise(options.refuse_folder(ref, where), where, "image", {}, (POOL,))


def available(ref: Ref) -> tuple[bool, str]:
    """Whether it can be loaded without a download, and how it is got."""
    weights = str(ref.option("weights", "pretrained"))
    if weights != "pretrained":
        return expanded(weights).is_file(), f"local {weights}"
    if importlib.util.find_spec("open_clip") is None:
        return False, f"needs pip install 'zoobench[{SOURCE}]'"
    return False, "downloaded by open_clip when it is loaded"


def load(ref: Ref, seed: int) -> ImageBackbone:
    """Raises MissingExtra, MissingWeights where they cannot be had, Unsupported for those of
    another network, UnknownName for a tag."""
    architectures()
    import open_clip

    weights = str(ref.option("weights", "pretrained"))
    tags = open_clip.list_pretrained_tags_by_model(ref.name)
    if weights == "pretrained" and ref.revision not in tags:
        raise errors.unknown("", "weights", ref.revision, tags, f"of {SOURCE}/{ref.name}")
    provenance: dict[str, Any] = {"weights": weights, "revision": ref.revision}
    own = weights not in ("pretrained", "random")
    if own:
        provenance |= checkpoints.facts(expanded(weights))
    side = ref.option("input_size")
    try:
        with seeded(seed), quiet():
            whole: Any = open_clip.create_model(
                ref.name, pretrained=ref.revision if weights == "pretrained" else None,
                pretrained_text=False, weights_only=True, force_image_size=side,
            )  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: files, hubs and their libraries are strangers'
        why = errors.one_line(error)
        raise MissingWeights(f"{ref.short}: its weights cannot be had: {why}") from error
    if own:
        state = checkpoints.read(expanded(weights))
        dropped = checkpoints.fit(whole, state, f"{weights} into {ref.short}")
        provenance |= {"dropped_keys": list(dropped)} if dropped else {}
    whole = whole.float().eval()
    transform, spec = _preprocessing(open_clip, whole, ref)
    module = whole.visual
    # A matrix behind the pooled features is the way into the shared space, and no part of them.
    matrix = getattr(module, "proj", None)
    if matrix is not None:
        module.proj = None
    made = ImageBackbone(module, spec, POOL, transform, forward)
    made.reads_texts = partial(_tower, ref.name, whole, matrix)
    return finish(made, provenance, LIBRARIES)


def _preprocessing(open_clip: Any, whole: Any, ref: Ref) -> tuple[Any, InputSpec]:
    """The transform from a picture to (3, H, W), and what it makes."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    told = dict(open_clip.get_model_preprocess_cfg(whole))
    told |= {name: value for name, value in ref.options if name in ("mean", "std", "interpolation")}
    how = PreprocessCfg(**told)
    size = (3, how.size, how.size) if isinstance(how.size, int) else (3, *how.size)
    if how.interpolation not in ("bilinear", "bicubic"):
        raise Unsupported(f"{ref.short}: open_clip resizes by bilinear or bicubic alone")
    spec = InputSpec(
        modality="image", size=size, mean=tuple(how.mean), std=tuple(how.std),
        interpolation=how.interpolation, extra=(("resize", how.resize_mode),),
    )  # fmt: skip
    return image_transform_v2(how, is_train=False), spec


def _tower(name: str, whole: Any, matrix: torch.Tensor | None) -> TextTower:
    """The half that reads texts. Raises MissingWeights where its tokenizer cannot be had."""
    import open_clip

    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # of many kinds: some are downloaded
        why = errors.one_line(error)
        raise MissingWeights(f"{SOURCE}/{name}: its tokenizer cannot be had: {why}") from error
    bias = whole.logit_bias
    return TextTower(
        embed=partial(_embed, whole, tokenizer),
        project=partial(_project, matrix),
        scale=float(whole.logit_scale.detach().exp()),
        bias=float(bias.detach()) if bias is not None else 0.0,
    )


def _embed(whole: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """(K, E) float32 of texts, which are cut at the network's length."""
    import torch

    found = []
    for first in range(0, len(texts), two_towers.TOGETHER):
        batch = list(texts[first : first + two_towers.TOGETHER])
        with torch.inference_mode():
            found.append(whole.encode_text(tokenizer(batch)).float())
    return torch.cat(found)


def _project(matrix: torch.Tensor | None, features: torch.Tensor) -> torch.Tensor:
    """(N, E) float32 of pooled pictures."""
    return features.float() if matrix is None else features.float() @ matrix.detach()
