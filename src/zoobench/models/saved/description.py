"""What the predict.json of a saved folder may say, library by library.

The folder is a stranger's, so its files are data, and its predict.py is not run: anything that is
not written down here is refused in a line, and the model is built by our own copy of the script.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from zoobench.errors import Unsupported, UserError, missing_extra, one_line, unknown
from zoobench.escape import plain
from zoobench.models import folders, onnx_graph, onnx_session, sound, timm_config
from zoobench.models.onnx_graph import GraphInput
from zoobench.models.sentence import ACTIVATIONS
from zoobench.models.sound_frames import FAMILIES
from zoobench.schema import Modality, Ref

FORMAT = 1
"""Version of predict.json and of what its folder holds."""
DESCRIPTION = "predict.json"
WEIGHTS, ONNX, HEAD = "model.safetensors", "model.onnx", "head.safetensors"
LARGEST = 2**26
"""Bytes of a predict.json, at most: a million classes take less."""
SCRIPTS = "zoobench.models.saved.scripts"

Side = Annotated[int, Meta(ge=8, le=8192)]
Channels = Annotated[list[float], Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Said = Annotated[str, Meta(min_length=1, max_length=1000)]
Small = Annotated[int, Meta(ge=0, le=2**16)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A table of predict.json, every key of which is known."""


class TimmTransform(Strict):
    """Of `timm.data.create_transform`."""

    input_size: tuple[Annotated[int, Meta(ge=1, le=64)], Side, Side]
    interpolation: Interpolation
    mean: Channels
    std: Channels
    crop_pct: Annotated[float, Meta(gt=0, le=2)]
    crop_mode: Literal["center", "squash", "border"]


class TimmModel(Strict):
    """The first three are those of a timm repository's config.json, and checked as such."""

    architecture: Name
    pretrained_cfg: dict[str, Any]
    model_args: dict[str, Any]
    pool: Annotated[list[Literal["avg", "max", "token"]], Meta(max_length=1)]
    transform: TimmTransform

    def check(self, folder: Path) -> None:
        """Raises CellError."""
        at = f"{folder / DESCRIPTION}: model"
        for key in self.pretrained_cfg:
            if key not in timm_config.FIELDS:
                raise unknown(f"{at}: pretrained_cfg", "key", key, timm_config.FIELDS)
        timm_config.checked(msgspec.to_builtins(self), at)


class PresetArguments(Strict):
    """Of torchvision's preset transform of the weights."""

    crop_size: Side
    resize_size: Side
    mean: Channels
    std: Channels
    antialias: bool


class ModelArguments(Strict, omit_defaults=True):
    """Of torchvision's constructors."""

    num_classes: Small
    transform_input: bool = False
    aux_logits: bool = True
    init_weights: bool = True
    image_size: Side = 224
    input_size: tuple[Side, Side] = (224, 224)


class TorchvisionModel(Strict):
    """`last` is the place of the classifier, which is taken out."""

    architecture: Name
    weights: Name
    arguments: ModelArguments
    last: Name
    transform: PresetArguments
    interpolation: Interpolation

    def check(self, folder: Path) -> None:
        """Raises UserError."""
        import torchvision.models as zoo

        known = zoo.list_models(module=zoo)
        if self.architecture not in known:
            raise unknown(str(folder / DESCRIPTION), "architecture", self.architecture, known)
        weights = zoo.get_model_weights(self.architecture).__members__
        if self.weights not in weights:
            raise unknown(str(folder / DESCRIPTION), "weights", self.weights, weights)


class OnnxModel(Strict):
    """A graph of ONNX from pictures (N, 3, H, W) to features, which `pool` makes of maps or tokens
    where it does not do so itself."""

    pool: Literal["", "avg", "max", "cls"]
    transform: TimmTransform

    def check(self, folder: Path) -> None:
        """Raises CellError, as for any other file of ONNX: the graph is a stranger's."""
        onnx_session.require("reading model.onnx", ("onnx", "onnxruntime"))
        path = folders.inside(folder, ONNX)
        model = onnx_graph.parse(path)
        given = onnx_graph.picture_input(model, path).type.tensor_type
        if onnx_graph.external_files(model, path) or given.elem_type != onnx_graph.FLOAT:
            raise Unsupported(f"{path}: not a graph from pixels with its weights inside")
        if len(model.graph.output) != 1:
            raise Unsupported(f"{path}: it has {len(model.graph.output)} outputs, not its features")
        onnx_graph.cut(
            model, model.graph.output[0].name,
            GraphInput("nchw", "rgb", self.transform.input_size[1:]), path,
        )  # fmt: skip


