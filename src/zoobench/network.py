"""Whether a host answers: asked once a run, since a silent one costs seconds each time."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.request
from urllib.parse import urlsplit

from zoobench import escape

_tried: dict[str, str] = {}
"""URL -> why its host could not be reached when this process tried it, "" where it could."""


def knock(url: str) -> None:
    """One quick TCP connection to `url`'s host, once a run. Raises OSError.

    Behind a proxy nothing is tried: there the host need not be reachable.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    if url not in _tried:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((host, port), timeout=5).close()
            _tried[url] = ""
        except OSError as error:
            _tried[url] = f"{error}" or type(error).__name__
            raise
    if _tried[url]:
        raise ConnectionError(_tried[url])


def unreachable() -> str:
    """Why the hub could not be reached in this run, "" where it could or nobody tried."""
    return _tried.get(endpoint(), "")


def reach() -> str:
    """`unreachable`, after a try."""
    with contextlib.suppress(OSError):
        if not offline():
            knock(endpoint())
    return unreachable()


def begin(why: str = "") -> None:
    """Begin a run: what was reached before is forgotten, and in a worker `why` is what the run
    found already, so that one run waits for a silent hub once and not once a model."""
    _tried.clear()
    if why:
        _tried[endpoint()] = why


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def address() -> str:
    """The hub's address for a message, without the user and the password that it may hold."""
    return escape.credentials(endpoint())


def offline() -> bool:
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in ("1", "ON", "YES", "TRUE")
