"""torch.compile, where a suite asks for it: the same function, its compiling timed apart.

What is compiled is a call, never the module: its state_dict, its fingerprint and the count of
its MACs stay those of the plain network. One that cannot be compiled runs as it is.

Pictures are compiled for the sizes that occur, and a smaller last batch is filled up to one
of them: static kernels, no compilation for one batch. The lengths of texts change from batch
to batch, so theirs are symbolic (dynamic=True); torch treats a size of 1 apart.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoobench import worktime
from zoobench.errors import one_line
from zoobench.machine import out_of_memory

if TYPE_CHECKING:
    import torch

    Run = Callable[[Any], torch.Tensor]

BACKEND = "inductor"
TOLERANCE = {False: 1e-4, True: 5e-2}
"""By whether it is `coarse`, in bf16: largest difference of the features, relative to their
largest entry."""


@dataclass
class Compiling:
    """What compiling came to: `seconds` with the first runs, and why it failed, if it did."""

    seconds: float = 0.0
    failed: str = ""

    def tries(self, attempt: Callable[[], None]) -> None:
        """Runs and times `attempt`; an error is kept in `failed`, but for one of memory."""
        import torch.fx.experimental._config

        shapes: Any = torch.fx.experimental._config
        started = worktime.now()
        try:
            # Sizes that are equal by chance, as of 32 texts of 32 tokens, stay two sizes.
            with shapes.patch(use_duck_shape=False):
                attempt()
        except Exception as error:
            if out_of_memory(error):
                raise
            self.failed = one_line(error)
        finally:
            self.seconds += worktime.now() - started

    def blames(self, error: BaseException) -> bool:
        """Whether it is the compiler that failed later, at another input; kept in `failed`."""
        import torch._dynamo.exc

        if self.failed or not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            return False
        self.failed = one_line(error)
        return True


def compiled(run: Run, dynamic: bool) -> Run:
    """`run` through torch.compile, with a cache of its own. Nothing is compiled yet."""
    import torch

    def call(batch: Any) -> torch.Tensor:
        return run(batch)

    # torch keeps what it compiled by code object, eight a piece, and gives up beyond them:
    # without a copy of the code all networks of a process would share those eight.
    own = types.FunctionType(
        call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__
    )
    threads: dict[str, Any] = {"compile_threads": torch.get_num_threads()}  # the worker's share
    found: Run = torch.compile(
        own, dynamic=dynamic, backend=BACKEND, options=threads if BACKEND == "inductor" else None
    )
    return found


@dataclass
class Compiled:
    """`embed` compiled for inference, at most once for each size; itself where that fails.

    The first batch of a size is computed by both: features that differ are a failure.
    """

    embed: Run
    dynamic: bool
    compiling: Compiling = field(default_factory=Compiling)
    coarse: bool = False
    _run: Run | None = None
    _ready: set[Any] = field(default_factory=set)

    def __call__(self, batch: Any) -> torch.Tensor:
        """(N, D) features of a batch of N."""
        if self.compiling.failed:
            return self.embed(batch)
        rows, held = rows_of(batch), batch if self.dynamic else self._filled(batch)
        kind = sizes(held, self.dynamic)
        if kind not in self._ready:
            self.compiling.tries(lambda: self._warm(held))
            self._ready.add(kind)
        if self.compiling.failed or self._run is None:
            return self.embed(batch)
        try:
            return self._run(held)[:rows]
        except Exception as error:
            if out_of_memory(error):
                self._ready.discard(kind)  # no part of this batch is filled up to its size
            if not self.compiling.blames(error):
                raise
            return self.embed(batch)

    def _warm(self, batch: Any) -> None:
        """Raises ValueError where the compiled network gives other features."""
        import torch

        if self._run is None:
            self._run = compiled(self.embed, self.dynamic)
        got, expected = (one(batch).detach().float() for one in (self._run, self.embed))
        scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
        off = float((got - expected).abs().max() / scale)
        if off > TOLERANCE[self.coarse]:
            raise ValueError(f"the compiled network's features differ by {off:.1e}")

    def _filled(self, batch: Any) -> Any:
        """`batch` with its last row repeated up to the next size that is compiled, if one is."""
        import torch

        if not isinstance(batch, torch.Tensor):
            return batch
        rows, rest = len(batch), tuple(batch.shape[1:])
        larger = [n for n, *others in self._ready if tuple(others) == rest and n >= rows]
        if not larger or min(larger) == rows:
            return batch
        more = batch[-1:].expand(min(larger) - rows, *rest)
        layout = torch.channels_last if batch.ndim == 4 else torch.contiguous_format
        return torch.cat([batch, more]).contiguous(memory_format=layout)


def rows_of(batch: Any) -> int:
    return len(next(iter(batch.values())) if isinstance(batch, dict) else batch)


def sizes(batch: Any, dynamic: bool) -> tuple[Any, ...]:
    """What torch compiles apart: the shape, or where it is symbolic which sizes are 1."""
    parts = list(batch.values()) if isinstance(batch, dict) else [batch]
    shape = tuple(n for part in parts for n in part.shape)
    return tuple(n == 1 for n in shape) if dynamic else shape


def training(
    run: Run,
    module: torch.nn.Module,
    batches: Sequence[Any],
    autocast: Callable[[], AbstractContextManager[Any]],
    dynamic: bool,
    compiling: Compiling,
) -> Run:
    """`run`, a call of `module`, compiled for training; itself where that fails.

    Forward and backward are compiled and run once on each of `batches`. Buffers, gradients and
    the random state are left as they were, so that training begins where it would without.
    """
    import torch

    if compiling.failed:
        return run
    quick = compiled(run, dynamic)
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    device = next(module.parameters()).device
    cards = [device] if device.type == "cuda" else []

    def once() -> None:
        for batch in batches:
            with autocast():
                found = quick(batch)
            found.float().sum().backward()  # type: ignore[no-untyped-call]
        for card in cards:
            torch.cuda.synchronize(card)

    try:
        with torch.random.fork_rng(devices=cards):
            compiling.tries(once)
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(kept[name])
        module.zero_grad(set_to_none=True)
    return run if compiling.failed else quick
