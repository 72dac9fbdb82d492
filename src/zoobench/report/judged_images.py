"""What `zoobench judge-images` prints and writes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import escape
from zoobench.files import new_folder
from zoobench.generation.folders import REFERENCE, SAMPLES, TRAIN, PictureFolder
from zoobench.generation.judge import FEATURES, PIXELS, THUMBS, Judgement, Neighbour, Neighbours
from zoobench.report.pretraining import SAMPLE_TITLES
from zoobench.report.text import cut, with_interval
from zoobench.schema import Measurement, to_json

if TYPE_CHECKING:
    from PIL import Image

WIDE = 80
TITLES = {
    "psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS", **SAMPLE_TITLES,
}  # fmt: skip
NAMED = 5
"""Copies, pairs and damaged files that are named on a terminal."""
HOW = {PIXELS: "the same pixels", THUMBS: "nearly its pixels", FEATURES: "its features"}
SIDE, GAP = 96, 8
"""Pixels of a picture on the sheet, and between two."""
BACK, COPY = (255, 255, 255), (214, 39, 40)


def text(found: Judgement) -> list[str]:
    """Lines of at most 80 characters, but for paths that are longer."""
    lines = []
    for line in _said(found):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        whole = textwrap.TextWrapper(
            WIDE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        lines += whole.wrap(line) if len(line) > WIDE else [line]
    return lines


def _said(found: Judgement) -> Iterator[str]:
    samples, reference = found.folders[SAMPLES], found.folders[REFERENCE]
    yield f"{samples.place}: {samples.pictures:,} pictures"
    yield f"against {reference.place}: {reference.pictures:,} pictures"
    if found.model is not None:
        yield f"in the {found.feature_dim:,} features of {found.model.short}"
    yield ""
    floor = {one.metric: one for one in found.floor}
    yield f"{'':<15}{'samples [95%]':<32}{'real half against half' if floor else ''}".rstrip()
    for one in found.measurements:
        beside = floor.get(one.metric)
        shown = _number(beside) if beside else ""
        yield f"{TITLES[one.metric]:<15}{_number(one):<32}{shown}".rstrip()
    yield from (f"{why}." for why in found.missing.values())
    yield ""
    yield from _conclusion(found)
    if found.pairs:
        yield from _worst_pairs(found)
    if found.neighbours is not None:
        yield from _copies(found.neighbours, samples.pictures)
    yield from _left_out(found)


def _number(one: Measurement) -> str:
    return with_interval(one.metric, one.value, one.low, one.high)


def _conclusion(found: Judgement) -> Iterator[str]:
    kid = next((one for one in found.measurements if one.metric == "kid"), None)
    if kid is None or kid.low is None or kid.high is None or found.model is None:
        return
    if kid.low > 0:
        yield f"{found.model.short} tells the samples from the reference: their KID is above 0."
    elif kid.high < 0:
        yield (
            "The samples are nearer to the reference than other real pictures would be: copies of "
            "it, perhaps."
        )
    else:
        yield f"{found.model.short} cannot tell the samples from the reference: their KID may be 0."


def _worst_pairs(found: Judgement) -> Iterator[str]:
    equal = sum(one.psnr is None for one in found.pairs)
    some = f"; {equal:,} are equal, and in no mean of PSNR" if equal else ""
    yield f"{len(found.pairs):,} pairs{some}. The least alike by SSIM:"
    for one in sorted(found.pairs, key=lambda one: one.ssim)[:NAMED]:
        near = "equal" if one.psnr is None else f"PSNR {one.psnr:.2f}"
        yield f"  {cut(one.name, 48)}: SSIM {one.ssim:.3f}, {near}"


def _copies(found: Neighbours, samples: int) -> Iterator[str]:
    many = len(found.copies)
    if not many:
        yield f"No sample is a copy of a picture of {found.of}."
        return
    verb = "is a copy" if many == 1 else "are copies"
    yield f"{many:,} of {samples:,} samples {verb} of pictures of {found.of}:"
    for one in found.copies[:NAMED]:
        yield f"  {cut(one.sample, 26)} = {cut(one.picture, 26)} ({HOW[one.copy]})"
    if many > NAMED:
        yield f"  and {many - NAMED:,} more (--json and --out name them all)"


def _left_out(found: Judgement) -> Iterator[str]:
    for facts in found.folders.values():
        if facts.repeated:
            yield f"{facts.place}: {facts.repeated:,} pictures repeat the pixels of another."
        if facts.left_out:
            named = "; ".join(cut(one, 60) for one in facts.damaged[:NAMED])
            more = "; ..." if facts.left_out > NAMED else ""
            yield f"{facts.place}: damaged and left out: {facts.left_out:,} ({named}{more})"
        if facts.unused:
            kinds = ", ".join(f"{kind} ({many:,})" for kind, many in facts.unused.items())
            yield f"{facts.place}: not read: {kinds}"


def as_json(found: Judgement) -> dict[str, Any]:
    """One object; neither the places of folders on this machine nor of a model's weights."""
    body: dict[str, Any] = to_json(found)
    for facts in body["folders"].values():
        facts["place"] = Path(facts["place"]).absolute().name  # of "." too
    if found.neighbours is not None:
        body["neighbours"]["of"] = TRAIN if TRAIN in found.folders else REFERENCE
    if found.model is not None:
        body["model"] = found.model.private.text
    return body


def write(found: Judgement, folders: Mapping[str, PictureFolder], out: Path) -> list[str]:
    """`judge.json` and, where neighbours were looked for, `neighbours.png` in the new folder `out`;
    the names of what was written. Raises StoreError."""
    with new_folder(out) as new:
        body = escape.json_ascii(json.dumps(as_json(found), indent=1))
        (new / "judge.json").write_text(body + "\n", encoding="utf-8")
        if found.neighbours is not None:
            real = folders[TRAIN if TRAIN in folders else REFERENCE]
            sheet(found.neighbours.nearest, folders[SAMPLES], real).save(new / "neighbours.png")
        return sorted(path.name for path in new.iterdir())


def sheet(shown: Sequence[Neighbour], samples: PictureFolder, real: PictureFolder) -> Image.Image:
    """Samples in a row, each above its nearest real picture; copies in a red frame."""
    from PIL import Image

    step = SIDE + GAP
    whole = Image.new("RGB", (GAP + step * len(shown), GAP + 2 * step), BACK)
    for column, one in enumerate(shown):
        if one.copy:
            left = column * step
            whole.paste(COPY, (left, 0, left + step + GAP, 2 * step + GAP))
            whole.paste(BACK, (left + 2, 2, left + step + GAP - 2, 2 * step + GAP - 2))
        for row, (folder, name) in enumerate(((samples, one.sample), (real, one.picture))):
            picture = folder.split.read(folder.names.index(name))
            scale = SIDE / max(picture.size)
            size = tuple(max(1, round(side * scale)) for side in picture.size)
            small = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
            whole.paste(picture.resize(size, small), (GAP + column * step, GAP + row * step))
    return whole
