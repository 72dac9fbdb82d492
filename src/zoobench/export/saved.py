"""A saved folder, read back: it is a stranger's, so its files are data and predict.py is not run.

What predict.json may say is written down here, library by library; anything else is refused in a
line. The model is then built by the package's own copy of the script.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from zoobench.errors import UserError, ZoobenchError, one_line, unknown
from zoobench.escape import plain
from zoobench.models import folders, timm_config
from zoobench.models.sentence import ACTIVATIONS

if TYPE_CHECKING:
    import torch

FORMAT = 1
"""Version of predict.json and of what its folder holds."""
DESCRIPTION = "predict.json"
LARGEST = 2**26
"""Bytes of a predict.json, at most: a million classes take less."""
SCRIPTS = "zoobench.export.scripts"

Side = Annotated[int, Meta(ge=8, le=8192)]
Channels = Annotated[list[float], Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
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


Library = Literal["timm", "torchvision", "transformers-image", "transformers-text", "words"]
KINDS: dict[str, type[Strict]] = {
    "timm": TimmModel,
    "torchvision": TorchvisionModel,
    "transformers-image": TransformersImage,
    "transformers-text": TransformersText,
    "words": WordVectors,
}


class Description(Strict):
    """A predict.json. `classes` is empty where the answer is a number."""

    format: Literal[1]
    library: Library
    task: Literal["classification", "regression"]
    classes: Annotated[list[str], Meta(max_length=2**20)]
    expected: Expected
    cell: dict[str, Any]
    model: dict[str, Any]


@dataclass(frozen=True)
class SavedModel:
    """A saved folder, ready to predict on the CPU.

    `script` is the module of export/scripts that built it, by the library's name.
    """

    folder: Path
    description: Description
    script: Any
    _scores: Any

    @property
    def classes(self) -> list[str]:
        return self.description.classes

    @property
    def texts(self) -> bool:
        """Whether it reads texts, and not pictures."""
        return self.description.library in ("transformers-text", "words")

    def scores(self, inputs: Sequence[Any]) -> torch.Tensor:
        """(N, C) float64 scores of RGB pictures or texts. Raises UserError where it fails."""
        try:
            scores: torch.Tensor = self._scores(list(inputs))
        except (ZoobenchError, MemoryError):
            raise
        except Exception as error:  # of any kind: the folder is a stranger's
            raise UserError(f"{self.folder}: {plain(one_line(error))}") from error
        return scores

    def answers(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What predict.py prints of each input."""
        return [self.script.answer(row, self.classes) for row in self.scores(inputs)]


def _module(library: str) -> str:
    return f"predict_{library.replace('-', '_')}"


def script_path(library: str) -> Path:
    """The file that becomes predict.py of a model of `library`."""
    return Path(__file__).parent / "scripts" / f"{_module(library)}.py"


def open_saved(folder: Path) -> SavedModel:
    """The model in `folder`. Raises UserError for whatever is not as `save` writes it."""
    from PIL import Image

    try:
        described = describe(folder)
        for name in ("model.safetensors", "head.safetensors"):
            folders.inside(folder, name)
        script = importlib.import_module(f"{SCRIPTS}.{_module(described.library)}")
        scores, _ = script.load(folder)
        saved = SavedModel(folder, described, script, scores)
        said = saved.scores(["a word"] if saved.texts else [Image.new("RGB", (64, 64))])
        if tuple(said.shape) != (1, max(1, len(described.classes))) or not bool(
            said.isfinite().all()
        ):
            raise UserError(
                f"{folder}: head.safetensors does not give finite scores of its "
                f"{len(described.classes)} classes"
            )
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any kind: a library's, of files that a stranger made
        at = "" if isinstance(error, ZoobenchError) else f"{folder}: it cannot be loaded: "
        raise UserError(f"{at}{plain(one_line(error))}") from error
    return saved


def describe(folder: Path) -> Description:
    """The checked predict.json of `folder`. Raises UserError, CellError."""
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
    try:
        model: Any = msgspec.convert(described.model, KINDS[described.library])
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: model: {plain(one_line(error))}") from error
    model.check(folder)
    return described
