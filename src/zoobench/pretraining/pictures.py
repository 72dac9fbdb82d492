"""Rows of small pictures as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GAP = 2
LEAST = 56
"""Pixels of a picture's shown side, at least: a small one is shown larger."""


def grid_png(rows: Sequence[torch.Tensor]) -> bytes:
    """Rows of pictures (K, 3, H, W) in [0, 1], one below the other, on white."""
    import numpy as np
    from PIL import Image

    _, _, height, width = rows[0].shape
    most = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) - GAP, most * (width + GAP) - GAP, 3), 255, "u1")
    for i, row in enumerate(rows):
        pixels = (row.detach().cpu().permute(0, 2, 3, 1) * 255).round().byte().numpy()
        for j, picture in enumerate(pixels):
            top, left = i * (height + GAP), j * (width + GAP)
            sheet[top : top + height, left : left + width] = picture
    scale = -(-LEAST // height)
    image = Image.fromarray(sheet)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
