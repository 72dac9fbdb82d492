"""What timm says of its own models, as cards: slow, since it imports timm (see index)."""

from __future__ import annotations

from typing import Any

from zoobench.models import index
from zoobench.schema import ModelCard

SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-4.0": "CC-BY-4.0",
}
CORPORA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-Aesthetic",
    "datacompxl": "DataComp-XL",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
    "yfcc15m": "YFCC-15M",
    "cc12m": "CC-12M",
    "m38m": "Merged-38M",
    "merged2b": "Merged-2B",
    "inat21": "iNaturalist-2021",
}
"""Words of timm's tags -> what the weights saw; another word says nothing about data."""


def cards() -> tuple[ModelCard, ...]:
    import timm

    tagged = timm.list_models(pretrained=True)
    bare = {timm.get_pretrained_cfg(name).architecture for name in tagged}
    only_random = [name for name in timm.list_models() if name not in bare]
    return tuple(_card(name) for name in (*tagged, *only_random))


def _card(name: str) -> ModelCard:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    architecture = (config.architecture if config else "") or name.partition(".")[0]
    extra: list[tuple[str, Any]] = [("architecture", architecture)]
    where, first = "none (random weights only)", True
    if config is not None:
        default = timm.get_pretrained_cfg(architecture)
        first = "." not in name or default.tag == config.tag
        extra += [("input_size", config.input_size[-1]), ("crop_pct", config.crop_pct)]
        extra += [("interpolation", config.interpolation)]
        if config.hf_hub_id:
            extra += [("hub", config.hf_hub_id), ("file", config.hf_hub_filename or "")]
            where = f"Hugging Face hub {config.hf_hub_id}"
        elif config.url:
            extra.append(("url", config.url))
            where = config.url
    if first:
        extra.append(("default", True))
    license_ = (config.license if config else None) or "unknown"
    return ModelCard(
        source="timm",
        name=name,
        modality="image",
        weights=where,
        pretrained_on=pretrained_on((config.tag if config else "") or ""),
        license=SPDX.get(license_, license_),
        family=index.family(architecture),
        extra=tuple((k, v) for k, v in extra if v not in ("", None)),
    )


def pretrained_on(tag: str) -> str:
    """ "augreg_in21k_ft_in1k" -> "ImageNet-21k, ImageNet-1k"; "unknown" when no word is known."""
    found = dict.fromkeys(CORPORA[word] for word in tag.split("_") if word in CORPORA)
    return ", ".join(found) or "unknown"
