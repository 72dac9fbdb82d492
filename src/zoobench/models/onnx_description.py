"""What a file of ONNX says of itself: its metadata, which are texts by name.

`zoobench export` writes one JSON text under the name "zoobench"; of other files the names that
ONNX itself gives to pictures' properties are read ("Image.BitmapPixelFormat",
"Image.NominalPixelRange"), and "license". All of it is a stranger's: it is checked, and never more
than data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zoobench.files import parse_json
from zoobench.models.options import INTERPOLATIONS

KEY = "zoobench"
FORMAT = 1
LONGEST = 2**20
"""Characters of the JSON text: the names of 20,000 classes."""
CROPS = ("center", "squash", "border")
RANGES: Mapping[str, tuple[float, float]] = {
    "NominalRange_0_255": (0.0, 255.0), "Normalized_0_1": (0.0, 1.0), "Normalized_1_1": (-1.0, 1.0),
}  # fmt: skip
"""ONNX's names of how pixels are numbers; the range of video (16 to 235) is none of pictures."""
FORMATS = {"Rgb8": "rgb", "Bgr8": "bgr"}


@dataclass(frozen=True)
class OnnxTransform:
    """How a picture becomes the input, in timm's words: `input_size` is (3, height, width)."""

    input_size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.crop_pct)
        sane = (
            self.input_size[0] == 3
            and all(8 <= side <= 8192 for side in self.input_size[1:])
            and all(math.isfinite(number) and abs(number) < 1e6 for number in numbers)
            and min(self.std) > 0
            and 0 < self.crop_pct <= 2
            and self.interpolation in INTERPOLATIONS
            and self.crop_mode in CROPS
        )
        if not sane:
            raise ValueError("its preprocessing is none that there is")


@dataclass(frozen=True)
class OnnxDescription:
    """What `zoobench export` wrote: the `model` that the file was made of, what its card said, its
    preprocessing, and the names of the outputs that are features and scores ("" for none), the
    latter of `labels`."""

    model: str
    transform: OnnxTransform
    features: str
    family: str = ""
    license: str = "unknown"
    pretrained_on: str = "unknown"
    scores: str = ""
    labels: tuple[str, ...] = field(default=(), repr=False)
    format: int = FORMAT

    def text(self) -> str:
        """The JSON text that `described` reads."""
        return json.dumps(asdict(self), ensure_ascii=True)


def described(metadata: Mapping[str, str]) -> OnnxDescription | None:
    """What a file's metadata say of how `zoobench export` made it; None where it did not.

    Raises ValueError for what it would not have written.
    """
    import msgspec

    text = metadata.get(KEY)
    if text is None:
        return None
    if len(text) > LONGEST:
        raise ValueError(f"its description is longer than {LONGEST} characters")
    body: Any = parse_json(text)
    found = msgspec.convert(body, OnnxDescription)
    if found.format != FORMAT:
        raise ValueError(f"its description has the format {found.format}, not {FORMAT}")
    return found


def stated(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The options `range` and `channels` that ONNX's own names for pictures state."""
    found: dict[str, Any] = {}
    if (span := RANGES.get(metadata.get("Image.NominalPixelRange", ""))) is not None:
        found["range"] = span
    if (order := FORMATS.get(metadata.get("Image.BitmapPixelFormat", ""))) is not None:
        found["channels"] = order
    return found
