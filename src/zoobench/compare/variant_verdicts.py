"""What is said of compressed variants, as plain data (see variants)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zoobench.compare.gates import Gates
from zoobench.compare.verdicts import Finding
from zoobench.schema import Record, Ref

VARIANT, HEAD = "variant", "head"
"""The model's option and the cell's parameter that a variant and its original don't share."""
CARRIED = "carried"
"""The head that was fitted on the original's features: what a deployment does, and shown first."""


@dataclass(frozen=True)
class VariantRow:
    """An original (no `variant`), or one of its variants with one head, in one question.

    `value`, `low` and `high` are as the metric is written, the mean over `records`, one a seed;
    None where the row failed with `status`, of which `why` says more. `finding` is the verdict
    against the original. `coverage` and `covered_macs` are the shares of the parameters and of the
    MACs that the variant touches. `ratios` are costs over the original's, and `apart` says why
    times have none. `dominated_by` names the row that is no worse in quality and in each of the
    question's axes and better in one; "" on the front, None where a cost is unknown.
    """

    model: Ref
    head: str = ""
    records: tuple[Record, ...] = ()
    status: str = "ok"
    why: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    coverage: float | None = None
    covered_macs: float | None = None
    finding: Finding | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    apart: str = ""
    dominated_by: str | None = None

    @property
    def variant(self) -> str:
        return str(self.model.option(VARIANT, ""))

    @property
    def name(self) -> str:
        """ "original", "bf16", or "bf16, head carried"."""
        return f"{self.variant or 'original'}{f', head {self.head}' if self.head else ''}"


@dataclass(frozen=True)
class VariantTable:
    """One original on one dataset by one method, and its variants; the first row is the original's.

    `axes` are the costs that the front of quality was looked at by.
    """

    original: Ref
    dataset: Ref
    method: str
    shots: int | None
    metric: str
    rows: tuple[VariantRow, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class VariantVerdicts:
    """All that a run says of variants. `pooled` are the verdicts over all datasets, by (variant,
    head); `family` is the number of tests that Holm's correction covers."""

    tables: tuple[VariantTable, ...] = ()
    pooled: Mapping[tuple[Ref, str], Finding] = field(default_factory=dict)
    family: int = 0
    gates: Gates = field(default_factory=Gates)

    def regressed(self) -> dict[tuple[Ref, str], Finding]:
        """(variant, head) -> its worst verdict, of those that lost for sure, anywhere."""
        found: dict[tuple[Ref, str], Finding] = {}
        single = [((r.model, r.head), r.finding) for t in self.tables for r in t.rows if r.finding]
        for key, one in (*self.pooled.items(), *single):
            worse = key not in found or (one.change or 0.0) < (found[key].change or 0.0)
            if one.outcome == "regressed" and worse:
                found[key] = one
        return found


NO_VARIANTS = VariantVerdicts()
