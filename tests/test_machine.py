"""What this machine offers, and what a user leaves of it."""

from __future__ import annotations

import pytest
import torch

from zoobench import machine, models
from zoobench.features.extraction import lay_out


@pytest.mark.parametrize(
    ("asked", "processes", "threads"),
    [("", 1, 8), ("", 3, 2), ("", 99, 1), ("3", 1, 3), ("3", 4, 2), ("99", 1, 8), ("2,1", 1, 2),
     ("0", 1, 8), ("many", 1, 8)],
)  # fmt: skip
def test_threads_keep_to_omp_num_threads(
    monkeypatch: pytest.MonkeyPatch, asked: str, processes: int, threads: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert machine.threads(processes) == threads


@pytest.mark.parametrize("given", ["", None])
def test_an_empty_cache_variable_is_the_default(
    monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Of an unset variable in a script, and not the folder that one happens to be in."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("ZOOBENCH_CACHE")
    if given is not None:
        monkeypatch.setenv("ZOOBENCH_CACHE", given)
    assert str(machine.cache_dir()) == "/home/ada/.cache/zoobench"


def test_what_is_sent_is_the_same_and_a_constant_is_made_once() -> None:
    """Also where it is first asked for while nothing is trained."""
    cpu = torch.device("cpu")
    batch = {"a": torch.arange(3), "b": torch.ones(2)}
    found = machine.sent(batch, cpu)
    assert all(found[name] is one for name, one in batch.items())
    with torch.inference_mode():
        mean = machine.constant((0.1, 0.25), cpu)
    assert mean is machine.constant((0.1, 0.25), cpu)
    weight = torch.ones(2, requires_grad=True)
    (weight * mean).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.tensor([0.1, 0.25]))


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_memory_that_ended_is_told_from_other_errors(error: Exception, ended: bool) -> None:
    assert machine.out_of_memory(error) is ended


def test_float32_is_exact_on_a_card_that_something_runs_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither convolutions, which are TF32 unless one says so, nor products; another device's
    numbers are left as a user has them."""
    backends = torch.backends
    monkeypatch.setattr(backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(backends.cuda.matmul, "allow_tf32", True)
    backbone = models.load(models.resolve("synthetic/gabor"), 0)
    lay_out(backbone, "cpu")
    assert backends.cudnn.allow_tf32
    monkeypatch.setattr(backbone.module, "to", lambda *args, **more: backbone.module)
    lay_out(backbone, "cuda:1")
    assert not backends.cudnn.allow_tf32
    assert not backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("asked", "found"),
    [("cuda", ("cuda:0", "cuda:1")), ("auto", ("cuda:0", "cuda:1")), ("cuda:0", ("cuda:0",)),
     ("cuda:1", ("cuda:1",)), ("cpu", ("cpu",))],
)  # fmt: skip
def test_all_cards_are_taken_unless_one_is_named(
    asked: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cuda_plausible", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.cards(asked) == found


def test_a_card_that_answers_no_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not machine.lost("cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert not machine.lost("cuda:1")

    def broken(device: str) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert machine.lost("cuda:1")


def test_what_torch_holds_of_a_card_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (
        ("mem_get_info", (100, 1000)), ("memory_reserved", 50), ("memory_allocated", 20),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda device, said=said: said)
    assert machine.free_bytes(torch.device("cuda:0")) == 130
