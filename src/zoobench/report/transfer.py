"""What a run says beyond its ranking, as tables that every output shows alike.

Which cheap score foresaw fine-tuning, what a shift of the data costs, how many labels are
enough, and how far train and test accuracy lie apart (PROTOCOL sections 5 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence

from zoobench.metrics import difference, written
from zoobench.ranking.foresight import mean_over
from zoobench.ranking.nouns import (
    TRUST,
    Bounded,
    Crossing,
    Efficiency,
    Gap,
    Judged,
    Lead,
    Ranking,
    SectionRanking,
    Shift,
)
from zoobench.report.parts import TransferTable
from zoobench.report.pretraining import pretraining_tables
from zoobench.report.text import dataset_labels, labels, row_score
from zoobench.schema import Ref


def transfer_tables(ranking: Ranking) -> list[TransferTable]:
    """The tables that this run has, in the order in which they are shown."""
    made = [
        ranking.judged and foreseen(ranking.judged),
        ranking.shifts and shifted(ranking.shifts),
        ranking.efficiency and labelled(ranking.efficiency),
        ranking.crossings and crossed(ranking.crossings),
        ranking.gaps and gapped(ranking.gaps),
        trusted(ranking.sections),
    ]
    found = [table for table in made if table]
    return pretraining_tables(ranking.encoders, ranking.bought) + found


def foreseen(judged: Sequence[Judged]) -> TransferTable:
    """A ranker a line: the mean over datasets, and each dataset where there are several."""
    ks = sorted({k for one in judged for k in one.regret})
    lines = [(0, f"{len(one.datasets)} datasets", one) for one in mean_over(judged)]
    if len({one.datasets for one in judged}) > 1:
        lines += [(1, one.datasets[0].short, one) for one in judged]
    fewer = {one.ranker for one in judged if one.models < one.of}
    about = (
        "How well each score, computed before any fine-tuning, ranks the fine-tuned models. "
        "regret@k is the accuracy lost by fine-tuning only the score's first k; tau is Kendall's, "
        "weighted towards the top. What does not beat the static rankers, which never look at "
        "the data, was not worth computing."
    )
    if fewer:
        about += f" Not every model has: {', '.join(sorted(fewer))}."
    rows = tuple(
        (
            one.ranker,
            "static" if one.static else "score",
            on,
            *(difference(one.metric, one.regret[k]) if k in one.regret else "" for k in ks),
            "" if one.tau is None else f"{one.tau:+.2f}",
            f"{one.models} of {one.of}",
        )
        for _, on, one in sorted(lines, key=lambda line: (*line[:2], line[2].static))
    )
    header = ("ranker", "kind", "on", *(f"regret@{k}" for k in ks), "weighted tau", "models")
    return TransferTable("foreseen", "Which score foresaw fine-tuning", about, header, rows)


def shifted(shifts: Sequence[Shift]) -> TransferTable:
    names, on = labels(s.model for s in shifts), dataset_labels(s.dataset for s in shifts)
    rows = tuple(
        (
            names[s.model],
            s.method,
            on[s.dataset],
            _kind(s.kind),
            row_score(s.metric, s.clean),
            row_score(s.metric, s.shifted),
            f"{s.retained:.2f}" + ("" if s.low is None else f" [{s.low:.2f}, {s.high:.2f}]"),
            " ".join(f"{v:.2f}" for k, v in s.severities.items() if k),
        )
        for s in shifts
    )
    return TransferTable(
        "shifted",
        "Under shift",
        "Heads fitted on the clean data and judged, untouched, on corrupted copies of its test "
        "split or on another dataset. retained = shifted / clean; a corruption's is the mean over "
        "its severities.",
        ("model", "method", "fitted on", "shift", "clean", "shifted", "retained [95%]",
         "by severity"),
        rows,
        ("method", "fitted on"),
        ("by severity",),
    )  # fmt: skip


def _kind(kind: str) -> str:
    """A corruption's name, or "to mnist-5k"."""
    before, to, other = kind.partition("to ")
    if before or not to:
        return kind
    return to + next(iter(dataset_labels([Ref.parse(other)]).values()))


