"""The run directory: nothing recorded is lost, nothing is recorded twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fakes import kept
from zoobench import predictions, store
from zoobench.cli.main import main
from zoobench.errors import StoreError
from zoobench.files import write_atomic
from zoobench.runs import session
from zoobench.schema import SCHEMA, Cell, Measurement, Outcomes, Record, Ref

SUITE = 'name = "t"\nidentity = "abc"\n'


def record(seed: int = 0, status: str = "ok") -> Record:
    cell = Cell(Ref("timm", "x", "1"), Ref("packaged", "digits", "1"), "knn", {}, seed)
    return Record(cell, status, (Measurement("accuracy", 0.5, "fraction"),))


def arrays(n: int = 5) -> Outcomes:
    ints, floats = np.arange(n, dtype=np.int32), np.linspace(0, 1, n, dtype=np.float32)
    return kept(ints, ints, ints, floats, floats, floats)


def opened(path: Path, identity: str = "abc") -> store.Store:
    return store.Store(path, SUITE.replace("abc", identity), identity)


def test_records_and_predictions_come_back(tmp_path: Path) -> None:
    with opened(tmp_path / "run") as writer:
        written = writer.append(record(), arrays())
        writer.append(record(1, "oom"))
    run = store.load(tmp_path / "run")
    assert run.records[0] == written
    assert [r.status for r in run.records] == ["ok", "oom"]
    kept = run.outcomes(run.records[0])
    assert kept is not None
    np.testing.assert_array_equal(kept.arrays["nll"], arrays().arrays["nll"])
    assert run.outcomes(run.records[1]) is None


def test_the_newest_record_of_a_key_is_its_answer(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(record(0, "timeout"))
        writer.append(record(1))
        writer.append(record(0, "ok"))
    assert [(r.cell.seed, r.status) for r in store.load(tmp_path).records] == [(0, "ok"), (1, "ok")]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path, cut: int) -> None:
    with opened(tmp_path) as writer:
        writer.append(record(0))
        writer.append(record(1))
    file = tmp_path / store.RECORDS
    file.write_bytes(file.read_bytes()[:-cut])
    assert [r.cell.seed for r in store.load(tmp_path).records] == [0]
    with opened(tmp_path) as writer:
        writer.append(record(2))
    assert [r.cell.seed for r in store.load(tmp_path).records] == [0, 2]
    assert len(file.read_text().splitlines()) == 2


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreError, match="another zoobench is writing"):
        opened(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ('datasets = ["no name"]', r"datasets: 'no name' is no name such as timm/resnet18"),
        ("models = [7]", r"models: 7 is no name"),
        ("models = 'timm/x'", r"models: expected a list, got 'timm/x'"),
    ],
)
def test_a_damaged_suite_is_named(said: str, word: str, tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(record())
    with (tmp_path / "suite.toml").open("a", encoding="utf-8") as file:
        file.write(said)
    with pytest.raises(StoreError, match=rf"suite\.toml: {word}"):
        store.load(tmp_path)


def test_another_suites_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.append(record())
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(StoreError, match="another suite"):
        opened(tmp_path, "other").__enter__()
    assert before == {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}


def test_a_folder_with_foreign_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / store.RECORDS).write_text("{}\n")
    with pytest.raises(StoreError, match=r"no suite\.toml"):
        opened(tmp_path).__enter__()


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        opened(tmp_path / "file" / "run").__enter__()


def test_a_full_disk_stops_before_a_record_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as writer:
        writer.append(record(0))
        monkeypatch.setattr(store, "MIN_FREE_BYTES", 2**62)
        with pytest.raises(StoreError, match="no space left"):
            writer.append(record(1))
    assert [r.cell.seed for r in store.load(tmp_path).records] == [0]


def test_a_write_that_a_quota_cuts_leaves_no_trace(tmp_path: Path) -> None:
    """In a process of its own, since the quota (RLIMIT_FSIZE) holds for all that it writes."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_store import opened, record\n"
        "from zoobench.errors import StoreError\n"
        "file = Path(sys.argv[1]) / 'records.jsonl'\n"
        "try:\n"
        "    with opened(Path(sys.argv[1])) as writer:\n"
        "        writer.append(record(0))\n"
        "        size = file.stat().st_size + 50\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "        writer.append(record(1))\n"
        "except StoreError as error:\n"
        "    print(error, file.stat().st_size == size - 50)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), here],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "what was recorded is kept True" in done.stdout, done.stdout
    assert [r.cell.seed for r in store.load(tmp_path / "run").records] == [0]


