"""How numbers and names are written, in every output alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from zoobench.datasets.options import BOUNDS
from zoobench.metrics import difference, fraction, sign, written
from zoobench.quantities import duration
from zoobench.ranking.choice import SURE
from zoobench.ranking.nouns import Control, OverallRanking, OverallRow, Row, SectionRanking, natural
from zoobench.ranking.pareto import noisy
from zoobench.ranking.recommend import NOT_RANKED, Recommendation, recommend
from zoobench.schema import Cell, Ref
from zoobench.statistics.many import MATRIX_LIMIT


def with_interval(metric: str, value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return written(metric, value)
    return f"{written(metric, value)} [{written(metric, low)}, {written(metric, high)}]"


def row_text(metric: str, row: Row) -> str:
    """A row's score and interval; an error metric's as they were measured."""
    return with_interval(metric, *natural(metric, row.value, row.low, row.high))


def row_score(metric: str, value: float) -> str:
    """A score of a row, in which larger is better, as `metric` is written."""
    return written(metric, sign(metric) * value)


def measure(metric: str) -> str:
    """A metric's name where its numbers stand below it: "accuracy (%)"."""
    return metric + (" (%)" if fraction(metric) else "")


def si(value: float | None) -> str:
    """3.4M, 390M, 12k; "" for what was not measured."""
    if value is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


COST_TITLES = {
    "params": "parameters",
    "trainable_params": "parameters that the method trains",
    "weights_bytes": "weights",
    "feature_dim": "feature dimension",
    "macs": "MACs",
    "flops": "FLOPs",
    "latency_ms_p50": "latency (ms)",
    "latency_ms_p95": "latency p95 (ms)",
    "real_time_factor": "real-time factor",
    "throughput": "examples/s",
    "peak_memory_bytes": "peak memory",
    "extract_seconds": "extraction",
    "extract_waiting_share": "extraction, waiting for inputs",
    "fit_seconds": "fit",
    "train_seconds": "training",
    "compile_seconds": "compiling",
    "total_seconds": "total",
    "energy_joules": "energy (J)",
}


COLUMNS = ("params", "macs", "latency_ms_p50", "peak_memory_bytes")
"""The costs that tables of models show."""


NOISY = "~"
"""Stands after a time whose steps spread too far (docs/costs.md)."""


def cost(name: str, value: float | None, marked: Collection[str] = ()) -> str:
    """A cost as its title says; bytes as MB (10^6), "" for what was not measured."""
    if name in marked:
        return cost(name, value) + NOISY
    if value is None:
        return ""
    if name.endswith("bytes"):
        return f"{value / 1e6:.3g} MB"
    if name.endswith("seconds"):
        return duration(value)
    if name.endswith("share"):
        return f"{value:.0%}"
    if "latency" in name:
        return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
    return si(value)


def seeds(row: Row) -> str:
    return f" ({row.seeds} seeds)" if row.seeds > 1 else ""


def costs(row: Row, names: Sequence[str] = COLUMNS) -> list[str]:
    marked = noisy(row.records)
    return [cost(name, row.costs.get(name), marked) for name in names]


def standing(found: OverallRanking | SectionRanking, row: Row, name: str) -> list[str]:
    """What a row begins with in every table: rank, = where tied, name, score and interval."""
    rank = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}-{row.rank_high}"
    tied = "=" if row.tied and len(found.tied) > 1 else ""
    return [rank, tied, name, row_text(found.metric, row)]


def cut(name: str, most: int) -> str:
    """Both ends of a name that is longer than `most` characters: either may tell it apart."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 1]}…{name[len(name) - tail :]}"


DESCRIBING = (
    "channels", "crop_pct", "family", "interpolation", "labels", "layout", "mean", "range", "std"
)  # fmt: skip
"""Options that say what a file of weights does not say itself: how pictures become its input, and
what it is of."""


def labels(models: Iterable[Ref]) -> dict[Ref, str]:
    """model -> its shortest unique name.

    Without its revision, and where that leaves it unique without its source, the options that all
    models share, and those that describe its file.
    """
    refs = list(dict.fromkeys(models))
    shared = shared_options(refs)
    own = [ref.without(*shared) for ref in refs]
    bare = [ref.without(*DESCRIBING) for ref in own]
    alike = Counter(bare)
    kept = [one if alike[one] == 1 else ref for one, ref in zip(bare, own, strict=True)]
    plain = [_level(ref).short for ref in kept]
    tails = [text.split("/", 1)[1] for text in plain]
    counts, full = Counter(tails), Counter(plain)
    return {
        ref: tail if counts[tail] == 1 else text if full[text] == 1 else ref.text
        for ref, text, tail in zip(refs, plain, tails, strict=True)
    }


def _level(ref: Ref) -> Ref:
    """`ref` with one number where an option holds the same number for every channel."""
    return ref.with_options(
        **{k: v[0] for k, v in ref.options if isinstance(v, tuple) and len(set(v)) == 1}
    )


def dataset_labels(datasets: Iterable[Ref]) -> dict[Ref, str]:
    """dataset -> its shortest unique name; without its splits' bounds, where that is unique."""
    bare = {ref: ref.without(*BOUNDS) for ref in datasets}
    if len(set(bare.values())) < len(bare):
        bare = {ref: ref for ref in bare}
    short = labels(bare.values())
    return {ref: short[rest] for ref, rest in bare.items()}


