"""Controls of token classification: what entity F1 says nothing below (PROTOCOL section 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.linear_probe import facts_of, flags_of
from zoobench.methods.predictor import Predictor
from zoobench.tasks.token_classification import entity_f1, tags_of

TERMS, AFFIXES = 1024, 512
"""Most words, and most beginnings and endings of three letters, that are features: the most
frequent of train."""
FORMS = 20_000
"""Most forms of words that are learned from: the most frequent of train."""
SCORED = 4096
"""Forms that are scored at once."""


@dataclass(frozen=True)
class UsualTag:
    """The tag of most words of train, for every word: of entities "O", which finds none."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        most = int(np.bincount(tags_of(splits.train).values).argmax())

        def answer(split: Split) -> list[NDArray[np.int64]]:
            return [np.full(words, most, dtype=np.int64) for words in tags_of(split).words]

        return Predictor(answer, splits.valid, answer)


@dataclass(frozen=True)
class WordAndShape:
    """The linear probe on what a word is by itself: no network, and no word beside it.

    A row is a form, as it is written, with the number of times that it has each tag: the problem of
    all words of that form. Features: the word in lower case where it is one of train's 1,024 most
    frequent, its first and last three letters likewise (512 each), and its shape.
    """

    refit: bool = True

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("token-classification",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` is None, and `seed` changes nothing."""
        import torch

        from zoobench.solvers.logistic import logistic_path

        classes = len(splits.classes)
        train, valid = (counted(split, classes) for split in (splits.train, splits.valid))
        often = sorted(train, key=lambda form: (-train[form].sum(), form))[:FORMS]
        train = {form: train[form] for form in often}
        features = FormFeatures.of({form: int(tags.sum()) for form, tags in train.items()})
        mass, held = (torch.from_numpy(np.stack([*of.values()])) for of in (train, valid))
        present = torch.nonzero(mass.sum(dim=0) > 0).flatten()
        path = logistic_path(
            torch.from_numpy(features([*train])), mass[:, present],
            torch.from_numpy(features([*valid])), held[:, present], len(present),
        )  # fmt: skip
        final = path.refit if self.refit else path.fit

        def said_by(
            score: Callable[[torch.Tensor], torch.Tensor],
        ) -> Callable[[Split], list[NDArray[np.int64]]]:
            def answer(split: Split) -> list[NDArray[np.int64]]:
                """Each form is scored once."""
                words = [word for i in range(len(split)) for word in split.read(i)]
                forms = list(dict.fromkeys(words))
                tag: dict[str, int] = {}
                for start in range(0, len(forms), SCORED):
                    some = forms[start : start + SCORED]
                    best = present[score(torch.from_numpy(features(some))).argmax(dim=1)]
                    tag |= dict(zip(some, best.tolist(), strict=True))
                tags = np.asarray([tag[word] for word in words], dtype=np.int64)
                return np.split(tags, tags_of(split).starts[1:-1])

            return answer

        before = said_by(path.fit.head.scores)
        facts = {
            "valid_entity_f1": entity_f1(before(splits.valid), tags_of(splits.valid)),
            **facts_of(path),
        }
        chosen = {"lambda": path.fit.lam}
        return Predictor(
            said_by(final.head.scores), splits.valid, before, chosen, facts, flags_of(path)
        )


def counted(split: Split, classes: int) -> dict[str, NDArray[np.float32]]:
    """Form -> (C,) how many of its words have each tag."""
    tags = tags_of(split)
    out: dict[str, NDArray[np.float32]] = {}
    for i in range(len(split)):
        for word, tag in zip(split.read(i), tags.row(i), strict=True):
            out.setdefault(word, np.zeros(classes, dtype=np.float32))[tag] += 1
    return out


@dataclass(frozen=True)
class FormFeatures:
    """(U, D) float32 of forms: one-hot words, beginnings and endings of `columns`, and a shape."""

    columns: Mapping[str, int]

    @classmethod
    def of(cls, forms: Mapping[str, int]) -> FormFeatures:
        """The vocabulary of forms that stand so often."""
        kinds = [Counter[str]() for _ in range(3)]
        for form, many in forms.items():
            for kind, part in zip(kinds, _parts(form), strict=True):
                kind[part] += many
        names = [
            name
            for kind, most in zip(kinds, (TERMS, AFFIXES, AFFIXES), strict=True)
            for name, _ in sorted(kind.items(), key=lambda item: (-item[1], item[0]))[:most]
        ]
        return cls({name: column for column, name in enumerate(names)})

    def __call__(self, forms: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(forms), len(self.columns) + len(shape("a"))), dtype=np.float32)
        for i, form in enumerate(forms):
            for part in _parts(form):
                if part in self.columns:
                    rows[i, self.columns[part]] = 1
            rows[i, len(self.columns) :] = shape(form)
        return rows


def _parts(form: str) -> tuple[str, str, str]:
    """The word in lower case, its first three letters and its last, told apart by a mark."""
    lowered = form.lower()
    return f"={lowered}", f"^{lowered[:3]}", f"${lowered[-3:]}"


def shape(form: str) -> tuple[float, ...]:
    """Capitals, digits, marks and the length of a form, as it is written."""
    signs = (
        form[:1].isupper(),
        len(form) > 1 and form.isupper(),
        any(c.isupper() for c in form[1:]),
        any(c.isdigit() for c in form),
        form.isdigit(),
        form.isalpha(),
        not any(c.isalnum() for c in form),
        any(not c.isalnum() for c in form[1:-1]),
        not form.isascii(),
        len(form) <= 2,
        len(form) >= 8,
    )
    return tuple(map(float, signs))
