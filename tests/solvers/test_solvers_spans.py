"""The span probe's solver: its gradient, its optimum and what that does not depend on."""

from __future__ import annotations

import pytest
import torch

from zoobench.solvers.lbfgs import Pairs
from zoobench.solvers.spans import TARGET, SpanData, SpanProblem, Windows, span_path, within

CPU = torch.device("cpu")


def world(windows: int = 40, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, Windows]:
    """Rows of windows of 3 to 9, whose ends two directions give away, more or less."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.randint(3, 10, (windows,), generator=draw)
    starts = [0, *counts.cumsum(0).tolist()]
    rows = torch.randn(starts[-1], dim, generator=draw, dtype=torch.float64)
    noise = torch.randn(starts[-1], 2, generator=draw, dtype=torch.float64)
    scores = 2 * rows[:, :2] + noise
    truth = [tuple(scores[a:b].argmax(dim=0).tolist()) for a, b in zip(starts, starts[1:])]  # noqa: B905,RUF007
    return rows, Windows.of(starts, truth, CPU)


def loss(rows: torch.Tensor, windows: Windows, at: torch.Tensor) -> torch.Tensor:
    """Window by window, as the module's page writes it."""
    total = torch.zeros((), dtype=torch.float64)
    for place, truth in zip(windows.place, windows.truth, strict=True):
        own = rows[place[place >= 0]]
        for end in (0, 1):
            scores = own @ at[end]
            total = total + 0.5 * (torch.logsumexp(scores, 0) - scores[truth[end]])
    return total / len(windows.truth)


def test_value_and_gradient_are_those_of_the_formula() -> None:
    rows, windows = world()
    at = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at.requires_grad_()
    plain = loss(rows, windows, at) + 0.05 * at.square().sum()
    (gradient,) = torch.autograd.grad(plain, at)
    found, slope = SpanProblem(rows, windows, 0.1, torch.ones(6)).value_and_gradient(at.detach())
    assert found == pytest.approx(plain.item(), abs=1e-12)
    assert torch.allclose(slope, gradient, atol=1e-12)


@pytest.mark.parametrize("lam", [1.0, 1e-2, 1e-4])
def test_the_optimum_is_certified_and_what_another_solver_finds(lam: float) -> None:
    rows, windows = world()
    scale = float(within(rows, windows).diagonal().mean()) ** 0.5
    at = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    other = torch.optim.LBFGS(
        [at],
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        other.zero_grad()
        value = loss(rows / scale, windows, at) + 0.5 * lam * at.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    other.step(closure)  # type: ignore[no-untyped-call]
    best = closure().item()
    data = SpanData.of(rows.clone(), windows)
    point, _ = data.solved(lam, None, Pairs(), strict=True)
    assert point.bound <= TARGET
    assert best - 1e-9 <= point.objective <= best * (1 + TARGET) + 1e-9
    assert torch.allclose(rows @ point.weight.t(), rows / scale @ at.detach().t(), atol=0.05)


def test_scale_offset_and_rotation_of_the_rows_change_nothing() -> None:
    rows, windows = world()
    turned, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    for other in (rows * 1e3, rows + 40.0, rows @ turned):
        one, two = (
            SpanData.of(x.clone(), windows).solved(1e-3, None, Pairs(), strict=True)[0]
            for x in (rows, other)
        )
        assert two.objective == pytest.approx(one.objective, rel=1e-4)
        ours, theirs = (windows.scores(x @ p.weight.t()) for x, p in ((rows, one), (other, two)))
        assert torch.allclose(ours.softmax(dim=1), theirs.softmax(dim=1), atol=0.02)


def test_the_path_chooses_by_what_is_judged_and_rows_are_shared() -> None:
    rows, windows = world(80)
    held = torch.cat([rows, world(80, seed=2)[0]])
    train = SpanData.of(held[: len(rows)], windows)
    valid = SpanData.of(held[len(rows) :], world(80, seed=2)[1], train)
    assert train.rows.data_ptr() == held.data_ptr()

    def judge(scores: torch.Tensor) -> float:
        return float((scores.argmax(dim=1) != valid.windows.truth).double().mean())

    points = span_path(train, valid, judge, 12, 11.0)
    lams = [one.lam for one in points]
    assert lams == sorted(lams, reverse=True)
    best = min(points, key=lambda one: one.order)
    assert best.valid_loss == min(one.valid_loss for one in points) < 0.35
    assert best.lam == max(one.lam for one in points if one.valid_loss == best.valid_loss)
    assert points[0].valid_nll > min(one.valid_nll for one in points)
    assert torch.allclose(train.inside(best.weight) @ train.basis.t(), best.weight, atol=1e-8)