def cell_labels(cells: Collection[Cell]) -> dict[str, str]:
    """A cell's key -> what people call it among `cells`: model · dataset · method, seed and shots.

    No two models or datasets look alike, and no name says where files lie on this machine.
    """
    models = {cell.model: _drawn(cell.model.private) for cell in cells}
    data = {cell.dataset: cell.dataset.private for cell in cells}
    names = _bare(labels(ref for ref, _ in models.values()))
    on = _bare(dataset_labels(data.values()))
    found = {}
    for cell in cells:
        ref, drawn = models[cell.model]
        parts = [names[ref] + drawn, on[data[cell.dataset]]]
        seed = f" seed {cell.seed}" if cell.seed else ""
        if cell.model.source != "control" or cell.method != cell.model.name:
            parts.append(method_text(cell.method, cell.shots) + head_text(cell) + seed)
        else:
            shots = "" if cell.shots is None else f", {cell.shots} a class"
            parts[0] += shots + seed
        found[cell.key] = " · ".join(parts)
    return found


def head_text(cell: Cell) -> str:
    """Which head a variant was given, after a comma; "" of a model as it is published."""
    own = cell.params.get("head") if cell.model.option("variant") is not None else None
    return "" if own is None else f", head {own}"


def _drawn(ref: Ref) -> tuple[Ref, str]:
    """A model apart from whether its weights are drawn at random, and that in words."""
    if ref.option("weights") != "random":
        return ref, ""
    return ref.without("weights"), ", random weights"


def _bare(names: Mapping[Ref, str]) -> dict[Ref, str]:
    """The name alone, where one of `names` has it."""
    counts = Counter(ref.name for ref in names)
    return {ref: ref.name if counts[ref.name] == 1 else told for ref, told in names.items()}


def unsure(models: int) -> str:
    """Why no probabilities are told of a ranking of so many models that has none."""
    if models > MATRIX_LIMIT:
        return f"Probabilities are told of {MATRIX_LIMIT} models at most."
    return "The luck of the training runs is not known: give each model three seeds."


def worst_texts(o: OverallRanking) -> list[str]:
    """Each row's score on the dataset where it is worst."""
    on = dataset_labels(o.datasets)
    return [
        f"{row_score(o.metric, row.worst)} ({on[row.worst_dataset]})"
        for row in o.rows
        if row.worst_dataset
    ]


def shared_options(models: Iterable[Ref]) -> dict[str, object]:
    """The options that every one of `models` has with the same value."""
    first, *others = [dict(_level(model).options) for model in models] or [{}]
    return {k: v for k, v in first.items() if all(k in own and own[k] == v for own in others)}


def failed_models(section: SectionRanking) -> dict[Ref, str]:
    """Models without any score here -> how they failed."""
    ranked = {row.model for row in section.rows}
    return {f.model: f.status for f in section.failures if f.model not in ranked}


def control_label(control: Control) -> str:
    """ "chance", "raw-input", or "lite0, random weights", and on which part of the data."""
    name = control.model.name
    if control.model.source == "control":
        return name
    return f"{name}, random weights{on_part_text(control)}"


def on_part_text(control: Control) -> str:
    """Behind the name of a control that had a part of the data; "" behind any other."""
    return f" (on {control.on})" if control.on else ""


def method_text(method: str, shots: int | None) -> str:
    return method if shots is None else f"{method}, {shots} a class"


def section_method(section: SectionRanking) -> str:
    """The method, and what its features were computed in where that isn't float32."""
    coarse = ", in bf16" if section.key.get("precision") == "bf16" else ""
    return method_text(section.method, section.shots) + coarse


def board_names(overall: Sequence[OverallRanking]) -> list[str]:
    """A name for each overall ranking, for people: its method and what tells it apart."""
    names = [method_text(o.method, o.shots) for o in overall]
    for marks in ([o.name or _sets(o) for o in overall], [measure(o.metric) for o in overall]):
        names = [
            name if names.count(name) == 1 else f"{name} ({mark})"
            for name, mark in zip(names, marks, strict=True)
        ]
    return names


