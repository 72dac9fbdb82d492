"""Complete models: with a head and label names of their own, judged as they are by `as-is`.

What the sources of them share: torchvision's by name, and transformers' from the hub or from a
local folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import Unsupported
from zoobench.files import expanded
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints, folders, options, torchhub, transformers_, vision
from zoobench.models.backbones import ImageBackbone, finish, seeded
from zoobench.models.text import pretrained, quiet, transformers_errors
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from zoobench.transfer import Meter

URL = "https://download.pytorch.org/models/"


@dataclass
class CompleteModel(ImageBackbone):
    """A model that answers a `task` itself, by numbers of its own `labels`.

    As a backbone it gives scores of a picture, which costs are counted by, made of the answers that
    it gives: what follows the network belongs to its time.
    """

    task: str = ""
    labels: tuple[str, ...] = ()
    answer_with: Callable[[torch.nn.Module, Image.Image], Any] | None = None

    def answer(self, picture: Image.Image) -> Any:
        """What it says of a picture of any size, in that picture's pixels."""
        assert self.answer_with is not None
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        return self.answer_with(self.module, picture)


@dataclass(frozen=True)
class Folder:
    """What was read of a transformers folder, for a source to build its model of."""

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
class CompleteSource:
    """A source of complete models of one task.

    `torchvision` are the names of its models and the files of their weights, `sides` their input
    sizes; `own(ref, seed)` builds one of them, `of_folder` one of transformers', of a class in one
    of `mappings`.
    """

    name: str
    task: str
    torchvision: Mapping[str, str]
    revision: str
    sides: Callable[[str], int]
    pretrained_on: str
    own: Callable[[Ref, int], CompleteModel]
    of_folder: Callable[[Folder], CompleteModel]
    mappings: tuple[str, ...]

    @property
    def _complete(self) -> tuple[tuple[str, str], ...]:
        return (("complete", self.task),)

    def cards(self) -> tuple[ModelCard, ...]:
        return tuple(
            ModelCard(
                self.name, name, "image", self.revision, weights=URL + file,
                family=name.split("_")[0], pretrained_on=self.pretrained_on,
                extra=(*self._complete, ("input_size", self.sides(name))),
            )
            for name, file in self.torchvision.items()
        )  # fmt: skip

    def find(self, ref: Ref, where: str = "") -> ModelCard:
        """The card of a resolved ref; of one of the hub's it says what is sure and no more."""
        known = {card.name: card for card in self.cards()}
        if ref.name in known:
            return known[ref.name]
        folder = _folder(ref)
        if folder is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", ref.name):
            raise errors.unknown(where, "model", ref.id, [f"{self.name}/{name}" for name in known])
        weights = f"local folder {folder}" if folder else f"Hugging Face hub {ref.name}"
        family = ref.name.rpartition("/")[2]
        return ModelCard(
            self.name, ref.name, "image", weights=weights, family=family, extra=self._complete
        )

    def resolve(self, ref: Ref, where: str) -> Ref:
        if ref.name not in self.torchvision:
            # Before the name: where the weights that are meant are not there, that is the mistake.
            plain = ("configuration",)
            named = options.normalise(ref, where, "image", dict(self._complete), (), plain)
            self.find(named, where)
            return named
        if ref.revision not in ("", self.revision):
            raise errors.unknown(where, "weights", ref.revision, [self.revision], f"of {ref.id}")
        card = self.find(ref)
        named = options.normalise(ref.at(card.revision), where, "image", dict(card.extra), (), ())
        return options.refuse_folder(named, where)

    def repository(self, ref: Ref) -> str | None:
        """The hub repository that the files come from, if any."""
        return None if ref.name in self.torchvision or _folder(ref) else ref.name

    def available(self, ref: Ref) -> tuple[bool, str]:
        if ref.name in self.torchvision:
            return torchhub.available(self.find(ref).weights)
        if folder := _folder(ref):
            return True, f"local {folder}"
        if hub.cached(ref.name, ref.revision, partial(transformers_.choose, modality="image")):
            return True, f"in {hub.cache_folder()}"
        return False, f"on the hub ({ref.name}), not downloaded yet"

    def fetch(self, ref: Ref, meter: Meter) -> None:
        """Download what `load` will read. Raises MissingWeights."""
        if ref.name in self.torchvision:
            torchhub.fetch(self.find(ref).weights, meter)
        else:
            _snapshot(ref, meter)

    def load(self, ref: Ref, seed: int) -> CompleteModel:
        """Raises MissingWeights, and Unsupported for what does not answer the task."""
        if ref.name in self.torchvision:
            return self.own(ref, seed)
        read, provenance = self._read(ref, seed)
        return finish(self.of_folder(read), provenance, ("transformers", "torchvision"))

    def _read(self, ref: Ref, seed: int) -> tuple[Folder, dict[str, Any]]:
        """The model in a folder, or of the hub, and what its record says of it."""
        import transformers

        weights = str(ref.option("weights", "pretrained"))
        provenance: dict[str, Any] = {"weights": weights}
        folder = _folder(ref)
        if folder is None:
            snapshot = _snapshot(ref)
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
            processor: Any = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            kind = self._class_of(config, what)
            transform, spec = vision.preprocessing(processor, ref)
            with seeded(seed):
                notes: dict[str, Any] = {}
                if weights == "random":
                    module = kind(config).float()
                else:
                    module, notes = pretrained(kind, config, folder, ref.without("weights"))
        if untrained := notes.get("untrained_keys"):
            raise Unsupported(f"{what}: its weights lack {untrained[0]}, so it has no trained head")
        names = config.id2label
        labels = tuple(str(names[i]) for i in sorted(names))
        read = Folder(module, labels, processor, transform.args[1], transform, spec)
        return read, {**provenance, **notes}

    def _class_of(self, config: Any, what: str) -> Any:
        """The class with a head for the task. Raises Unsupported where transformers has none."""
        from transformers.models.auto import modeling_auto

        for name in self.mappings:
            if found := getattr(modeling_auto, name).get(type(config), None):
                return found
        raise Unsupported(f"{what}: transformers has no {self.name} for a {config.model_type}")


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


def _folder(ref: Ref) -> Path | None:
    given = [ref.option("configuration"), ref.option("weights")]
    paths = [expanded(str(one)) for one in given if one is not None]
    return next((path for path in paths if path.is_dir()), None)


def _snapshot(ref: Ref, meter: Meter | None = None) -> hub.Snapshot:
    drawn = ref.option("weights") == "random"
    choice = partial(transformers_.choose, modality="image", pretrained=not drawn)
    wanted = "complete set of config.json, weights and preprocessor_config.json"
    return hub.fetch(ref.name, ref.revision, choice, wanted, meter)
