"""The pointing game: places follow the preparation, and a map is held against what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cells import cell, settings
from corner import Corner, Probe, picture, splits
from zoobench import models
from zoobench.errors import BadData
from zoobench.methods import explain, pointing
from zoobench.methods.explain import NOT_BETTER
from zoobench.workers.runner import Bench

W, H = 60, 40


@dataclass
class Cutter:
    """Cuts the middle 32 x 32 pixels out, twice as large, mirrored, and scales them."""

    flat: bool = False

    def prepare(self, raw: Any) -> torch.Tensor:
        middle = raw.crop((14, 4, 46, 36)).resize((64, 64), Image.Resampling.NEAREST)
        pixels = np.asarray(middle.transpose(Image.Transpose.FLIP_LEFT_RIGHT), dtype=np.float32)
        scale = 0.0 if self.flat else -3.0  # white may be the lesser number
        return torch.from_numpy(pixels.transpose(2, 0, 1)) * scale + 7.0


def test_a_mask_is_cut_as_its_picture_is() -> None:
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[4:12, 38:46] = 1  # the upper right of what is read, which is mirrored
    raw = Image.new("RGB", (W, H))
    found = pointing.inside(Cutter(), raw, mask)
    assert found is not None
    assert found.shape == (64, 64)
    assert found[:16, :16].all()
    assert int(found.sum()) == 256
    tiles = pointing.touched(Cutter(), raw, mask)
    assert tiles is not None
    assert tiles.tolist() == [True] + [False] * 15
    # Nowhere to point to, or nowhere else.
    assert pointing.touched(Cutter(), raw, np.ones_like(mask)) is None
    assert pointing.touched(Cutter(), raw, np.zeros_like(mask)) is None
    assert pointing.touched(Cutter(flat=True), raw, mask) is None
    with pytest.raises(BadData, match=r"60 x 40 pixels .* a picture of 30 x 40"):
        pointing.inside(Cutter(), Image.new("RGB", (30, H)), mask)


def test_a_frame_is_what_a_network_reads_of_a_picture() -> None:
    found = pointing.frame(Cutter(), Image.new("RGB", (W, H)))
    assert found == pytest.approx((45 / 59, 4 / 39, 14 / 59, 35 / 39), abs=0.005)
    body = models.load(models.resolve("synthetic/gabor"), 0)
    assert pointing.frame(body, Image.new("RGB", (50, 20))) == pytest.approx((0, 0, 1, 1), abs=0.02)
    assert pointing.frame(Cutter(flat=True), Image.new("RGB", (W, H))) is None


class Seen(Corner):
    """Reads the picture whose number is in a pixel; a mask as it is."""

    def prepare(self, raw: Any) -> torch.Tensor:
        if raw.getpixel((0, 0))[2] == 7:
            return picture(raw.getpixel((0, 0))[0])
        return torch.from_numpy(np.asarray(raw, dtype=np.float32)[None, :, :, 0])

    def copy(self) -> Seen:
        return Seen(self.blind)


def numbered(i: int) -> Image.Image:
    return Image.new("RGB", (64, 64), (i, 0, 7))


def at(top: int, left: int, i: int) -> Any:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[top + 3 : top + 6, left + 3 : left + 6] = 1
    return mask


def played(top: int, left: int, blind: bool = False) -> Any:
    """`pointing_game` of masks at (top, left)."""
    every = splits()
    test = replace(every.test, read=numbered, evidence=partial(at, top, left))
    found = explain.explained(Probe(), Seen(blind), replace(every, test=test), True)
    return {m.metric: m for m in found}["pointing_game"]


def test_a_model_that_looks_into_the_corner_points_there() -> None:
    corner = played(0, 0)
    assert corner.value == 1.0
    assert corner.n == explain.EXPLAINED
    assert corner.low < 1.0
    assert corner.detail["controls"]["centre"] == 0.0
    assert corner.detail["controls"]["random map"] < 0.3
    assert NOT_BETTER not in corner.detail
    elsewhere = played(32, 16)
    assert elsewhere.value == 0.0
    assert set(elsewhere.detail[NOT_BETTER]) == {"random map", "centre", "shuffled weights"}
    middle = played(16, 16)
    assert middle.value == 0.0
    assert middle.detail["controls"]["centre"] == 1.0


def test_a_set_with_masks_plays_and_others_do_not() -> None:
    bench = Bench(settings())
    shapes = "packaged/photo-shapes@0.26.0?max_train=60&max_valid=20&max_test=30"
    record = bench.run(cell(dataset=shapes, method="linear-probe", explain=True)).record
    assert record.status == "ok", record.error
    found = record.get("pointing_game")
    assert found is not None
    assert found.low is not None and found.high is not None  # noqa: PT018
    assert found.low <= found.value <= found.high
    plain = bench.run(cell(method="linear-probe", explain=True)).record
    assert plain.get("explanation_gain") is not None
    assert plain.get("pointing_game") is None


def test_maps_of_the_same_pictures_are_kept_for_a_report() -> None:
    bench = Bench(settings())
    record = bench.run(cell(method="linear-probe", explain=True)).record
    gain = record.get("explanation_gain")
    assert gain is not None
    maps = gain.detail["maps"]
    assert len(maps) == explain.SHOWN
    assert len({one["place"] for one in maps}) == explain.SHOWN
    for one in maps:
        assert len(one["map"]) == 4, "24 x 24 pixels in tiles of 16"
        assert one["across"] == 2
        assert max(map(abs, one["map"])) == 100
        assert one["frame"] == pytest.approx((0, 0, 1, 1), abs=0.02)
