"""Out-of-fold predictions against the same probes fitted one by one."""

from __future__ import annotations

import torch

from zoobench.solvers.basis import scaling
from zoobench.solvers.folds import FOLDS, fold_of, out_of_fold


def blobs(n: int, d: int, classes: int, apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = apart * torch.randn(classes, d, generator=generator)
    return centres[labels] + torch.randn(n, d, generator=generator), labels


def fitted(z: torch.Tensor, labels: torch.Tensor, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The probe of `lam` by torch's own L-BFGS."""
    weight = torch.zeros(3, z.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(z @ weight.t() + bias, labels)
        value = value + lam / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def test_folds_are_even_within_each_class() -> None:
    labels = torch.tensor([0] * 11 + [1] * 23 + [2] * 3)
    fold = fold_of(labels)
    for one in range(3):
        counts = torch.bincount(fold[labels == one], minlength=FOLDS)
        assert int(counts.max() - counts.min()) <= 1
    counts = torch.bincount(fold, minlength=FOLDS)
    assert int(counts.max() - counts.min()) <= 1


def test_each_prediction_is_that_of_a_probe_fitted_without_the_example() -> None:
    features, labels = blobs(200, 12, 3, 0.7)
    fold = fold_of(labels)
    said, lam = out_of_fold(features, labels, 3, 1e-2)
    z = scaling(features).apply(features, torch.float64)
    alike = 0
    for k in range(FOLDS):
        out = fold == k
        weight, bias = fitted(z[~out], labels[~out], lam)
        alike += int(((z[out] @ weight.t() + bias).argmax(dim=1) == said[out]).sum())
    assert alike >= 199, "but for an example on the border"
    right = float((said == labels).double().mean())
    assert 0.5 < right < 1.0


def test_labels_that_the_features_do_not_tell_are_not_predicted() -> None:
    features, _ = blobs(400, 300, 2, 0.0)
    labels = torch.arange(400) % 2
    said, _ = out_of_fold(features, labels, 2, 1e-3)
    assert abs(float((said == labels).double().mean()) - 0.5) < 0.08


def test_a_class_of_one_example_is_never_predicted_for_it() -> None:
    features, labels = blobs(60, 4, 2, 2.0)
    labels[7] = 2
    said, _ = out_of_fold(features, labels, 3, 1e-2)
    assert int(said[7]) != 2
    assert int((said == 2).sum()) <= 2


def test_the_penalty_is_chosen_by_what_was_held_out() -> None:
    """From a start a hundred times off either way, about the best of a grid is found."""
    features, labels = blobs(300, 200, 3, 0.1)
    found = [out_of_fold(features, labels, 3, start)[1] for start in (1e-4, 0.3, 100.0)]
    assert max(found) <= 1.01 * min(found) * 10**0.5, "one step of the grid at most"
    assert 0.1 < found[0] < 1.0, "where a finer grid has its least NLL"
