"""KID, FID, precision and recall against brute force, scipy and (where it is) torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from zoobench.errors import Unsupported
from zoobench.solvers.generated import COPY, copied, fid, fid_refused, inside, kid, nearest


def draws(n: int, dims: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, dims)) + shift).float()


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def brute_kid(x: np.ndarray, y: np.ndarray) -> float:
    n, m = len(x), len(y)
    xx = [kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j]
    yy = [kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    return float(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy))


def test_kid_and_its_interval_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.solvers.basis.CACHE_BYTES", 30)  # several blocks
    a, b = draws(9, 4, 0.2), draws(12, 4, 0.0, 1)
    x, y = a.double().numpy(), b.double().numpy()
    found = kid(a, b)
    assert found.value == pytest.approx(brute_kid(x, y), abs=1e-12)
    variance = 0.0
    for left, right in ((x, y), (y, x)):
        without = np.array([brute_kid(np.delete(left, i, 0), right) for i in range(len(left))])
        variance += (len(left) - 1) * without.var()
    half = (found.high - found.low) / 2
    assert found.value == pytest.approx((found.low + found.high) / 2)
    # Student's t of 8 to 19 degrees of freedom.
    assert 2.09 < half / variance**0.5 < 2.31


def test_kid_of_one_distribution_is_zero_on_average_and_its_interval_holds() -> None:
    """Of equal distributions, where the jackknife is widest (it held 397 of 400), and of different
    ones (379 of 400)."""
    for shift, least in ((0.0, 95), (0.3, 88)):
        true = kid(draws(4000, 6, shift, 98), draws(4000, 6, 0.0, 99)).value if shift else 0.0
        pairs = [(draws(60, 6, shift, 2 * s), draws(60, 6, 0.0, 2 * s + 1)) for s in range(100)]
        found = [kid(*pair) for pair in pairs]
        values = np.array([one.value for one in found])
        assert abs(values.mean() - true) < 4 * values.std() / 10
        assert sum(one.low <= true <= one.high for one in found) >= least


def test_kid_is_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = draws(80, 16, 0.1), draws(80, 16, 0.0, 1)
    theirs = metric.kid_features_to_metric(
        x.double(), y.double(), kid_subsets=1, kid_subset_size=80, verbose=False
    )
    mean = theirs["kernel_inception_distance_mean"]
    assert kid(x, y).value == pytest.approx(mean, abs=1e-9)


def test_precision_and_recall_are_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    x, y = draws(90, 5, 0.7).double(), draws(110, 5, 0.0, 1).double()
    theirs = metric.prc_features_to_metric(x, y, prc_neighborhood=3, verbose=False)
    assert float(inside(x, y).double().mean()) == pytest.approx(theirs["precision"], abs=1e-6)
    assert float(inside(y, x).double().mean()) == pytest.approx(theirs["recall"], abs=1e-6)


def test_precision_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.solvers.basis.CACHE_BYTES", 500)
    x, y = draws(40, 3, 1.0), draws(50, 3, 0.0, 1)
    near = np.linalg.norm(x.numpy()[:, None] - y.numpy(), axis=2)
    own = np.sort(np.linalg.norm(y.numpy()[:, None] - y.numpy(), axis=2), axis=1)
    expected = (near <= own[:, 3]).any(axis=1)
    assert 0 < expected.sum() < len(x)
    assert inside(x, y).numpy().tolist() == expected.tolist()
    assert inside(y, y).all()


def test_fid_is_torch_fidelitys() -> None:
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    x, y = draws(90, 5, 0.7).double(), draws(110, 5, 0.0, 1).double() * 1.5
    sides = [metric.fid_features_to_statistics(side) for side in (x, y)]
    theirs = metric.fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]
    assert fid(x, y) == pytest.approx(theirs, rel=1e-6)


def test_an_offset_and_copies_keep_twins_inside() -> None:
    """Five equal real rows have balls of radius 0: a copy of them lies in one all the same."""
    y = torch.cat([draws(30, 8), draws(1, 8, 3.0, 5).repeat(5, 1)]) + 1e4
    assert inside(y[-1:], y).all()
    assert float(nearest(y[-1:], y)[0]) == 0


def test_fid_is_the_textbook_formula_and_needs_ten_rows_a_dimension() -> None:
    x, y = draws(50, 3, 0.5) * 2, draws(30, 3, 0.0, 1)
    a, b = np.cov(x.double().numpy().T), np.cov(y.double().numpy().T)
    gap = x.double().numpy().mean(0) - y.double().numpy().mean(0)
    expected = gap @ gap + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert fid(x, y) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(Unsupported) as refused:
        fid(x, y[:29])
    assert str(refused.value) == (
        "FID needs 30 pictures of each set (10 for each of 3 features), got 50 and 29"
    )
    assert fid_refused(30, 30, 3) == ""


def test_nearest_neighbours_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoobench.solvers.basis.CACHE_BYTES", 200)
    x, y = draws(20, 4), draws(25, 4, 0.0, 1)
    every = np.linalg.norm(x.double().numpy()[:, None] - y.double().numpy(), axis=2)
    distances, rows = nearest(x, y, 2)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :2], rtol=1e-9)
    assert rows.numpy().tolist() == np.argsort(every, axis=1)[:, :2].tolist()
    alone = nearest(y, y, own=True)
    assert float(alone[0].min()) > 0
    assert (alone[1][:, 0] != torch.arange(25)).all()


def test_a_copy_is_three_times_as_near_as_any_other() -> None:
    real = draws(400, 20)
    ratios, rows = copied(real[:9] + 0.1 * draws(9, 20, seed=5), real)
    assert bool((ratios < COPY).all())
    assert rows.tolist() == list(range(9))
    assert float(copied(real[:1], real)[0]) == 0
    fresh, _ = copied(draws(400, 20, seed=7), real)
    assert COPY < float(fresh.min()) < float(fresh.max()) <= 1
    by_hand, row = copied(torch.tensor([[1.0]]), torch.tensor([[5.0], [0.0]]))
    assert (float(by_hand), int(row)) == (0.25, 1)


@pytest.mark.parametrize(("x", "y"), [(2, 9), (9, 2)])
def test_too_few_rows_are_refused(x: int, y: int) -> None:
    with pytest.raises(ValueError, match="KID needs 3 rows of each set"):
        kid(draws(x, 2), draws(y, 2))
    with pytest.raises(ValueError, match="2 rows have no 3 neighbours"):
        inside(draws(9, 2), draws(2, 2))
