"""The probe's solver against scikit-learn, its own certificate, and awkward data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from zoobench.solvers import logistic
from zoobench.solvers.basis import Scaling, scaling
from zoobench.solvers.grid import grid
from zoobench.solvers.lbfgs import minimise
from zoobench.solvers.logistic import TARGET, LogisticPath, PathOptions, logistic_path
from zoobench.solvers.softmax import LOSS_FLOOR, Certificate, certify

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def blobs(
    n: int, d: int, classes: int, seed: int = 0, noise: float = 0.0, apart: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(n, d) float32 around one centre a class, every class present; `noise` labels are wrong."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = apart * rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d))
    wrong = rng.random(n) < noise
    wrong[:classes] = False
    labels = np.where(wrong, rng.integers(0, classes, n), labels)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def path_of(
    x: Tensor, y: Tensor, n: int, classes: int, **options: Any
) -> tuple[LogisticPath, Tensor, Tensor]:
    path = logistic_path(x[:n], y[:n], x[n:], y[n:], classes, PathOptions(**options))
    return path, x[:n], y[:n]


def reference(x: Tensor, y: Tensor, lam: float) -> LogisticRegression:
    """scikit-learn in float64 at its tightest: C = 1 / (lambda s n), since it sums the loss."""
    data = x.numpy().astype(np.float64)
    s = data.var(axis=0).mean()
    # Centred and scaled, as it stalls otherwise; the penalty moves along with the scale.
    data = (data - data.mean(axis=0)) / math.sqrt(s)
    model = LogisticRegression(C=1.0 / (lam * len(x)), tol=1e-14, max_iter=50_000)
    return model.fit(data, y.numpy())


def objective(w: Array, b: Array, x: Tensor, y: Tensor, lam: float) -> float:
    """The definition of PROTOCOL section 2, in numpy."""
    data = x.numpy().astype(np.float64)
    data = (data - data.mean(axis=0)) / math.sqrt(data.var(axis=0).mean())
    scores = data @ w.T + b
    top = scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0] - scores[np.arange(len(y)), y]
    return float(loss.mean() + lam / 2 * (w**2).sum())


@pytest.mark.parametrize(
    ("n", "d", "classes", "noise"),
    [(300, 12, 4, 0.1), (300, 12, 4, 0.5), (200, 30, 3, 0.0), (60, 90, 5, 0.1)],
)
def test_agrees_with_scikit_learn_at_its_tightest(
    n: int, d: int, classes: int, noise: float
) -> None:
    x, y = blobs(n + 60, d, classes, noise=noise)
    path, train, labels = path_of(x, y, n, classes)
    lam = path.fit.lam
    theirs = reference(train, labels, lam)
    best = objective(theirs.coef_, theirs.intercept_, train, labels, lam)
    head = path.fit.head
    ours = objective(head.weight.numpy(), head.bias.numpy(), train, labels, lam)
    assert ours - best <= path.fit.certificate.relative_gap * max(best, LOSS_FLOOR) + 1e-9
    assert path.fit.certificate.objective == pytest.approx(ours, rel=1e-6)
    s = scaling(train)
    expected = theirs.predict_proba(((x[n:].double() - s.mean) / s.scale).numpy())
    # A relative gap of 1e-4 leaves the last half per cent of a probability open.
    assert np.abs(head.log_probs(x[n:]).exp().numpy() - expected).max() < 0.01


@pytest.mark.parametrize("n_features", [15, 150])
def test_every_point_of_the_path_is_near_its_optimum(n_features: int) -> None:
    x, y = blobs(160, n_features, 3, noise=0.2)
    path, train, labels = path_of(x, y, 100, 3, stop_early=False)
    assert len(path.points) >= 45
    for point in path.points[4:-1:9]:
        theirs = reference(train, labels, point.lam)
        best = objective(theirs.coef_, theirs.intercept_, train, labels, point.lam)
        gap = (point.objective - best) / max(best, LOSS_FLOOR)
        # Points that are only compared are solved to an estimate of 1e-4.
        assert gap <= 2e-3, point
        # The certificate bounds it from above; float32 points up to float32's rounding.
        assert gap <= point.relative_gap + 1e-5, point


def test_stopping_early_changes_nothing_that_is_chosen() -> None:
    x, y = blobs(400, 20, 4, noise=0.1)
    short, _, _ = path_of(x, y, 300, 4)
    full, _, _ = path_of(x, y, 300, 4, stop_early=False)
    assert len(short.points) < len(full.points)
    assert short.fit.lam == full.fit.lam
    assert short.points[short.chosen].valid_nll == pytest.approx(
        full.points[full.chosen].valid_nll, abs=1e-3
    )


def test_the_refit_is_the_optimum_on_train_and_valid() -> None:
    x, y = blobs(400, 20, 4, noise=0.1)
    path, _, _ = path_of(x, y, 300, 4)
    theirs = reference(x, y, path.fit.lam)
    best = objective(theirs.coef_, theirs.intercept_, x, y, path.fit.lam)
    assert path.refit.certificate.objective == pytest.approx(best, rel=1e-4)
    assert path.refit.converged


def test_the_answer_has_no_unit_no_offset_and_no_orientation() -> None:
    x, y = blobs(260, 16, 3, noise=0.1)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1))).Q
    plain, _, _ = path_of(x, y, 200, 3)
    for changed in (x * 1e4, x * 1e-6, x + 50.0, x @ rotation):
        path, _, _ = path_of(changed, y, 200, 3)
        assert path.fit.lam == plain.fit.lam
        assert path.fit.certificate.objective == pytest.approx(
            plain.fit.certificate.objective, rel=2e-4
        )
        moved = (
            path.fit.head.log_probs(changed[200:]).exp() - plain.fit.head.log_probs(x[200:]).exp()
        )
        assert float(moved.abs().max()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_read_as_they_are(dtype: torch.dtype) -> None:
    x, y = blobs(260, 16, 3, noise=0.1)
    half = x.to(dtype)
    path, _, _ = path_of(half, y, 200, 3)
    same, _, _ = path_of(half.float(), y, 200, 3)
    assert path.fit.lam == same.fit.lam
    assert path.fit.certificate == same.fit.certificate


def test_labels_without_information_end_on_the_strong_edge_and_say_so() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((120, 40)).astype(np.float32))
    y = torch.from_numpy(np.arange(120) % 2)
    path, _, _ = path_of(x, y, 60, 2, decades=2.0, lambdas=9)
    assert path.extended == 2
    assert path.on_edge
    assert path.fit.lam == pytest.approx(grid(9, 2.0)[0] * 1e4)


def test_a_grid_too_strong_is_extended_towards_the_weak() -> None:
    x, y = blobs(300, 8, 3, apart=6.0)
    path, _, _ = path_of(x, y, 200, 3, decades=1.0, lambdas=5)
    assert path.extended >= 1
    assert path.fit.lam < grid(5, 1.0)[-1]


def test_a_valid_class_that_train_lacks_is_left_out() -> None:
    x, y = blobs(200, 8, 3, noise=0.1)
    y[150:160] = -1
    path, _, _ = path_of(x, y, 150, 3)
    assert path.refit.converged
    assert path.refit.head.log_probs(x).shape == (200, 3)


def test_too_few_evaluations_is_not_called_converged() -> None:
    x, y = blobs(300, 40, 5, noise=0.3)
    path, _, _ = path_of(x, y, 200, 5, lambdas=1, limit=2)
    assert not path.fit.converged
    assert path.fit.certificate.relative_gap > TARGET


def test_float64_finishes_what_float32_could_not_certify(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def doubtful(*given: Any) -> tuple[Certificate, Tensor]:
        found, bias = certify(*given)
        seen.append(found)
        return (replace(found, relative_gap=1.0) if len(seen) <= 2 else found), bias

    x, y = blobs(300, 30, 4, noise=0.1)
    exact, _, _ = path_of(x, y, 200, 4)
    monkeypatch.setattr(logistic, "SMALL", 0)
    single, _, _ = path_of(x, y, 200, 4)
    monkeypatch.setattr(logistic, "certify", doubtful)
    path, _, _ = path_of(x, y, 200, 4)
    assert len(seen) >= 3
    for found in (path, single):
        assert found.fit.converged
        assert found.refit.converged
        assert found.fit.lam == exact.fit.lam
        assert found.refit.certificate.objective == pytest.approx(
            exact.refit.certificate.objective, rel=1e-4
        )


def test_the_certificate_is_a_true_bound_at_any_point_and_any_bias() -> None:
    x, y = blobs(120, 6, 3, noise=0.2)
    s = scaling(x)
    for lam in (1.0, 1e-2, 1e-4):
        theirs = reference(x, y, lam)
        best = objective(theirs.coef_, theirs.intercept_, x, y, lam)
        for seed, size in enumerate((0.0, 1e-6, 1e-3, 0.3)):
            rng = np.random.default_rng(seed)
            w = theirs.coef_ + size * rng.standard_normal(theirs.coef_.shape)
            b = theirs.intercept_ + size * rng.standard_normal(3)
            found, bias = certify(x, y, s, torch.from_numpy(w), torch.from_numpy(b), lam)
            ours = objective(w, bias.numpy(), x, y, lam)
            assert found.objective == pytest.approx(ours, rel=1e-9)
            assert (ours - best) / max(best, LOSS_FLOOR) <= found.relative_gap + 1e-10
    assert found.relative_gradient_norm > 1e-3


def test_a_bias_that_newton_cannot_finish_still_has_a_valid_bound() -> None:
    """The mixed dual point, at its worst: weights so wrong that probabilities saturate."""
    x, y = blobs(60, 4, 3)
    w = 200.0 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    found, bias = certify(x, y, scaling(x), w, torch.zeros(3), 1e-2)
    theirs = reference(x, y, 1e-2)
    best = objective(theirs.coef_, theirs.intercept_, x, y, 1e-2)
    ours = objective(w.double().numpy(), bias.numpy(), x, y, 1e-2)
    assert (ours - best) / max(best, LOSS_FLOOR) <= found.relative_gap + 1e-9


def finite(path: LogisticPath, x: Tensor) -> None:
    scores = path.refit.head.log_probs(x)
    assert bool(torch.isfinite(scores).all())
    total = scores.double().exp().sum(dim=1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-4)
    assert math.isfinite(path.refit.certificate.objective)
    assert path.points[path.chosen].lam == path.fit.lam


@settings(max_examples=15)
@given(
    n=st.integers(8, 40),
    d=st.integers(1, 50),
    classes=st.integers(2, 5),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e8]),
    offset=st.sampled_from([0.0, 3.0]),
    noise=st.sampled_from([0.0, 0.3]),
    apart=st.sampled_from([0.0, 1.0, 30.0]),
    spoil=st.sampled_from(["nothing", "duplicates", "constant", "one-hot", "all-constant"]),
    half=st.booleans(),
)
def test_awkward_data_converges(
    n: int,
    d: int,
    classes: int,
    scale: float,
    offset: float,
    noise: float,
    apart: float,
    spoil: str,
    half: bool,
) -> None:
    """Separable, duplicated, constant, N < D, one example a class, huge, tiny, noisy, float16."""
    x, y = blobs(n + 8, d, classes, seed=n, noise=noise, apart=apart)
    x = (x + offset) * scale
    if spoil == "duplicates":
        x = torch.cat([x, x, x[:, :1]], dim=1)
    elif spoil == "constant":
        x = torch.cat([x, torch.full((len(x), 3), 7.0 * scale)], dim=1)
    elif spoil == "one-hot":
        x = torch.cat([x, scale * torch.eye(len(x))], dim=1)
    elif spoil == "all-constant":
        x = torch.full_like(x, 5.0 * scale)
    if half and scale == 1.0:
        x = x.half()
    path, _, _ = path_of(x, y, n, classes)
    finite(path, x)
    # Separable data may choose a lambda where no first-order method ends: it is flagged.
    if path.fit.lam > 1e-6:
        assert path.fit.converged
        assert path.refit.converged


def test_one_example_a_class() -> None:
    x, y = blobs(5 + 20, 64, 5, apart=3.0)
    path, _, _ = path_of(x, y, 5, 5)
    finite(path, x)
    assert path.refit.converged
    hits = path.fit.head.log_probs(x[5:]).argmax(dim=1) == y[5:]
    assert float(hits.float().mean()) > 0.9


def test_a_single_class_is_certain() -> None:
    x, _ = blobs(30, 4, 2)
    y = torch.zeros(30, dtype=torch.int64)
    path = logistic_path(x[:20], y[:20], x[20:], y[20:], 1)
    assert torch.equal(path.refit.head.log_probs(x), torch.zeros(30, 1))
    assert path.refit.converged


def test_constant_features_have_scale_one() -> None:
    assert scaling(torch.full((7, 3), 0.1)).scale == 1.0
    assert scaling(torch.tensor([[0.0], [2e-20]])).scale == pytest.approx(1e-20)
    assert isinstance(scaling(torch.zeros(2, 2)), Scaling)


@pytest.mark.parametrize("seed", [0, 1])
def test_nearly_separable_classes_take_no_more_evaluations(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, where rounding along directions that change nothing once took hundreds."""
    monkeypatch.setattr(logistic, "SMALL", 0)
    rng = np.random.default_rng(seed)
    labels = np.arange(1100) % 20
    means = rng.standard_normal((20, 96)) * np.linspace(0.5, 0.1, 96)
    x = means[labels] + rng.standard_normal((1100, 96)) * np.linspace(1.0, 0.2, 96)
    path, _, _ = path_of(
        torch.from_numpy(x).float(), torch.from_numpy(labels), 900, 20, stop_early=False
    )
    assert path.points[-1].lam == pytest.approx(1e-9)
    assert max(p.evaluations for p in path.points if not p.exact) <= 12
    assert path.fit.converged
    assert path.refit.converged


def test_a_refit_by_way_of_stronger_lambdas_ends_at_the_same_optimum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = blobs(300, 30, 4, noise=0.1)
    monkeypatch.setattr(logistic, "SMALL", 0)
    monkeypatch.setattr(logistic, "FAR", math.inf)
    straight, _, _ = path_of(x, y, 200, 4)
    monkeypatch.setattr(logistic, "FAR", 0.0)
    minimised = []

    def counted(*given: Any) -> Any:
        found = minimise(*given)
        minimised.append(found.evaluations)
        return found

    settle = logistic._Walker.settle

    def settle_in_double(walker: logistic._Walker) -> logistic.Fit:
        fit = settle(walker)
        walker.data.to_double()  # as a polish of another point may: the fit's own is float32
        minimised.clear()
        return fit

    monkeypatch.setattr(logistic, "minimise", counted)
    monkeypatch.setattr(logistic._Walker, "settle", settle_in_double)
    eased, _, _ = path_of(x, y, 200, 4)
    assert len(minimised) == 1 + len(logistic.EASING)
    assert eased.refit.evaluations == 1 + sum(minimised)
    assert eased.refit.converged
    assert eased.refit.certificate.objective == pytest.approx(
        straight.refit.certificate.objective, rel=1e-4
    )
