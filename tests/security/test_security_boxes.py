"""Folders of boxes by a stranger: no code, no other file, no endless one, and one line for each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import Canary, Said
from zoobench import datasets

N = 9
JSON, XML, TEXT, YAML = "c/_annotations.coco.json", "v/4.xml", "y/labels/4.txt", "y/data.yaml"
ENTITIES = b"""<!DOCTYPE a [<!ENTITY b "%s">%s]><annotation><object><name>&z;</name></object>
</annotation>""" % (b"x" * 1000, b"".join(b'<!ENTITY z%d "&b;&b;">' % i for i in range(99)))
SECRET = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'
WIDE = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'


def voc() -> str:
    box = {"xmin": 1, "ymin": 1, "xmax": 5, "ymax": 5}
    sides = "".join(f"<{side}>{at}</{side}>" for side, at in box.items())
    return f"<annotation><object><name>a</name><bndbox>{sides}</bndbox></object></annotation>"


def coco(name: str = "4.png", label: str = "a") -> bytes:
    rows = [{"id": i, "file_name": name if i == 4 else f"{i}.png"} for i in range(N)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 5, 5]} for i in range(N)]
    body = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": label}]}
    return json.dumps(body).encode()


@pytest.fixture
def scenes(inside: Path) -> Path:
    """The same pictures three times: with a COCO file in c, XML in v, text in y."""
    for name in ("c", "v", "y/images", "y/labels"):
        (inside / name).mkdir(parents=True)
    for i in range(N):
        noise = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for name in ("c", "v", "y/images"):
            Image.fromarray(noise).save(inside / name / f"{i}.png")
        (inside / "v" / f"{i}.xml").write_text(voc())
        (inside / "y" / "labels" / f"{i}.txt").write_text("0 .5 .5 .2 .2\n")
    (inside / JSON).write_bytes(coco())
    (inside / YAML).write_text("names: [a, b]\n")
    for name in "cvy":
        (inside / f"{name}.toml").write_text(
            f'name = "s"\nmodels = ["synthetic/gabor"]\ncontrols = []\n'
            'methods = [{ name = "linear-probe" }]\n'
            f'datasets = [{{ id = "folder/{name}", path = "{name}", task = "detection" }}]\n'
        )
    return inside


def spoil(path: Path, how: bytes | str, canary: Canary) -> None:
    """Give the file another content, or make it a "pipe" or a link to a "device"."""
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif isinstance(how, bytes):
        path.write_bytes(how.replace(b"PYTHON", canary.python.encode()))


CODE = b'names: !!python/object/apply:builtins.exec ["PYTHON"]\n'
ALIASES = b"a: &a [x, x]\n" + b"".join(
    b"b%d: &b%d [%s]\n" % (i, i, b", ".join([b"*b%d" % (i - 1) if i else b"*a"] * 9))
    for i in range(40)
) + b"names: *b39\n"  # fmt: skip
CASES: dict[str, tuple[str, bytes | str, str]] = {
    "XML of entities": (XML, ENTITIES, "4.png: its XML cannot be read"),
    "XML that names a file": (XML, SECRET, "4.png: its XML cannot be read"),
    "entities in UTF-16": (XML, WIDE.encode("utf-16"), "4.png: its XML cannot be read"),
    "XML from a device": (XML, "device", "4.png"),
    "XML from a pipe": (XML, "pipe", "4.png"),
    "deep XML": (XML, b"<a>" * 200_000, "4.png"),
    "JSON from a device": (JSON, "device", "_annotations.coco.json"),
    "JSON from a pipe": (JSON, "pipe", "_annotations.coco.json"),
    "deep JSON": (JSON, b"[" * 200_000, "nested too deeply"),
    "JSON of one number": (JSON, b"1", "not COCO's JSON"),
    "JSON of two tables": (JSON, b'{"images": 1, "images": 2}', "there twice"),
    "a name that leads out": (JSON, coco("../../outside/secret.txt"), "leads out"),
    "a name from the root": (JSON, coco("/etc/passwd"), "leads out of the folder"),
    "a name with a NUL": (JSON, coco("a\0.png"), "there is no such picture"),
    "a huge number": (JSON, coco().replace(b"[0, 0,", b"[1e999, 0,", 1), "is no number"),
    "a number of many digits": (
        JSON, coco().replace(b'"id": 1,', b'"id": %s,' % (b"9" * 5000), 1), "coco.json"),
    "a size beyond all numbers": (
        JSON, coco().replace(b'"id": 0,', b'"id": 0, "height": 1e999, "width": 8,', 1),
        "inf is no whole number"),
    "a box of many digits": (
        JSON, coco().replace(b"[0, 0,", b"[1%s, 0," % (b"0" * 400), 1), "is no number"),
    "a crowd beyond all numbers": (
        JSON, coco().replace(b'"bbox"', b'"iscrowd": 1e999, "bbox"', 1), "no whole number"),
    "a file that is half a character": (JSON, coco("\ud800.png"), "surrogates not allowed"),
    "a class that is half a character": (JSON, coco(label="\udfff"), "surrogates not allowed"),
    "a class without a name": (JSON, coco(label=" \t"), "is no name"),
    "a name with escapes": (JSON, coco("\x1b]0;x\x07.png"), "there is no such picture"),
    "a name that goes up and back": (JSON, coco("../c/../../inside/x.png"), "leads out"),
    "a name by a drive": (JSON, coco("C:\\Windows\\4.png"), "there is no such picture"),
    "a name by a share": (JSON, coco("\\\\host\\share\\4.png"), "leads out of the folder"),
    "a name as an address": (JSON, coco("http://127.0.0.1:9/4.png"), "there is no such picture"),
    "XML in an encoding of nobody": (
        XML, b'<?xml version="1.0" encoding="klingon"?><annotation/>', "unknown encoding"),
    "XML of a size beyond all numbers": (
        XML, b"<annotation><size><width>1e999</width></size></annotation>", "no whole number"),
    "XML with escapes for a name": (
        XML, b"<\xc2\x9b31m/>", "4.png: its XML cannot be read"),
    "XML of another kind": (XML, b"<svg/>", "it is a svg, not an annotation"),
    "names that are a table of tables": (YAML, b"names: {0: {a: b}, 1: c}\n", "no list of words"),
    "YAML of aliases": (YAML, ALIASES, "no list of words"),
    "YAML that holds itself": (YAML, b"names: &a [*a]\n", "it is no YAML"),
    "deep YAML": (YAML, b"[" * 20_000, "data.yaml"),
    "YAML from a device": (YAML, "device", "data.yaml"),
    "labels from a device": (TEXT, "device", "4.txt"),
    "labels from a pipe": (TEXT, "pipe", "4.txt"),
    "labels that are no text": (TEXT, b"\xff\0\xfe", "4.txt"),
    "labels that are a pickle": (TEXT, b"\x80\x04cos\nsystem\n.", "4.txt"),
    "endless labels": (TEXT, b"0 .5 .5 .1 .1\n" * 2**19, "bytes"),
    "a class beyond all": (TEXT, b"1e300 .5 .5 .1 .1", "1e+300"),
    "escapes for numbers": (TEXT, b"\x1b]0;x\x07 1 1 1 1", "4.txt"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_strangers_boxes_are_refused_in_one_line(
    case: str, scenes: Path, canary: Canary, outside: Path, zoobench: Callable[..., Said]
) -> None:
    name, how, says = CASES[case]
    spoil(scenes / name, how, canary)
    said = zoobench("plan", f"{name[0]}.toml")
    assert said.code == 2, said.err
    assert says in said.error
    assert not set("\x1b\x07\0") & set(said.out + said.err)
    assert "secret of somebody" not in said.out + said.err


def test_code_among_names_is_text_too(
    scenes: Path, canary: Canary, zoobench: Callable[..., Said]
) -> None:
    spoil(scenes / YAML, CODE, canary)
    assert zoobench("plan", "y.toml").code == 0
    splits = datasets.load(f"folder/y?path={scenes / 'y'}&task=detection")
    assert splits.classes == (canary.python,)
    assert not canary.path.exists()


def test_names_of_classes_are_text(scenes: Path, zoobench: Callable[..., Said]) -> None:
    (scenes / JSON).write_bytes(coco(label="<script>alert(1)</script>\x1b[31m=cmd()"))
    said = zoobench("plan", "c.toml")
    assert "\x1b" not in said.out + said.err
