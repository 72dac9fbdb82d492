"""Predictions that are damaged, stale, huge or no numbers: named in one line, never shown."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compare_runs import Folder, answers, record
from hostile import Said, snapshot
from zoobench import store

N = 40


def packed(**arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "label.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def header(shape: str, dtype: str = "<i4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def bomb() -> bytes:
    """A zip whose directory says that 3 GiB are to come."""
    blob = bytearray(zipped(b"\x00" * 1000))
    at = blob.rindex(b"PK\x01\x02")
    blob[at + 24 : at + 28] = (3 * 2**30).to_bytes(4, "little")
    return bytes(blob)


def encrypted() -> bytes:
    blob = bytearray(packed(label=np.arange(N)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = blob.index(mark)
        blob[place + at] |= 1
    return bytes(blob)


GOOD = answers(N, range(4)).arrays
BLOBS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK nothing",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n",
    "cut": lambda: packed(**GOOD)[:-30],
    "no arrays": lambda: zipped(b"")[-22:],
    "an empty member": lambda: zipped(b""),
    "no npy": lambda: zipped(b"hello"),
    "objects": lambda: zipped(header("(40,)", "|O") + b"\x80\x04N." * 10),
    "text": lambda: packed(**{**GOOD, "label": np.array(["a"] * N)}),
    "bytes": lambda: packed(**{**GOOD, "label": np.array([b"a"] * N)}),
    "times": lambda: packed(**{**GOOD, "label": np.zeros(N, "datetime64[s]")}),
    "complex": lambda: packed(**{**GOOD, "nll": np.zeros(N, np.complex64)}),
    "records": lambda: packed(**{**GOOD, "label": np.zeros(N, [("a", "i4")])}),
    "a header that lies": lambda: zipped(header("(1000000000000,)") + b"\x00" * 160),
    "a negative shape": lambda: zipped(header("(-40,)") + b"\x00" * 160),
    "a shape of text": lambda: zipped(header("'x'") + b"\x00" * 160),
    "a header that runs": lambda: zipped(header("(__import__('os').getpid(),)")),
    "a bomb": bomb,
    "encrypted": encrypted,
    "lzma": lambda: zipped(header("(40,)") + b"\x00" * 160, zipfile.ZIP_LZMA),
    "scalars": lambda: packed(label=np.array(3)),
    "several lengths": lambda: packed(**{**GOOD, "label": np.zeros(N + 1, np.int32)}),
    "owners of nobody": lambda: packed(owner=np.full(N, 99), n=np.array(N), label=np.zeros(N)),
    "owners without a count": lambda: packed(owner=np.zeros(N, np.int32), label=np.zeros(N)),
    "a count of text": lambda: packed(owner=np.zeros(N, np.int32), n=np.array("x")),
    "other arrays": lambda: packed(x=np.zeros(N)),
    "not finite": lambda: packed(**{**GOOD, "nll": np.full(N, np.nan)}),
    "another answer": lambda: packed(**answers(N, range(30)).arrays),
}


def run_with(folder: Path, blob: bytes, stamped: bool = True) -> Path:
    """A run of one record whose predictions are `blob`, with its digest or another one."""
    made, arrays = record(answers(N, range(4)))
    kept = Folder(folder, suite="x").add((made, arrays)).write()
    (file,) = (kept / store.PREDICTIONS).iterdir()
    file.write_bytes(blob)
    if stamped:
        stamp = hashlib.sha256(blob).hexdigest()[:16]
        line = store.encode(dataclasses.replace(made, predictions=stamp))
        (kept / store.RECORDS).write_bytes(line)
    return kept


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize("case", BLOBS)
def test_predictions_that_are_none_are_named(
    command: str, case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    bad = run_with(inside / "bad", BLOBS[case]())
    Folder(inside / "good", suite="x").add(record(answers(N, range(6)))).write()
    before = snapshot(bad)
    runs = ["good", "bad"] if command == "compare" else ["bad"]
    said = zoobench(command, *runs, "--out", "out")
    assert said.code == 2, said.out
    assert "predictions" in said.error
    assert snapshot(bad) == before
    assert not (inside / "out").exists()


@pytest.mark.parametrize("command", [
    ("compare", "good", "bad"), ("compare", "bad", "good"), ("report", "bad"), ("recommend", "bad"),
    ("merge", "bad", "--out", "c"), ("baseline", "accept", "bad", "--suite", "x", "--reason", "y"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("case", ["stale", "absent", "a folder"])
def test_predictions_of_another_record_are_never_used(
    case: str, command: tuple[str, ...], inside: Path, zoobench: Callable[..., Said]
) -> None:
    stale = packed(**answers(N, range(20)).arrays)
    bad = run_with(inside / "bad", stale, stamped=False)
    Folder(inside / "good", suite="x").add(record(answers(N, range(6)))).write()
    (file,) = (bad / store.PREDICTIONS).iterdir()
    if case != "stale":
        file.unlink()
    if case == "a folder":
        file.mkdir()
    said = zoobench(*command)
    assert said.code == 2, said.out
    assert ".npz" in said.error or "suite" in said.error


@pytest.mark.parametrize("command", [
    ("compare", "a", "b"), ("compare", "b", "a"), ("report", "a"), ("recommend", "a"),
    ("baseline", "accept", "a", "--suite", "x", "--reason", "y"), ("history", "a", "b"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("lone", [True, False])
def test_a_run_without_its_folder_of_predictions_says_so(
    lone: bool,
    command: tuple[str, ...],
    inside: Path,
    zoobench: Callable[..., Said],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, wrong in (("a", 4), ("b", 9)):
        kept = Folder(inside / name, suite="x").add(record(answers(N, range(wrong))))
        kept.write()
    shutil.rmtree(inside / "a" / store.PREDICTIONS)
    if lone:
        (inside / "a" / store.SUITE).unlink()
    said = zoobench(*command)
    assert said.code in (0, 2), said.error
    assert "a: its records name predictions, but there is no folder predictions" in caplog.text


@pytest.mark.parametrize("damage", ["bomb", "pickle", "flipped", "no index", "index of text"])
def test_a_baselines_predictions_are_checked_too(
    damage: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    Folder(inside / "a", suite="x").add(record(answers(N, range(4)))).write()
    Folder(inside / "b", suite="x").add(record(answers(N, range(9)))).write()
    assert zoobench("baseline", "accept", "a", "--suite", "x", "--reason", "y").code == 0
    file = inside / "results" / "baselines" / "x" / "predictions.npz"
    with np.load(file) as held:
        arrays = {name: held[name] for name in held.files}
    largest = max(arrays, key=lambda name: arrays[name].size if name != "index" else 0)
    blobs = {
        "bomb": bomb(),
        "pickle": b"\x80\x04N.",
        "flipped": packed(**{**arrays, largest: arrays[largest][::-1].copy() + 1}),
        "no index": packed(**{k: v for k, v in arrays.items() if k != "index"}),
        "index of text": packed(**{**arrays, "index": np.frombuffer(b"[1]", np.uint8)}),
    }
    file.write_bytes(blobs[damage])
    said = zoobench("compare", "results/baselines/x", "b")
    if damage == "no index":  # a file of nobody's arrays: values are tested, and nothing is paired
        assert said.code in (0, 2)
        return
    assert said.code == 2
    assert "predictions" in said.error
