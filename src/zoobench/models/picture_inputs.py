"""What a frozen graph is given of a picture: what options say, else its file, else what most
networks of pictures were trained with. What had to be guessed is named, for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoobench.schema import Ref

if TYPE_CHECKING:
    from zoobench.interfaces import InputSpec

OPTIONS = ("range", "input_size", "mean", "std", "interpolation", "crop_pct")
GUESSES: Mapping[str, Any] = {
    "input_size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear", "crop_pct": 0.875,
}  # fmt: skip
BYTES = (0.0, 255.0)
LARGEST_SIDE = 8192
"""Pixels of a picture's side: what a file may ask for, before any picture is made so large."""


@dataclass(frozen=True)
class InputSettings:
    """`size` (height, width), `mean` and `std` of pixels in [0, 1], how a picture is resized and
    cropped, and which of it nobody said."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str
    guessed: tuple[str, ...]

    @property
    def transform(self) -> dict[str, Any]:
        """The arguments of `timm.data.create_transform`."""
        return {
            "input_size": (3, *self.size), "mean": self.mean, "std": self.std,
            "crop_pct": self.crop_pct, "interpolation": self.interpolation,
            "crop_mode": self.crop_mode,
        }  # fmt: skip

    def preprocessing(self) -> tuple[InputSpec, Any]:
        """The input, and the transform from a picture to it."""
        from zoobench.models.images import timm_preprocessing

        return timm_preprocessing(self.transform, Ref("onnx", "any"))


def settings(
    said: Mapping[str, Any],
    size: tuple[int, int] | None,
    crop_mode: str = "center",
    guessed: Sequence[str] = (),
) -> InputSettings:
    """`said` holds some of OPTIONS: `mean` and `std` are in the unit of `range`, the least and the
    largest value of a pixel; of a range alone values are taken as they are. `size` is the graph's
    own, where it has one; `guessed` is what was guessed before."""
    said = dict(said)
    if "range" in said and "mean" not in said and "std" not in said:
        said |= {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if size is not None:
        said["input_size"] = size[0]
    lacking = [name for name in GUESSES if name not in said]
    said = {**GUESSES, **said}
    low, high = said.get("range", (0.0, 1.0))
    # (low + x (high - low) - mean) / std of pixels x in [0, 1]
    mean = tuple((one - low) / (high - low) for one in said["mean"])
    std = tuple(one / (high - low) for one in said["std"])
    return InputSettings(
        size or (int(said["input_size"]),) * 2, mean, std, str(said["interpolation"]),
        float(said["crop_pct"]), crop_mode, (*guessed, *lacking),
    )  # fmt: skip