def labelled(curves: Sequence[Efficiency]) -> TransferTable:
    ks = sorted({k for one in curves for k in one.curve})
    names, on = labels(one.model for one in curves), dataset_labels(one.dataset for one in curves)
    rows = tuple(
        (
            names[one.model],
            one.method,
            on[one.dataset],
            *(row_score(one.metric, one.curve[k]) if k in one.curve else "" for k in ks),
            "" if one.full is None else row_score(one.metric, one.full),
            _enough(one),
        )
        for one in curves
    )
    return TransferTable(
        "labelled",
        "How many labels are enough",
        "Mean over draws of k examples a class; k95 is the least measured k that reaches 95% of "
        "the score on all of the data.",
        ("model", "method", "dataset", *(f"k={k}" for k in ks), "all", "k95"),
        rows,
        ("method", "dataset"),
    )


def _enough(one: Efficiency) -> str:
    if one.full is None:
        return ""
    return str(one.enough) if one.enough else f"above {max(one.curve)}"


def crossed(found: Sequence[Crossing]) -> TransferTable:
    ks = sorted({k for one in found for k in one.leads})
    names, on = labels(one.model for one in found), dataset_labels(one.dataset for one in found)
    rows = tuple(
        (
            names[one.model],
            one.method,
            on[one.dataset],
            written(one.metric, one.untouched),
            *(_lead(one.metric, one.leads[k]) if k in one.leads else "" for k in ks),
            f"from {one.beats}" if one.beats else f"not by {max(one.leads)}",
        )
        for one in found
    )
    return TransferTable(
        "crossed",
        "From how many examples of a class a probe beats zero-shot",
        "The lead of a probe of k examples of a class over the same model told the classes' names "
        "alone, on the same test examples, with its 95% interval over these and the draws of "
        "examples. The probe beats it from the least k from which on every interval is above 0.",
        ("model", "method", "on", "zero-shot", *(f"k={k} [95%]" for k in ks), "beats it"),
        rows,
        ("method", "on"),
    )


def _lead(metric: str, lead: Lead) -> str:
    value = difference(metric, lead.value)
    if lead.low is None or lead.high is None:
        return f"{value}, of one draw or group"
    return f"{value} [{difference(metric, lead.low)}, {difference(metric, lead.high)}]"


def gapped(gaps: Sequence[Gap]) -> TransferTable:
    names = labels(g.model for g in gaps)
    rows = tuple(
        (
            names[g.model],
            g.method,
            row_score("accuracy", g.train),
            row_score("accuracy", g.test),
            difference("accuracy", g.train - g.test),
            str(g.datasets),
        )
        for g in gaps
    )
    return TransferTable(
        "gapped",
        "Train against test",
        "Train accuracy minus test accuracy, means over the datasets, the largest gap first.",
        ("model", "method", "train", "test", "gap", "datasets"),
        rows,
    )


def trusted(sections: Sequence[SectionRanking]) -> TransferTable | None:
    """What is known beside scores and costs; None where nothing is."""
    rows = [(section, row) for section in sections for row in section.rows if row.trust]
    if not rows:
        return None
    known = [name for name in TRUST if any(name in row.trust for _, row in rows)]
    names = labels(row.model for _, row in rows)
    on = dataset_labels(section.dataset for section, _ in rows)
    lines = tuple(
        (
            names[row.model],
            section.method,
            on[section.dataset],
            *(_bounded(name, row.trust.get(name)) for name in known),
        )
        for section, row in rows
    )
    return TransferTable(
        "trusted",
        "Can it be trusted?",
        "Membership: how well an attack tells examples of train from others, of the one trained "
        "model; an AUC of 50 is chance. Mean retained: shifted / clean, the mean over the "
        "corruptions and their severities. Explanation gain: insertion minus deletion of "
        "what answers rest on; a flag of the record says where a control does as well.",
        ("model", "method", "dataset", *(f"{TITLES[name]} [95%]" for name in known)),
        lines,
        ("method", "dataset"),
        tuple(
            f"{TITLES[name]} [95%]" for name in known if name in ("insertion_auc", "deletion_auc")
        ),
    )


TITLES = {
    "membership_auc": "membership AUC",
    "membership_tpr_at_1pct_fpr": "found at 1% false alarms",
    "mean_retained": "mean retained",
    "explanation_gain": "explanation gain",
    "insertion_auc": "insertion AUC",
    "deletion_auc": "deletion AUC",
    "pointing_game": "pointing game",
}


def _bounded(name: str, number: Bounded | None) -> str:
    if number is None:
        return ""
    ends = (number.low, number.high)
    shown = [written(name, end) for end in ends if end is not None]
    return written(name, number.value) + (f" [{', '.join(shown)}]" if len(shown) == 2 else "")