class Processing(Strict, omit_defaults=True):
    """What an image processor is told beside its own preprocessor_config.json."""

    size: dict[Name, Small] = {}
    crop_size: dict[Name, Small] = {}
    crop_pct: Annotated[float, Meta(gt=0, le=2)] | None = None
    image_mean: Channels | None = None
    image_std: Channels | None = None
    resample: Annotated[int, Meta(ge=0, le=5)] | None = None


class ForwardArguments(Strict, omit_defaults=True):
    """Of an image encoder's forward pass."""

    interpolate_pos_encoding: bool = False


class TransformersImage(Strict):
    """An image encoder of transformers: its class, and the pooling of its states."""

    kind: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}$")] = msgspec.field(name="class")
    pool: Literal["pooler", "cls", "mean"]
    forward: ForwardArguments
    processing: Processing

    def check(self, folder: Path) -> None:
        """Raises CellError, UserError."""
        _check_transformers(folder, self.kind)


class TransformersText(Strict):
    """A text encoder of transformers. `layers` follow the pooling: "normalize", or the activation
    of a Dense layer, whose weights lie beside the head's."""

    kind: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}$")] = msgspec.field(name="class")
    pool: Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
    layers: Annotated[list[str], Meta(max_length=16)]
    length: Annotated[int, Meta(ge=1, le=2**20)]
    prefix: Annotated[str, Meta(max_length=10_000)]

    def check(self, folder: Path) -> None:
        """Raises CellError, UserError."""
        for layer in self.layers:
            if layer not in ("normalize", *ACTIVATIONS):
                at = f"{folder / DESCRIPTION}: layers"
                raise unknown(at, "layer", layer, ("normalize", *ACTIVATIONS))
        _check_transformers(folder, self.kind)


class TransformersAudio(Strict):
    """An audio encoder of transformers: its class and the part of it that hears, how it is fed
    (`sound_frames`), the pooling of its states, most samples read, and their rate."""

    kind: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}$")] = msgspec.field(name="class")
    part: Literal["", "encoder", "audio_model"]
    fed: Literal["waves", "windows", "patches", "whole"]
    pool: Literal["mean", "cls", "pooler"]
    length: Annotated[int, Meta(ge=1, le=2**28)]
    rate: Annotated[int, Meta(ge=1_000, le=768_000)]

    def check(self, folder: Path) -> None:
        """Raises CellError, UserError."""
        _check_transformers(folder, self.kind)
        sound.check_extractor(folder, Ref("saved", folder.name))
        pools = FAMILIES[self.fed].pools
        if self.pool not in pools:
            raise unknown(f"{folder / DESCRIPTION}: model", "pool", self.pool, pools)


class WordVectors(Strict):
    """The mean of a text's word vectors."""

    length: Annotated[int, Meta(ge=1, le=2**20)]

    def check(self, folder: Path) -> None:
        """Raises CellError where there is no list of words."""
        folders.inside(folder, "words.json")


