"""One file over HTTP, within bounds of bytes and time, which goes on where it broke off.

The hub's own client begins a file anew once its process has ended. Here the part that came
stays beside the place it is meant for, as NAME.incomplete, and the next call asks for the
rest. Whether the whole is what it should be is for the caller to check by its hash.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from zoobench.errors import MissingWeights
from zoobench.quantities import data_size, duration

TRIES = 3
"""So often a server may give nothing new before it is left alone."""
PAUSE = 0.5
"""Seconds before the second of them; doubled for the third."""
TRIAL = 5.0
"""Seconds of a transfer after which its pace is believed."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Meter:
    """What downloads may take: so many bytes, so many seconds from now on, until `stop` is set.

    `received` bytes came, and `spent` seconds have gone by but for those that `hold` was set.
    Its methods raise MissingWeights.
    """

    most_bytes: float = math.inf
    seconds: float = math.inf
    stop: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)
    received: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    def expect(self, needed: int, free: int, what: str) -> None:
        """Before a download: whether its bytes are allowed, and find room on the disk."""
        if self.received + needed > self.most_bytes:
            left = data_size(max(0.0, self.most_bytes - self.received))
            raise MissingWeights(f"{what}: {data_size(needed)} to download, {left} are allowed")
        if needed > free:
            raise MissingWeights(
                f"{what}: {data_size(needed)} to download, and {data_size(free)} are free"
            )

    def check(self) -> None:
        """Whether there is time left; waits while it is told to hold."""
        clock = time.monotonic()
        while self.hold.is_set() and not self.stop.wait(0.02):
            pass
        self.started += time.monotonic() - clock
        if self.stop.is_set():
            raise MissingWeights("the download was stopped; what came is kept")
        if self.spent > self.seconds:
            raise MissingWeights(
                f"the download had not ended after {duration(self.spent)}; what came is kept"
            )

    def add(self, came: int, left: int, pace: float) -> None:
        """`came` more bytes, `left` to come at `pace` bytes a second (0 where unknown)."""
        self.received += came
        self.check()
        if pace and left / pace > self.seconds - self.spent:
            raise MissingWeights(
                f"at {data_size(pace)}/s the {data_size(left)} that are left would take "
                f"{duration(left / pace)}, and {duration(self.seconds - self.spent)} were left "
                "for it; what came is kept"
            )


def broken() -> tuple[type[Exception], ...]:
    """What the hub client's HTTP library raises; which library that is depends on its version."""
    found: list[type[Exception]] = []
    for module, name in (
        ("httpx2", "HTTPError"),
        ("httpx", "HTTPError"),
        ("requests", "RequestException"),
    ):
        with contextlib.suppress(ImportError):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


def part_of(path: Path) -> Path:
    """Where what came so far of `path` lies."""
    return path.with_name(f"{path.name}.incomplete")


def held(path: Path) -> int:
    """Bytes of `path` that are here already."""
    for one in (path, part_of(path)):
        with contextlib.suppress(OSError):
            return one.stat().st_size
    return 0


def receive(url: str, path: Path, size: int, headers: Mapping[str, str], meter: Meter) -> None:
    """Makes `path` of the `size` bytes at `url`, from what came before and the rest.

    Raises MissingWeights where `meter` ends it, OSError, and what the HTTP library raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with part.open("ab") as file:
            _lock(file, meter)
            if not path.exists():
                _rest(url, file, size, headers, meter)
                file.flush()
                part.replace(path)
    except OSError as error:
        if error.errno in FULL:  # it would stand in the way of smaller ones
            part.unlink(missing_ok=True)
        raise


def _lock(file: BinaryIO, meter: Meter) -> None:
    """Waits while another process receives the same file."""
    while True:
        meter.check()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return  # a file system without locks: the hash tells if two wrote at once
        else:
            return


def _rest(url: str, file: BinaryIO, size: int, headers: Mapping[str, str], meter: Meter) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    idle = 0
    while (have := _size(file)) != size:
        if have > size:
            file.truncate(0)
        try:
            _stream(url, file, size, headers, meter)
            failure: Exception = ConnectionError("the download is incomplete (peer closed)")
        except HfHubHTTPError:
            raise
        except broken() as error:
            failure = error
        idle = 0 if _size(file) > have else idle + 1
        if idle == TRIES:
            raise failure
        if idle:
            time.sleep(PAUSE * 2 ** (idle - 1))


def _stream(url: str, file: BinaryIO, size: int, headers: Mapping[str, str], meter: Meter) -> None:
    """One answer of the server, from where `file` ends."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    have = _size(file)
    asked = {**headers, "Accept-Encoding": "identity"}  # the bytes that a range counts
    if have:
        asked["Range"] = f"bytes={have}-"
    session: Any = get_session()
    begun, came = meter.spent, 0
    silence = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with session.stream(
        "GET", url, headers=asked, timeout=silence, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if have and response.status_code != 206:
            file.truncate(0)
            have = 0
        for block in response.iter_bytes():
            came += len(block)
            if have + came > size:
                raise ConnectionError(f"more than the {size} bytes that were listed")
            file.write(block)
            spent = meter.spent - begun
            meter.add(len(block), size - have - came, came / spent if spent > TRIAL else 0.0)
    file.flush()


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size