def _sets(o: OverallRanking) -> str:
    names = [dataset.name for dataset in o.datasets]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def family_note(tied: Sequence[Row]) -> str:
    """Near-copies among the tied: not independent confirmations of each other."""
    families = Counter(row.family for row in tied)
    largest = [(family, n) for family, n in families.most_common() if n > 1]
    copies = [f"{n} are variants of {family}" for family, n in largest[:3]]
    if not copies:
        return ""
    more = f" (and so in {len(largest) - 3} more families)" if len(largest) > 3 else ""
    return f"Of the tied, {' and '.join(copies)}{more}: near-copies, not independent confirmations."


def headline(found: OverallRanking) -> str:
    """The decision in a sentence or two: who is best or tied with it, and who is good enough."""
    rows = found.rows
    if not rows:
        return "No model has a score here."
    names = labels(row.model for row in rows)
    tied = [row for row in rows if row.tied]
    best = rows[0]
    if len(rows) == 1:
        return f"Only {names[best.model]} was ranked: nothing to choose between."
    if len(tied) == 1:
        said = (
            f"{names[best.model]} is the best, and the data suffice to say so "
            f"(P(rank 1) = {best.first:.2f})."
        )
    else:
        said = (
            f"{len(tied)} of {len(rows)} models are tied: they cannot be told from the best "
            f"({names[best.model]})."
        )
    return f"{said} {_good_enough(found, names)}".rstrip()


def _good_enough(o: OverallRanking, names: Mapping[Ref, str]) -> str:
    """The picks of `zoobench recommend` without limits, where they are not the only best model."""
    found = recommend(o)
    pick, cheap = found.accurate, found.cheapest
    if pick is None or cheap is None or (cheap is pick and len(found.tied) == 1):
        return ""
    if cheap is pick:
        return f"Most accurate and cheapest good enough: {names[pick.model]}."
    return (
        f"Cheapest good enough: {names[cheap.model]}, within "
        f"{difference(o.metric, found.tolerance)} of the true best with probability "
        f"{found.within[cheap.model]:.2f}."
    )


def recommendation_text(found: Recommendation) -> list[str]:
    """What `zoobench recommend` prints: the two picks, how sure each is, and why not the others."""
    on = list(dataset_labels(found.datasets).values())
    more = f" and {len(on) - 2} more" if len(on) > 2 else ""
    where = f"{method_text(found.method, None)} on {', '.join(on[:2])}{more}"
    best, cheap = found.accurate, found.cheapest
    every = [*found.ruled_out, *found.behind]
    every += [row.model for row in (*found.tied, best, cheap) if row is not None]
    names = labels(every)
    lines = []
    if best is None:
        lines.append(f"No model keeps to these limits ({where}).")
    else:
        lines += [f"Most accurate: {names[best.model]} ({where})", *_told(found, best)]
        others = [names[row.model] for row in found.tied if row.model != best.model]
        if others:
            lines.append(f"  It cannot be told from: {', '.join(others)}.")
        lines += _cheapest(found, best, names)
    if found.needs:
        lines.append(f"Needed: {', '.join(found.needs)}. Only a yes keeps a need.")
    lines += [f"Not {names[m]}: {why}." for m, why in found.ruled_out.items()]
    for model, why in found.behind.items():
        top = found.tied[0].model
        lines.append(f"Not {names[model]}: {why.removesuffix(top.short)}{names[top]}.")
    return lines


def _told(found: Recommendation, row: OverallRow) -> list[str]:
    """A pick's score, size and licence, and how sure it is."""
    size = si(row.costs.get("params"))
    said = (f"{found.metric} {row_text(found.metric, row)}", size and f"{size} parameters")
    lines = ["  " + ", ".join(part for part in (*said, row.license) if part)]
    if row.model in found.first:
        loss = difference(found.metric, found.loss[row.model])
        lines.append(f"  P(best) {found.first[row.model]:.2f}, expected loss {loss}")
    lines += [f"  Beware: {f.name} {f.why}" for f in row.flags if f.name == "regressed"]
    return lines


def _cheapest(found: Recommendation, best: OverallRow, names: Mapping[Ref, str]) -> list[str]:
    """The cheapest good enough, by what cost, and what it saves."""
    cheap, cost = found.cheapest, COST_TITLES[found.cost]
    far = f"within {difference(found.metric, found.tolerance)} of the true best"
    if cheap is None:
        if not found.first:
            out = [why for why in found.ruled_out.values() if not why.startswith(NOT_RANKED)]
            ranked = len(found.tied) + len(found.behind) + len(out)
            return [f"Cheapest good enough: not known. {unsure(ranked)}"]
        return [
            f"Cheapest good enough: none whose {cost} is known is {far} with probability {SURE:g}."
        ]
    sure = f"{far} with probability {found.within[cheap.model]:.2f}"
    if cheap is best:
        return [f"It is also the cheapest good enough, by {cost}: {sure}."]
    spent, saved = (si(row.costs.get(found.cost)) or "unknown" for row in (cheap, best))
    head = f"Cheapest good enough: {names[cheap.model]} ({cost} {spent} for {saved})"
    return [head, *_told(found, cheap), f"  {sure}"]
