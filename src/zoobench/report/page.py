"""report.html: one file, no network, the decision first.

Charts are drawn by Observable Plot and D3 (ISC licence), bundled in report/vendor.
The content security policy admits those scripts by their hashes and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from zoobench.escape import plain
from zoobench.metrics import METRICS, metric, sign, theirs
from zoobench.ranking.choice import SURE
from zoobench.ranking.nouns import (
    COSTS,
    SEVERAL,
    TIMED,
    OverallRanking,
    OverallRow,
    Ranking,
    SectionRanking,
)
from zoobench.ranking.pareto import AXES, noisy, one_device
from zoobench.ranking.recommend import COSTLY, license_fits
from zoobench.report.classes import class_scores, shaded
from zoobench.report.compression import about, compression_data, compression_views
from zoobench.report.figures import heat_cells, lanes
from zoobench.report.line_charts import chart_data
from zoobench.report.markdown import failure_rows, flat
from zoobench.report.models_page import model_pages
from zoobench.report.parts import NOTHING_MORE, ReportParts, TransferTable
from zoobench.report.precision_recall import PrecisionRecall, curve_data
from zoobench.report.protocol import HOW_TO_READ, protocol_rows
from zoobench.report.terminal import critical_note, overall_notes
from zoobench.report.text import (
    COLUMNS,
    COST_TITLES,
    board_names,
    control_label,
    costs,
    dataset_labels,
    labels,
    measure,
    row_text,
    standing,
    unsure,
    worst_texts,
)
from zoobench.report.transfer import TITLES, transfer_tables
from zoobench.report.usability_view import ABOUT, NOTE
from zoobench.schema import Ref
from zoobench.statistics.critical import CriticalDifference

SCRIPTS = ("page_decision.js", "page_charts.js", "page_copy.js", "page.js")
"""Ours, in the order in which they run: the last one begins."""
VENDORED = {"d3": "d3.min.js", "plot": "plot.umd.min.js"}
LIMITED_TRUST = {name: TITLES[name] for name in ("mean_retained", "membership_auc")}
"""Numbers of trust that the reader may limit, as `recommend` can."""
LEAST = [name for name in LIMITED_TRUST if metric(name).better == "higher"]
SECTIONS = (
    ("decision", "Decision"),
    ("pareto", "Cost"),
    ("leaderboard", "Leaderboard"),
    ("heat", "Datasets"),
    ("forest", "Intervals"),
    ("ranks", "Ranks"),
    ("protocol", "Protocol"),
    ("models", "Models"),
    ("failures", "Failures"),
    ("environment", "Environment"),
)


def page(
    ranking: Ranking,
    title: str,
    environment: Mapping[str, Any],
    suite: str,
    parts: ReportParts = NOTHING_MORE,
) -> str:
    """The whole of report.html. `suite` is what `zoobench run` would be given again."""
    from jinja2 import Environment
    from markupsafe import Markup

    folder = files("zoobench.report")
    scripts = [_vendored(name) for name in VENDORED]
    scripts += [folder.joinpath(name).read_text("utf-8") for name in SCRIPTS]
    views, tables = compression_views(parts.variants), transfer_tables(ranking)
    boards = [
        board(o, n) for o, n in zip(ranking.overall, board_names(ranking.overall), strict=True)
    ]
    template = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    engine = Environment(autoescape=True, trim_blocks=True, finalize=_plain_text)
    rendered = engine.from_string(template).render(
        title=title,
        hashes=Markup(" ".join(f"'sha256-{_sha(text)}'" for text in scripts)),  # noqa: S704
        css=Markup(folder.joinpath("page.css").read_text("utf-8")),  # noqa: S704  our own file
        scripts=[Markup(text) for text in scripts],  # noqa: S704  our own files
        sections=_sections(ranking, parts, tables, bool(views)),
        compression=views,
        compressed=about(parts.variants),
        usability=parts.usability,
        usable=ABOUT if parts.usability.rows else NOTE,
        worst=parts.worst,
        rebuilt=parts.rebuilt,
        maps=parts.maps,
        spoken=parts.spoken,
        boards=boards,
        nothing=_nothing(ranking),
        metric=_common_metric(ranking),
        limited=_limited(),
        axes=[(name, COST_TITLES[name]) for name in AXES],
        cheapest=[(name, COST_TITLES[name]) for name in COSTLY.values()],
        how_to_read=HOW_TO_READ,
        protocol=protocol_rows(ranking),
        licenses=sorted({row.license for o in ranking.overall for row in o.rows}),
        shots=any(s.shots is not None for s in ranking.sections),
        ranked=any(o.critical is not None for o in ranking.overall),
        models=model_pages(ranking, suite),
        transfer_tables=tables,
        curves=parts.curves,
        classes=[shaded(one) for one in class_scores(ranking)],
        failures=failure_rows(ranking.failures)[1],
        environment=flat(environment),
        data=Markup(_json(_data(ranking, boards, parts.curves, tables) | compression_data(views))),  # noqa: S704  `<` is escaped by _json
    )
    return rendered.rstrip() + "\n"


def _limited() -> list[tuple[str, str]]:
    """What the reader may limit, and what is said before the limit."""
    titles = {name: COST_TITLES[name] for name in COLUMNS} | LIMITED_TRUST
    return [
        (name, f"{text[:1].upper()}{text[1:]} at {'least' if name in LEAST else 'most'}")
        for name, text in titles.items()
    ]


def _sections(
    ranking: Ranking, parts: ReportParts, own: Sequence[TransferTable], compressed: bool
) -> list[tuple[str, str]]:
    """What the page has, for its list of contents."""
    ranked = any(o.critical is not None for o in ranking.overall)
    always = ("models", "failures", "environment")
    kept = [
        (name, text)
        for name, text in SECTIONS
        if (ranked or name != "ranks") and (ranking.overall or name in always)
    ]
    if not ranking.overall:  # why there is nothing to rank comes first
        kept.sort(key=lambda section: section[0] != "failures")
    at = [name for name, _ in kept].index("models")
    classes = [("compression", "Compression")] if compressed else []
    classes += [("classes", "Classes")] if class_scores(ranking) else []
    classes += [("curves", "Curves")] if parts.curves else []
    classes += [("worst", "Pictures")] if parts.worst else []
    classes += [("rebuilt", "Rebuilt pictures")] if parts.rebuilt else []
    classes += [("maps", "Maps")] if parts.maps else []
    classes += [("spoken", "Transcripts")] if parts.spoken else []
    tables = [(table.name, table.title) for table in own]
    tables += [("usability", "Usability")] if parts.usability.rows else []
    return kept[:at] + classes + tables + kept[at:]


def _vendored(name: str) -> str:
    """A bundled library, its licence in front of it as the licence asks."""
    folder = files("zoobench.report").joinpath("vendor")
    licence = folder.joinpath(f"{name}.LICENSE").read_text(encoding="utf-8")
    code = folder.joinpath(VENDORED[name]).read_text(encoding="utf-8")
    return f"/*\n{licence.strip()}\n*/\n{code.strip()}\n"


def _sha(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that can stand inside <script>: no `<` is left in it."""
    text = json.dumps(
        _plain_text(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.replace("<", "\\u003c")


def _plain_text(value: Any) -> Any:
    """The texts in `value` as `escape.plain` shows them; what is markup of ours as it is."""
    if isinstance(value, str):
        return value if hasattr(value, "__html__") else plain(value)
    if isinstance(value, dict):
        return {name: _plain_text(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and not (value and isinstance(value[0], (int, float))):
        return [_plain_text(item) for item in value]
    return value


def _data(
    ranking: Ranking, boards: Sequence[Mapping[str, Any]], curves: Sequence[PrecisionRecall],
    tables: Sequence[TransferTable],
) -> dict[str, Any]:  # fmt: skip
    own = ("columns", "table", "notes")
    rows = {**theirs(), **METRICS}
    return {
        "boards": [{k: v for k, v in b.items() if k not in own} for b in boards],
        "curves": curve_data(curves),
        "lines": chart_data({table.name: table.charts for table in tables}),
        "fractions": [name for name, row in rows.items() if row.unit == "fraction"],
        "targets": [name for name, row in rows.items() if row.unit == "target"],
        "timed": sorted(TIMED),
        "sure": SURE,
        "titles": {**COST_TITLES, **LIMITED_TRUST},
        "trusted": [*LIMITED_TRUST],
        "least": LEAST,
        "shown": COLUMNS,
        "shots": _shots(ranking),
    }


def _shots(ranking: Ranking) -> list[dict[str, Any]]:
    """Points of the few-shot curves: a model, a dataset and method, k, its score."""
    found = [s for s in ranking.sections if s.shots is not None]
    on = dataset_labels(s.dataset for s in found)
    names = labels(row.model for s in found for row in s.rows)
    return [
        {
            "label": names[row.model],
            "facet": f"{on[s.dataset]}, {s.method}",
            "shots": s.shots,
            "value": _round(row.value),
        }
        for s in found
        for row in s.rows
    ]


def _round(value: float) -> float:
    return round(value, 5)


def board(o: OverallRanking, name: str) -> dict[str, Any]:
    """One overall ranking: its table for the page, and its numbers for the script."""
    names = labels([row.model for row in o.rows] + list(o.left_out_models))
    grid, models, datasets = heat_cells(o)
    flags = _flags(o)
    on = dataset_labels([*datasets, *o.datasets, *(s.dataset for s in o.sections)])
    return {
        "name": name,
        "metric": o.metric,
        "sign": sign(o.metric),
        "notes": overall_notes(o),
        "one_device": one_device(o.rows),
        "unit": "" if metric(o.metric).unit == "target" else metric(o.metric).unit,
        "over": _over(o, on),
        "unsure": unsure(len(o.rows)),
        "left_out": [[names[model], why] for model, why in o.left_out_models.items()],
        "rows": [_plain(o, row, names[row.model], flags.get(row.model, "")) for row in o.rows],
        "raw": [[float(f"{p:.3g}") for p in line] for line in o.raw],
        "posterior": [[round(1e5 * v) for v in draw] for draw in o.posterior],
        "heat": {
            "datasets": [on[data] for data in datasets],
            "models": [names.get(model, model.text) for model in models],
            "value": [[None if v is None else _round(v) for v, _ in line] for line in grid],
            "text": [[text for _, text in line] for line in grid],
        },
        "forest": [{"dataset": on[s.dataset], "rows": _forest(s, names)} for s in o.sections],
        "ranks": _ranks(o.critical, names),
        "columns": _columns(o),
        "table": [
            _cells(o, row, (names[row.model], worst, flags.get(row.model, "")))
            for row, worst in zip(o.rows, worst_texts(o), strict=True)
        ],
    }


def _over(o: OverallRanking, on: Mapping[Ref, str]) -> str:
    """What the score of a ranking is of, to follow it in a sentence."""
    count = len(o.datasets)
    return f"; on {on[o.datasets[0]]}" if count == 1 else f"; mean over {count} datasets"


def _flags(o: OverallRanking) -> dict[Ref, str]:
    """model -> what a reader must know of it, and on which datasets."""
    on = dataset_labels(s.dataset for s in o.sections)
    where: dict[Ref, dict[str, list[str]]] = {}
    for section in o.sections:
        for row in section.rows:
            for flag in row.flags:
                found = where.setdefault(row.model, {}).setdefault(flag.name, [])
                found.append(on[section.dataset])
    return {
        model: "; ".join(f"{name} on {', '.join(found)}" for name, found in flags.items())
        for model, flags in where.items()
    }


def _nothing(ranking: Ranking) -> str:
    """Why no model was ranked."""
    statuses = Counter(f.status for f in ranking.failures)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
    why = f": of {len(ranking.failures)} cells none gave a number ({counts})" if counts else ""
    return f"No model has a score, so there is nothing to rank{why}."


def _ranks(
    found: CriticalDifference[Ref] | None, names: Mapping[Ref, str]
) -> dict[str, Any] | None:
    """The critical-difference diagram's numbers; a bar is (lane, first label, last label)."""
    if found is None:
        return None
    shown = [names[model] for model in found.models]
    return {
        "rows": [
            {"label": n, "rank": round(r, 3)} for n, r in zip(shown, found.ranks, strict=True)
        ],
        "bars": [
            {"lane": lane, "labels": shown[first : last + 1]}
            for lane, (first, last) in zip(lanes(found.cliques), found.cliques, strict=True)
        ],
        "note": critical_note(found),
    }


def _plain(o: OverallRanking, row: OverallRow, label: str, flags: str) -> dict[str, Any]:
    return {
        "text": row_text(o.metric, row),
        "model": row.model.text,
        "label": label,
        "value": _round(row.value),
        "low": _round(row.low),
        "high": _round(row.high),
        "tied": row.tied,
        "device": None if row.device.startswith(SEVERAL) else row.device,
        "flags": flags,
        "license": row.license,
        "costs": {k: float(f"{v:.5g}") for k, v in row.costs.items() if k in COSTS},
        "trust": {k: _round(row.trust[k].value) for k in LIMITED_TRUST if k in row.trust},
        "noisy": sorted(noisy(row.records)),
        "permissive": license_fits(row.license, "permissive"),
    }


def _forest(section: SectionRanking, names: Mapping[Ref, str]) -> list[list[Any]]:
    """[label, value, low, high, "tied", "control" or ""] of each row."""
    better = sign(section.metric)
    rows: list[list[Any]] = [
        [names.get(row.model, row.model.text), *map(_round, (row.value, row.low, row.high)),
         "tied" if row.tied else ""]
        for row in section.rows
    ]  # fmt: skip
    for c in section.controls:
        bounds = (
            c.value,
            c.value if c.low is None else c.low,
            c.value if c.high is None else c.high,
        )
        rows.append([control_label(c), *(_round(better * v) for v in bounds), "control"])
    return rows


def _columns(o: OverallRanking) -> list[tuple[str, str]]:
    """Header and class: "high" where a first click should put the largest on top."""
    high = [f"{measure(o.metric)} [95%]", "P(1st)", "mean z", "worst"]
    titles = ["rank", "model", *high[:2], "mean rank", *high[2:]]
    titles += [*(COST_TITLES[name] for name in COLUMNS), "licence", "family", "flags"]
    return [(title, "high" if title in high else "") for title in titles]


def _cells(o: OverallRanking, row: OverallRow, texts: tuple[str, str, str]) -> dict[str, Any]:
    """A row of the leaderboard; `texts` are its name, its worst dataset and its flags."""
    label, worst, flags = texts
    rank, tied, _, score = standing(o, row, label)
    cells: list[tuple[str, Any]] = [
        (f"{rank} {tied}".rstrip(), row.rank_low + row.rank_high / 1e4),
        (label, label),
        (score, _round(row.value)),
        (f"{row.first:.2f}", _round(row.first)),
        (f"{row.mean_rank:.2f}", row.mean_rank),
        (f"{row.mean_z:+.2f}", row.mean_z),
        (worst, _round(row.worst)),
    ]
    values = [row.costs.get(name, "") for name in COLUMNS]
    cells += zip(costs(row), values, strict=True)
    cells += [(row.license, row.license), (row.family, row.family), (flags, flags)]
    return {"tied": row.tied, "cells": cells}


def _common_metric(ranking: Ranking) -> str:
    """What a column of scores over all datasets is called."""
    names = {section.metric for section in ranking.sections}
    return measure(names.pop()) if len(names) == 1 else "score"
