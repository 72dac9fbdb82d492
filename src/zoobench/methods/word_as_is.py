"""Complete taggers, judged untouched (PROTOCOL section 2, `as-is`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import Unsupported
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.as_is import UNKNOWN, AsIs, facts_of, headed, mapping
from zoobench.methods.predictor import Predictor
from zoobench.tasks.tagsets import OUTSIDE, Tagset, as_iob2, parts, scheme_of

SAME = (
    ("per", "person", "people", "human"), ("loc", "location"), ("misc", "miscellaneous"),
    ("org", "organization", "organisation"), ("dat", "date"), ("tim", "time"),
)  # fmt: skip
"""Names of one type of entity, as they are written without blanks."""


@dataclass(frozen=True)
class TagsAsIs(AsIs):
    """A complete tagger with its own head; its types of entities are matched with the data's by
    name, whatever way of writing entities it has.

    `labels` says what the names do not, as "THEIR TYPE=TYPE". Entities of a type that is none of
    the data's are left out, as nobody looked for them; so are plain tags of other names, which are
    wrong where a word has a tag.
    """

    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Raises Unsupported for a model without a head, and where none of the types is known."""
        model = headed(getattr(backbone, "backbone", backbone), splits.task)
        ours = Tagset(splits.classes)
        labels = Labelling.of(model.labels, ours.plain)
        types = labels.types
        numbers = mapping(types, ours.types, self.labels, SAME)
        known = {ours.types[k] for k in numbers if k != UNKNOWN}
        if not known:
            named, theirs = (", ".join(names[:8]) for names in (ours.types, types))
            raise Unsupported(f"it knows none of the types {named}; its own are {theirs}")
        place = _places(splits.classes, ours, types, numbers)

        def answer(split: Split) -> list[NDArray[np.int64]]:
            return [
                np.asarray([place.get(tag, UNKNOWN) for tag in labels.written(row)], dtype=np.int64)
                for row in _said(backbone, model, split)
            ]

        return Predictor(answer, splits.valid, answer, *facts_of(ours.types, known))


@dataclass(frozen=True)
class Labelling:
    """A tagger's labels by number, and the way that they write entities: those of IOB2 stay as they
    are said, so that an I- without its B- is one. Types that stand alone are entities for as long
    as one is said after itself, where the data's tags have parts (`whole` is False)."""

    names: tuple[str, ...]
    scheme: str

    @classmethod
    def of(cls, names: Sequence[str], whole: bool = False) -> Labelling:
        """B and I alone are IOB2 where each type has its B-, and IOB1 else."""
        scheme = scheme_of([names])
        if scheme == "plain" and not whole:
            alone = tuple(name if name == OUTSIDE else f"I-{name}" for name in names)
            return cls(alone, "iob1")
        begun = {kind for letter, kind in map(parts, names) if letter == "B"}
        gone_on = {kind for letter, kind in map(parts, names) if letter == "I"}
        if scheme in ("iob1", "iob2"):
            scheme = "iob2" if gone_on <= begun else "iob1"
        known = (scheme == "plain" or name == OUTSIDE or parts(name)[0] for name in names)
        # A name that is none of its way of writing, such as that of padding, is outside.
        sound = (n if ok else OUTSIDE for n, ok in zip(names, known, strict=True))
        return cls(tuple(sound), scheme)

    @property
    def types(self) -> tuple[str, ...]:
        """Of entities, or plain tags, in the labels' order."""
        plain = self.scheme == "plain"
        named = (name for name in self.names if name != OUTSIDE)
        return tuple(dict.fromkeys(name if plain else parts(name)[1] for name in named))

    def written(self, row: NDArray[np.int64]) -> list[str]:
        """The tags of a text in IOB2; plain ones as they are."""
        tags = [self.names[k] for k in row]
        return tags if self.scheme == "iob2" else as_iob2(tags, self.scheme)[0]


def _places(
    classes: Sequence[str], ours: Tagset, theirs: Sequence[str], numbers: Sequence[int]
) -> Mapping[str, int]:
    """A tagger's tag, in IOB2 or plain -> the number of the data's class that it means. A tagger of
    entities on plain tags says of each word the type of its entity."""
    place = {name: number for number, name in enumerate(classes)}
    found = {OUTSIDE: place.get(OUTSIDE, UNKNOWN)}
    for kind, number in zip(theirs, numbers, strict=True):
        for letter in ("B-", "I-", "") if number != UNKNOWN else ():
            own = ours.types[number] if ours.plain else letter + ours.types[number]
            found[letter + kind] = place.get(own, UNKNOWN)
    return found


def _said(source: Any, model: Any, split: Split) -> Any:
    """The numbers of the labels that the model says, a text each."""
    import torch

    model.module.eval()
    for i in range(len(split)):
        with torch.inference_mode(), source.autocast(source.precision):
            said = model.answer(split.read(i))
        yield said.cpu().numpy()
