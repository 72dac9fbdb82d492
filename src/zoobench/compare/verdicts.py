"""What comparing two runs came to, as plain data. Exit codes are DESIGN section 4's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from zoobench.schema import Cell, Ref, Verdict

Kind = Literal["quality", "pooled", "exact", "cell", "times", "measured"]
Stage = Literal["weights", "preprocessing", "pixels", "features", "probe", "none"]

FINE, REGRESSION, FAILED, NOTHING, INCONCLUSIVE = 0, 1, 3, 4, 5
"""Exit codes; 2, the user's mistake, is a UserError that `compare` raises instead of a value."""

POOLED = Ref("all", "datasets")
"""The dataset of a verdict that pools all datasets of one model."""


@dataclass(frozen=True)
class Finding(Verdict):
    """A verdict with its evidence. Quality numbers are fractions, positive = better.

    `change` is candidate minus baseline with its 95% interval `low`, `high`; `p` is the
    one-sided p-value of a loss, `adjusted` the same after Holm; `detectable` is the
    smallest drop that the test would find 4 times in 5; `n` test examples, `seeds` and
    `cells` how many stand behind it. `accept` marks a change that somebody has to
    accept, whichever way it went. `stage` is the first stage that differs.
    """

    kind: Kind = "quality"
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    margin: float | None = None
    detectable: float | None = None
    n: int | None = None
    seeds: int = 1
    cells: int = 1
    accept: bool = False
    stage: str = ""

    @property
    def failing(self) -> bool:
        return self.accept or self.outcome == "regressed"

    @property
    def compared(self) -> bool:
        """Whether a test of quality, or a measured time, stands behind it."""
        tested = self.kind == "measured" or (
            self.kind in ("quality", "pooled") and self.p is not None
        )
        return tested and self.outcome not in ("missing", "incomparable")

    @property
    def doubtful(self) -> bool:
        """Whether it fell by more than the margin, and nobody can say that this is luck."""
        fell = self.change is not None and self.change < -(self.margin or 0.0)
        return self.outcome == "inconclusive" and fell

    @property
    def name(self) -> str:
        """What a line is headed with: the cell, or the model for what is the model's own."""
        if self.kind in ("quality", "cell"):
            return self.cell.label
        model = self.cell.model.short
        return f"{model} · all datasets" if self.kind == "pooled" else model


@dataclass(frozen=True)
class Drift:
    """Where one model's two runs part: the first stage that differs, and what may explain it.

    `libraries` maps a library to its (baseline, candidate) versions where they differ.
    """

    model: str
    stage: Stage
    why: str
    libraries: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class NewCell:
    """A cell that only the candidate has (or that failed in the baseline): listed, not gated."""

    cell: Cell
    status: str
    value: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Resolution:
    """What one dataset's test set can show: the largest `detectable` among its cells."""

    dataset: str
    metric: str
    n: int
    detectable: float
    margin: float

    @property
    def blind(self) -> bool:
        """True where a drop as large as the margin could pass unseen."""
        return self.detectable > self.margin


@dataclass(frozen=True)
class Comparison:
    """The whole decision. `family` is the number of tests that Holm's correction covers."""

    suite: str
    baseline: str
    candidate: str
    findings: tuple[Finding, ...]
    new: tuple[NewCell, ...] = ()
    warnings: tuple[Finding, ...] = ()
    drifts: tuple[Drift, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    notes: tuple[str, ...] = ()
    family: int = 0
    alpha: float = 0.05
    strict: bool = False

    @property
    def failing(self) -> tuple[Finding, ...]:
        """What turns the gate red with exit code 1."""
        return tuple(f for f in self.findings if f.failing)

    @property
    def exit_code(self) -> int:
        """By precedence: (2 is raised,) 3 missing, 4 no quality compared, 1 regressed, 5, 0."""
        outcomes = {f.outcome for f in self.findings}
        if "missing" in outcomes:
            return FAILED
        if not any(f.compared for f in self.findings):
            return NOTHING
        if self.failing:
            return REGRESSION
        if self.strict and "inconclusive" in outcomes:
            return INCONCLUSIVE
        return FINE

    @property
    def counts(self) -> dict[str, int]:
        """Outcome -> findings, worst first, and what else there is to tell."""
        order = ("regressed", "missing", "inconclusive", "incomparable", "improved", "same")
        found = {name: sum(f.outcome == name for f in self.findings) for name in order}
        found["accept"] = sum(f.accept for f in self.findings)
        return found | {"new": len(self.new), "warnings": len(self.warnings)}
