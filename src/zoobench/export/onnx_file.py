"""A pretrained model as one file of ONNX that says itself how pictures become its input.

What was written is read back as `onnx/...` and asked with fixed pictures: nothing is left where it
prepares them otherwise, or its features are others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import models
from zoobench.errors import StoreError, UserError, ZoobenchError, one_line
from zoobench.features.fingerprint import pictures
from zoobench.models import graphs, onnx_export, onnx_session
from zoobench.models.backbones import ImageBackbone
from zoobench.models.classifier_ import NAME as CLASSIFIER
from zoobench.models.onnx_description import KEY, OnnxDescription, OnnxTransform
from zoobench.models.onnx_graph import LARGEST
from zoobench.schema import ModelCard, Ref
from zoobench.usability.subject import apart

if TYPE_CHECKING:
    import torch

CLOSE = 1e-4
"""Relative distance that features may have after the way through the file."""


@dataclass(frozen=True)
class OnnxExport:
    """What was written: the file, its bytes, the relative distance of its features from the
    model's own on fixed pictures, and of how many classes it gives scores too."""

    path: Path
    model: Ref
    bytes: int
    distance: float
    classes: int
    license: str


def export(name: str, path: Path) -> OnnxExport:
    """Write the model called `name` to the new file `path`.

    Raises UserError for a model that is none of pictures, that the exporter does not take, or that
    does not come back as it was; CellError where it cannot be loaded; MissingExtra.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already; nothing was written")
    onnx_session.require("zoobench export")
    ref = models.resolve(name)
    card = models.card(ref)
    if card.modality != "image" or card.answers:
        kind = "a complete model" if card.answers else f"a model of {card.modality}"
        raise UserError(f"{ref.short}: backbones of pictures are exported, and it is {kind}")
    ref = models.pin(ref)
    backbone = models.load(ref)
    if not isinstance(backbone, ImageBackbone):
        raise UserError(f"{ref.short}: it is a plug-in's own, which nothing here exports")
    model = _graph(backbone, ref)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, _description(backbone, ref, card, model).text()
    if model.ByteSize() > LARGEST:
        raise UserError(f"{ref.short}: a file of ONNX holds no more than {LARGEST} bytes")
    new = path.with_name(f".{secrets.token_hex(8)}.onnx")
    try:
        new.write_bytes(model.SerializeToString(deterministic=True))
        distance = _distance(backbone, new)
        os.replace(new, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)
    head = backbone.source_head
    classes = head.out_features if head is not None else 0
    return OnnxExport(path, ref, path.stat().st_size, distance, classes, card.license)


def _graph(backbone: ImageBackbone, ref: Ref) -> Any:
    """An onnx.ModelProto from "pixels" to "features" and, where there is a head, "scores"."""
    if kind := graphs.kind_of(backbone.module):
        if kind != onnx_session.KIND:
            what = f"a graph of {graphs.KINDS[kind].title}, which is not turned into ONNX here"
            raise UserError(f"{ref.short}: it is {what}")
        return onnx_session.graph_of(backbone.module)
    head = backbone.source_head
    outputs = ["features", *(["scores"] if head is not None else [])]
    try:
        return onnx_export.exported(
            onnx_export.embedding(backbone, head), backbone.input_spec, outputs
        )
    except (ZoobenchError, MemoryError):
        raise
    except Exception as error:  # of any kind: networks and exporters are strangers'
        raise UserError(f"{ref.short}: it cannot be exported ({one_line(error)})") from error


def _description(backbone: ImageBackbone, ref: Ref, card: ModelCard, model: Any) -> OnnxDescription:
    spec = backbone.input_spec
    outputs = [one.name for one in model.graph.output]
    weights = ref.option("weights", "pretrained")
    own = weights == "pretrained"  # of a checkpoint of somebody's nobody knows more
    origin = "nothing: random weights" if weights == "random" else "unknown"
    try:
        transform = OnnxTransform(
            spec.size or (0, 0, 0), _three(spec.mean), _three(spec.std), spec.interpolation,
            spec.crop_pct, spec.crop_mode or "center",
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{ref.short}: a file of ONNX cannot say its preprocessing") from error
    return OnnxDescription(
        ref.private.text, transform, outputs[0], card.family,
        license=card.license if own else "unknown",
        pretrained_on=card.pretrained_on if own else origin,
        scores="scores" if "scores" in outputs else "",
        labels=_labels(ref, backbone.source_head) if "scores" in outputs else (),
    )  # fmt: skip


def _labels(ref: Ref, head: Any) -> tuple[str, ...]:
    """What the classes of the head are called; () where nobody says it."""
    name = Ref(CLASSIFIER, f"{ref.source}/{ref.name}", ref.revision, ref.options)
    with contextlib.suppress(ZoobenchError):
        found: Any = models.load(models.resolve(name))
        if len(found.labels) == getattr(head, "out_features", None):
            return tuple(found.labels)
    return ()


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    one, two, three = values
    return one, two, three


def _distance(backbone: ImageBackbone, path: Path) -> float:
    """How far the features of the file at `path` are from the backbone's own. Raises UserError
    where they are not the same, or pictures become another input."""
    import torch

    back: Any = models.load(models.resolve(Ref("onnx", "back", options=[("path", str(path))])))
    raws = pictures()
    batch = backbone.collate([backbone.prepare(raw) for raw in raws])
    again: torch.Tensor = back.collate([back.prepare(raw) for raw in raws])
    if batch.shape != again.shape or not torch.allclose(batch, again, atol=1e-5):
        raise UserError("a file of ONNX cannot say its preprocessing: nothing was written")
    with torch.no_grad():
        distance = apart(backbone.embed(batch), back.embed(again))
    if distance > CLOSE:
        raise UserError(f"read back, its features are off by {distance:.1e}: nothing was written")
    return distance
