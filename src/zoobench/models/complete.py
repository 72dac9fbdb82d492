"""Complete models: with a head and label names of their own, judged as they are by `as-is`.

What the sources of them share: torchvision's by name, and transformers' from the hub or from a
local folder, of pictures, texts or recordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import Unsupported
from zoobench.files import expanded
from zoobench.interfaces import InputSpec
from zoobench.models import (
    checkpoints,
    folders,
    options,
    packaged_,
    sound,
    torchhub,
    transformers_,
    vision,
)
from zoobench.models.backbones import AudioBackbone, ImageBackbone, TextBackbone, finish, seeded
from zoobench.models.text import (
    length_of,
    named_class,
    pretrained,
    quiet,
    tokenizer_digest,
    tokenizer_of,
    transformers_errors,
)
from zoobench.schema import Modality, ModelCard, Ref

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from zoobench.models.sound_frames import SoundFamily
    from zoobench.transfer import Meter

URL = "https://download.pytorch.org/models/"


@dataclass
class CompleteModel:
    """Abstract: a backbone that answers a `task` itself, by numbers of its own `labels`.

    As a backbone it gives scores of an example, which costs are counted by, made of the answers
    that it gives: what follows the network belongs to its time. Of a classifier the scores of its
    labels are the answer: `answer_with` is None, and of a `multilabel` one any number of labels
    may be right at once.
    """

    task: str = ""
    labels: tuple[str, ...] = ()
    answer_with: Callable[[torch.nn.Module, Any], Any] | None = None
    multilabel: bool = False

    def answer(self, raw: Any) -> Any:
        """What it says of one raw example of its task."""
        assert self.answer_with is not None
        module: torch.nn.Module = self.module  # type: ignore[attr-defined]
        return self.answer_with(module, raw)


@dataclass
class CompletePictures(CompleteModel, ImageBackbone):
    """A complete model of pictures."""

    def answer(self, raw: Image.Image) -> Any:
        """What it says of a picture of any size, in that picture's pixels."""
        return super().answer(raw if raw.mode == "RGB" else raw.convert("RGB"))


@dataclass
class CompleteTexts(CompleteModel, TextBackbone):
    """A complete model of texts: what its raw examples are, its task says."""


@dataclass
class CompleteRecordings(CompleteModel, AudioBackbone):
    """A complete model of recordings."""


def answers_itself(backbone: Any) -> bool:
    """Whether answers are made one example at a time, and not of what `embed` gives."""
    return isinstance(backbone, CompleteModel) and backbone.answer_with is not None


@dataclass(frozen=True)
class TextFolder:
    """What was read of a transformers folder of a text model, for a source to build its model of.

    `tokenizer` is transformers' own, `length` the most ids of an input, special ones included.
    """

    module: torch.nn.Module
    labels: tuple[str, ...]
    tokenizer: Any
    length: int
    spec: InputSpec


@dataclass(frozen=True)
class Folder:
    """What was read of a transformers folder of a picture model, for a source to build its model
    of."""

    module: torch.nn.Module
    labels: tuple[str, ...]
    processor: Any
    arguments: Mapping[str, Any]
    transform: Callable[[Image.Image], torch.Tensor]
    spec: InputSpec

    def values(self, module: torch.nn.Module, picture: Image.Image) -> Any:
        """A picture as the module takes it, on its device."""
        device = next(module.parameters()).device
        return self.processor(images=picture, return_tensors="pt", **self.arguments).to(device)


@dataclass(frozen=True)
class SoundFolder:
    """What was read of a transformers folder of a model of recordings, for a source to build its
    model of."""

    module: torch.nn.Module
    labels: tuple[str, ...]
    extractor: Any
    family: SoundFamily
    spec: InputSpec


LIBRARIES: Mapping[Modality, str] = {
    "image": "torchvision", "text": "tokenizers", "audio": "scipy",
}  # fmt: skip
"""What prepares inputs of transformers' models."""


@dataclass(frozen=True)
class TorchvisionModels:
    """torchvision's complete models of a task: `files` are their names and the files of their
    weights, `sides` gives a name's input size; `build(ref, seed)` makes one."""

    files: Mapping[str, str]
    revision: str
    sides: Callable[[str], int]
    pretrained_on: str
    build: Callable[[Ref, int], CompletePictures]


