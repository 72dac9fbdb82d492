"""What report.html says of each model: its cells, costs, licence, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from zoobench.metrics import written
from zoobench.quantities import duration
from zoobench.ranking.comparability import is_control
from zoobench.ranking.nouns import Ranking
from zoobench.ranking.outcomes import by_model, contender, costs_of, device_of, primary_of
from zoobench.ranking.pareto import noisy
from zoobench.report.markdown import flat
from zoobench.report.text import COST_TITLES, cost, labels, method_text
from zoobench.report.text import with_interval as text_of
from zoobench.schema import Record


def model_pages(ranking: Ranking, suite: str) -> list[dict[str, Any]]:
    """One entry a model that is no control, in order of name."""
    shown = {section.dataset: section.metric for section in ranking.sections}
    groups = by_model(r for r in ranking.records if not is_control(r))
    names = labels(groups)
    flags = {
        (row.model, s.dataset, s.method, s.shots): [f.name for f in row.flags]
        for s in ranking.sections
        for row in s.rows
    }
    return [
        {
            "label": names[model],
            "ref": model.text,
            "facts": _facts(records),
            "cells": [_cell(r, shown.get(r.cell.dataset) or primary_of(r), flags) for r in records],
            "command": _command(records, suite),
        }
        for model, records in sorted(groups.items(), key=lambda item: names[item[0]])
    ]


def _command(records: Sequence[Record], suite: str) -> str:
    """What gives these numbers again."""
    files = [r.provenance["imported"]["file"] for r in records if "imported" in r.provenance]
    if files:
        return f"zoobench import timm {' '.join(dict.fromkeys(files))} --out RUN"
    only = shlex.quote("model=" + records[0].cell.model.id)
    return f"zoobench run {shlex.quote(suite)} --only {only}"


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    measured = [r for r in records if r.status == "ok"]
    marked = noisy(measured)
    found = [(COST_TITLES[k], cost(k, v, marked)) for k, v in costs_of(measured).items()]
    shares = [m for r in measured if (m := r.get("extract_waiting_share")) is not None]
    if bounds := sorted({str(m.detail.get("bound", "")) for m in shares}):
        found.append(("extraction bounded by", ", ".join(bounds)))
    if measured:
        found.append(("measured on", device_of(measured)))
        found += flat(measured[0].provenance.get("model") or {})
    return found


def _cell(r: Record, metric: str, flags: dict[Any, list[str]]) -> list[str]:
    cell, measured = r.cell, r.get(metric)
    train = r.value("train_accuracy")
    named = flags.get((contender(cell), cell.dataset, cell.method, cell.shots), [])
    seed = f", seed {cell.seed}" if cell.seed else ""
    return [
        cell.dataset.short,
        method_text(cell.method, cell.shots) + seed,
        text_of(metric, measured.value, measured.low, measured.high) if measured else "",
        "" if train is None else written("train_accuracy", train),
        duration(r.seconds) if r.seconds else "",
        ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in
                  r.chosen.items()),
        ", ".join(dict.fromkeys([*([] if r.status == "ok" else [r.status]), *r.flags, *named])),
    ]  # fmt: skip