def _check_transformers(folder: Path, kind: str) -> None:
    """No file leads out of the folder or names code, and `kind` is a model's class."""
    import transformers

    for path in folder.iterdir():
        if path.is_symlink() or not path.is_dir():
            folders.inside(folder, path.name)
    folders.inside(folder, "config.json")
    folders.refuse_foreign(folder, str(folder))
    found = getattr(transformers, kind, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UserError(f"{folder / DESCRIPTION}: transformers has no model class {kind!r}")


class Expected(Strict):
    """What the saved model scored on the test examples of the data it was adapted to, with the
    bounds of its 95% interval."""

    metric: Name
    value: float
    low: float | None
    high: float | None
    n: int | None


VariantName = Literal["", "bf16", "fp16", "int8-weight", "int8-dynamic", "int8-static", "pruned-50"]
Library = Literal[
    "timm",
    "torchvision",
    "transformers-image",
    "transformers-text",
    "transformers-audio",
    "words",
    "onnx",
]
READS: dict[str, Modality] = {
    "transformers-text": "text", "words": "text", "transformers-audio": "audio",
}  # fmt: skip
"""What a library's models read, where that is not pictures."""
KINDS: dict[str, type[Strict]] = {
    "timm": TimmModel,
    "torchvision": TorchvisionModel,
    "transformers-image": TransformersImage,
    "transformers-text": TransformersText,
    "transformers-audio": TransformersAudio,
    "words": WordVectors,
    "onnx": OnnxModel,
}


class Description(Strict):
    """A predict.json. `classes` is empty where the answer is a number, `variant` for a model as it
    was published. `license` and `pretrained_on` are those of the weights that it was made of."""

    format: Literal[1]
    library: Library
    task: Literal["classification", "regression"]
    classes: Annotated[list[str], Meta(max_length=2**20)]
    expected: Expected
    cell: dict[str, Any]
    model: dict[str, Any]
    variant: VariantName = ""
    license: Said = "unknown"
    pretrained_on: Said = "unknown"

    @property
    def modality(self) -> Modality:
        """What it reads."""
        return READS.get(self.library, "image")

    @property
    def weights(self) -> str:
        """The file that holds the network."""
        return ONNX if self.graph else WEIGHTS

    @property
    def graph(self) -> bool:
        """Whether the network is a graph of ONNX."""
        return self.library == "onnx" or self.variant == "int8-static"

    @property
    def script(self) -> Any:
        """Our own copy of the script that builds the model, a module."""
        return importlib.import_module(f"{SCRIPTS}.{_module(self.library)}")


def _module(library: str) -> str:
    return f"predict_{library.replace('-', '_')}"


def script_path(library: str) -> Path:
    """The file that becomes predict.py of a model of `library`."""
    return Path(__file__).parent / "scripts" / f"{_module(library)}.py"


def describe(folder: Path) -> Description:
    """The predict.json of `folder`, after all that its library can check without building the
    model. Raises UserError, CellError."""
    described = read(folder)
    try:
        model: Any = msgspec.convert(described.model, KINDS[described.library])
    except msgspec.ValidationError as error:
        raise UserError(f"{folder / DESCRIPTION}: model: {plain(one_line(error))}") from error
    model.check(folder)
    _check_weights(folder, described)
    return described


def read(folder: Path) -> Description:
    """The predict.json of `folder`, which is well formed, without any library. Raises UserError,
    CellError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `zoobench save` writes one")
    path = folder / DESCRIPTION
    if not path.exists() and not path.is_symlink():
        raise UserError(f"{folder} holds no {DESCRIPTION}, so `zoobench save` did not write it")
    path = folders.inside(folder, DESCRIPTION)
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path}: larger than {LARGEST} bytes")
    try:
        described = msgspec.json.decode(path.read_bytes(), type=Description)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {plain(one_line(error))}") from error
    if (described.task == "classification") != bool(described.classes):
        raise UserError(f"{path}: {described.task} with {len(described.classes)} classes")
    return described


def _check_weights(folder: Path, described: Description) -> None:
    """Raises CellError where the files of the network or the head are not in the folder, UserError
    where what runs them is not installed."""
    for name in (described.weights, HEAD):
        folders.inside(folder, name)
    if described.library == "onnx":
        if described.variant:
            raise UserError(f"{folder / DESCRIPTION}: of a graph of ONNX there are no variants")
    elif described.variant == "int8-static":
        if described.modality != "image":
            raise UserError(f"{folder / DESCRIPTION}: int8-static reads pictures alone")
        onnx_session.check(folder / ONNX)
    elif described.variant.startswith("int8") and importlib.util.find_spec("torchao") is None:
        raise missing_extra("torchao", "compression", f"{folder}, an int8 model,")
