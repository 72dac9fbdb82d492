"""What the controls say of a row: suspect, no better than random weights, negative transfer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zoobench.datasets.control import OPTION, on_part, whole
from zoobench.metrics import difference, sign, written
from zoobench.models.weights import PRETRAINED_HERE, own_folder, untrained
from zoobench.ranking.comparability import CONTROL_SOURCE, Section, has_random_weights
from zoobench.ranking.nouns import Control, Flag
from zoobench.ranking.outcomes import Book, by_model, mean_of, sample_of
from zoobench.schema import Record, Ref
from zoobench.statistics import bootstrap, many

PROBES = frozenset({"knn", "linear-probe", "ridge"})
"""Frozen methods: their pretrained features must beat the best of FLOORS."""
FLOORS = {
    "raw-input": "raw input", "majority": "one answer to everything",
    "mean": "the mean", "chance": "chance",
}  # fmt: skip
"""Controls that need no network, and who they are in words. Mostly the first is the best; of speech
a probe of it may do worse than who says nothing."""

BLIND_FLOORS = ("majority", "chance")
"""Of FLOORS those that see no input: what a network reaches that does not know the classes' names,
of which no probe of the raw input knows anything, either."""

SUSPECT = "suspect"
NOT_BETTER = "not better than random weights"
NEGATIVE = "negative transfer"
LONE, LONE_DRAW, FEW_RUNS = "one run", "one draw", "few runs"

RECORD_FLAGS = {
    "derived-valid": "no official valid split: a stratified tenth of train",
    "derived-test": "no official test split: a stratified fifth of the data",
    "not-converged": "the probe's solver stopped before its tolerance",
    "lambda-on-edge": "the chosen regularisation lies on the edge of its grid",
    "class-imbalance": "classes are unbalanced: see balanced accuracy",
    "merged-labels": "several spellings of a label were read as one class: see the record's notes",
    "labels-alike": "classes differ in case alone, or one is called nan: see the record's notes",
    "narrow-range": "16-bit pictures use a small part of their range: say it with range=",
    "temperature-of-few": "calibrated by fewer than 20 valid examples",
    "explanation-no-better-than-control": "a map that knows nothing of it explains it as well",
    "classes-unknown": "the model has no label for some classes, which score 0",
    "lossy-tokenizer": "its tokenizer forgets a part of the text, whose bits are not counted",
    "guessed-input": "nobody said how pictures become its input: see the record's `guessed`",
    "compile-failed": "the network could not be compiled, and ran as it is",
    "seen-in-pretraining": "it was pretrained on this dataset's train split",
    "imported": "published numbers, not measured here",
}
DATASET_FLAGS = frozenset({
    "derived-valid", "derived-test", "class-imbalance", "imported", "merged-labels", "labels-alike",
    "narrow-range",
})  # fmt: skip


class Controls:
    """The records that check others, found by the data they share with a section."""

    def __init__(self, book: Book, sections: Sequence[Section]) -> None:
        self.book = book
        self._plain: dict[tuple[str, ...], dict[Ref, list[Record]]] = {}
        self._random: dict[tuple[str, ...], dict[Ref, list[Record]]] = {}
        self._checked: dict[tuple[str, ...], dict[Ref, list[Record]]] = {}
        self._scratch: dict[tuple[str, ...], dict[Ref, list[Record]]] = {}
        for section in sections:
            ok = [r for r in section.records if r.status == "ok"]
            plain = [r for r in ok if r.cell.model.source == CONTROL_SOURCE]
            self._plain.setdefault(_data(section), {}).update(by_model(plain))
            random = [r for r in ok if has_random_weights(r)]
            checked = [r for r in ok if on_part(r.cell.dataset) and not has_random_weights(r)]
            for of in (_adapted(section), _adapted(section, "precision")):
                self._random.setdefault(of, {}).update(by_model(random))
                self._checked.setdefault(of, {}).update(by_model(checked))
            if section.method == "from-scratch":
                at = self._scratch.setdefault(_data(section), {})
                for model, records in by_model(ok).items():
                    at.setdefault(architecture(model), []).extend(records)

    def plain(self, section: Section) -> dict[Ref, list[Record]]:
        """chance, majority and raw-input on the same data: model -> ok records."""
        return self._plain.get(_data(section), {})

    def random(self, section: Section) -> dict[Ref, list[Record]]:
        """Models with random weights, adapted likewise, in this precision where they were run in
        it, on all of the data where they were run on it: model -> ok records."""
        return _nearest(self._random, section)

    def like(
        self, section: Section, records: Sequence[Record], control: Sequence[Record]
    ) -> Sequence[Record]:
        """What of a model may be compared with its `control`: its `records`, or where the control
        had a part of the data what was adapted to the same part. Empty where nothing was."""
        if not on_part(control[0].cell.dataset):
            return records
        return _nearest(self._checked, section).get(records[0].cell.model, [])

    def scratch(self, section: Section, model: Ref) -> list[Record]:
        """The from-scratch records of the same architecture on the same data."""
        known = self._scratch.get(_data(section), {})
        return known.get(architecture(model), []) if known else []


def _data(section: Section) -> tuple[str, ...]:
    return tuple(section.key[k] for k in ("dataset", "splits", "shots"))


def _adapted(section: Section, *more: str, part: bool = False) -> tuple[str, ...]:
    """What a control shares with the section that it checks, and `more` of the section's key.

    With `part` that of the control's part of the same data, whose splits are others.
    """
    key = dict(section.key)
    if part or on_part(section.dataset):
        key |= {"dataset": whole(section.dataset).located.text, "splits": OPTION}
    return tuple(value for name, value in key.items() if name != "precision" or name in more)


def _nearest(
    known: Mapping[tuple[str, ...], Mapping[Ref, list[Record]]], section: Section
) -> dict[Ref, list[Record]]:
    """The records of each model that are nearest to `section`: all of its data before a part,
    and its own precision before another."""
    found: dict[Ref, list[Record]] = {}
    for part in (True, False):
        for more in ((), ("precision",)):
            found.update(known.get(_adapted(section, *more, part=part), {}))
    return found


def architecture(model: Ref) -> Ref:
    """The model without revision and weights: what random weights share with it."""
    if model.source == PRETRAINED_HERE:
        model = untrained(model)
    folder = own_folder(model)
    bare = model.without("weights", "configuration", "variant").at("")
    return bare.with_options(configuration=folder) if folder else bare


def versus(
    book: Book, mine: Sequence[Record], theirs: Sequence[Record], metric: str
) -> tuple[float, float]:
    """(mine - theirs, two-sided p), paired where predictions allow."""
    one, _ = sample_of(book, [mine, theirs], metric)
    return float(one.value[0] - one.value[1]), float(many.pairwise(one)[0, 1])


def control_rows(
    controls: Controls, section: Section, metric: str
) -> tuple[tuple[Control, ...], dict[Ref, list[Record]]]:
    """What to show beside a section, and its random-weights records by architecture."""
    plain = controls.plain(section)
    random = {m: of for m, of in controls.random(section).items() if any(r.get(metric) for r in of)}
    shown = []
    for model, records in {**random, **plain}.items():
        measured = [m for r in records if (m := r.get(metric))]
        if not measured:
            continue
        one = measured[0] if len(measured) == 1 else None
        value = sum(m.value for m in measured) / len(measured)
        bounds = (one.low, one.high) if one else (None, None)
        shown.append(Control(model, value, *bounds, on=_extent(records)))
    shown.sort(key=lambda c: -sign(metric) * c.value)
    return tuple(shown), {architecture(model): records for model, records in random.items()}


def flags_of(
    controls: Controls,
    section: Section,
    records: Sequence[Record],
    random: Mapping[Ref, Sequence[Record]],
    metric: str,
) -> tuple[Flag, ...]:
    """All that a reader must know of one model in one section."""
    book, method = controls.book, section.method
    found: list[Flag] = []
    model = records[0].cell.model
    floor = _floor(controls.plain(section), metric)
    if method in PROBES and floor:
        gap, p = versus(book, records, floor, metric)
        if gap <= 0 or p > bootstrap.ALPHA:
            who = FLOORS[floor[0].cell.model.name]
            why = _reached(f"{who} reaches", floor, gap, p, metric)
            found.append(
                Flag(SUSPECT, f"{why}: a preprocessing fault, or data that needs no network")
            )
    blind = _floor(controls.plain(section), metric, BLIND_FLOORS)
    if records[0].chosen.get("templates") and blind:
        gap, p = versus(book, records, blind, metric)
        if gap <= 0 or p > bootstrap.ALPHA:
            who = FLOORS[blind[0].cell.model.name]
            why = _reached(f"{who} reaches", blind, gap, p, metric)
            found.append(Flag(SUSPECT, f"{why}: it does not know the classes by these names"))
    twin = random.get(architecture(model)) if random else None
    mine = controls.like(section, records, twin) if twin else []
    if twin and mine:
        gap, p = versus(book, mine, twin, metric)
        if gap <= 0 or p > bootstrap.ALPHA:
            why = _reached("random weights reach", twin, gap, p, metric)
            if extent := _extent(twin):
                own = written(metric, sign(metric) * mean_of(mine, metric))
                why += f", these {own}, both on {extent}"
            found.append(Flag(NOT_BETTER, why))
    scratch = controls.scratch(section, model) if method == "fine-tune" else []
    if scratch:
        gap, p = versus(book, records, scratch, metric)
        if gap < 0:
            why = _reached("from scratch reaches", scratch, gap, p, metric)
            found.append(Flag(NEGATIVE, why))
    for name in dict.fromkeys(flag for r in records for flag in r.flags):
        if name not in DATASET_FLAGS:
            found.append(Flag(name, RECORD_FLAGS.get(name, "")))
    return tuple(found)


def _floor(
    plain: Mapping[Ref, Sequence[Record]], metric: str, names: Iterable[str] = tuple(FLOORS)
) -> Sequence[Record]:
    """The records of the best of the controls `names`, the first of equals; none where none has the
    metric."""
    known = [plain.get(Ref(CONTROL_SOURCE, name), []) for name in names]
    measured = [records for records in known if records and records[0].get(metric)]
    return max(measured, key=lambda records: mean_of(records, metric), default=[])


def _extent(records: Sequence[Record]) -> str:
    """Of which part of the data a control is, in words; "" where it had all of it."""
    if not on_part(records[0].cell.dataset):
        return ""
    sizes = records[0].provenance.get("sizes") or {}
    known = [f"{int(sizes[name]):,} {name}" for name in ("train", "test") if name in sizes]
    return f"{' and '.join(known)} examples" if known else "a part of the data"


def _reached(who: str, theirs: Sequence[Record], gap: float, p: float, metric: str) -> str:
    """What a control reaches, and what may be said of the difference to it."""
    text = f"{who} {written(metric, sign(metric) * mean_of(theirs, metric))}"
    if abs(gap) < 1e-12:
        return f"{text} (no difference)"
    if p <= bootstrap.ALPHA:
        return text
    ahead = "+" if gap > 0 else "-"
    return f"{text} (the difference, {ahead}{difference(metric, abs(gap))}, is within noise)"
