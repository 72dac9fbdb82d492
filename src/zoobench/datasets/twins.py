"""Examples that are the same to a person, and another to a file's hash (PROTOCOL section 1).

A picture saved again at another compression level and a text with a trailing blank have ids of
their own, which decide splits and caches. Twins are found by content instead: by decoded pixels,
by decoded samples, or by normalised text. Pictures that merely look alike are counted, never left
out; recordings that sound alike are not looked for.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL
from numpy.typing import NDArray

from zoobench import audio
from zoobench.datasets import images, ranges, regular, sounds
from zoobench.datasets.ids import THREADS, bytes_id, text_id
from zoobench.datasets.ranges import GUESSED, Grey, Levels, agreed, may_be_deep
from zoobench.datasets.waiting import told
from zoobench.files import write_atomic
from zoobench.machine import cache_dir
from zoobench.schema import digest

VERSION = 1
"""Part of the cache's key: counts changes of what a look is."""
KEPT = 64
"""Sets of examples whose looks are kept on disk, some 24 bytes each; the oldest go first."""
NEAR = 2
"""Bits of 64 in which the perceptual hashes of two pictures that look alike may differ. Measured:
95% to 100% of pictures saved as JPEG of quality 75 keep within it; of different pictures of noise
or stripes none, of MNIST's digits 4%."""
WINDOW = 8


