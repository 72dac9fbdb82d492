"""Folders of pictures and masks: what is read, and each mistake in a word, before anything runs.

There are nine pictures, so that one is more than a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.tasks.segmentation import IGNORED, masks_of

CLASSES = ("background", "cat", "dog")
N = 9


def mask_of(i: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    mask = np.zeros(size, dtype=np.uint8)
    mask[: 3 + i % 5] = 1 + i % 2
    mask[-1] = IGNORED
    return mask


def write(folder: Path, n: int = N, start: int = 0) -> Path:
    """n pictures, each of its own noise, and their masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(start, start + n):
        noise = np.random.default_rng(i).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask_of(i)).save(folder / "masks" / f"{i}.png")
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    root = write(tmp_path / "scenes")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def resolved(root: Path, **options: object) -> str:
    extra = "".join(f"&{key}={value}" for key, value in options.items())
    return str(datasets.resolve(f"folder/scenes?path={root}&task=segmentation{extra}"))


def loaded(root: Path) -> Splits:
    return datasets.load(resolved(root))


def refused(root: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        resolved(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_folder_is_split_by_hash_and_its_masks_are_read_when_asked_for(
    scenes: Path,
) -> None:
    splits = loaded(scenes)
    assert splits.task == "segmentation"
    assert splits.classes == CLASSES
    assert set(splits.flags) == {"derived-test", "derived-valid"}
    assert len(splits.train) + len(splits.valid) + len(splits.test) == N
    for split in (splits.train, splits.valid, splits.test):
        for i in range(len(split)):
            picture, mask = split.read(i), masks_of(split).read(i)
            assert mask.shape == picture.size[::-1] == masks_of(split).sizes[i]
            counts = [int((mask == c).sum()) for c in range(3)]
            assert masks_of(split).counts[i].tolist() == counts
    assert datasets.card(f"folder/scenes?path={scenes}&task=segmentation").task == "segmentation"
    assert loaded(scenes).fingerprints == splits.fingerprints


def test_parts_are_official_splits_whatever_they_are_called(tmp_path: Path) -> None:
    for start, part in ((0, "training"), (20, "val"), (30, "test")):
        write(tmp_path / part, 10, start)
    (tmp_path / "classes.txt").write_bytes("\ufeffbackground\r\ncat\r\ndog\r\nsnark".encode())
    splits = loaded(tmp_path)
    assert [len(s) for s in (splits.train, splits.valid, splits.test)] == [10, 10, 10]
    assert splits.flags == ()
    assert splits.notes["classes_not_in_train"] == ["snark"]


def test_an_index_a_palette_and_a_deep_mask_are_the_same(scenes: Path) -> None:
    before = loaded(scenes)
    palette = Image.fromarray(mask_of(0)).convert("P")
    palette.putpalette([200, 10, 10, 3, 3, 3, 90, 90, 90] + [0] * 759)
    palette.save(scenes / "masks" / "0.png")
    Image.fromarray(mask_of(1).astype(np.uint16)).save(scenes / "masks" / "1.png")
    (scenes / "masks" / "2.png").unlink()
    Image.fromarray(mask_of(2)).save(scenes / "masks" / "2.tif")
    assert loaded(scenes).fingerprints == before.fingerprints


def test_the_revision_follows_pictures_masks_and_names(scenes: Path) -> None:
    first = resolved(scenes)
    assert resolved(scenes) == first
    changed = mask_of(3)
    changed[0, 0] = 2 - changed[0, 0]
    Image.fromarray(changed).save(scenes / "masks" / "3.png")
    second = resolved(scenes)
    (scenes / "classes.txt").write_text("background\ncow\ndog\n")
    assert len({first, second, resolved(scenes)}) == 3
    with pytest.raises(BadData, match="not those that"):
        datasets.load(first)


def damage(root: Path) -> None:
    (root / "masks" / "4.png").write_bytes(b"no")


def spoil(*files: str, add: str = "") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for name in files:
            (root / name).unlink()
        if add:
            (root / add).touch()

    return change


def put(name: str, picture: Image.Image, kind: str | None = None) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "masks" / "4.png").unlink()
        picture.save(root / "masks" / name, kind)

    return change


def names(text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "classes.txt").write_text(text)

    return change


def every_mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoiled(root: Path) -> None:
        for i in range(N):
            Image.fromarray(change(mask_of(i))).save(root / "masks" / f"{i}.png")

    return spoiled


MISTAKES = {
    "no names": (spoil("classes.txt"), ("classes.txt", "one a line")),
    "one name": (names("cat\n"), ("1 classes; from 2 to 255",)),
    "no line": (names("a\n\nb\n"), ("line 2 is empty",)),
    "a name twice": (names("a\nb\na\n"), ("lines 1 and 3 are both 'a'",)),
    "too many names": (names("\n".join(map(str, range(300)))), ("300 classes",)),
    "no mask": (spoil("masks/7.png"), ("'images/7.png' has no mask", "of its name")),
    "no masks": (spoil(*(f"masks/{i}.png" for i in range(N))), ("and 8 more",)),
    "no picture": (spoil("images/7.png"), ("'masks/7.png' has no picture",)),
    "another size": (put("4.png", Image.fromarray(mask_of(4).T)), ("12 x 10", "10 x 12")),
    "colours": (put("4.png", Image.new("RGB", (10, 12))), ("masks/4.png", "colours (RGB)")),
    "colours with alpha": (put("4.png", Image.new("RGBA", (10, 12))), ("colours (RGBA)",)),
    "a photo": (put("4.jpg", Image.new("L", (10, 12))), ("it is JPEG", "write PNG")),
    "a photo called a mask": (
        put("4.png", Image.new("L", (10, 12)), "JPEG"), ("it is JPEG",),
    ),
    "a class too many": (
        put("4.png", Image.fromarray(mask_of(4) * 0 + 3)),
        ("holds the class 3", "0 to 2 are known"),
    ),
    "a deep number": (
        put("4.png", Image.fromarray(np.full((12, 10), 300, dtype=np.uint16))), ("number 300",),
    ),
    "all ignored": (put("4.png", Image.fromarray(mask_of(4) * 0 + IGNORED)), ("are ignored",)),
    "255 for the foreground": (
        every_mask(lambda mask: np.where(mask > 0, 255, 0).astype(np.uint8)),
        ("only the class 'background'", "255 is no class"),
    ),
    "damaged": (damage, ("masks/4.png", "damaged")),
    "a film": (spoil("images/4.png", "masks/4.png", add="images/4.mp4"), ("1 of 9", ".mp4 file")),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_anything_runs(mistake: str, scenes: Path) -> None:
    change, says = MISTAKES[mistake]
    change(scenes)
    message = refused(scenes)
    assert all(one in message for one in says), message


def test_other_mistakes(scenes: Path, tmp_path: Path) -> None:
    assert "classes" in refused(scenes, classes=2)
    assert "option 'splits'" in refused(scenes, splits="train=a")
    assert "Did you mean 'segmentation'" in refused_task(scenes, "segmentaton")
    assert "no such folder" in refused(tmp_path / "nowhere")
    (scenes / "images").rename(scenes / "pictures")
    assert "no folder 'images'" in refused(scenes)
    other = tmp_path / "twice"
    write(other / "train", 4)
    write(other / "training", 4, 10)
    (other / "classes.txt").write_text("a\nb\nc\n")
    assert "none called train" in refused(other)


def refused_task(root: Path, task: str) -> str:
    with pytest.raises(UserError) as caught:
        datasets.resolve(f"folder/scenes?path={root}&task={task}")
    return str(caught.value)


def test_a_damaged_mask_in_a_hundred_is_left_out_and_named(tmp_path: Path) -> None:
    root = write(tmp_path / "many", 120)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    Image.new("RGB", (10, 12)).save(root / "masks" / "60.png")
    splits = loaded(root)
    assert splits.notes["corrupt"] == 1
    assert "masks/60.png: its pixels are colours" in splits.notes["corrupt_files"][0]


def test_a_picture_lies_as_its_exif_says_and_so_must_its_mask(scenes: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.random.default_rng(4).integers(0, 256, (10, 12, 3), dtype=np.uint8))
    (scenes / "images" / "4.png").unlink()
    turned.save(scenes / "images" / "4.jpg", exif=exif)
    splits = loaded(scenes)
    assert sum(len(s) for s in (splits.train, splits.valid, splits.test)) == N


def test_masks_may_all_be_the_same(scenes: Path) -> None:
    """As where a fixed camera looks at one machine: other targets are not what is learned."""
    every_mask(lambda mask: mask_of(0))(scenes)
    splits = loaded(scenes)
    assert len({one.digest for s in (splits.train, splits.test) for one in masks_of(s).seen}) == 1
