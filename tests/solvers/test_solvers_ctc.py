"""CTC against a sum over all paths, and torch's own, where labels repeat, are none or too many."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from zoobench.solvers import ctc

CASES = [
    (4, [1, 2]),
    (4, [1, 1]),  # a blank must stand between
    (3, [1, 1]),  # and there is just room for it
    (3, [2, 2, 1]),  # no room
    (2, [1, 2, 1]),  # more labels than frames
    (4, []),
    (1, [1]),
    (5, [2, 1, 1, 2]),
    (5, [1, 1, 1]),
]


def brute_force(logits: torch.Tensor, labels: list[int]) -> float:
    """-log of the sum over all paths of (F, C) that say the labels."""
    p = logits.double().softmax(dim=1).numpy()
    paths = product(range(p.shape[1]), repeat=len(p))
    mass = sum(
        float(np.prod([p[f, label] for f, label in enumerate(path)]))
        for path in paths
        if ctc.collapsed(path) == labels
    )
    return -float(np.log(mass)) if mass else float("inf")


@pytest.mark.parametrize(("frames", "labels"), CASES)
def test_losses_are_those_of_all_paths_alone_and_in_a_padded_batch(
    frames: int, labels: list[int]
) -> None:
    logits = torch.randn(frames, 3, generator=torch.Generator().manual_seed(frames))
    expected = brute_force(logits, labels)
    alone = ctc.losses(logits[None], [frames], [labels])
    assert float(alone[0]) == pytest.approx(expected, rel=1e-5)
    batch = torch.zeros(2, 7, 3)
    batch[0, :frames] = logits
    both = ctc.losses(batch, [frames, 7], [labels, [1, 2, 1]])
    assert float(both[0]) == pytest.approx(expected, rel=1e-5)
    torch_s = torch.nn.functional.ctc_loss(
        logits.log_softmax(1)[:, None], torch.tensor([labels], dtype=torch.int64).reshape(1, -1),
        torch.tensor([frames]), torch.tensor([len(labels)]), reduction="sum",
    )  # fmt: skip
    assert float(both[0]) == pytest.approx(float(torch_s), rel=1e-5)
    assert bool(ctc.feasible(np.array([frames]), [labels])[0]) == np.isfinite(expected)


def test_gradients_of_one_sequence_are_not_anothers() -> None:
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = ctc.losses(logits, [5, 3], [[1, 2], [1]])[0]
    (found,) = torch.autograd.grad(loss, logits)
    assert bool((found[0] != 0).any())
    assert not bool((found[1] != 0).any())


def test_many_heads_on_packed_frames_are_each_alone_on_padded_ones() -> None:
    drawn = torch.Generator().manual_seed(2)
    frames, labels = [4, 7, 1], [[1, 1], [2, 1, 2], []]
    packed = torch.randn(12, 2, 3, generator=drawn).requires_grad_()
    found = ctc.packed_losses(packed, frames, labels)
    padded = torch.nn.utils.rnn.pad_sequence([*torch.split(packed, frames)], batch_first=True)
    alone = torch.stack([ctc.losses(padded[:, :, h], frames, labels) for h in range(2)], dim=1)
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(one.sum(), packed)[0] for one in (found, alone)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    (of_one,) = torch.autograd.grad(ctc.packed_losses(packed, frames, labels)[1, 0], packed)
    assert bool((of_one[4:11, 0] != 0).any())
    of_one[4:11, 0] = 0
    assert not bool((of_one != 0).any()), "neither another sequence nor another head"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ([0, 0, 0], []),
        ([1, 1, 0, 1], [1, 1]),
        ([1, 1, 1], [1]),
        ([0, 2, 0, 0, 2, 1, 1, 0], [2, 2, 1]),
        ([], []),
    ],
)
def test_a_path_says_its_labels_without_repeats_and_then_without_blanks(
    path: list[int], said: list[int]
) -> None:
    assert ctc.collapsed(path) == said
    logits = torch.nn.functional.one_hot(torch.tensor([[*path, 2]]), 3).float()
    assert ctc.greedy(logits, [len(path)]) == [said], "what follows is padding"


def test_frames_that_labels_need() -> None:
    assert [ctc.least_frames(one) for one in ([], [1], [1, 1], [1, 2, 2, 2])] == [0, 1, 3, 6]