LINE = store.encode(record()).decode()
DEEP = "[" * 100_000 + "]" * 100_000
NOT_RECORDS = {
    "an empty line": ("\n", "truncated"),
    "not JSON": ("not json\n", "malformed"),
    "another value": ("[1, 2]\n", "Expected `object`, got `array`"),
    "no cell": ('{"schema":1,"status":"ok"}\n', "required field `cell`"),
    "a wrong type": (LINE.replace('"seed":0', '"seed":"0"'), "Expected `int`, got `str`"),
    "no number": (LINE.replace("0.5", "null"), "Expected `float`, got `null`"),
    "NaN": (LINE.replace("0.5", "NaN"), "malformed"),
    "infinity": (LINE.replace("0.5", "1e999"), "out of range"),
    "nested too deep": (LINE.replace('"params":{}', f'"params":{{"k":{DEEP}}}'), "too deep"),
    "no schema": (LINE.replace('"schema":1', '"schem":1'), "required field `schema`"),
    "schema 0": (LINE.replace('"schema":1', '"schema":0'), ">= 1"),
    "a newer schema": (LINE.replace('"schema":1', '"schema":99'), "upgrade zoobench"),
}
READERS = {
    "report": ("report", "RUN"),
    "compare": ("compare", "RUN", "RUN"),
    "accept": ("baseline", "accept", "RUN", "--suite", "t", "--reason", "r", "--root", "RUN"),
    "history": ("history", "RUN", "RUN"),
    "recommend": ("recommend", "RUN"),
    "merge": ("merge", "RUN", "RUN", "--out", "RUN/out"),
}


@pytest.mark.parametrize("kind", NOT_RECORDS)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, kind: str) -> None:
    line, why = NOT_RECORDS[kind]
    file = tmp_path / store.RECORDS
    file.write_text(LINE + line + LINE)
    with pytest.raises(StoreError) as error:
        store.load(tmp_path)
    assert str(error.value).startswith(f"{file}:2: not a record: ")
    assert why in str(error.value)


@pytest.mark.parametrize("name", READERS)
def test_every_command_says_so_alike(tmp_path: Path, name: str) -> None:
    (tmp_path / store.RECORDS).write_text(LINE + "{}\n")
    asked = [part.replace("RUN", str(tmp_path)) for part in READERS[name]]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 2
    assert f"{tmp_path / store.RECORDS}:2: not a record: " in done.stderr


def test_a_run_that_goes_on_says_so_too(tmp_path: Path) -> None:
    (tmp_path / store.RECORDS).write_text("{}\n")
    with pytest.raises(StoreError, match=r"records\.jsonl:1: not a record"):
        session.recorded(tmp_path)
    assert session.recorded(tmp_path / "none") == {}


def test_unknown_fields_are_ignored() -> None:
    later = LINE.replace('"status"', '"later":[{}],"status"').replace('"seed"', '"later":1,"seed"')
    assert store.decode(later.encode()) == record()


def test_records_of_older_schemas_are_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "status": body.pop("state")}

    monkeypatch.setattr(store, "SCHEMA", 2)
    monkeypatch.setattr(store, "UPGRADES", (renamed,))
    assert store.decode(LINE.replace('"status"', '"state"').encode()) == record()


def test_no_run_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run directory"):
        store.load(tmp_path)


def test_nan_never_reaches_the_disk() -> None:
    nan = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        store.encode(Record(record().cell, "ok", (Measurement("accuracy", nan),)))
    with pytest.raises(ValueError, match="JSON"):
        store.encode(Record(record().cell, "ok", provenance={"sketch": [1.0, nan]}))


def test_equal_predictions_give_equal_bytes() -> None:
    assert store.pack(arrays()) == store.pack(arrays())


def test_damaged_predictions_say_so(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"junk")
    with pytest.raises(StoreError, match="damaged"):
        predictions.read_outcomes(tmp_path / "x.npz", hashlib.sha256(b"junk").hexdigest()[:16])


def test_the_predictions_of_another_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(store.pack(arrays()))
    with pytest.raises(StoreError, match="not those of the record"):
        predictions.read_outcomes(tmp_path / "x.npz", "0" * 16)


GOLDEN = sorted((Path(__file__).parent / "golden").glob("records-v*.jsonl"))


def test_there_is_a_golden_file_of_every_schema() -> None:
    assert len(GOLDEN) == SCHEMA


@pytest.mark.parametrize("file", GOLDEN, ids=lambda p: p.name)
def test_old_records_load_for_ever(file: Path) -> None:
    run = store.load(file)
    assert [r.status for r in run.records] == ["ok", "missing-weights"]
    first = run.records[0]
    assert first.value("accuracy") == 0.9
    assert first.get("accuracy") == Measurement(
        "accuracy", 0.9, "fraction", "higher", 0.88, 0.92, 1000
    )


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