@dataclass(frozen=True)
class Looks:
    """By an example's id: the identity of its `content` (its id where absent), and the
    perceptual hash, `outline`, of a picture from a file. `grey` is the range of those with more
    than 8 bits, and `narrow` says what is odd about it; `heard` are notes on recordings."""

    content: Mapping[str, str] = field(default_factory=dict)
    outline: Mapping[str, int] = field(default_factory=dict)
    grey: Grey = GUESSED
    narrow: str = ""
    heard: Mapping[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> dict[str, Any]:
        """For the record."""
        return {**ranges.notes(self.grey, self.narrow), **self.heard}

    def contents(self, ids: Iterable[str]) -> list[str]:
        return [self.content.get(one, one) for one in ids]


def scan(
    paths: Sequence[str | bytes], *, verify: bool, grey: Grey | None = None, sound: bool = False
) -> tuple[list[str], list[str], Looks]:
    """(ids, faults, looks) of files, or of their bytes, by a few threads; a fault is empty where
    all is well.

    Without `verify` nothing is decoded: only unreadable and empty files are faulty, which have
    an id as well, and there are no looks. `grey` is the range that the user
    says. Memory: one file a thread. Files of `sound` raise MissingExtra without its library.
    """
    if sound:
        audio.library()

    def one(path: str | bytes) -> tuple[str, str, bool]:
        try:
            content = path if isinstance(path, bytes) else regular.read(path)
        except OSError as error:
            return bytes_id(b""), f"cannot be read: {error.strerror or error}", False
        deep = not sound and may_be_deep(content)
        return bytes_id(content), "" if content else "the file is empty", deep

    with ThreadPoolExecutor(THREADS) as pool:
        seen = list(told(pool.map(one, paths), "reading files", len(paths)))
    ids, faults = [of for of, _, _ in seen], [why for _, why, _ in seen]
    whole = [i for i, why in enumerate(faults) if verify and not why]
    deep = {ids[i] for i in whole if seen[i][2]}

    def source(i: int) -> str | bytes:
        return paths[whole[i]]

    named = [ids[i] for i in whole]
    looks, wrong = of_sounds(named, source) if sound else of_pictures(named, source, deep, grey)
    return ids, [why or wrong.get(of, "") for of, why in zip(ids, faults, strict=True)], looks


def of_texts(texts: Iterable[str]) -> Looks:
    """Texts are the same that differ in blanks or in Unicode's form (NFC) alone; case counts."""
    same = ((text, " ".join(unicodedata.normalize("NFC", text).split())) for text in texts)
    return Looks({text_id(text): text_id(plain) for text, plain in same if text != plain})


def of_pictures(
    ids: Sequence[str],
    source: Callable[[int], bytes | str],
    deep: Collection[str] = (),
    grey: Grey | None = None,
) -> tuple[Looks, dict[str, str]]:
    """What pictures look like, and id -> why of those that cannot be decoded.

    `source` gives picture i's file or its bytes, which `ids` are hashes of: a picture is decoded
    once, by a few threads, and its look kept in the cache. Those of the ids `deep` may have more
    than 8 bits; their range is `grey`, or what they agree on.
    """
    place = {one: i for i, one in enumerate(ids)}
    order = sorted(place)
    odd: dict[str, str] = {}
    narrow = ""
    if grey is None:
        grey, odd, narrow = _agreed(sorted(deep), lambda one: source(place[one]))
    # A look says that the picture can be decoded, which another Pillow may not be built for.
    key = [VERSION, PIL.__version__, images.formats(), order, *([grey.text] if grey.text else [])]
    looks, wrong = _looked(
        order, lambda one: images.look(source(place[one]), grey), images.LOOK, key, "pictures"
    )
    return Looks(
        {one: look[:16].hex() for one, look in looks.items()},
        {one: int.from_bytes(look[16:], "little") for one, look in looks.items()},
        grey,
        narrow,
    ), odd | wrong


def of_sounds(
    ids: Sequence[str], source: Callable[[int], bytes | str]
) -> tuple[Looks, dict[str, str]]:
    """As `of_pictures`, of recordings: the same are those of one rate and the same samples."""
    place = {one: i for i, one in enumerate(ids)}
    order = sorted(place)
    key = [VERSION, "sound", audio.VERSION, audio.library().__libsndfile_version__, order]
    looks, wrong = _looked(
        order, lambda one: sounds.look(source(place[one])), sounds.LOOK, key, "recordings"
    )
    content = {one: look[:16].hex() for one, look in looks.items()}
    return Looks(content, heard=sounds.notes(looks.values())), wrong


def _looked(
    order: Sequence[str],
    look: Callable[[str], tuple[bytes, str]],
    size: int,
    key: Sequence[Any],
    noun: str,
) -> tuple[dict[str, bytes], dict[str, str]]:
    """(id -> look of those that have one, id -> why of the others), each of `size` bytes, by a few
    threads; they are kept on disk under `key`."""
    path = cache_dir() / "looks" / digest(key, 32)
    known = _read(path, len(order), size)
    missing = [one for one, kept in zip(order, known, strict=True) if not any(kept)]
    with ThreadPoolExecutor(THREADS) as pool:
        seen = pool.map(look, missing)
        new = dict(zip(missing, told(seen, f"decoding {noun}", len(missing)), strict=True))
    looks = {
        one: new[one][0] if one in new else kept for one, kept in zip(order, known, strict=True)
    }
    if new:
        _keep(path, b"".join(found or bytes(size) for found in looks.values()))
    whole = {one: found for one, found in looks.items() if found}
    return whole, {one: why for one, (_, why) in new.items() if why}


def _agreed(
    deep: Sequence[str], source: Callable[[str], bytes | str]
) -> tuple[Grey, dict[str, str], str]:
    """As `ranges.agreed`, by the pictures' ids; a set's levels are read once and kept."""
    path = cache_dir() / "levels" / digest([VERSION, PIL.__version__, images.formats(), deep], 32)
    levels = _kept_levels(path, len(deep)) if deep else []
    if levels is None:
        with ThreadPoolExecutor(THREADS) as pool:
            levels = list(pool.map(lambda one: images.levels(source(one)), deep))
        body = msgspec.json.encode(levels)
        _keep(path, sha256(body).digest() + body)
    known = {i: one for i, one in enumerate(levels) if one is not None}
    grey, odd, narrow = agreed(known)
    return grey, {deep[i]: why for i, why in odd.items()}, narrow


def _kept_levels(path: Path, many: int) -> list[Levels | None] | None:
    """None where `path` does not hold the levels of so many pictures, with their digest before."""
    try:
        blob = path.read_bytes()
        levels = msgspec.json.decode(blob[32:], type=list[Levels | None])
    except (OSError, ValueError):
        return None
    whole = sha256(blob[32:]).digest() == blob[:32] and len(levels) == many
    return levels if whole else None


def _read(path: Path, many: int, size: int) -> list[bytes]:
    """The `many` looks of `size` bytes that `path` keeps, zeros for what it does not."""
    try:
        blob = path.read_bytes()
    except OSError:
        blob = b""
    if len(blob) != size * many:
        blob = bytes(size * many)
    return [blob[i : i + size] for i in range(0, len(blob), size)]


def _keep(path: Path, blob: bytes) -> None:
    """A full disk or an unwritable cache costs the cache, not the run."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, blob)
        for old in sorted(path.parent.iterdir(), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)


def near(tested: Sequence[str], others: Sequence[str], outline: Mapping[str, int]) -> int:
    """How many of the ids `tested` look like one of `others`, at least.

    Hashes that are sorted from four different bits on have their likes among their next
    neighbours, `WINDOW` of which are looked at: no time is lost where thousands look alike.
    """
    hashes = [[outline[one] for one in ids if one in outline] for ids in (tested, others)]
    both: NDArray[np.uint64] = np.asarray([*hashes[0], *hashes[1]], dtype=np.uint64)
    ours = np.arange(len(both)) < len(hashes[0])
    alike = np.zeros(len(both), dtype=np.bool_)
    for bits in (0, 16, 32, 48):
        turned = both << np.uint64(bits) | both >> np.uint64((64 - bits) % 64)
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(WINDOW, len(both) - 1) + 1):
            a, b = order[:-step], order[step:]
            close = (np.bitwise_count(both[a] ^ both[b]) <= NEAR) & (ours[a] != ours[b])
            alike[a[close]] = alike[b[close]] = True
    return int((alike & ours).sum())
