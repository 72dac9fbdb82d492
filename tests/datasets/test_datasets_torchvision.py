"""torchvision's data sets from folders in its own formats, without a download."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zoobench import datasets
from zoobench.datasets import torchvision_
from zoobench.errors import BadData
from zoobench.tasks.classification import labels_of
from zoobench.tasks.detection import boxes_of
from zoobench.tasks.segmentation import IGNORED, masks_of

Picture = Callable[..., Image.Image]


def idx(values: NDArray[np.uint8]) -> bytes:
    shape = np.asarray(values.shape, dtype=">i4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def mnist_like(seed: int, many: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (many, 28, 28), dtype=np.uint8)
    return pixels, (np.arange(many) % 10).astype(np.uint8)


def debian(folder: Path) -> Path:
    folder.mkdir()
    for stem, seed, many in (("train", 0, 100), ("t10k", 1, 30)):
        pixels, labels = mnist_like(seed, many)
        for name, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            path = folder / f"{stem}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(values)))
    return folder


@pytest.fixture
def cache(surroundings: Path) -> Path:
    return surroundings / "datasets" / "torchvision"


def raw(cache: Path, name: str, type_: str) -> None:
    folder = cache / name / type_ / "raw"
    folder.mkdir(parents=True)
    for stem, seed, many in (("train", 0, 100), ("t10k", 1, 30)):
        pixels, labels = mnist_like(seed, many)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))


def test_fashion_mnist_is_the_same_from_debian_and_from_torchvision(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = datasets.resolve("torchvision/fashion-mnist")
    monkeypatch.setattr(torchvision_, "DEBIAN", {"fashion-mnist": debian(tmp_path / "deb")})
    assert datasets.available(ref) == (True, f"from the Debian package in {tmp_path / 'deb'}")
    first = datasets.load(ref)
    raw(cache, "fashion-mnist", "FashionMNIST")
    assert datasets.available(ref) == (True, f"downloaded to {cache / 'fashion-mnist'}")
    second = datasets.load(ref)
    assert first.fingerprints == second.fingerprints
    assert first.classes == second.classes
    assert second.classes[::9] == ("T-shirt/top", "Ankle boot")
    assert first.flags == ("derived-valid",)
    assert (len(first.train), len(first.valid), len(first.test)) == (90, 10, 30)
    pixels, labels = mnist_like(1, 30)
    assert (np.asarray(second.test.read(4))[..., 1] == pixels[4]).all()
    assert labels_of(second.test).tolist() == labels.tolist()
    assert pickle.loads(pickle.dumps(second)).test.read(2).mode == "RGB"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-40], "Compressed file ended|CRC|incorrect|Error"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-9]), "is damaged .*invalid for input"),
        (lambda raw: gzip.compress(b"PK\x03\x04 something"), "is damaged .*AssertionError"),
        (lambda raw: b"plain", "gzip"),
        (lambda raw: gzip.compress(b""), "is damaged .*ValueError"),
    ],
)
def test_a_damaged_idx_file_is_bad_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    folder = debian(tmp_path / "deb")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr(torchvision_, "DEBIAN", {"fashion-mnist": folder})
    with pytest.raises(BadData, match=message) as caught:
        datasets.load("torchvision/fashion-mnist")
    assert str(folder) in str(caught.value)


def test_folders_of_files(cache: Path, picture: Picture) -> None:
    for nth, name in enumerate(("AnnualCrop", "Forest", "River")):
        folder = cache / "eurosat" / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for i in range(6):
            picture(nth * 100 + i).save(folder / f"{name}_{i}.png")
    made = datasets.load("torchvision/eurosat")
    assert made.classes == ("AnnualCrop", "Forest", "River")
    assert made.flags == ("derived-test", "derived-valid")
    assert made.train.read(0).size == (12, 12)
    assert pickle.loads(pickle.dumps(made)).fingerprints == made.fingerprints


def test_a_damaged_picture_is_one_example(cache: Path, picture: Picture) -> None:
    for nth, name in enumerate(("AnnualCrop", "Forest")):
        folder = cache / "eurosat" / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for i in range(60):
            picture(nth * 100 + i).save(folder / f"{i}.jpg")
    bad = cache / "eurosat" / "eurosat" / "2750" / "Forest" / "7.jpg"
    bad.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    made = datasets.load(datasets.resolve("torchvision/eurosat"))
    assert len(made.train) + len(made.valid) + len(made.test) == 119
    assert made.notes["corrupt_files"] == [
        "eurosat/2750/Forest/7.jpg: it is PostScript, which is not read"
    ]
    bad.with_name("8.jpg").write_bytes(b"")
    with pytest.raises(BadData, match="2 of 120 pictures cannot be used"):
        datasets.load(datasets.resolve("torchvision/eurosat"))


def test_official_splits_of_three(cache: Path, picture: Picture) -> None:
    for k, split in enumerate(("train", "valid", "test")):
        for j, country in enumerate(("AD", "AE")):
            folder = cache / "country211" / "country211" / split / country
            folder.mkdir(parents=True)
            for i in range(4):
                picture(k * 100 + j * 10 + i).save(folder / f"{i}.jpg")
    made = datasets.load("torchvision/country211")
    assert made.flags == ()
    assert [len(s) for s in (made.train, made.valid, made.test)] == [8, 8, 8]


def test_an_array_may_have_its_channels_first(picture: Picture) -> None:
    first = np.stack([np.asarray(picture(i)).transpose(2, 0, 1) for i in range(4)])
    channels_first = torchvision_._from_array("train", first, [0, 1, 0, 1])
    assert channels_first.read(1).tobytes() == picture(1).tobytes()
    with pytest.raises(BadData, match="uint8 was due"):
        torchvision_._from_array("train", first.astype(np.float32), [0] * 4)


def test_a_failed_download_is_bad_data_and_leaves_no_dataset(cache: Path) -> None:
    ref = datasets.resolve("torchvision/cifar10")
    assert datasets.available(ref) == (False, "will be downloaded by torchvision")
    with pytest.raises(BadData, match="could not be fetched"):
        datasets.load(ref)
    assert datasets.available(ref)[0] is False


def test_a_damaged_folder_says_to_remove_it(cache: Path) -> None:
    (cache / "cifar10").mkdir(parents=True)
    with pytest.raises(BadData, match=r"is damaged .*Remove it to download it again"):
        datasets.load("torchvision/cifar10")


def test_a_download_appears_only_when_it_is_whole(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fake(root: str, download: bool, train: bool) -> None:
        seen.append((Path(root).name, (cache / "mnist").exists()))
        (Path(root) / f"{train}").write_text("x")

    row = torchvision_._row(datasets.resolve("torchvision/mnist"), "")
    monkeypatch.setattr(torchvision_, "_type", lambda row: fake)
    torchvision_._fetch(row, cache / "mnist")
    assert seen == [("mnist.part", False), ("mnist.part", False)]
    assert sorted(p.name for p in (cache / "mnist").iterdir()) == ["False", "True"]
    torchvision_._fetch(row, cache / "mnist")  # another process was first: nothing is done
    assert len(seen) == 2


def test_every_row_names_a_real_class_and_real_arguments() -> None:
    import inspect

    from zoobench.datasets import catalog

    for row in catalog.TORCHVISION:
        known = inspect.signature(torchvision_._type(row)).parameters
        assert {"root", "download"} <= set(known), row.card.id
        for given in row.splits.values():
            assert set(given) <= set(known), row.card.id
        assert ("valid" in row.splits, "test" in row.splits) == (
            row.card.sizes[1] > 0, row.card.sizes[2] > 0,
        ), row.card.id  # fmt: skip


def jpeg(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def mask(seed: int, classes: tuple[int, ...]) -> NDArray[np.uint8]:
    drawn = np.random.default_rng([seed, 1]).choice(classes, (12, 16))
    return np.asarray(drawn, dtype=np.uint8)


def listed(path: Path, names: range, more: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{i}{more}\n" for i in names))


TRAIN, TEST = range(12), range(12, 20)


def test_masks_of_voc_are_palettes_with_a_border_that_is_ignored(cache: Path) -> None:
    root = cache / "voc2012-segmentation" / "VOCdevkit" / "VOC2012"
    for i in (*TRAIN, *TEST):
        jpeg(root / "JPEGImages" / f"{i}.jpg", i)
        path = root / "SegmentationClass" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        painted = Image.fromarray(mask(i, (0, 8, 255))).convert("P")
        painted.putpalette([v for k in range(256) for v in (k, 255 - k, 7)])
        painted.save(path)
    for name, part in (("train", TRAIN), ("val", TEST)):
        listed(root / "ImageSets" / "Segmentation" / f"{name}.txt", part)
    ref = datasets.resolve("torchvision/voc2012-segmentation")
    made = datasets.load(ref)
    assert (len(made.test), made.classes[8], made.flags) == (8, "cat", ("derived-valid",))
    assert datasets.card(ref).classes == len(made.classes) == 21
    for i in range(8):
        read = masks_of(made.test).read(i)
        assert any(np.array_equal(read, mask(k, (0, 8, 255))) for k in TEST)


def test_trimaps_of_pets_leave_the_border_out(cache: Path) -> None:
    root = cache / "oxford-pet-masks" / "oxford-iiit-pet"
    for i in (*TRAIN, *TEST):
        jpeg(root / "images" / f"Abyssinian_{i}.jpg", i)
        path = root / "annotations" / "trimaps" / f"Abyssinian_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask(i, (1, 2, 3))).save(path)
    for name, part in (("trainval", TRAIN), ("test", TEST)):
        path = root / "annotations" / f"{name}.txt"
        path.write_text("".join(f"Abyssinian_{i} 1 1 1\n" for i in part))
    made = datasets.load(datasets.resolve("torchvision/oxford-pet-masks"))
    assert made.classes == ("background", "pet")
    table = np.array([IGNORED, 1, 0, IGNORED], dtype=np.uint8)
    for i in range(8):
        read = masks_of(made.test).read(i)
        assert any(np.array_equal(read, table[mask(k, (1, 2, 3))]) for k in TEST)


def test_masks_of_the_boundaries_dataset_are_matlabs(cache: Path) -> None:
    from scipy.io import savemat

    root = cache / "sbd"
    for i in (*TRAIN, *TEST):
        jpeg(root / "img" / f"{i}.jpg", i)
        (root / "cls").mkdir(exist_ok=True)
        truth = {"Segmentation": mask(i, (0, 15)), "Boundaries": 0}
        savemat(root / "cls" / f"{i}.mat", {"GTcls": truth})
    for name, part in (("train", TRAIN), ("val", TEST)):
        listed(root / f"{name}.txt", part)
    made = datasets.load(datasets.resolve("torchvision/sbd"))
    for i in range(8):
        read = masks_of(made.test).read(i)
        assert any(np.array_equal(read, mask(k, (0, 15))) for k in TEST)
    for i in TEST:
        (root / "cls" / f"{i}.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(BadData, match="no file of the boundaries dataset"):
        datasets.load(datasets.resolve("torchvision/sbd"))


def test_boxes_of_voc_count_from_one_and_have_a_test_set_in_2007(cache: Path) -> None:
    root = cache / "voc2007-detection" / "VOCdevkit" / "VOC2007"
    box = "<xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>10</ymax>"
    for i in (*TRAIN, *TEST, *range(20, 28)):
        jpeg(root / "JPEGImages" / f"{i}.jpg", i)
        (root / "Annotations").mkdir(exist_ok=True)
        thing = f"<object><name>{'dog' if i % 2 else 'sofa'}</name><bndbox>{box}</bndbox></object>"
        (root / "Annotations" / f"{i}.xml").write_text(f"<annotation>{thing}</annotation>")
    for name, part in (("train", TRAIN), ("val", range(20, 28)), ("test", TEST)):
        listed(root / "ImageSets" / "Main" / f"{name}.txt", part)
    made = datasets.load(datasets.resolve("torchvision/voc2007-detection"))
    assert (len(made.train), len(made.valid), len(made.test), len(made.classes)) == (12, 8, 8, 20)
    assert boxes_of(made.test).pictures[0].boxes.tolist() == [[1, 2, 9, 10]]
    assert {made.classes[c] for one in boxes_of(made.test).pictures for c in one.labels} == {
        "dog", "sofa"
    }  # fmt: skip
