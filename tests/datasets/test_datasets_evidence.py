"""Masks beside a folder of pictures: found by name, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.errors import UserError
from zoobench.interfaces import Split


def made(root: Path, masked: int = 12) -> Path:
    """Twelve pictures of two classes, each with a bright box; of the first `masked` its mask."""
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 100, (20, 30, 3)).astype(np.uint8)
        top, left = int(rng.integers(10)), int(rng.integers(20))
        pixels[top : top + 8, left : left + 8] = 200 + i
        mask = np.zeros((20, 30), dtype=np.uint8)
        mask[top : top + 8, left : left + 8] = 255 if i % 2 else 1
        place = Path("owl" if i % 2 else "jay") / f"{i}"
        for folder, content in (("pictures", pixels), ("masks", mask)):
            path = (root / folder / place).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "pictures" or i < masked:
                Image.fromarray(content).save(path)
    return root / "pictures"


def masks_agree(split: Split) -> int:
    """How many masks are known; each is where its picture is bright."""
    assert split.evidence is not None
    known = [(split.evidence(i), np.asarray(split.read(i))) for i in range(len(split))]
    for mask, pixels in known:
        assert mask is None or ((mask != 0) == (pixels[:, :, 0] >= 200)).all()
    return sum(mask is not None for mask, _ in known)


def test_masks_are_found_by_name_and_follow_their_pictures(tmp_path: Path) -> None:
    ref = datasets.resolve(f"folder/birds?path={made(tmp_path)}&masks=masks")
    splits = datasets.load(ref)
    parts = (splits.train, splits.valid, splits.test)
    assert sum(map(masks_agree, parts)) == 12
    assert masks_agree(splits.test.subset(np.array([1, 0]))) == 2
    plain = datasets.resolve(f"folder/birds?path={tmp_path / 'pictures'}")
    assert datasets.load(plain).test.evidence is None
    assert datasets.load(plain).fingerprints == splits.fingerprints, "nothing learns from masks"
    assert plain.revision != ref.revision
    Image.fromarray(np.eye(20, 30, dtype=np.uint8)).save(tmp_path / "masks" / "owl" / "1.png")
    assert datasets.resolve(f"folder/birds?path={tmp_path / 'pictures'}&masks=masks") != ref


def test_a_picture_may_have_no_mask(tmp_path: Path) -> None:
    splits = datasets.load(datasets.resolve(f"folder/b?path={made(tmp_path, 5)}&masks=masks"))
    assert sum(map(masks_agree, (splits.train, splits.valid, splits.test))) == 5


def test_a_mistake_says_what_is_wrong(tmp_path: Path) -> None:
    root = made(tmp_path)

    def fails(name: str, why: str) -> None:
        with pytest.raises(UserError, match=why):
            datasets.resolve(f"folder/birds?path={root}&masks={name}")

    fails("mask", "there is no folder 'mask' beside it")
    fails("../masks", "must be the name alone")
    (tmp_path / "empty").mkdir()
    fails("empty", "holds no mask of a picture. Expected one of the name of 'jay/0.png'")
    Image.fromarray(np.ones((5, 6), dtype=np.uint8)).save(tmp_path / "masks" / "owl" / "3.png")
    fails("masks", "'owl/3.png': it is 6 x 5 pixels, and its picture 30 x 20")
    Image.new("RGB", (30, 20)).save(tmp_path / "masks" / "owl" / "3.png")
    fails("masks", "'owl/3.png': its pixels are colours")
    Image.new("L", (30, 20)).save(tmp_path / "masks" / "owl" / "3.bmp")
    fails("masks", "two files are called 'owl/3'")
