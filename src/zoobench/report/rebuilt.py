"""What pretrained encoders rebuilt of test pictures, and generated: PNG files of a run."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoobench.errors import UserError
from zoobench.files import check_within, file_name
from zoobench.schema import PRETRAIN
from zoobench.store import Run

FOLDER = "pretrained"
SHEETS = {
    "reconstructions.png": "pictures of test, and below each what was made of it",
    "samples.png": "left, pictures that it generated; right, real ones of test",
}
MOST_BYTES = 2**21
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class PictureSheet:
    """One sheet of pictures: a caption, and its PNG as a data URI."""

    caption: str
    picture: str


def picture_sheets(runs: Sequence[Run]) -> list[PictureSheet]:
    """Those of the first seed of each model that `runs` pretrained. A file that is none of ours, or
    lies elsewhere by a link, is left out."""
    return [
        PictureSheet(f"{name}: {about}", f"data:image/png;base64,{base64.b64encode(blob).decode()}")
        for run in runs
        for name, seed in _first_seeds(run)
        for file, about in SHEETS.items()
        if (blob := _png(run.path, run.path / FOLDER / file_name(name) / f"seed-{seed}" / file))
    ]


def _first_seeds(run: Run) -> Iterable[tuple[str, int]]:
    """Each model that was pretrained, in order of its name."""
    made = (r.cell for r in run.records if r.cell.method == PRETRAIN and r.status == "ok")
    return sorted({c.model.name: c.seed for c in sorted(made, key=lambda c: -c.seed)}.items())


def _png(home: Path, path: Path) -> bytes:
    """Its bytes; none where it is no small PNG of the run's own."""
    try:
        check_within(home, path)
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return b""
        blob = path.read_bytes()
    except (OSError, UserError):
        return b""
    return blob if blob.startswith(SIGNATURE) else b""
