"""The datasets that zoobench knows by name. To add one of a known source, add one row.

`sizes` are the official (train, valid, test) sizes, 0 where there is no such split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoobench.schema import DatasetCard


@dataclass(frozen=True)
class Torchvision:
    """A card, the class in torchvision.datasets, and its arguments for each official split."""

    card: DatasetCard
    type: str
    splits: Mapping[str, Mapping[str, Any]]


_TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}
_TRAINVAL = {"train": {"split": "trainval"}, "test": {"split": "test"}}
_BY_NAME = {"train": {"split": "train"}, "test": {"split": "test"}}
_WITH_VAL = {"train": {"split": "train"}, "valid": {"split": "val"}, "test": {"split": "test"}}
_WITH_VALID = {**_WITH_VAL, "valid": {"split": "valid"}}
# The labels of VOC's test sets after 2007 are hidden: the official val is the test.
_VOC2012 = {"train": {"image_set": "train"}, "test": {"image_set": "val"}}
_VOC2007 = {
    name: {"image_set": part, "year": "2007"}
    for name, part in (("train", "train"), ("valid", "val"), ("test", "test"))
}
_TRIMAPS = {name: {**given, "target_types": "segmentation"} for name, given in _TRAINVAL.items()}
_SBD = {name: {**given, "mode": "segmentation"} for name, given in _VOC2012.items()}


def _tv(
    name: str, type_: str, splits: Mapping[str, Mapping[str, Any]], classes: int,
    sizes: tuple[int, int, int], about: str, **facts: Any,
) -> Torchvision:  # fmt: skip
    """`facts` are whatever else its card says."""
    card = DatasetCard("torchvision", name, "image", classes, sizes, "1", about=about, **facts)
    return Torchvision(card, type_, splits)


TORCHVISION = (
    _tv("cifar10", "CIFAR10", _TRAIN_TEST, 10, (50000, 0, 10000), "objects, 32x32"),
    _tv("cifar100", "CIFAR100", _TRAIN_TEST, 100, (50000, 0, 10000), "objects, 32x32"),
    _tv("flowers102", "Flowers102", _WITH_VAL, 102, (1020, 1020, 6149),
        "flowers of the United Kingdom"),
    _tv("fashion-mnist", "FashionMNIST", _TRAIN_TEST, 10, (60000, 0, 10000), "clothes, 28x28 grey",
        license="MIT"),
    _tv("mnist", "MNIST", _TRAIN_TEST, 10, (60000, 0, 10000), "digits, 28x28 grey",
        license="CC-BY-SA-3.0"),
    _tv("kmnist", "KMNIST", _TRAIN_TEST, 10, (60000, 0, 10000), "cursive Japanese, 28x28 grey",
        license="CC-BY-SA-4.0"),
    _tv("usps", "USPS", _TRAIN_TEST, 10, (7291, 0, 2007), "digits from envelopes, 16x16 grey"),
    _tv("food101", "Food101", _BY_NAME, 101, (75750, 0, 25250), "dishes"),
    _tv("oxford-iiit-pet", "OxfordIIITPet", _TRAINVAL, 37, (3680, 0, 3669),
        "breeds of cats and dogs", license="CC-BY-SA-4.0"),
    _tv("dtd", "DTD", _WITH_VAL, 47, (1880, 1880, 1880), "describable textures, first partition"),
    _tv("eurosat", "EuroSAT", {"train": {}}, 10, (27000, 0, 0), "land use from Sentinel-2, 64x64",
        license="MIT"),
    _tv("stl10", "STL10", _BY_NAME, 10, (5000, 0, 8000), "objects, 96x96"),
    _tv("gtsrb", "GTSRB", _BY_NAME, 43, (26640, 0, 12630), "German traffic signs"),
    _tv("svhn", "SVHN", _BY_NAME, 10, (73257, 0, 26032), "house numbers, 32x32"),
    _tv("country211", "Country211", _WITH_VALID, 211, (31650, 10550, 21100),
        "where a photo was taken"),
    _tv("fgvc-aircraft", "FGVCAircraft", _WITH_VAL, 100, (3334, 3333, 3333),
        "variants of aircraft"),
    _tv("voc2012-segmentation", "VOCSegmentation", _VOC2012, 21, (1464, 0, 1449),
        "masks of 20 kinds of objects, 2012", task="segmentation"),
    _tv("voc2007-segmentation", "VOCSegmentation", _VOC2007, 21, (209, 213, 210),
        "masks of 20 kinds of objects, 2007", task="segmentation"),
    _tv("sbd", "SBDataset", _SBD, 21, (8498, 0, 2857),
        "masks of 20 kinds of objects, more of VOC's pictures", task="segmentation"),
    _tv("oxford-pet-masks", "OxfordIIITPet", _TRIMAPS, 2, (3680, 0, 3669),
        "cats and dogs cut out, the border ignored", task="segmentation", license="CC-BY-SA-4.0"),
    _tv("voc2012-detection", "VOCDetection", _VOC2012, 20, (5717, 0, 5823),
        "boxes of 20 kinds of objects, 2012", task="detection"),
    _tv("voc2007-detection", "VOCDetection", _VOC2007, 20, (2501, 2510, 4952),
        "boxes of 20 kinds of objects, 2007", task="detection"),
    _tv("rendered-sst2", "RenderedSST2", _WITH_VAL, 2, (6920, 872, 1821),
        "sentiment of a sentence drawn as a picture", nature="rendered"),
)  # fmt: skip


@dataclass(frozen=True)
class Hub:
    """A card, the repository on the hub, and where in it content, label and splits are.

    `splits` maps train/valid/test to the repository's names; an empty one takes
    train, validation and test as far as they exist. `names` are those of masks' classes, and
    under `reduce_labels` the number 0 is of none of them. `group` is the column of what is never
    parted. Sets of text tasks have `columns`, by the option that names each, in place of content
    and label.
    """

    card: DatasetCard
    repo: str
    column: str = ""
    label: str = "label"
    config: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    names: str = ""
    reduce_labels: bool = False
    group: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def _hf(
    name: str, repo: str, column: str, classes: int, sizes: tuple[int, int, int], about: str,
    **rest: Any,
) -> Hub:  # fmt: skip
    """`rest` are other fields of the row, and whatever else its card says."""
    own = ("label", "config", "splits", "names", "reduce_labels", "group")
    row = {key: rest.pop(key) for key in own if key in rest}
    facts = {"modality": "text", "revision": "main", **rest}
    card = DatasetCard("hf", name, classes=classes, sizes=sizes, about=about, **facts)
    return Hub(card, repo, column, **row)


def _texts(
    name: str, repo: str, task: str, columns: Mapping[str, str], sizes: tuple[int, int, int],
    about: str, **rest: Any,
) -> Hub:  # fmt: skip
    """A set of a text task, whose classes its data say."""
    row = {key: rest.pop(key) for key in ("config", "splits") if key in rest}
    facts = {"revision": "main", **rest}
    card = DatasetCard("hf", name, "text", 0, sizes, about=about, task=task, **facts)
    return Hub(card, repo, columns=columns, **row)


ADE20K = (
    "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, "
    "person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, "
    "shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, "
    "bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, "
    "sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool "
    "table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, "
    "flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, "
    "boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, "
    "streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, "
    "bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer "
    "belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, "
    "minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle, "
    "lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, "
    "ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, "
    "clock, flag"
)
"""Names of ADE20k's 150 classes, in the order of their numbers (Zhou et al. 2017)."""

