"""Another test split for the same head: corrupted copies, or another dataset's test.

Options of every dataset (PROTOCOL section 5): `corrupt` and `severity` 1-5 spoil the
pictures or recordings of `test`; `test_from` takes the test split of a dataset with the same
classes. `train` and `valid` stay as they are, so that the head is the one of the clean cell.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoobench.datasets import images, shift_sounds
from zoobench.datasets.shift_sounds import SOUNDS
from zoobench.errors import BadData, UserError, opening, unknown
from zoobench.interfaces import Raw, Split, Splits
from zoobench.schema import Ref

if TYPE_CHECKING:
    from PIL import Image

OPTIONS = ("corrupt", "severity", "test_from")
SMALL = 64
"""Pictures whose longer side is at most this get the strengths of CIFAR-10-C, others those of
ImageNet-C: a blur of 6 pixels leaves nothing of a digit."""

Pixels = NDArray[np.float64]


def clean(ref: Ref) -> Ref:
    """The dataset whose head a shifted one is judged with."""
    return ref.without(*OPTIONS)


def is_shifted(ref: Ref) -> bool:
    return any(name in OPTIONS for name, _ in ref.options)


def named(ref: Ref) -> tuple[str, int | None]:
    """What shifts `ref`: (the corruption, its severity), or (the other dataset, None)."""
    other = ref.option("test_from")
    if other is not None:
        return f"to {Ref.parse(str(other)).short}", None
    return str(ref.option("corrupt")), int(ref.option("severity", 1))


def check(ref: Ref, modality: str, where: str) -> None:
    """Raises UserError for shift options that make no sense together or apart."""
    corrupt, severity = ref.option("corrupt"), ref.option("severity", 1)
    if ref.option("test_from") is not None:
        if corrupt is not None or ref.option("severity") is not None:
            raise UserError(f"{opening(where)}{ref.id}: test_from and corrupt are two shifts: one")
        return
    if corrupt is None:
        raise UserError(f"{opening(where)}{ref.id}: severity says nothing without corrupt")
    known = {"image": CORRUPTIONS, "audio": SOUNDS}.get(modality)
    if known is None:
        raise UserError(
            f"{opening(where)}{ref.id} holds {modality}: corrupt is for pictures and recordings"
        )
    if str(corrupt) not in known:
        raise unknown(where, "corruption", str(corrupt), known, f"for {ref.id}")
    if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
        raise UserError(f"{opening(where)}severity of {ref.id} must be 1 to 5, not {severity!r}")


def apply(splits: Splits, ref: Ref, load: Callable[[Ref], Splits]) -> Splits:
    """`splits` with the test split that `ref` asks for; `load` gives the other dataset.

    Raises BadData where the other dataset has other classes.
    """
    other = ref.option("test_from")
    if other is None:
        kind, severity = named(ref)
        return replace(splits, test=corrupted(splits.test, kind, severity or 1))
    theirs = load(Ref.parse(str(other)))
    if theirs.classes != splits.classes:
        raise BadData(
            f"{ref.id} has the classes {_few(splits.classes)} and {other} has "
            f"{_few(theirs.classes)}: a head for one cannot be judged on the other"
        )
    return replace(splits, test=theirs.test)


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:4]) + (f", ... ({len(classes)})" if len(classes) > 4 else "")


def corrupted(split: Split, kind: str, severity: int) -> Split:
    """`split` with every example spoilt; the same one is spoilt in the same way always."""
    ids = tuple(f"{one}+{kind}-{severity}" for one in split.ids)
    read = _Corrupted(split, kind, severity)
    return Split(split.name, ids, split.targets, read, groups=split.groups or split.ids)


@dataclass(frozen=True)
class _Corrupted:
    """A `read` through a corruption; a class so that a split can be pickled."""

    split: Split
    kind: str
    severity: int

    def __call__(self, i: int) -> Raw:
        seed = hashlib.sha256(f"{self.kind}:{self.severity}:{self.split.ids[i]}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
        spoil = shift_sounds.corrupt if self.kind in SOUNDS else corrupt
        return spoil(self.split.read(i), self.kind, self.severity, rng)


def corrupt(
    picture: Image.Image, kind: str, severity: int, rng: np.random.Generator
) -> Image.Image:
    """An RGB picture spoilt as in Hendrycks and Dietterich 2019 (arXiv:1903.12261)."""
    from PIL import Image

    one = CORRUPTIONS[kind]
    strengths = one.small if max(picture.size) <= SMALL else one.large
    x = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    spoilt = np.clip(one.spoil(x, strengths[severity - 1], rng), 0, 1)
    return Image.fromarray(np.rint(255 * spoilt).astype(np.uint8))


def gaussian_noise(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """x + N(0, c^2), a draw a channel."""
    return np.asarray(x + rng.normal(0.0, c, x.shape))


def shot_noise(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """Poisson(c x) / c: the noise of c photons at full brightness."""
    return np.asarray(rng.poisson(x * c) / c)


def gaussian_blur(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """A Gaussian of c pixels; the edge is repeated."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(x, (c, c, 0), mode="nearest", truncate=4.0))


def contrast(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """Distances to each channel's mean, times c."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return np.asarray((x - mean) * c + mean)


def brightness(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """c more of HSV's value; hue and saturation stay, and black becomes grey."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + c, 1.0)
    return np.asarray(np.where(value > 0, x * raised / np.where(value > 0, value, 1.0), raised))


def jpeg(x: Pixels, c: float, rng: np.random.Generator) -> Pixels:
    """Compressed at quality c, and read again."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * x).astype(np.uint8)).save(buffer, "JPEG", quality=int(c))
    return np.asarray(images.decode(buffer.getvalue()), dtype=np.float64) / 255


@dataclass(frozen=True)
class Corruption:
    """A formula, and its strengths at severities 1 to 5 for small and for large pictures."""

    spoil: Callable[[Pixels, float, np.random.Generator], Pixels]
    small: tuple[float, ...]
    large: tuple[float, ...]


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(
        gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "gaussian_blur": Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "jpeg": Corruption(jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
