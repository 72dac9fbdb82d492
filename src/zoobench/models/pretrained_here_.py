"""pretrained-here/NAME: what a suite's `[[pretrain]]` made, as a backbone like any other.

Its revision is a digest of the whole recipe and of the data that it learns from; its options say
what must be known before anything is loaded: the architecture, the data and the objective. The
encoder of seed s is what a cell of seed s is given, so that the luck of pretraining is in the
spread between seeds. `?weights=random` is the architecture with the weights that pretraining began
with, and `?path=FOLDER` one checkpoint out of a run directory, for any later run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import machine
from zoobench.errors import MissingWeights, UserError, opening, unknown
from zoobench.files import expanded, new_folder, parse_json
from zoobench.models import checkpoints, options, small
from zoobench.models.backbones import OurBackbone
from zoobench.models.weights import content_digest, state_digest
from zoobench.schema import Modality, ModelCard, Ref, canonical, digest

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone

SOURCE = "pretrained-here"
MADE_OF = ("architecture", "dataset", "objective")
OPTIONS = (*MADE_OF, "path", "weights")
WEIGHTS, HEADS, CARD = "model.safetensors", "heads.safetensors", "card.json"
ELSEWHERE = ("timm", "torchvision")
"""Sources whose architectures are pretrained, by name."""


def cards() -> tuple[ModelCard, ...]:
    return ()


def find(ref: Ref) -> ModelCard:
    """The card of a resolved ref."""
    dataset = ref.option("dataset")
    objective = ref.option("objective", "")
    trained = dataset is not None and objective != "random" and ref.option("weights") != "random"
    return ModelCard(
        SOURCE, ref.name, modality_of(architecture(ref)), ref.revision,
        weights=f"pretrained here: {objective}" if objective else "random",
        pretrained_on=f"{dataset} (train)" if trained else "nothing",
        # Encoders of one architecture are near-copies where one objective made them, too.
        family=" ".join(filter(None, (str(objective), architecture(ref).rpartition("/")[2]))),
    )  # fmt: skip


def architecture(ref: Ref) -> str:
    """The name of its encoder: one of ours, or a ref of another source."""
    return str(ref.option("architecture", ref.name))


def modality_of(name: str) -> Modality:
    return small.ARCHITECTURES.get(name, "image")


def check_architecture(name: str, where: str) -> str:
    """Its normal form. Raises UserError for what is none that can be built here."""
    if "/" not in name:
        if name not in small.ARCHITECTURES:
            known = (*small.ARCHITECTURES, "timm/NAME", "torchvision/NAME")
            raise unknown(where, "architecture", name, known)
        return name
    from zoobench import models

    try:
        ref = Ref.parse(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if ref.source not in ELSEWHERE:
        raise unknown(where, "source of architectures", ref.source, ELSEWHERE)
    return models.resolve(ref.with_options(weights="random"), where).without("weights").text


def resolve(ref: Ref, where: str) -> Ref:
    """Raises UserError for options that do not exist, or folders that hold no such checkpoint."""
    at = opening(where)
    options.check_names(ref, where, OPTIONS)
    if ref.option("weights") == "random":
        return drawn(check_architecture(architecture(ref), where))
    if (path := ref.option("path")) is not None:
        return _resolved_folder(ref, Path(os.path.abspath(expanded(str(path)))), at)
    if ref.option("objective") is None:
        raise UserError(
            f"{at}{ref.id}: no model of another run goes by a name alone: say path=FOLDER, which "
            "holds a checkpoint (pretrained/ of a run directory), or give the suite a [[pretrain]]"
        )
    return ref


def _resolved_folder(ref: Ref, folder: Path, at: str) -> Ref:
    try:
        card = read_card(folder)
    except MissingWeights as error:
        raise UserError(f"{at}{error}") from error
    revision = content_digest([folder / WEIGHTS, folder / CARD], folder)
    if ref.revision not in ("", revision):
        raise UserError(f"{at}{folder}: its content is not that of {ref.id}@{ref.revision}")
    options = {name: str(card[name]) for name in MADE_OF} | {"path": str(folder)}
    check_architecture(options["architecture"], f"{at}{folder}")
    return Ref(SOURCE, ref.name, revision, options.items())


def drawn(name: str) -> Ref:
    """The architecture `name` with random weights, as a model of its own."""
    ref = Ref(SOURCE, name) if "/" not in name else Ref.parse(name)
    return ref.with_options(weights="random")


def available(ref: Ref) -> tuple[bool, str]:
    if (path := ref.option("path")) is not None:
        return Path(str(path)).is_dir(), f"the folder {path}"
    return True, "made by the run itself"


def folder_of(ref: Ref, seed: int) -> Path:
    """Where the encoder of `seed` lies: a folder of the cache, or the one that `ref` names."""
    if (path := ref.option("path")) is not None:
        return Path(str(path))
    return machine.cache_dir() / "pretrained" / digest([ref.located.text, seed], 32)


def untrained(ref: Ref, seed: int) -> OurBackbone:
    """The encoder of a ref with the random weights of `seed`."""
    name = architecture(ref)
    if "/" not in name:
        return small.backbone(name, seed, {"weights": "random"})
    from zoobench import models

    made: Any = models.load(drawn(name), seed)
    return made  # type: ignore[no-any-return]


def load(ref: Ref, seed: int) -> Backbone:
    """Raises MissingWeights where it was not made yet or is damaged, Unsupported, MissingExtra."""
    if ref.option("weights") == "random":
        return untrained(ref, seed)
    folder = folder_of(ref, seed)
    if not (folder / CARD).is_file():
        raise MissingWeights(
            f"no encoder {ref.short} of seed {seed} here: its pretraining has failed or was left "
            "out; `--retry-failed=all` runs its cell `pretrain` again, and then this one"
        )
    card = read_card(folder)
    backbone = untrained(ref, seed)
    dropped = checkpoints.fit(
        backbone.module, checkpoints.read(folder / WEIGHTS), f"{folder} into {ref.short}"
    )
    state = state_digest(backbone.module)
    if dropped or state != card["state"]:
        raise MissingWeights(f"{folder}: its weights are not those that its {CARD} names")
    backbone.provenance = {
        **backbone.provenance,
        "weights": "pretrained here",
        "revision": ref.revision,
        "pretraining": {k: card[k] for k in ("objective", "dataset", "splits", "seed", "steps")},
    }
    return backbone


def read_card(folder: Path) -> dict[str, Any]:
    """What `card.json` says. Raises MissingWeights for none, or one that is damaged."""
    try:
        card = parse_json((folder / CARD).read_bytes())
    except (OSError, ValueError) as error:
        raise MissingWeights(f"{folder}: holds no readable {CARD} of a checkpoint") from error
    needed = (*MADE_OF, "state", "splits", "seed", "steps")
    if not isinstance(card, dict) or any(name not in card for name in needed):
        raise MissingWeights(f"{folder}: its {CARD} is none of a checkpoint")
    return card


def write(folder: Path, encoder: Any, heads: Any, card: Mapping[str, Any]) -> None:
    """A checkpoint: the weights, and last the card by which it is known to be whole.

    Raises StoreError where it cannot be written.
    """
    from safetensors.torch import save_file

    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with new_folder(folder) as new:
        for name, module in ((WEIGHTS, encoder), (HEADS, heads)):
            state = {key: t.detach().cpu().contiguous() for key, t in module.state_dict().items()}
            save_file(state, new / name)
        body = {**card, "state": state_digest(encoder)}
        (new / CARD).write_text(canonical(body) + "\n", encoding="utf-8")
