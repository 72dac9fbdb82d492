"""Controls: what a score must beat before it says anything of a model (PROTOCOL section 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import Unsupported
from zoobench.interfaces import Adapted, Method, Raw, SealedSplits, Split
from zoobench.methods.head import Fitted
from zoobench.solvers import log_mel
from zoobench.tasks.classification import labels_of
from zoobench.tasks.regression import numbers_of

if TYPE_CHECKING:
    import torch

    from zoobench.audio import Clip

THUMBNAIL = 16
"""Side of the thumbnail in the raw-input control of pictures, in pixels."""
TFIDF_TERMS = 1024
"""Most terms of the raw-input control of texts: the most frequent of the train set."""


class Constant(ABC):
    """Abstract: an answer that no example's content changes, `scorer`'s."""

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    view: ClassVar[str] = ""

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        score = self.scorer(splits, seed)
        return Fitted(score, score(splits.valid))

    @abstractmethod
    def scorer(self, splits: SealedSplits, seed: int) -> Callable[[Split], torch.Tensor]:
        """What is said of each example of a split."""


@dataclass(frozen=True)
class Chance(Constant):
    """A class drawn uniformly for each example: the accuracy of knowing nothing."""

    def scorer(self, splits: SealedSplits, seed: int) -> Callable[[Split], torch.Tensor]:
        import torch

        def score(split: Split) -> torch.Tensor:
            drawn = torch.Generator().manual_seed(seed)
            noise = torch.rand(len(split), len(splits.classes), generator=drawn) * 1e-3
            return torch.log_softmax(noise, dim=1)

        return score


@dataclass(frozen=True)
class Majority(Constant):
    """The class frequencies of the train set for every example."""

    def scorer(self, splits: SealedSplits, seed: int) -> Callable[[Split], torch.Tensor]:
        import torch

        counts = np.bincount(labels_of(splits.train), minlength=len(splits.classes))
        # Half a count each, so that a class absent from train has a finite log-probability.
        prior = torch.from_numpy(np.log((counts + 0.5) / (counts + 0.5).sum())).float()
        return lambda split: prior.repeat(len(split), 1)


@dataclass(frozen=True)
class Mean(Constant):
    """The mean of the train targets for every example: what `majority` is to classes."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def scorer(self, splits: SealedSplits, seed: int) -> Callable[[Split], torch.Tensor]:
        import torch

        mean = float(numbers_of(splits.train).mean())
        return lambda split: torch.full((len(split),), mean, dtype=torch.float64)


@dataclass(frozen=True)
class RawInput:
    """The linear probe on the raw input, or for numbers the ridge: no network at all.

    Pictures: a 16 x 16 thumbnail and each channel's mean, deviation and 8-bin
    histogram. Texts: word TF-IDF over the train set's most frequent terms. Recordings: the mean
    and deviation over time of 40 log-mel bands.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing"
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    view: ClassVar[str] = ""

    refit: bool = True

    def adapt(self, backbone: None, splits: SealedSplits, seed: int) -> Adapted:
        from zoobench.methods.linear_probe import LinearProbe
        from zoobench.methods.ridge import Ridge

        source: Any = RawFeatures(encoder(splits))
        probe: Method = Ridge() if splits.task == "regression" else LinearProbe(refit=self.refit)
        return probe.adapt(source, splits, seed)


@dataclass(frozen=True)
class RawFeatures:
    """As much of a FeatureSource as a probe needs, over a function of raw examples."""

    encode: Callable[[Iterable[Raw]], NDArray[np.float32]]

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def features(self, split: Split) -> torch.Tensor:
        import torch

        raws = (split.read(i) for i in range(len(split)))
        return torch.from_numpy(self.encode(raws))


def encoder(splits: SealedSplits) -> Callable[[Iterable[Raw]], NDArray[np.float32]]:
    """What turns raw examples into features; texts' vocabulary comes from `train` alone."""
    if splits.modality == "image":
        return lambda raws: np.stack([image_statistics(raw) for raw in raws])
    if splits.modality == "audio":
        return lambda raws: np.stack([sound_statistics(raw) for raw in raws])
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = r"(?u)\w+"  # one-letter words too: some languages are full of them
    tfidf = TfidfVectorizer(max_features=TFIDF_TERMS, token_pattern=words, dtype=np.float32)
    try:
        tfidf.fit([splits.train.read(i) for i in range(len(splits.train))])
    except ValueError as error:  # "empty vocabulary"
        raise Unsupported(f"raw-input: no text of the train split holds a word ({error})") from None
    return lambda texts: np.asarray(tfidf.transform(texts).toarray(), dtype=np.float32)


def sound_statistics(clip: Clip) -> NDArray[np.float32]:
    """(80,) float32: the mean over time of each log-mel band, then its deviation."""
    heard = log_mel.log_mel(clip.at(log_mel.RATE))
    return np.concatenate([heard.mean(axis=0), heard.std(axis=0)])


def image_statistics(image: Any) -> NDArray[np.float32]:
    """(798,) float32: 16 x 16 thumbnail in [0, 1], then mean, deviation, histogram by channel."""
    from PIL import Image

    small = image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    thumbnail = np.asarray(small, dtype=np.float32) / 255
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32).reshape(-1, 3) / 255
    parts = [thumbnail.ravel(), pixels.mean(axis=0), pixels.std(axis=0)]
    for channel in pixels.T:
        counts, _ = np.histogram(channel, bins=8, range=(0, 1))
        parts.append((counts / len(pixels)).astype(np.float32))
    return np.concatenate(parts).astype(np.float32)
