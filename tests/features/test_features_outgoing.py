"""Features on their way from a GPU, which is imitated: it is done with a batch when it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoobench.features import outgoing
from zoobench.features.outgoing import WAITING, Outgoing
from zoobench.machine import pinned


class OnGpu:
    """Features of which nobody has seen the end."""

    device = torch.device("cuda:0")

    def __init__(self, value: int) -> None:
        self.value = value


def test_features_of_the_cpu_are_handed_over_at_once() -> None:
    got: list[Any] = []
    out = Outgoing(lambda rows, features: got.append((list(rows), float(features))))
    out.send([3], torch.tensor(1.0))
    assert got == [([3], 1.0)]
    out.close()
    assert len(got) == 1


def test_of_a_gpu_some_batches_are_waited_for_last(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Event:
        def __init__(self, name: int) -> None:
            self.name = name

        def synchronize(self) -> None:
            events.append(f"wait {self.name}")

    def copied(features: Any) -> tuple[Any, Any]:
        events.append(f"copy {features.value}")
        return features.value, Event(features.value)

    monkeypatch.setattr(outgoing, "copied_out", copied)
    out = Outgoing(lambda rows, features: events.append(f"put {list(rows)} {features}"))
    for k in range(4):
        out.send([k], OnGpu(k))  # type: ignore[arg-type]
    assert WAITING == 2
    assert events == [
        "copy 0", "copy 1", "copy 2", "wait 0", "put [0] 0", "copy 3", "wait 1", "put [1] 1",
    ]  # fmt: skip
    out.close()
    assert events[8:] == ["wait 2", "put [2] 2", "wait 3", "put [3] 3"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it is pinned")
def test_batches_are_pinned_whatever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    one = torch.from_numpy(np.zeros(2, np.float32))
    found = pinned({"a": one, "b": {"c": one}})
    assert found["a"].tolist() == [1, 1]
    assert found["b"]["c"].tolist() == [1, 1]