_TAGGED = {"words": "tokens", "tags": "ner_tags"}
_ASKED = {"question": "question", "context": "context", "answer": "answers", "group": "title"}
_CHOSEN = {"question": "question", "choices": "choices", "label": "answerKey"}
# Where the labels of `test` are hidden, the official validation split is the test.
_VALIDATION_IS_TEST = {"train": "train", "test": "validation"}

HUB = (
    _hf("ag_news", "fancyzhx/ag_news", "text", 4, (120000, 0, 7600), "topics of news"),
    _hf("imdb", "stanfordnlp/imdb", "text", 2, (25000, 0, 25000), "polarity of long film reviews",
        splits={"train": "train", "test": "test"}),
    _hf("sst2", "nyu-mll/glue", "sentence", 2, (67349, 0, 872),
        "polarity of phrases from film reviews", config="sst2", splits=_VALIDATION_IS_TEST),
    _hf("rotten_tomatoes", "cornell-movie-review-data/rotten_tomatoes", "text", 2,
        (8530, 1066, 1066), "polarity of film reviews"),
    _hf("banking77", "PolyAI/banking77", "text", 77, (10003, 0, 3080), "intents of bank customers",
        license="CC-BY-4.0"),
    _hf("emotion", "dair-ai/emotion", "text", 6, (16000, 2000, 2000), "emotions in tweets",
        config="split"),
    _hf("trec", "CogComp/trec", "text", 6, (5452, 0, 500), "what a question asks for",
        revision="refs/convert/parquet", label="coarse_label"),
    _hf("tweet_sentiment", "cardiffnlp/tweet_eval", "text", 3, (45615, 2000, 12284),
        "polarity of tweets", config="sentiment"),
    _hf("dbpedia_14", "fancyzhx/dbpedia_14", "content", 14, (560000, 0, 70000), "kind of a thing",
        license="CC-BY-SA-3.0"),
    _hf("20_newsgroups", "SetFit/20_newsgroups", "text", 20, (11314, 0, 7532),
        "newsgroup of a message"),
    _hf("cifar10", "uoft-cs/cifar10", "img", 10, (50000, 0, 10000), "objects, 32x32",
        modality="image"),
    _hf("cifar100", "uoft-cs/cifar100", "img", 100, (50000, 0, 10000), "objects, 32x32",
        modality="image", label="fine_label"),
    _hf("beans", "AI-Lab-Makerere/beans", "image", 3, (1034, 133, 128), "diseases of bean leaves",
        modality="image", license="MIT", label="labels"),
    _hf("food101", "ethz/food101", "image", 101, (75750, 0, 25250), "dishes", modality="image",
        splits=_VALIDATION_IS_TEST),
    _hf("mnist", "ylecun/mnist", "image", 10, (60000, 0, 10000), "digits, 28x28 grey",
        modality="image", license="CC-BY-SA-3.0"),
    _hf("fashion_mnist", "zalando-datasets/fashion_mnist", "image", 10, (60000, 0, 10000),
        "clothes, 28x28 grey", modality="image", license="MIT"),
    _hf("scene_parse_150", "zhoubolei/scene_parse_150", "image", 150, (20210, 0, 2000),
        "ADE20k: pixels of 150 kinds of things and stuff", modality="image", label="annotation",
        task="segmentation", config="scene_parsing", splits=_VALIDATION_IS_TEST,
        revision="refs/convert/parquet", names=ADE20K, reduce_labels=True, license="BSD-3-Clause"),
    _hf("cppe-5", "rishitdagli/cppe-5", "image", 5, (1000, 0, 29), "protective equipment in boxes",
        modality="image", label="objects", task="detection",
        splits={"train": "train", "test": "test"}),
    _texts("conll2003", "eriktks/conll2003", "token-classification", _TAGGED,
           (14041, 3250, 3453), "people, places, organisations in news",
           revision="refs/convert/parquet"),
    _texts("wnut-17", "leondz/wnut_17", "token-classification", _TAGGED, (3394, 1009, 1287),
           "rare and new entities in social media", revision="refs/convert/parquet",
           license="CC-BY-4.0"),
    _texts("universal-ner-en", "BramVanroy/universal_ner", "token-classification", _TAGGED,
           (12543, 2002, 2077), "people, places, organisations in web texts", config="en_ewt",
           license="CC-BY-SA-4.0"),
    _texts("squad", "rajpurkar/squad", "question-answering", _ASKED, (87599, 0, 10570),
           "questions on articles of Wikipedia", splits=_VALIDATION_IS_TEST,
           license="CC-BY-SA-4.0"),
    _texts("squad-v2", "rajpurkar/squad_v2", "question-answering", _ASKED, (130319, 0, 11873),
           "the same with questions that have no answer", splits=_VALIDATION_IS_TEST,
           license="CC-BY-SA-4.0"),
    _texts("wikitext-2", "Salesforce/wikitext", "language-modelling", {"text": "text"},
           (36718, 3760, 4358), "lines of articles of Wikipedia", config="wikitext-2-raw-v1",
           license="CC-BY-SA-3.0"),
    _texts("arc-easy", "allenai/ai2_arc", "multiple-choice", _CHOSEN, (2251, 570, 2376),
           "questions of science for schools", config="ARC-Easy", license="CC-BY-SA-4.0"),
    _texts("openbookqa", "allenai/openbookqa", "multiple-choice",
           {**_CHOSEN, "question": "question_stem"}, (4957, 500, 500),
           "questions of elementary science", config="main"),
    _hf("esc50", "ashraq/esc50", "audio", 50, (2000, 0, 0), "environmental sounds, 5 s each",
        modality="audio", label="category", group="src_file", license="CC-BY-NC-3.0"),
    _hf("minds14-en", "PolyAI/minds14", "audio", 14, (563, 0, 0),
        "what callers want of a bank, in American English", modality="audio",
        label="intent_class", config="en-US", license="CC-BY-4.0"),
    _hf("speech-commands", "mteb/speech-commands-mini", "audio", 36, (1755, 0, 4890),
        "single spoken words (v0.02): 50 of each to learn from, and the official test",
        modality="audio", label="label", license="CC-BY-4.0"),
    _hf("gtzan", "mteb/gtzan-genre", "audio", 10, (1000, 0, 0),
        "genres of music, 30 s each; some recordings stand in it twice", modality="audio",
        label="label"),
    _hf("librispeech-clean", "openslr/librispeech_asr", "audio", 0, (28539, 2703, 2620),
        "read books, by speaker (train.100); a download of 30 GB", modality="audio", label="text",
        config="clean", group="speaker_id", task="speech-recognition", license="CC-BY-4.0",
        splits={"train": "train.100", "valid": "validation", "test": "test"}),
    _hf("fleurs-en", "google/fleurs", "audio", 0, (2602, 394, 647),
        "sentences of Wikipedia read aloud, American English; a sentence is one unit",
        modality="audio", label="transcription", config="en_us", group="id",
        task="speech-recognition", license="CC-BY-4.0", revision="refs/convert/parquet"),
    _hf("cats_vs_dogs", "microsoft/cats_vs_dogs", "image", 2, (23410, 0, 0), "cats and dogs",
        modality="image", label="labels"),
)  # fmt: skip
