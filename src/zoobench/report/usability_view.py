"""The usability section of a report: models by probes, as they were answered. No grade is made."""

from __future__ import annotations

from dataclasses import dataclass

from zoobench.report.tables import Columns
from zoobench.report.text import labels
from zoobench.report.usability import value_text
from zoobench.schema import Ref
from zoobench.usability import PROBES
from zoobench.usability.answers import Answers, UsabilityAnswer

ABOUT = (
    "What zoobench check found out of each model: yes, no or a number; ? is unknown, and an empty "
    "cell was not asked. No grade is made of it. Reasons are listed below, and the versions of the "
    "libraries that decide in usability.csv."
)
NOTE = (
    "Whether these models can be used (licence, exports, batches, training) was not asked: "
    "zoobench check RUN keeps the answers beside the run, and its report shows them."
)
QUIET = "relative"
"""A unit whose values say little beside a yes."""
CSV = ("model", "probe", "answer", "value", "unit", "why", "versions", "when")


@dataclass(frozen=True)
class UsabilityCell:
    """`answer` is "" where nobody asked; `value` is "" where there is none, or it says little."""

    answer: str = ""
    value: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        return f"{self.answer.replace('unknown', '?')} {self.value}".strip()


@dataclass(frozen=True)
class UsabilityView:
    """A table: the longer of models and probes makes the rows. `reasons` are of what is not yes."""

    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, tuple[UsabilityCell, ...]], ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def texts(self) -> list[list[str]]:
        return [[name, *(cell.text for cell in cells)] for name, cells in self.rows]


NOT_ASKED = UsabilityView()


def usability_view(answers: Answers) -> UsabilityView:
    """Models in the order in which they were asked; probes in that of their table."""
    models = list(dict.fromkeys(model for model, _ in answers))
    asked = {probe for _, probe in answers}
    probes = [name for name in PROBES if name in asked]
    if not probes:
        return NOT_ASKED
    refs = [Ref.parse(model) for model in models]
    named = labels(refs)
    names = [named[ref] for ref in refs]
    grid = [tuple(_cell(answers.get((m, p))) for p in probes) for m in models]
    reasons = _reasons(answers, dict(zip(models, names, strict=True)), probes)
    if len(models) < len(probes):
        rows = tuple(zip(probes, zip(*grid, strict=True), strict=True))
        return UsabilityView(("probe", *names), rows, reasons)
    return UsabilityView(("model", *probes), tuple(zip(names, grid, strict=True)), reasons)


def _cell(found: UsabilityAnswer | None) -> UsabilityCell:
    if found is None:
        return UsabilityCell()
    unit = PROBES[found.probe].unit
    told = found.value is not None and (unit != QUIET or found.answer == "no")
    value = value_text(found.value, unit) if told and found.value is not None else ""
    return UsabilityCell(found.answer, value, found.why)


def _reasons(answers: Answers, names: dict[str, str], probes: list[str]) -> tuple[str, ...]:
    """`exports-onnx: no: levit-128s, pit-ti (ValueError: ...)`, one line for all that share it."""
    shared: dict[tuple[str, str, str], list[str]] = {}
    for probe in probes:
        for model, name in names.items():
            one = answers.get((model, probe))
            if one is not None and one.answer != "yes":
                shared.setdefault((probe, one.answer, one.why), []).append(name)
    return tuple(
        f"{probe}: {said}: {', '.join(found)}" + (f" ({why})" if why else "")
        for (probe, said, why), found in shared.items()
    )


def usability_table(answers: Answers) -> Columns:
    """usability.csv: a row an answer, with the libraries that decide it and when it was asked."""
    rows = [
        (
            one.model, one.probe, one.answer, one.value,
            PROBES[one.probe].unit if one.probe in PROBES else "", one.why,
            ", ".join(f"{name} {version}" for name, version in one.versions.items()), one.when,
        )
        for one in answers.values()
    ]  # fmt: skip
    return {name: [row[i] for row in rows] for i, name in enumerate(CSV)}
