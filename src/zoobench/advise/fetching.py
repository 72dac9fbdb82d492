"""Downloads in the background: one model after another, on a thread, until a deadline.

How long one takes is its size over the bandwidth that was measured on those before it. What
would not end in time is left out; what is slower than that is given up, and costs itself alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from zoobench import errors, models
from zoobench.advise.nouns import Candidate
from zoobench.schema import Ref
from zoobench.transfer import Meter

PATIENCE = 20.0
"""Seconds that a download may take over four times what was predicted."""
FAREWELL = 2.0
"""Seconds for the thread to end; it cannot hold up the process."""


@dataclass(frozen=True)
class Fetched:
    """How a download ended: `received` bytes in `seconds`, `predicted` None for the first."""

    model: str
    received: int
    seconds: float
    predicted: float | None
    status: str = "ok"
    why: str = ""


class Fetcher:
    """A context manager over the downloads of `wanted`, in their order, within `most_bytes` and
    `seconds` from now on, all together."""

    def __init__(self, wanted: Sequence[Candidate], most_bytes: float, seconds: float) -> None:
        self._waiting = list(wanted)
        self._most_bytes = most_bytes
        self._deadline = time.monotonic() + seconds
        self._stop = threading.Event()
        self._hold = threading.Event()
        self._changed = threading.Condition()
        self._ended: list[Fetched] = []
        self._begun = 0.0
        self._came = 0
        self._took = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Fetcher:
        if self._waiting:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(FAREWELL)

    def poll(self, seconds: float = 0.0) -> tuple[list[Fetched], tuple[str, ...], float]:
        """(what ended since the last call, the models that are still coming, seconds until the
        next of them is here as far as they can be told); waits for a change so long."""
        with self._changed:
            if not self._ended and self._waiting:
                self._changed.wait(seconds)
            ended, self._ended = self._ended, []
            coming = () if self._late() else tuple(one.model for one in self._waiting)
            rest = 0.0
            if coming:
                gone = time.monotonic() - self._begun if self._begun else 0.0
                rest = max(0.0, (self._predicted(self._waiting[0]) or 0.0) - gone)
            return ended, coming, rest

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is received meanwhile, since times are measured."""
        self._hold.set()
        try:
            yield
        finally:
            self._hold.clear()

    def _late(self) -> bool:
        """Whether the thread has had time to see that the deadline is over, and more."""
        return time.monotonic() > self._deadline + FAREWELL

    def _predicted(self, one: Candidate) -> float | None:
        """Seconds of a download; None before any has ended, and where its size is unknown."""
        return one.bytes * self._took / self._came if one.bytes and self._came else None

    def _run(self) -> None:
        try:
            while self._waiting:
                one = self._waiting[0]
                fetched = self._fetch(one)
                with self._changed:
                    self._waiting.pop(0)
                    if fetched is not None:
                        self._ended.append(fetched)
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._waiting.clear()
                self._changed.notify_all()

    def _fetch(self, one: Candidate) -> Fetched | None:
        """The download of `one`; None where it would not end in time."""
        left, predicted = self._deadline - time.monotonic(), self._predicted(one)
        if self._stop.is_set() or left <= 0 or (predicted or 0.0) > left:
            return None
        if predicted is not None:
            left = min(left, PATIENCE + 4 * predicted)
        elif len(self._waiting) > 1:
            left /= 2  # nothing is known of the line yet, and the others want their turn
        meter = Meter(self._most_bytes, left, self._stop, self._hold)
        self._begun = meter.started
        status, why = "ok", ""
        try:
            models.fetch(Ref.parse(one.model), meter)
        except errors.CellError as error:
            status, why = error.status, str(error)
        except Exception as error:  # noqa: BLE001  of any kind: a hub's answers are a stranger's
            status, why = "error", errors.one_line(error)
        received, spent = meter.received, meter.spent
        self._most_bytes -= received
        if status == "ok":
            self._came, self._took = self._came + received, self._took + spent
        return Fetched(one.model, received, spent, predicted, status, why)