@dataclass(frozen=True)
class CompleteSource:
    """A source of complete models of one task.

    `of_folder` builds one of transformers', of a class in one of `mappings`, from a Folder, a
    TextFolder where `modality` is "text", a SoundFolder where it is "audio". `own` are
    torchvision's, where there are any.
    """

    name: str
    task: str
    mappings: tuple[str, ...]
    of_folder: Callable[[Any], Any]
    modality: Modality = "image"
    own: TorchvisionModels | None = None
    packaged: Mapping[str, str] = field(default_factory=dict)
    """Name -> the packaged model of the same files."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The tasks that its models answer."""
        return (self.task,)

    @property
    def named(self) -> Mapping[str, str]:
        """torchvision's names."""
        return self.own.files if self.own is not None else {}

    def cards(self) -> tuple[ModelCard, ...]:
        own = self.own
        if own is None:
            return ()
        return tuple(
            ModelCard(
                self.name, name, "image", own.revision, weights=URL + file,
                family=name.split("_")[0], pretrained_on=own.pretrained_on,
                extra=(("input_size", own.sides(name)),), answers=self.answers,
            )
            for name, file in own.files.items()
        )  # fmt: skip

    def find(self, ref: Ref, where: str = "") -> ModelCard:
        """The card of a resolved ref; of one of the hub's it says what is sure and no more."""
        known = {card.name: card for card in self.cards()}
        if ref.name in known:
            return known[ref.name]
        folder = folder_of(ref)
        if folder is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", ref.name):
            named = [f"{self.name}/{name}" for name in known] or [f"{self.name}/USER/NAME"]
            raise errors.unknown(where, "model", ref.id, named)
        weights = f"local folder {folder}" if folder else f"Hugging Face hub {ref.name}"
        family = ref.name.rpartition("/")[2]
        return ModelCard(
            self.name, ref.name, self.modality, weights=weights, family=family,
            answers=self.answers,
        )  # fmt: skip

    def resolve(self, ref: Ref, where: str) -> Ref:
        if self.own is None or ref.name not in self.named:
            # Before the name: where the weights that are meant are not there, that is the mistake.
            plain = ("configuration",)
            if self.modality == "text" and ref.option("prefix") is not None:
                raise errors.unknown(where, "option", "prefix", ("weights", "length", *plain))
            named = options.normalise(ref, where, self.modality, {}, (), plain)
            self.find(named, where)
            return named
        if ref.revision not in ("", self.own.revision):
            known = [self.own.revision]
            raise errors.unknown(where, "weights", ref.revision, known, f"of {ref.id}")
        card = self.find(ref)
        named = options.normalise(ref.at(card.revision), where, "image", dict(card.extra), (), ())
        return options.refuse_folder(named, where)

    def repository(self, ref: Ref) -> str | None:
        """The hub repository that the files come from, if any."""
        own = ref.name in self.named or ref.name in self.packaged
        return None if own or folder_of(ref) else ref.name

    def available(self, ref: Ref) -> tuple[bool, str]:
        """Whether it can be loaded without a download, and where it is or how it is got."""
        if ref.name in self.packaged:
            return packaged_.available(Ref("packaged", self.packaged[ref.name]))
        if ref.name in self.named:
            return torchhub.available(self.find(ref).weights)
        if folder := folder_of(ref):
            return True, f"local {folder}"
        if hub.cached(ref.name, ref.revision, self._choose(drawn=False)):
            return True, f"in {hub.cache_folder()}"
        return False, f"on the hub ({ref.name}), not downloaded yet"

    def fetch(self, ref: Ref, meter: Meter) -> None:
        """Download what `load` will read; a package's is here. Raises MissingWeights."""
        if ref.name in self.packaged:
            return
        if ref.name in self.named:
            torchhub.fetch(self.find(ref).weights, meter)
        else:
            self._snapshot(ref, meter)

    def load(self, ref: Ref, seed: int) -> Any:
        """A CompleteModel. Raises MissingWeights, and Unsupported for what does not answer the
        task."""
        if self.own is not None and ref.name in self.named:
            return self.own.build(ref, seed)
        read, provenance = self._read(ref, seed)
        libraries = ("transformers", LIBRARIES[self.modality])
        return finish(self.of_folder(read), provenance, libraries)

    def _read(self, ref: Ref, seed: int) -> tuple[Any, dict[str, Any]]:
        """The model in a folder, or of the hub, and what its record says of it."""
        import transformers

        weights = str(ref.option("weights", "pretrained"))
        provenance: dict[str, Any] = {"weights": weights}
        folder = folder_of(ref)
        if folder is None:
            snapshot = self._snapshot(ref)
            folder = snapshot.folder
            provenance |= {"repository": ref.name, "revision": snapshot.commit}
        else:
            provenance["settings"] = checkpoints.settings(folder)
        what = f"{ref.short} in {folder}"
        folders.refuse_foreign(folder, ref.short, complete=True)
        with transformers_errors(what), quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            kind = self._class_of(config, what)
            prepared = self._prepared(folder, config, ref)
            with seeded(seed):
                notes: dict[str, Any] = {}
                if weights == "random":
                    module = kind(config).float()
                else:
                    module, notes = pretrained(kind, config, folder, ref.without("weights"))
        if untrained := notes.get("untrained_keys"):
            raise Unsupported(f"{what}: its weights lack {untrained[0]}, so it has no trained head")
        return prepared(module, _labels(config.id2label, what)), {**provenance, **notes}

    def _prepared(self, folder: Path, config: Any, ref: Ref) -> Callable[..., Any]:
        """What makes of the module and its labels what `of_folder` takes: all but those two."""
        import transformers

        if self.modality == "text":
            tokenizer = tokenizer_of(folder)
            length = length_of(ref, tokenizer, config)
            told = (("tokenizer", tokenizer_digest(tokenizer)),)
            spec = InputSpec("text", length=length, extra=told)
            return partial(TextFolder, tokenizer=tokenizer, length=length, spec=spec)
        if self.modality == "audio":
            family = sound.architecture_of(config, ref).family
            extractor = sound.extractor_of(folder, ref)
            spec = sound.spec_of(ref, extractor, config, family)
            return partial(SoundFolder, extractor=extractor, family=family, spec=spec)
        processor: Any = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        transform, spec = vision.preprocessing(processor, ref)
        return partial(
            Folder, processor=processor, arguments=transform.args[1], transform=transform, spec=spec
        )

    def _snapshot(self, ref: Ref, meter: Meter | None = None) -> hub.Snapshot:
        drawn = ref.option("weights") == "random"
        choice = self._choose(drawn)
        side = "a tokenizer" if self.modality == "text" else "preprocessor_config.json"
        wanted = f"complete set of config.json, weights and {side}"
        return hub.fetch(ref.name, ref.revision, choice, wanted, meter)

    def _choose(self, drawn: bool) -> hub.Choose:
        """The files of a repository that are read, without weights where these are `drawn`."""
        return partial(transformers_.choose, modality=self.modality, pretrained=not drawn)

    def _class_of(self, config: Any, what: str) -> Any:
        """The class with a head for the task. Raises Unsupported where transformers has none."""
        from transformers.models.auto import modeling_auto

        for name in self.mappings:
            if found := getattr(modeling_auto, name).get(type(config), None):
                return named_class(found, config)
        raise Unsupported(f"{what}: transformers has no {self.name} for a {config.model_type}")


