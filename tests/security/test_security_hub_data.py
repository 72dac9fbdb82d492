"""A set of the hub is data: its rows open no file of the reader's, its name is no path, and
nothing that it brings along is run."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import forked
from hostile import Canary, Said
from hubstub import HubStub
from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.schema import Ref

library = pytest.importorskip("datasets")

NAME = "hf/me/pets?image=image&label=label"


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade // 2, 7)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of the repository me/pets."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "datasets--me--pets" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    return folder


def serve(monkeypatch: pytest.MonkeyPatch, table: Any, files: Any = None) -> None:
    monkeypatch.setattr(
        library,
        "load_dataset_builder",
        lambda *_, **__: SimpleNamespace(
            config=SimpleNamespace(data_files=files),
            download_and_prepare=lambda: None,
            as_dataset=lambda: library.DatasetDict({"train": table}),
        ),
    )


def rows(*cells: Mapping[str, Any] | None, sound: int = 40) -> Any:
    """A table of sound pictures, and `cells`."""
    features = library.Features({"image": library.Image(), "label": library.Value("string")})
    pyarrow = pytest.importorskip("pyarrow")
    images = [*({"bytes": png(i), "path": None} for i in range(sound)), *cells]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    made = pyarrow.table({
        "image": pyarrow.array(images, type=kind),
        "label": pyarrow.array(["ab"[i % 2] for i in range(len(images))]),
    })  # fmt: skip
    return library.Dataset(made.replace_schema_metadata(None)).cast(features)


def parquet(*cells: Mapping[str, Any]) -> bytes:
    """As a set of the hub keeps the table."""
    out = io.BytesIO()
    pyarrow = pytest.importorskip("pyarrow.parquet")
    pyarrow.write_table(rows(*cells).data.table, out)
    return out.getvalue()


ELSEWHERE = {
    "absolute": "{outside}/picture.png",
    "parents": "{cache}/../../../../{outside}/picture.png",
    "relative": "picture.png",
    "relative to parents": "../../../../../../../../etc/passwd",
    "a link out": "{cache}/link.png",
    "a folder that is a link": "{cache}/linked/picture.png",
    "another repository": "{cache}/../../../datasets--me--private/picture.png",
    "a name that begins like it": "{cache}/../../../datasets--me--pets-private/picture.png",
    "a folder": "{cache}",
    "a FIFO": "{cache}/fifo.png",
    "a loop of links": "{cache}/loop.png",
    "zeros without end": "/dev/zero",
    "a NUL byte": "{cache}/a\x00.png",
    "nothing there": "{cache}/absent.png",
    "file:": "file://{outside}/picture.png",
    "http:": "http://127.0.0.1:9/picture.png",
    "hf:": "hf://datasets/me/private/picture.png",
    "zip:": "zip://picture.png::{outside}/a.zip",
    "home": "~/picture.png",
    "too long": "/" + "a" * 5000,
}


@pytest.mark.parametrize("which", ELSEWHERE)
def test_a_row_opens_no_file_but_its_repositorys(
    which: str, cache: Path, inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    places = [elsewhere, inside, *(cache.parents[2] / name for name in (
        "datasets--me--private", "datasets--me--pets-private"))]  # fmt: skip
    for folder in places:
        folder.mkdir(exist_ok=True)
        (folder / "picture.png").write_bytes(png(200))
    (cache / "link.png").symlink_to(elsewhere / "picture.png")
    (cache / "linked").symlink_to(elsewhere)
    (cache / "loop.png").symlink_to(cache / "loop.png")
    os.mkfifo(cache / "fifo.png")
    path = ELSEWHERE[which].format(outside=elsewhere, cache=cache)
    serve(monkeypatch, rows({"bytes": None, "path": path}))
    with pytest.raises(BadData, match=r"train, row 41: it names a file that is not") as caught:
        datasets.load(NAME)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_repositorys_own_is_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = cache.parents[1] / "blobs"
    blobs.mkdir()
    cells = []
    for i in range(4):  # as the hub's client lays them out: links into the repository's blobs
        (blobs / str(i)).write_bytes(png(100 + i))
        (cache / f"{i}.png").symlink_to(Path("../../blobs") / str(i))
        cells.append({"bytes": None, "path": str(cache / f"{i}.png")})
    serve(monkeypatch, rows(*cells))
    made = datasets.load(NAME)
    splits = (made.train, made.valid, made.test)
    assert sum(map(len, splits)) == 44
    for split in splits:
        assert all(isinstance(split.read(i), Image.Image) for i in range(len(split)))


@pytest.mark.parametrize(
    "cell",
    [
        None,
        {"bytes": None, "path": None},
        {"bytes": b"", "path": None},
        {"bytes": b"%!PS", "path": None},
    ],
)
def test_a_row_without_a_picture_is_counted(
    cell: Mapping[str, Any] | None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, rows(cell, sound=120))
    made = datasets.load(NAME)
    assert made.notes["corrupt"] == 1
    assert made.notes["corrupt_files"][0].startswith("train, row 121: ")
    serve(monkeypatch, rows(*[cell] * 14, sound=120))
    with pytest.raises(BadData, match="14 of 134 rows cannot be used"):
        datasets.load(NAME)


@pytest.mark.parametrize(
    "name",
    ["./evil/set", "../evil/set", "/etc/passwd", "evil/../set", "evil//set", "evil/set/",
     "-evil/set", "evil/.set", "evil/se..t", "evil/se--t", "a/b/c", "evil/s t", "evil/s\\t",
     "evil/s\x00t",
     "evil/ünï", "hf://datasets/evil/set", "buckets/evil/set/x", "~/set", "evil/set.", "C:/set",
     "evil/" + "s" * 97, "evil/s\nt", "evil/s%t", "evil/$(touch x)"],
)  # fmt: skip
def test_a_name_is_no_path(name: str, inside: Path, zoobench: Callable[..., Said]) -> None:
    (inside / "evil" / "set").mkdir(parents=True)
    (inside / "evil" / "set" / "train.csv").write_text("text,label\nsecret,a\n")
    ref = Ref("hf", name).with_options(text="text", label="label")
    with pytest.raises(UserError, match=r"owner/name.*folder/NAME"):
        datasets.resolve(ref, "s.toml")
    (inside / "s.toml").write_text(
        'name = "s"\nmodels = ["synthetic/bag"]\nmethods = ["knn"]\n'
        f"datasets = [{json.dumps(ref.text)}]\n",
        encoding="utf-8",
    )
    said = zoobench("plan", "s.toml")
    assert said.code == 2
    assert "owner/name" in said.error


@pytest.mark.parametrize("name", ["csv", "imagefolder", "json", "text", "webdataset", "evil"])
def test_a_reader_of_the_library_is_no_dataset(name: str, inside: Path) -> None:
    (inside / "train.csv").write_text("text,label\nsecret,a\n")
    with pytest.raises(UserError, match="unknown dataset"):
        datasets.resolve(f"hf/{name}?text=text&label=label")


def test_a_folder_here_is_not_read_in_a_sets_place(inside: Path) -> None:
    (inside / "me" / "mine").mkdir(parents=True)
    (inside / "me" / "mine" / "train.csv").write_text("text,label\nsecret,a\nother,b\n")
    with pytest.raises(BadData, match="here lies a folder me/mine"):
        datasets.load("hf/me/mine?text=text&label=label")


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data",
     "hf://datasets/me/private@main/a.csv", "hf://datasets/me/pets-private@main/a.csv",
     "hf://me/pets@main/a.csv", "hf://datasets/me/pets@main/../../private/a.csv",
     "zip://a.csv::/home/someone/a.zip", "a.csv"],
)  # fmt: skip
def test_files_of_somebody_else_are_refused(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "hf://datasets/me/pets@0123/train.csv"
    serve(monkeypatch, rows(), {"train": [own, file]})
    with pytest.raises(BadData, match="its files are not all its own"):
        datasets.load(NAME)
    serve(monkeypatch, rows(), {"train": [own, f"zip://a.csv::{own}.zip"]})
    assert datasets.load(NAME).classes == ("a", "b")


@pytest.mark.parametrize(
    ("column", "feature", "noun"),
    [("image", "Value('int64')", "pictures"), ("label", "Image()", "labels"),
     ("image", "ClassLabel(names=['a', 'b'])", "pictures"), ("label", "Value('binary')", "labels"),
     ("label", "List(Value('int64'))", "labels")],
)  # fmt: skip
def test_columns_of_another_kind_are_refused_undecoded(
    column: str, feature: str, noun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {
        "Value('int64')": (library.Value("int64"), 1),
        "Value('binary')": (library.Value("binary"), b"x"),
        "Image()": (library.Image(), {"bytes": None, "path": "/etc/passwd"}),
        "ClassLabel(names=['a', 'b'])": (library.ClassLabel(names=["a", "b"]), 1),
        "List(Value('int64'))": (library.Sequence(library.Value("int64")), [1]),
    }  # fmt: skip
    kind, value = kinds[feature]
    table = rows().remove_columns([column]).add_column(column, [value] * 40, feature=kind)
    serve(monkeypatch, table)
    with pytest.raises(BadData, match=f"column '{column}' holds .*, which are no {noun}"):
        datasets.load(NAME)


def test_a_library_that_could_run_scripts_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool | None] = []

    def of_version_3(path: str, name: str | None = None, *, revision: str = "",
                     trust_remote_code: bool | None = None) -> Any:  # fmt: skip
        said.append(trust_remote_code)
        raise ValueError(f"{path} has a script")

    monkeypatch.setattr(library, "load_dataset_builder", of_version_3)
    with pytest.raises(BadData, match="ValueError: me/pets has a script"):
        datasets.load(NAME)
    assert said == [False]


CHILD = """
from zoobench import datasets
from zoobench.errors import ZoobenchError
import sys
for name in sys.argv[1:]:
    try:
        made = datasets.load(f"hf/{name}&label=label")
        made.train.read(0)
        print(len(made.train))
    except ZoobenchError as error:
        print(type(error).__name__, error)
