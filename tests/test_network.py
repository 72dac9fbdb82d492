"""A silent host is tried once a run, and again in the next one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from zoobench import hub, network
from zoobench.errors import MissingWeights


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every connection that is tried; none succeeds."""
    seen: list[Any] = []

    def refuse(address: Any, timeout: float) -> None:
        seen.append(address)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", refuse)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    network.begin()
    yield seen
    network.begin()


def test_an_unreachable_hub_is_tried_once_a_run(tried: list[Any]) -> None:
    for repo in ("u/a", "u/b", "u/c"):
        assert hub.pin(repo) is None
        with pytest.raises(MissingWeights, match="cannot be reached"):
            hub.fetch(repo, "", hub.config_only, "config.json")
    assert tried == [("hub.test", 443)]
    network.begin()
    assert hub.pin("u/a") is None
    assert len(tried) == 2


def test_a_worker_is_told_what_its_parent_found(tried: list[Any]) -> None:
    why = network.reach()
    assert "timed out" in why
    assert len(tried) == 1
    network.begin(why)  # as the worker does
    assert network.reach() == why
    with pytest.raises(MissingWeights, match="cannot be reached"):
        hub.fetch("u/a", "", hub.config_only, "config.json")
    assert len(tried) == 1


def test_nobody_is_tried_offline(tried: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert network.reach() == ""
    assert tried == []
