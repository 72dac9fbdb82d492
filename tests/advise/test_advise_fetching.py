"""Downloads in the background, with a fetch that only pretends."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest

from zoobench import models
from zoobench.advise.fetching import Fetched, Fetcher
from zoobench.advise.nouns import Candidate
from zoobench.errors import MissingWeights
from zoobench.schema import Ref
from zoobench.transfer import Meter

MB = 10**6
Fetch = Callable[[Ref, Meter], None]


def wanted(**megabytes: float) -> list[Candidate]:
    return [Candidate(f"timm/u/{n}", "MIT", "f", bytes=int(m * MB)) for n, m in megabytes.items()]


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fetch], None]:
    """Puts a function in the place of `models.fetch`."""
    return lambda pretended: monkeypatch.setattr(models, "fetch", pretended)


def everything(fetcher: Fetcher) -> list[Fetched]:
    ended: list[Fetched] = []
    until = time.monotonic() + 10
    while time.monotonic() < until:
        more, coming, _ = fetcher.poll(0.05)
        ended += more
        if not coming:
            return ended
    raise AssertionError("it never ended")


def at_ten_mb_a_tenth(ref: Ref, meter: Meter) -> None:
    size = {"a": 1, "b": 2, "c": 4}[ref.name.removeprefix("u/")] * MB
    time.sleep(size / (100 * MB))
    meter.received += size


def test_each_is_predicted_from_those_before_it(fetch: Callable[[Fetch], None]) -> None:
    fetch(at_ten_mb_a_tenth)
    with Fetcher(wanted(a=1, b=2, c=4), 1e9, 60.0) as fetcher:
        ended = everything(fetcher)
    assert [one.model for one in ended] == ["timm/u/a", "timm/u/b", "timm/u/c"]
    assert [one.received for one in ended] == [MB, 2 * MB, 4 * MB]
    assert {one.status for one in ended} == {"ok"}
    assert ended[0].predicted is None
    per_mb = ended[0].seconds
    assert ended[1].predicted == pytest.approx(2 * per_mb)
    both = (ended[0].seconds + ended[1].seconds) / 3
    assert ended[2].predicted == pytest.approx(4 * both)


def test_a_failure_of_any_kind_costs_one(fetch: Callable[[Fetch], None]) -> None:
    def pretended(ref: Ref, meter: Meter) -> None:
        if ref.name == "u/a":
            raise MissingWeights("no such file (404)")
        if ref.name == "u/b":
            raise RecursionError("a strange listing")
        meter.received += MB

    fetch(pretended)
    with Fetcher(wanted(a=1, b=1, c=1), 1e9, 60.0) as fetcher:
        ended = everything(fetcher)
    told = [(one.status, one.why) for one in ended]
    assert told[0] == ("missing-weights", "no such file (404)")
    assert told[1] == ("error", "RecursionError: a strange listing")
    assert told[2] == ("ok", "")


def test_bytes_are_bounded_over_all_of_them(fetch: Callable[[Fetch], None]) -> None:
    allowed: list[float] = []

    def pretended(ref: Ref, meter: Meter) -> None:
        allowed.append(meter.most_bytes)
        meter.received += 3 * MB

    fetch(pretended)
    with Fetcher(wanted(a=3, b=3, c=3), 8 * MB, 60.0) as fetcher:
        everything(fetcher)
    assert allowed == [8 * MB, 5 * MB, 2 * MB]


def test_what_would_not_end_in_time_does_not_begin_and_a_smaller_one_does(
    fetch: Callable[[Fetch], None],
) -> None:
    given: dict[str, float] = {}

    def pretended(ref: Ref, meter: Meter) -> None:
        given[ref.name] = meter.seconds
        time.sleep(0.1)
        meter.received += MB

    fetch(pretended)
    with Fetcher(wanted(a=1, b=1000, c=2), 1e12, 50.0) as fetcher:
        ended = everything(fetcher)
    assert [one.model for one in ended] == ["timm/u/a", "timm/u/c"]
    assert given["u/a"] == pytest.approx(25, abs=1), "half, while nothing is known of the line"
    assert 20 < given["u/c"] < 22, "four times what was predicted, and 20 s"


def test_nobody_waits_for_a_download_that_was_asked_to_stop(
    fetch: Callable[[Fetch], None],
) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def pretended(ref: Ref, meter: Meter) -> None:
        begun.set()
        if meter.stop.wait(10):
            stopped.set()

    fetch(pretended)
    clock = time.monotonic()
    with Fetcher(wanted(a=1, b=1), 1e9, 60.0) as fetcher:
        assert begun.wait(5)
        assert fetcher.poll()[1] == ("timm/u/a", "timm/u/b")
    assert stopped.wait(5)
    assert time.monotonic() - clock < 5


def test_one_that_hangs_is_not_waited_for_beyond_the_deadline(
    fetch: Callable[[Fetch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoobench.advise.fetching.FAREWELL", 0.05)
    over = threading.Event()

    def pretended(ref: Ref, meter: Meter) -> None:
        over.wait(10)

    fetch(pretended)
    with Fetcher(wanted(a=1), 1e9, 0.1) as fetcher:
        assert everything(fetcher) == []
    over.set()


def test_nothing_to_fetch_is_nothing_to_wait_for() -> None:
    with Fetcher((), 1e9, 60.0) as fetcher:
        assert fetcher.poll(5.0) == ([], (), 0.0)


def test_an_unknown_size_is_not_predicted(fetch: Callable[[Fetch], None]) -> None:
    fetch(lambda ref, meter: meter.add(MB, 0, 0.0))
    first, second = wanted(a=1, b=1)
    with Fetcher((first, dataclasses.replace(second, bytes=0)), 1e9, 60.0) as fetcher:
        assert [one.predicted for one in everything(fetcher)] == [None, None]


def test_nothing_is_received_while_times_are_measured(fetch: Callable[[Fetch], None]) -> None:
    def pretended(ref: Ref, meter: Meter) -> None:
        for _ in range(50):
            time.sleep(0.002)
            meter.add(1, 0, 0.0)

    fetch(pretended)
    with Fetcher(wanted(a=1), 1e9, 60.0) as fetcher:
        with fetcher.still():
            assert fetcher.poll(0.3)[0] == [], "it would have ended after a tenth of a second"
        assert [one.received for one in everything(fetcher)] == [50]
