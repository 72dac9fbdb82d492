"""A large folder says what it is doing, a small one nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zoobench.datasets import waiting


def test_nothing_is_said_of_what_is_quick(caplog: pytest.LogCaptureFixture) -> None:
    assert list(waiting.told(range(1000), "reading", 1000)) == list(range(1000))
    assert not caplog.messages


def test_what_takes_long_says_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    assert list(waiting.told("abcdef", "reading pictures", 6000)) == list("abcdef")
    assert caplog.messages == ["reading pictures: 3 of 6,000", "reading pictures: 6 of 6,000"]
    caplog.clear()
    list(waiting.told("abc", "looking through 'pets'"))
    assert caplog.messages == ["looking through 'pets': 3 so far"]
