"""What the encoders that a suite pretrained cost, and what their pretraining bought.

Each is compared with the same encoder untrained, and with a probe of raw inputs, on the same test
examples: on all of the data and with few labels (PROTOCOL sections 2 and 6).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from zoobench.metrics import sign
from zoobench.models.weights import PRETRAINED_HERE, seen
from zoobench.ranking.comparability import Section, has_random_weights
from zoobench.ranking.controls import Controls, architecture
from zoobench.ranking.nouns import Bought, Lead, MadeEncoder
from zoobench.ranking.outcomes import Kept, by_model, kept_of, primary_of
from zoobench.schema import PRETRAIN, Record, Ref
from zoobench.statistics.bootstrap import ALPHA, Floats, unit_count
from zoobench.statistics.intervals import Luck, pooled, satterthwaite, student_quantile
from zoobench.statistics.paired import holm
from zoobench.tasks.evaluate import bounds_of

SAMPLED, FLOOR = ("kid", "fid", "sample_precision", "sample_recall"), "_floor"
"""What is measured of samples, and the end of its name where real pictures stand in their place."""
NUMBERS = (
    "examples_seen", "pretraining_macs", "pretraining_seconds", "train_memory_bytes",
    "pretraining_joules", "psnr", "ssim", "bits_per_dim", "masked_lm_loss", "pseudo_bits_per_byte",
    *(name + end for name in SAMPLED for end in ("", FLOOR)),
)  # fmt: skip
"""Of an encoder, beside its curve."""
ALWAYS = 4
"""Of these every encoder has the first."""
OVER = ("random features", "raw input")
"""What every pretraining is held against."""


def encoders(records: Iterable[Record]) -> tuple[MadeEncoder, ...]:
    """A row for each model whose pretraining cells are among `records`, in their order. A record
    that lacks what each of ours has is left out: others write records, too."""
    made = by_model(
        r
        for r in records
        if r.cell.method == PRETRAIN and r.status == "ok"
        and _points(r) and all(r.get(name) for name in NUMBERS[:ALWAYS])
    )  # fmt: skip
    rows = [_made(model, of) for model, of in made.items()]
    spent = [row.curve[-1][1] for row in rows if row.curve[-1][1] > 0]
    return tuple(
        dataclasses.replace(row, equal=_at(row, min(spent))) if spent else row for row in rows
    )


def _made(model: Ref, records: Sequence[Record]) -> MadeEncoder:
    numbers = {}
    for name in NUMBERS:
        found = [m for r in records if (m := r.get(name))]
        if not found:
            continue
        values = np.array([m.value for m in found])
        low, high = (found[0].low, found[0].high) if len(found) == 1 else (None, None)
        if all(m.low is not None for m in found) and len(found) > 1:
            within = np.mean([((m.high or 0) - (m.low or 0)) ** 2 for m in found]) / 3.92**2
            between = float(values.var(ddof=1)) / len(values)
            dof = satterthwaite((float(within), np.inf), (between, len(values) - 1.0))
            half = student_quantile(dof) * float(np.sqrt(within + between))
            least, most = bounds_of(name)
            low = max(float(values.mean()) - half, least)
            high = min(float(values.mean()) + half, most)
        numbers[name] = (float(values.mean()), low, high)
    chosen = {rate for r in records if isinstance(rate := r.chosen.get("rate"), float)}
    judge = next((str(m.detail.get("model", "")) for r in records if (m := r.get("kid"))), "")
    rates = tuple(sorted(chosen))
    return MadeEncoder(model, len(records), rates, numbers, _curve(records), judge=judge)


def _curve(records: Sequence[Record]) -> tuple[tuple[float, float, float, float, float], ...]:
    """(examples, MACs, mean, least and greatest accuracy) along the trainings."""
    points = []
    for same in zip(*map(_points, records), strict=False):
        values = [accuracy for _, _, accuracy in same]
        points.append((*same[0][:2], float(np.mean(values)), min(values), max(values)))
    return tuple(points)


def _points(record: Record) -> list[tuple[float, float, float]]:
    """(examples, MACs, accuracy) along a training; [] where it tells no such."""
    told = record.get("pretraining_valid_accuracy")
    try:
        rows = told.detail["curve"] if told else ()
        points = [(float(p["examples"]), float(p["macs"]), float(p["accuracy"])) for p in rows]
    except (KeyError, TypeError, ValueError):
        return []
    return points if np.isfinite(points).all() else []


def _at(row: MadeEncoder, macs: float) -> float:
    spent, accuracy = ([point[i] for point in row.curve] for i in (1, 2))
    return float(np.interp(macs, spent, accuracy))


def bought(controls: Controls, sections: Sequence[Section]) -> tuple[Bought, ...]:
    """A row for each pretrained model, dataset, method and one of OVER; () where nothing was
    pretrained. The variance between encoders is pooled over the models and datasets of a method."""
    pairs: dict[tuple[str, str, int | None], list[tuple[Ref, Section, str, Kept, Kept]]] = {}
    for section in sections:
        metric = primary_of(section.records[0])
        ok = by_model(r for r in section.records if r.status == "ok" and r.get(metric))
        for model, records in ok.items():
            if not _trained(model):
                continue
            mine = kept_of(controls.book, records, metric)
            for over, base in zip(OVER, _bases(controls, section, model, ok), strict=True):
                theirs = kept_of(controls.book, base, metric) if base else None
                if mine and theirs and np.array_equal(mine.units, theirs.units):
                    at = section.method, over, section.shots
                    pairs.setdefault(at, []).append((model, section, metric, mine, theirs))
    rows: dict[tuple[Ref, Ref, str, str], Bought] = {}
    for (method, over, shots), found in pairs.items():
        luck = pooled([_apart(mine, theirs) for *_, mine, theirs in found])
        for model, section, metric, mine, theirs in found:
            name = model, section.dataset, method, over
            row = rows.get(name) or Bought(
                model, section.dataset, method, over, metric, None, seen(model, section.dataset)
            )
            lead, p = lead_over(mine, theirs, luck)
            score = float(mine.values().mean()) if shots is None else row.score
            rows[name] = dataclasses.replace(
                row, leads={**row.leads, shots: lead}, p={**row.p, shots: p}, score=score
            )
    return _corrected(list(rows.values()))


def _trained(model: Ref) -> bool:
    objective = model.option("objective")
    return model.source == PRETRAINED_HERE and objective not in (None, "random")


def _bases(
    controls: Controls, section: Section, model: Ref, ok: Mapping[Ref, Sequence[Record]]
) -> tuple[Sequence[Record], Sequence[Record]]:
    """The records of the same encoder untrained, and of raw inputs; () where there are none."""
    mine = architecture(model)
    untrained = [
        records
        for other, records in ok.items()
        if architecture(other) == mine
        and (other.option("objective") == "random" or has_random_weights(records[0]))
    ]
    raw = controls.plain(section).get(Ref("control", "raw-input"), ())
    return max(untrained, key=len, default=()), raw


def _apart(mine: Kept, theirs: Kept) -> Floats:
    """(S,) the lead of each seed, larger better; over one number where the base has no seeds."""
    values, base = mine.values(), theirs.values()
    apart = values - (base if len(base) == len(values) else base.mean())
    return np.asarray(sign(mine.metric) * apart)


def lead_over(mine: Kept, theirs: Kept, luck: Luck) -> tuple[Lead, float]:
    """The mean lead over the seeds, its 95% interval over test examples and seeds, whose variance
    is `luck`, and the two-sided p-value that there is none: the two variances added, by Student's
    t with Welch and Satterthwaite's degrees of freedom."""
    from scipy.special import stdtr

    each, groups = _apart(mine, theirs), unit_count(mine.units)
    value = float(each.mean())
    if luck.lone or groups < 2:
        return Lead(value, None, None, len(each)), 1.0
    examples = float(np.var(mine.draws() - theirs.draws())) * groups / (groups - 1)
    seeds = luck.variance / len(each)
    dof = satterthwaite((examples, groups - 1.0), (seeds, luck.dof))
    error = float(np.sqrt(examples + seeds))
    half = student_quantile(dof) * error
    if error == 0:
        return Lead(value, value, value, len(each)), float(value == 0)
    p = 2 * float(stdtr(min(dof, 1e9), -abs(value) / error))
    return Lead(value, value - half, value + half, len(each)), p


def _corrected(rows: Sequence[Bought]) -> tuple[Bought, ...]:
    """`rows` in order, with what their leads on all of the data say by Holm's correction."""
    verdicts: dict[int, bool] = {}
    for family in {(row.method, row.over) for row in rows}:
        mine = [i for i, r in enumerate(rows) if (r.method, r.over) == family and None in r.p]
        if not mine:
            continue
        p = holm(np.array([rows[i].p[None] for i in mine]))
        for i, corrected in zip(mine, p, strict=True):
            verdicts[i] = bool(corrected <= ALPHA and rows[i].leads[None].value > 0)
    judged = [dataclasses.replace(row, beats=verdicts.get(i)) for i, row in enumerate(rows)]
    return tuple(sorted(judged, key=lambda r: (r.over, r.method, r.dataset, -(r.score or 0))))
