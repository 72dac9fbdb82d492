"""What every training in steps shares."""

from __future__ import annotations

import math

import pytest
import torch

from zoobench.methods.optimizers import on_cuda
from zoobench.methods.training import LOOKED_AT, FiniteLosses


@pytest.mark.parametrize("bad", [1, 7, LOOKED_AT, LOOKED_AT + 1])
def test_a_loss_that_is_no_number_is_found_at_the_next_look(bad: int) -> None:
    losses, steps = FiniteLosses(), 2 * LOOKED_AT
    looks = [
        losses.lost(torch.tensor(math.inf if step == bad else 1.0)) for step in range(1, steps + 1)
    ]
    first = LOOKED_AT * math.ceil(bad / LOOKED_AT)
    assert looks.index(True) + 1 == first
    assert not losses.all


def test_numbers_alone_are_no_loss_of_them() -> None:
    losses = FiniteLosses()
    assert losses.all, "before any step"
    assert not any(losses.lost(torch.tensor(float(k))) for k in range(LOOKED_AT + 3))
    assert losses.all
    losses.lost(torch.tensor(math.nan))
    assert not losses.all, "the last steps count, too"


def test_one_kernel_moves_the_parameters_of_a_gpu_alone() -> None:
    here = torch.nn.Parameter(torch.zeros(1))
    assert not on_cuda([{"params": [here]}])
