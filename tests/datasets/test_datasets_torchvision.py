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
