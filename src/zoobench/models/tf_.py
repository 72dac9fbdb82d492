"""tf/NAME?path=FOLDER: a SavedModel of TensorFlow, frozen, by one of its signatures (extra
tensorflow), as TensorFlow, Keras's `export` and the hubs of TensorFlow and Kaggle write them.

Its features are what its last linear layer reads, its one output where there is no such layer, or
the output or operator that the option `tap` names. A folder may stand for the whole name
(tf/FOLDER). The revision is a digest of the graph and its variables. Nothing trains it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from zoobench.errors import MissingWeights, Unsupported, UserError, missing_extra, opening
from zoobench.models import folders, graphs, options, picture_inputs
from zoobench.models.backbones import ImageBackbone, finish
from zoobench.models.checkpoints import sha256_file
from zoobench.models.weights import FROZEN, content_digest
from zoobench.schema import ModelCard, Ref

OPTIONS = (
    "path", "signature", "tap", "pool", "channels", *picture_inputs.OPTIONS, "family", "labels"
)  # fmt: skip
POOLS = ("avg", "max", "cls")
"""How features of places or tokens become one vector; a graph that pools itself needs none."""
BUILDS = ("tensorflow-cpu", "tensorflow", "tensorflow-intel", "tensorflow-rocm")
"""Packages that TensorFlow comes as."""


class TensorFlowCut(NamedTuple):
    """A graph that was cut, as a module, and what belongs to it."""

    module: Any
    spec: Any
    transform: Any
    provenance: dict[str, Any]


available = folders.available


def cards() -> tuple[ModelCard, ...]:
    return ()


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref; a SavedModel says nothing of its licence or its data."""
    family = str(ref.option("family", ref.name))
    return ModelCard(
        "tf", ref.name, "image", ref.revision, "a SavedModel of TensorFlow", family=family,
        extra=((FROZEN, True),),
    )  # fmt: skip


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for a folder that is none, or another one than the revision says,
    UnknownName for an option, MissingExtra. TensorFlow is not imported: what the graph holds is
    seen when it is loaded."""
    at = opening(where)
    if ref.option("weights") == "pretrained":
        ref = ref.without("weights")
    options.check_names(ref, where, OPTIONS)
    folder = folders.located(ref)
    if not folder.is_dir():
        raise UserError(f"{at}{ref.id}: there is no folder {folder}: say path=FOLDER")
    if importlib.util.find_spec("tensorflow") is None:
        raise missing_extra("tensorflow", "tensorflow", f"{at}{ref.id}")
    with folders.looked_at(at):
        revision = _revision(ref, folder)
    if ref.revision not in ("", revision):
        raise UserError(f"{at}{folder}: its content is not that of {ref.id}@{ref.revision}")
    resolved = options.normalise(ref, where, "image", {}, POOLS, OPTIONS)
    name = Path(os.path.abspath(ref.name)).name or "tf"
    # Absolute: a suite is read again from other folders.
    named = Ref("tf", name, revision, resolved.options)
    return named.with_options(path=os.path.abspath(folder))


def load(ref: Ref, seed: int) -> ImageBackbone:
    """Raises Unsupported, MissingWeights where the folder is not what it was when it was named,
    UnknownName, MissingExtra."""
    from zoobench.models import tf_taps

    if ref.option("weights", "pretrained") != "pretrained":
        raise Unsupported(f"{ref.short}: of a SavedModel there are no random weights")
    read = _read(ref)
    said, pool = str(ref.option("tap", "")), str(ref.option("pool", ""))
    tap = tf_taps.features_of(read, said, folders.located(ref))
    module, spec, transform, provenance = _cut(ref, read, tap)
    pooling = f"the value {said}" if said else "input of the last linear layer"
    pooling = "its output" if tap in read.outputs.values() else pooling
    pooling = f"{pool} of {pooling}" if pool else pooling
    made = ImageBackbone(module, spec, pooling, transform, partial(graphs.pooled, pool, 3))
    return finish(made, provenance, libraries())


def libraries() -> tuple[str, ...]:
    """What computes with the graph and prepares its pictures, for a record."""
    for build in BUILDS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(build)
            return (build, "timm", "torchvision")
    return ("timm", "torchvision")


def classifier(ref: Ref) -> tuple[TensorFlowCut, tuple[str, ...], bool]:
    """What `ref` is cut to as a complete classifier, its labels, and whether any number of them may
    be true. Raises as `load` and `labels` do."""
    from zoobench.models import tf_taps

    named = labels(ref)
    read, folder = _read(ref), folders.located(ref)
    tap, several = tf_taps.scores_of(read, str(ref.option("tap", "")), folder)
    return _cut(ref, read, tap), named, several


def labels(ref: Ref) -> tuple[str, ...]:
    """The labels of a resolved ref's classes. Raises Unsupported where nobody says them."""
    if (name := ref.option("labels")) is None:
        raise Unsupported(
            f"{ref.short}: nobody says what its classes are called: name a file of its folder with "
            "a label a line, as labels=NAME"
        )
    return folders.labels(folders.located(ref), name)


