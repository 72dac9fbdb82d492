"""What a method's options ask for beside its scores, once `test` has been read."""

from __future__ import annotations

from zoobench import worktime
from zoobench.datasets.shift import is_shifted
from zoobench.interfaces import Adapted, Method, Splits
from zoobench.schema import Cell, Measurement
from zoobench.workers.loaded import Loaded, second

UNEXPLAINED = "explanation-no-better-than-control"
"""Flag of a record whose attribution does not beat a map that knows nothing of the model."""


def audited(
    cell: Cell, method: Method, adapted: Adapted, loaded: Loaded | None, splits: Splits
) -> tuple[Measurement, ...]:
    """Measurements beside the cell's scores. A variant's original is asked in its place, the cell
    of all examples in place of those of a few shots, and the clean test split in place of one that
    was shifted."""
    audit = getattr(method, "audit", None)
    if audit is None or loaded is None or loaded.original is not None:
        return ()
    if cell.shots is not None or is_shifted(cell.dataset):
        return ()
    source, began = loaded.features, worktime.now()
    team, source.team = source.team, None  # it trains on the cell's own split alone
    try:
        found: tuple[Measurement, ...] = audit(adapted, source, splits, cell.seed)
    finally:
        source.team = team
    spent = (second("audit_seconds", worktime.now() - began),) if found else ()
    return found + spent
