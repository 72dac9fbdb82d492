"""stamp-captions: photographs of Debian's stamps for Tux Paint, with the line that says what they
are; a child's stamps, cut out of their background.

A stamp is a picture beside a text of the same name, whose first line is English. Drawings (folders
called cartoon), letters, coins and other symbols are no photographs. What two stamps are called
alike stays: each is then an answer too many for the other.
"""

from __future__ import annotations

import os
from pathlib import Path

from zoobench.datasets import captions, regular
from zoobench.datasets.splits import Found

DRAWN = frozenset(("cartoon", "symbols"))
"""Folders of what is no photograph."""
LARGEST = 2**20
"""Bytes of a stamp's text."""


def stamp_captions(folder: Path) -> Found:
    """All stamps in the test split: nothing is learned of them. Raises BadData."""
    texts = {}
    for place, below, files in os.walk(folder):
        below[:] = sorted(one for one in below if one not in DRAWN)
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            path = os.path.join(place, f"{stem}.txt")
            if suffix == ".png" and os.path.isfile(path):
                said = regular.read(path, LARGEST).decode("utf-8", "replace").split("\n", 1)[0]
                texts[os.path.relpath(os.path.join(place, name), folder)] = (said.strip(),)
    return captions.of_files(texts, str(folder))