def _labels(names: Mapping[int, Any], what: str) -> tuple[str, ...]:
    """The labels by number. Raises Unsupported where the numbers have gaps: nobody knows then which
    label an output is of."""
    numbers = sorted(names)
    if numbers != list(range(len(numbers))):
        shown = ", ".join(map(str, numbers[:3]))
        raise Unsupported(
            f"{what}: config.json: id2label: its {len(numbers)} labels are numbered {shown} and so "
            f"on, not from 0 to {len(numbers) - 1}"
        )
    return tuple(str(names[number]) for number in numbers)


def torchvision_weights(
    ref: Ref, module: torch.nn.Module, url: str, unneeded: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Load the weights that `ref` asks for into `module`; what the record says of them.

    `unneeded` are parts of the file's that serve training alone. Raises MissingWeights, and
    Unsupported where they do not fit.
    """
    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights, "revision": ref.revision}
    if weights == "random":
        return provenance
    path = Path(weights)
    if weights == "pretrained":
        path, sha256 = torchhub.fetch(url)
        provenance |= {**checkpoints.facts(path, sha256), "url": url}
    else:
        provenance |= checkpoints.facts(path)
    whole = checkpoints.read(path, str(ref.option("prefix", "")))
    state = checkpoints.unwrap(whole, module.state_dict())
    checkpoints.fit(module, state, f"{path} into {ref.short}", unneeded)
    return provenance


def folder_of(ref: Ref) -> Path | None:
    """The local folder that a model's configuration comes from, if it is not the hub."""
    given = [ref.option("configuration"), ref.option("weights")]
    paths = [expanded(str(one)) for one in given if one is not None]
    return next((path for path in paths if path.is_dir()), None)
