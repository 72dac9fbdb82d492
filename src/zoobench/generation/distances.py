"""How far the rows of samples are from those of real pictures, as measurements with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoobench.metrics import measured
from zoobench.schema import Measurement
from zoobench.statistics.bootstrap import units_of
from zoobench.statistics.intervals import of_share

if TYPE_CHECKING:
    import torch


def distances(
    x: torch.Tensor, y: torch.Tensor, of_x: Sequence[str], of_y: Sequence[str]
) -> tuple[list[Measurement], dict[str, str]]:
    """Of rows X (N, D) from rows Y (M, D), and why some are not there. `of_x` and `of_y` are the
    rows' independent units.

    The intervals of precision and recall are those of a share of the rows, the other set as it is.
    """
    from zoobench.solvers import generated

    distance = generated.kid(x, y)
    found = [measured("kid", distance.value, low=distance.low, high=distance.high, n=len(x))]
    missing = {}
    if why := generated.fid_refused(len(x), len(y), x.shape[1]):
        missing["fid"] = why
    else:
        found.append(measured("fid", generated.fid(x, y), n=len(x)))
    for name, one, other, units in (("precision", x, y, of_x), ("recall", y, x, of_y)):
        shares = generated.inside(one, other).double().cpu().numpy()
        low, high = of_share(shares, units_of(units))
        value = float(shares.mean())
        found.append(measured(f"sample_{name}", value, low=low, high=high, n=len(shares)))
    return found, missing