def _cut(ref: Ref, read: Any, tap: str) -> TensorFlowCut:
    """The graph of `ref` up to the tensor `tap`."""
    from zoobench.models import tf_graph, tf_session

    folder, said = folders.located(ref), dict(ref.options)
    size: tuple[int, int] | None = None
    if len(read.dims) == 4 and all(read.dims[1:3]):
        size = (read.dims[1], read.dims[2])
        if said.get("input_size", size[0]) != size[0]:
            raise Unsupported(f"{ref.id}: its input is {size[0]} x {size[1]}, and nothing else")
    if "int" in read.number:
        if read.number == "int8" and "range" not in said:
            raise Unsupported(
                f"{ref.id}: its input is of int8, and nobody says which of them pixels are: say "
                "range, such as range=-128,127"
            )
        said.setdefault("range", picture_inputs.BYTES)
    elif not {"mean", "std"} & said.keys():
        # The hub of TensorFlow's convention: values from 0 to 1, and nothing else done to them.
        said.setdefault("range", (0.0, 1.0))
    how = picture_inputs.settings(said, size)
    guessed = list(how.guessed)
    if read.number != "uint8" and not {"range", "mean", "std"} & dict(ref.options).keys():
        guessed.append("range")
    bgr = ref.option("channels") == "bgr"
    content = tf_graph.cut(read, tap, bgr, how.size, folder)
    tf_session.check(content, str(folder))
    spec, transform = how.preprocessing()
    held = tf_graph.files(folder)
    provenance = {
        "weights": "savedmodel", "revision": _revision(ref, folder),
        "weights_sha256": folders.digest([sha256_file(path) for path in held]),
        "file": tf_graph.GRAPH, "weights_bytes": sum(path.stat().st_size for path in held),
        "tap": tap, "layout": "nhwc",
        **({"guessed": guessed} if guessed else {}),
    }  # fmt: skip
    module = graphs.module_of(tf_session.KIND, content)
    return TensorFlowCut(module, spec, transform, provenance)


def _read(ref: Ref) -> Any:
    """A FrozenSignature. Raises MissingWeights where the folder is not what it was when it was
    named."""
    from zoobench.models import tf_graph

    folder = folders.located(ref)
    if ref.revision not in ("", _revision(ref, folder)):
        raise MissingWeights(f"{folder}: it has changed since it was named")
    return tf_graph.frozen(folder, str(ref.option("signature", "")))


def _revision(ref: Ref, folder: Path) -> str:
    """Digest of the graph, of its variables, and of the file of labels."""
    from zoobench.models import tf_graph

    name = ref.option("labels")
    labels = [folders.labels_file(folder, str(name))] if name is not None else []
    return content_digest([*tf_graph.files(folder), *labels], folder)
