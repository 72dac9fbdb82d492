"""The grid of penalties that all path solvers share (PROTOCOL section 2)."""

from __future__ import annotations

CENTRE = -3.5
"""log10 of the grid's middle. lambda has no unit, so one place serves every feature space:
the default grid is 10^2 (nearly only the class frequencies are left) to 10^-9."""


def grid(lambdas: int = 45, decades: float = 11.0) -> list[float]:
    """`lambdas` values, log-spaced over `decades`, strong to weak."""
    step = decades / (lambdas - 1) if lambdas > 1 else 0.0
    high = CENTRE + decades / 2.0 if lambdas > 1 else CENTRE
    return [10.0 ** (high - i * step) for i in range(lambdas)]