"""


def test_scripts_and_sent_for_files_from_a_real_hub(
    tmp_path: Path, inside: Path, canary: Canary
) -> None:
    table = "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40))
    csv = f"text,label\n{table}".encode()
    (inside / "private.csv").write_bytes(csv)
    readme = f"---\nconfigs:\n- config_name: default\n  data_files: {inside / 'private.csv'}\n---\n"
    listed = "file_name,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(20))
    repos = {
        "me/script": {"script.py": canary.python.encode(), "train.csv": csv},
        "me/sends": {"README.md": readme.encode()},
        "me/sound": {"train.csv": csv, "other.py": canary.python.encode()},
        "me/pictures": {
            "metadata.csv": listed.encode(), **{f"{i}.png": png(i) for i in range(20)}
        },
        "me/opens": {"train.parquet": parquet({"bytes": None, "path": str(inside / "secret.png")})},
    }  # fmt: skip
    (inside / "secret.png").write_bytes(png(200))
    texts = ("me/script", "me/sends", "me/sound")
    names = [f"{name}?{'text=text' if name in texts else 'image=image'}" for name in repos]
    with HubStub(repos, kind="datasets") as hub:
        inherited = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        done = forked.run("-c", CHILD, *names, env={**inherited, **hub.env(tmp_path)})
    script, sends, sound, pictures, opens = done.stdout.splitlines()
    assert script.startswith("BadData hf/me/script: could not be fetched")
    assert sends.startswith("BadData hf/me/sends: ")
    assert (int(sound), int(pictures)) == (28, 14)
    assert "train, row 41: it names a file that is not there, or not in its own" in opens
    assert "[y/N]" not in done.stdout + done.stderr
