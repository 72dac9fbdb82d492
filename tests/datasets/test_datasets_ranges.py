"""More than 8 bits: one range a dataset, by type, by what its pictures agree on, or as told."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zoobench import datasets
from zoobench.datasets import images, ranges, twins
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref, Value

Values = NDArray[Any]


def noise(seed: int, top: float, dtype: type[np.generic] = np.float32) -> Values:
    values = np.random.default_rng(seed).random((16, 16)) * top
    return values.astype(dtype)


def folder(root: Path, pictures: Mapping[int, Values], suffix: str = ".tif") -> Ref:
    for i, values in pictures.items():
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(values).save(root / "ab"[i % 2] / f"{i:03}{suffix}")
    return Ref("folder", "scans").with_options(path=str(root))


def load(ref: Ref, **options: Value) -> Splits:
    return datasets.load(datasets.resolve(ref.with_options(**options)))


def brightness(made: Splits) -> list[float]:
    splits = (made.train, made.valid, made.test)
    return [float(np.asarray(s.read(i)).mean()) for s in splits for i in range(len(s))]


def test_one_pixel_above_one_does_not_blacken_a_float_picture(tmp_path: Path) -> None:
    pictures = {i: noise(i, 1.0) for i in range(40)}
    pictures[7][0, 0] = 1.7
    pictures[8][0, 0] = -0.01
    made = load(folder(tmp_path, pictures))
    assert min(brightness(made)) > 100
    assert made.notes["pixel_range"] == "0 to 65535/each/1"


def test_a_dark_picture_keeps_the_range_of_its_dataset(tmp_path: Path) -> None:
    pictures = {i: noise(i, 60_000, np.int32) for i in range(40)}
    pictures[3] = noise(3, 200, np.int32)
    seen = sorted(brightness(load(folder(tmp_path, pictures))))
    assert seen[0] < 2 < 100 < seen[1], "it was as bright as the others"


def test_pictures_on_two_scales_are_named_with_the_option(tmp_path: Path) -> None:
    pictures = {i: noise(i, 1.0) for i in range(40)}
    pictures[5] = noise(5, 200.0)
    why = r"b/005.tif: grey values from .*most pictures' go from 0 to 1"
    (named,) = load(folder(tmp_path, pictures)).notes["corrupt_files"]
    assert re.match(why, named)
    pictures |= {i: noise(i, 200.0) for i in range(6, 10)}
    ref = folder(tmp_path, pictures)
    with pytest.raises(BadData, match=why):
        load(ref)
    made = load(ref, range=255)
    assert sum(value < 2 for value in brightness(made)) == 35
    assert made.notes["pixel_range"] == "0 to 255/255/255"


def test_signed_values_need_their_range(tmp_path: Path) -> None:
    ref = folder(tmp_path, {i: noise(i, 2.0) - np.float32(1) for i in range(40)})
    with pytest.raises(BadData, match=r"no range that is known. Say which .* range="):
        load(ref)
    for said in ("-1,1", (-1, 1), (-1.0, 1.0)):
        assert 110 < np.mean(brightness(load(ref, range=said))) < 145


def test_twelve_bits_in_sixteen_are_noticed(tmp_path: Path) -> None:
    ref = folder(tmp_path, {i: noise(i, 4095, np.uint16) for i in range(40)}, ".png")
    made = load(ref)
    assert made.notes["narrow_range"] == "16-bit pictures whose values have 12 bits"
    assert "narrow-range" in made.flags
    assert max(brightness(made)) < 20
    told = load(ref, range=4095)
    assert min(brightness(told)) > 100
    assert "narrow-range" not in told.flags
    assert told.train.reader != made.train.reader, "cached features of the one are not the other's"


def test_what_always_had_a_range_keeps_its_names(tmp_path: Path) -> None:
    ref = folder(tmp_path, {i: noise(i, 65535, np.uint16) for i in range(40)}, ".png")
    made = load(ref)
    assert made.train.reader == "folder 1"
    assert "pixel_range" not in made.notes
    assert made.flags == ("derived-test", "derived-valid")


def test_a_tables_pictures_have_one_range(tmp_path: Path) -> None:
    pictures = {i: noise(i, 1.0) for i in range(40)}
    pictures[7][0, 0] = 1.7
    folder(tmp_path, pictures)
    rows = "".join(f"{'ab'[i % 2]}/{i:03}.tif,{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("file,label\n" + rows)
    ref = Ref("table", "t").with_options(
        path=str(tmp_path / "t.csv"), image="file", label="label"
    )  # fmt: skip
    assert min(brightness(load(ref))) > 100
    assert max(brightness(load(ref, range=255))) < 2


def test_looks_are_kept_by_their_range(tmp_path: Path) -> None:
    folder(tmp_path, {0: noise(0, 1.0)})
    path = str(tmp_path / "a" / "000.tif")
    agreed = twins.scan([path], verify=True)[2]
    told = twins.scan([path], verify=True, grey=ranges.Grey(2, 2, 2))[2]
    assert agreed.content != told.content
    assert twins.scan([path], verify=True)[2] == agreed


def test_levels_are_read_once_for_all_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "scans").mkdir()
    ref = datasets.resolve(folder(tmp_path / "scans", {i: noise(i, 1.0) for i in range(40)}))
    real, decoded = images.levels, []

    def levels(source: bytes | str | Path) -> ranges.Levels | None:
        decoded.append(source)
        return real(source)

    monkeypatch.setattr(images, "levels", levels)
    first = datasets.load(ref)
    assert len(decoded) == 40
    again = datasets.load(ref)
    assert len(decoded) == 40
    assert again.notes == first.notes
    (kept,) = (tmp_path / "cache" / "levels").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-9], whole[:40] + b"9" + whole[41:], b"[" * 100):
        kept.write_bytes(damaged)
        assert datasets.load(ref).notes == first.notes
        assert kept.read_bytes() == whole
    assert len(decoded) == 40 * 5


@pytest.mark.parametrize(
    "said", ["", "a", "0", 0, -1, "1,0", "1,1", "1,2,3", "nan", "inf", "0,inf", "-"]
)
def test_nonsense_is_refused_before_any_work(said: Value, tmp_path: Path) -> None:
    ref = folder(tmp_path, {i: noise(i, 1.0) for i in range(6)})
    with pytest.raises(UserError, match=r"s\.toml: range of folder/scans is the value of white"):
        datasets.resolve(ref.with_options(range=said), "s.toml")


@pytest.mark.parametrize(
    ("values", "white"),
    [([0, 0.5, 1], (0, 128, 255)), ([-0.5, 0.5, 1.5], (0, 128, 255)), ([0, 0.25, 9], (0, 64, 255))],
)
def test_what_lies_beyond_a_range_is_clipped(values: list[float], white: tuple[int, ...]) -> None:
    picture = Image.fromarray(np.array([values], dtype=np.float32))
    out = io.BytesIO()
    picture.save(out, "TIFF")
    decoded = images.decode(out.getvalue(), ranges.Grey(1, 1, 1))
    assert tuple(np.asarray(decoded)[0, :, 0].tolist()) == white
