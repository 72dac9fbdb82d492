"""Files that go on where they broke off, within bounds, from a server on 127.0.0.1."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubstub import HubStub
from zoobench import transfer
from zoobench.errors import MissingWeights
from zoobench.transfer import Meter, held, part_of, receive

BODY = bytes(range(256)) * 800
NAME = "model.safetensors"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HubStub({"u/m": {NAME: BODY}}) as served:
        yield served


def get(hub: HubStub, path: Path, meter: Meter | None = None) -> None:
    url = f"{hub.url}/u/m/resolve/main/{NAME}"
    receive(url, path, len(BODY), {}, meter or Meter())


def test_it_goes_on_where_an_earlier_process_ended(hub: HubStub, tmp_path: Path) -> None:
    path, meter = tmp_path / "blobs" / "x", Meter()
    path.parent.mkdir()
    part_of(path).write_bytes(BODY[:150_000])
    assert held(path) == 150_000
    get(hub, path, meter)
    assert path.read_bytes() == BODY
    assert meter.received == len(BODY) - 150_000
    assert held(path) == len(BODY)
    assert not part_of(path).exists()
    get(hub, path)
    assert len(hub.requests) == 1, "what is here is not asked for"


@pytest.mark.parametrize("before", [0, 150_000, len(BODY), len(BODY) + 1])
def test_a_line_that_breaks_at_each_half_is_taken_up_again(
    hub: HubStub, tmp_path: Path, before: int
) -> None:
    """Whatever lies there; the last byte never comes, so that it ends after a few idle tries."""
    path = tmp_path / "x"
    part_of(path).write_bytes((BODY + b"?")[:before])
    hub.faults.truncated.add(NAME)
    if before == len(BODY):
        get(hub, path)
        assert hub.requests == []
    else:
        with pytest.raises(transfer.broken(), match="peer closed"):
            get(hub, path)
        assert held(path) == len(BODY) - 1
        hub.faults.truncated.clear()
        get(hub, path)
    assert path.read_bytes() == BODY


def test_a_slow_line_is_given_up_as_soon_as_its_pace_is_known(
    hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIAL", 0.2)
    hub.faults.slow["u/m"] = 50_000
    meter = Meter(seconds=2.0)
    with pytest.raises(MissingWeights, match=r"kB/s the .* that are left would take [34]"):
        get(hub, tmp_path / "x", meter)
    assert meter.spent < 1.5
    assert 0 < meter.received < 60_000
    assert held(tmp_path / "x") == meter.received, "what came is kept"


@pytest.mark.parametrize(
    ("meter", "needed", "free", "says"),
    [
        (Meter(most_bytes=1e6), 1_000_001, 10**9, "1 MB to download, 1 MB are allowed"),
        (Meter(most_bytes=1e6, received=999_000), 2000, 10**9, "2 kB to download, 1 kB are"),
        (Meter(most_bytes=0), 1, 10**9, "1 bytes to download, 0 bytes are allowed"),
        (Meter(), 5_000_000_000, 10**9, "m: 5 GB to download, and 1 GB are free"),
    ],
)
def test_what_is_too_much_never_begins(meter: Meter, needed: int, free: int, says: str) -> None:
    with pytest.raises(MissingWeights, match=says):
        meter.expect(needed, free, "u/m")


def test_what_is_allowed_and_fits_does() -> None:
    Meter(most_bytes=10).expect(10, 10, "u/m")


def test_it_stops_when_told_and_when_time_is_up(hub: HubStub, tmp_path: Path) -> None:
    stopped = Meter()
    stopped.stop.set()
    for meter, says in ((stopped, "was stopped"), (Meter(seconds=-1.0), "had not ended after")):
        with pytest.raises(MissingWeights, match=says):
            get(hub, tmp_path / "x", meter)
    assert hub.requests == []


def test_it_holds_while_times_are_measured_and_that_is_no_slowness(
    hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIAL", 0.05)
    hub.faults.slow["u/m"] = 1_000_000
    meter = Meter(seconds=1.5)
    meter.hold.set()
    done = threading.Thread(target=get, args=(hub, tmp_path / "x", meter))
    done.start()
    done.join(1.6)
    assert done.is_alive()
    assert meter.received == 0, "no block was asked for"
    meter.hold.clear()
    done.join(10)
    assert (tmp_path / "x").read_bytes() == BODY
    assert meter.spent < 1.5


@pytest.mark.parametrize("kind", transfer.FULL)
def test_a_full_disk_leaves_no_part_in_the_way(
    hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    def full(self: Meter, came: int, left: int, pace: float) -> None:
        raise OSError(kind, "no room")

    monkeypatch.setattr(Meter, "add", full)
    with pytest.raises(OSError, match="no room") as raised:
        get(hub, tmp_path / "x")
    assert raised.value.errno == kind
    assert list(tmp_path.iterdir()) == []


def test_another_fault_keeps_the_part(
    hub: HubStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Meter, came: int, left: int, pace: float) -> None:
        raise OSError(errno.EIO, "bad disk")

    monkeypatch.setattr(Meter, "add", failing)
    with pytest.raises(OSError, match="bad disk"):
        get(hub, tmp_path / "x")
    assert held(tmp_path / "x") > 0


def test_a_server_that_sends_more_than_was_listed_is_not_believed(
    hub: HubStub, tmp_path: Path
) -> None:
    url = f"{hub.url}/u/m/resolve/main/{NAME}"
    with pytest.raises(ConnectionError, match="more than the 1000 bytes that were listed"):
        receive(url, tmp_path / "x", 1000, {}, Meter())
    assert not (tmp_path / "x").exists()
    assert held(tmp_path / "x") <= 1000
