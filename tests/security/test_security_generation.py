"""Folders of generated pictures from strangers: names that would act on a terminal, files that
never end, links that lead out, and a program that calls itself a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import Canary, Said

Zoobench = Callable[..., Said]

NAMES = ("\x1b[31mred", "line\nbreak", "::error::x", "\u202eevil", os.fsdecode(b"\xe9"))


def fill(folder: Path, seed: int, many: int = 20) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(many):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")


@pytest.fixture
def asked(inside: Path) -> list[str]:
    fill(inside / "made", 0)
    fill(inside / "real", 1)
    return ["judge-images", "made", "--reference", "real", "--model", "synthetic/gabor"]


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_in_their_place(
    name: str, asked: list[str], inside: Path, zoobench: Zoobench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for folder in ("made", "real"):
        (inside / folder / "007.png").rename(inside / folder / f"{name}.png")
    (inside / "made" / f"{name}.png").write_bytes((inside / "real" / f"{name}.png").read_bytes())
    said = zoobench(*asked, "--train", "real", "--paired", "--out", "out")
    assert said.code == 0, said.err
    assert "(the same pixels)" in said.out
    assert not set(said.out + said.err) & set("\x1b\u202e")
    assert not any(line.startswith("::") for line in said.out.splitlines())
    body = json.loads((inside / "out" / "judge.json").read_text("ascii"))
    assert len(body["neighbours"]["copies"]) == 1
    assert sorted(p.name for p in (inside / "out").iterdir()) == ["judge.json", "neighbours.png"]


def test_what_never_ends_or_leads_out_is_not_read(
    asked: list[str], inside: Path, outside: Path, canary: Canary, zoobench: Zoobench
) -> None:
    os.mkfifo(inside / "made" / "pipe.png")
    (inside / "made" / "zero.png").symlink_to("/dev/zero")
    (inside / "made" / "ring").symlink_to("..")
    (inside / "made" / "away").symlink_to(outside)
    page = f"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%{canary.shell}) (w) file closefile\n"
    (inside / "made" / "page.png").write_text(page)
    (inside / "made" / "run.py").write_text(canary.python)
    said = zoobench(*asked, "--out", "out")
    assert said.code == 0, said.err
    assert "made: 20 pictures" in said.out
    for text in ("named pipe (1)", "device (1)", "linked folder (2)", "page.png: it is PostScript"):
        assert text in " ".join(said.out.split()), said.out


def test_nothing_is_written_through_links(
    asked: list[str], inside: Path, outside: Path, zoobench: Zoobench
) -> None:
    (inside / "out").symlink_to(outside)
    assert "nothing was written" in zoobench(*asked, "--out", "out").error
