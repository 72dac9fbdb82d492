"""What a researcher asks of a report: how to read it, and on what each ranking rests."""

from __future__ import annotations

from zoobench.metrics import bounded, difference
from zoobench.ranking.nouns import Ranking, SectionRanking
from zoobench.report.text import dataset_labels, measure, section_method

HOW_TO_READ = (
    "A rank such as 1-3 is a 95% range: the data allow any of these places. A model marked = is "
    "tied: it cannot be told from the best, for its range holds rank 1 (McNemar's exact test or "
    "the paired bootstrap on the examples that both models saw, with Holm's correction).",
    "P(1st) is the probability of being the true best of those ranked. Intervals are 95% intervals "
    "over test examples, or the groups that they come in, and over the training runs where there "
    "are several. Controls have no rank.",
    "A model is suspect where it does not significantly beat a probe of the raw input, or an "
    "answer that knows no input where that is better: almost always its preprocessing is wrong, or "
    "the data need no encoder. Not better than random weights says the same of its own "
    "architecture untrained.",
)
"""Whole sentences, for every report alike."""


def protocol_rows(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what each dataset and method was measured on, and what that can show."""
    on = dataset_labels(s.dataset for s in ranking.sections)
    header = ["dataset", "method", "train", "valid", "test", "classes", "data", "score", "models",
              "runs of each", "compared by", "lead found 4 times in 5", "versions"]  # fmt: skip
    rows = [
        [
            on[s.dataset],
            section_method(s),
            *(str(s.sizes.get(part, "")) for part in ("train", "valid", "test")),
            "" if s.classes is None else str(s.classes),
            s.nature,
            measure(s.metric),
            str(len(s.rows)),
            _runs(s),
            "predictions in pairs" if s.paired else "intervals alone",
            _lead(s),
            ", ".join(f"{name} {s.key[name]}" for name in ("protocol", "task") if name in s.key),
        ]
        for s in ranking.sections
    ]
    return header, rows


def _runs(s: SectionRanking) -> str:
    counts = sorted({row.seeds for row in s.rows})
    return "-".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else ""


def _lead(s: SectionRanking) -> str:
    if len(s.rows) < 2:
        return ""
    if s.gap is None or (bounded(s.metric) and s.gap > 1):
        return "none"
    return difference(s.metric, s.gap)
