"""What a method measures of its own result when `test` has been read: options, off by default.

An option that is off stands in no cell, so that cells without it keep the keys they had.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

OPTIONAL = "left out while it is the default"

GRADIENTS: Literal["integrated-gradients"] = "integrated-gradients"
"""The value of the option `explain` that takes them of pictures; True takes occlusion."""
WORDS = "removal of words"
"""How texts are explained, as records say it."""


def off() -> Any:
    """The field of an option that is False unless it is asked for."""
    return dataclasses.field(default=False, metadata={OPTIONAL: True})
