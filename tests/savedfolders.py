"""Saved folders made by hand: of any model that loads, with a head that nobody fitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zoobench import models
from zoobench.export.save import write_network
from zoobench.models import variants

NEEDS = {
    "int8-weight": ("torchao",),
    "int8-dynamic": ("torchao",),
    "int8-static": ("onnx", "onnxscript", "onnxruntime"),
    "onnx": ("onnx", "onnxruntime"),
}
"""What makes and runs a variant, or a model that is a graph, beside torch."""


def describe(library: str, model: Any, classes: list[str]) -> dict[str, Any]:
    expected = {"metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    return {
        "format": 1, "library": library, "task": "classification", "classes": classes,
        "expected": expected, "cell": {}, "model": model,
    }  # fmt: skip


def change(folder: Path, **fields: Any) -> None:
    """Of predict.json; a name with __ is one of its table `model`."""
    path = folder / "predict.json"
    body = json.loads(path.read_text("utf-8"))
    for name, value in fields.items():
        if name.startswith("model__"):
            inside = body["model"]
            *outer, last = name.removeprefix("model__").split("__")
            for key in outer:
                inside = inside[key]
            inside[last] = value
        else:
            body[name] = value
    path.write_text(json.dumps(body), encoding="utf-8")


def of_backbone(name: str, folder: Path, variant: str = "") -> Path:
    """A folder as `save` writes it, of a model with a head of ones.

    A variant that is calibrated is so on noise.
    """
    backbone: Any = models.load(models.resolve(name))
    blueprint = backbone.blueprint
    if variant:
        backbone = variants.made(backbone, variant, noise(backbone))
    folder.mkdir()
    beside = write_network(backbone, variant, folder)
    head = {"weight": torch.ones(2, backbone.feature_dim).double(), "bias": torch.zeros(2).double()}
    save_file({**head, **beside}, folder / "head.safetensors")
    body = describe(blueprint.library, dict(blueprint.settings), ["yes", "no"])
    body |= {"variant": variant} if variant else {}
    (folder / "predict.json").write_text(json.dumps(body), encoding="utf-8")
    return folder


def noise(backbone: Any) -> list[torch.Tensor]:
    """A batch of 8 pictures to calibrate on; none of a model of texts."""
    size = backbone.input_spec.size
    drawn = torch.Generator().manual_seed(0)
    return [torch.randn(8, *size, generator=drawn)] if size else []
