"""Suites, gates and runs' own TOML that are wrong on purpose: one line and exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compare_runs import Folder, answers, record
from hostile import Said, snapshot

HEAD = 'name = "x"\nmodels = ["synthetic/gabor"]\n'
DATA = 'datasets = ["synthetic/stripes"]\n'
METHODS = 'methods = ["knn"]\n'
SOUND = HEAD + DATA + METHODS

SUITES = {
    "empty": "",
    "binary": "\x00\x01\x02",
    "conflict markers": "<<<<<<< HEAD\n" + SOUND,
    "deep": "a = " + "[" * 20_000 + "]" * 20_000,
    "deep tables": "[" + ".".join("a" * 20_000) + "]",
    "a key twice": SOUND + 'name = "y"\n',
    "an unknown key": SOUND + "nam = 1\n",
    "a name that is a number": SOUND.replace('"x"', "1"),
    "a name that is empty": SOUND.replace('"x"', '""'),
    "models that are text": SOUND.replace('["synthetic/gabor"]', '"synthetic/gabor"'),
    "no models": SOUND.replace('["synthetic/gabor"]', "[]"),
    "a model that is a number": SOUND.replace('["synthetic/gabor"]', "[1]"),
    "a model that is a list": SOUND.replace('["synthetic/gabor"]', '[["synthetic/gabor"]]'),
    "a model without a name": SOUND.replace('["synthetic/gabor"]', '[{ path = "x" }]'),
    "a model that is empty": SOUND.replace("synthetic/gabor", ""),
    "a model that is a path": SOUND.replace("synthetic/gabor", "../../etc/passwd"),
    "a model that is absolute": SOUND.replace("synthetic/gabor", "/etc/passwd"),
    "a model with a null": SOUND.replace("synthetic/gabor", "synthetic/g\\u0000bor"),
    "a model of pickles": SOUND.replace("synthetic/gabor", "pickle/x"),
    "an option that is a date": HEAD
    + METHODS
    + 'datasets = [{ id = "synthetic/stripes", train = 2020-01-01 }]\n',
    "an option that is a table": HEAD
    + METHODS
    + 'datasets = [{ id = "synthetic/stripes", train = { a = 1 } }]\n',
    "a path with a null": HEAD + METHODS + 'datasets = [{ id = "folder/x", path = "a\\u0000b" }]\n',
    "a path that is too long": HEAD
    + METHODS
    + f'datasets = [{{ id = "folder/x", path = "{"n" * 5000}" }}]\n',
    "a path of nobody's home": HEAD
    + METHODS
    + 'datasets = [{ id = "folder/x", path = "~nobody-at-all/x" }]\n',
    "a path that is a number": HEAD + METHODS + 'datasets = [{ id = "folder/x", path = 3 }]\n',
    "a path in a circle": HEAD + METHODS + 'datasets = [{ id = "folder/x", path = "circle/x" }]\n',
    "a method that is a number": HEAD + DATA + "methods = [1]\n",
    "a parameter that is nan": HEAD + DATA + "methods = [{ name = 'knn', k = nan }]\n",
    "a parameter that is inf": HEAD + DATA + "methods = [{ name = 'knn', temperature = inf }]\n",
    "a parameter in a list": HEAD + DATA + "methods = [{ name = 'ridge', decades = [-inf, 1] }]\n",
    "a parameter that is a table": HEAD + DATA + "methods = [{ name = 'knn', k = { a = 1 } }]\n",
    "a parameter that is huge": HEAD + DATA + f"methods = [{{ name = 'knn', k = {'9' * 400} }}]\n",
    "an option that is nan": HEAD
    + METHODS
    + "datasets = [{ id = 'synthetic/stripes', noise = nan }]\n",
    "an option that is inf": HEAD + METHODS + "datasets = ['synthetic/stripes?noise=inf']\n",
    "only that is a list": HEAD + DATA + "methods = [{ name = 'knn', only = ['x'] }]\n",
    "an unknown control": SOUND + 'controls = ["luck"]\n',
    "seeds that are text": SOUND + 'seeds = ["a"]\n',
    "seeds that are huge": SOUND + f"seeds = [{'9' * 400}]\n",
    "seeds below 0": SOUND + "seeds = [-1]\n",
    "seeds that are nan": SOUND + "seeds = [nan]\n",
    "shots of 0": SOUND + "shots = [0]\n",
    "shots below 0": SOUND + "shots = [-5]\n",
    "shots that are inf": SOUND + "shots = [inf]\n",
    "draws of 0": SOUND + "draws = 0\n",
    "draws that are huge": SOUND + "shots = [1]\n" + f"draws = {'9' * 30}\n",
    "an unknown precision": SOUND + 'precision = "fp8"\n',
    "limits that are a number": SOUND + "limits = 3\n",
    "pins that are numbers": SOUND + 'pins = { "synthetic/gabor@1" = 3 }\n',
    **{
        f"{name} = {value}": SOUND + f"[limits]\n{name} = {value}\n"
        for name in ("cell_seconds", "silent_seconds", "cost_seconds", "memory_gb")
        for value in ("inf", "-inf", "nan", "-1", '"a"')
    },
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", SUITES)
def test_a_wrong_suite_is_one_line(
    command: str, case: str, inside: Path, zoobench: Callable[..., Said]
) -> None:
    (inside / "s.toml").write_text(SUITES[case], encoding="utf-8")
    (inside / "circle").symlink_to("circle")
    before = snapshot(inside)
    said = zoobench(command, "s.toml", "--device", "cpu", "--out", "run")
    assert said.code == 2
    assert "s.toml" in said.error or "too long" in said.error
    assert said.out == ""
    assert snapshot(inside) == before


GATES = {
    "empty margins": "margin = ",
    "deep": "a = " + "[" * 20_000 + "]" * 20_000,
    "an unknown key": "margins = 1",
    "an unknown metric": 'metrics = ["luck"]',
    "metrics that are text": 'metrics = "accuracy"',
    **{
        f"{name} = {value}": f"{name} = {value}"
        for name in ("margin", "min_drop", "alpha", "measure.low", "measure.ratio",
                     "measure.floor_ms", "measure.memory_bytes", "times.memory_ratio",
                     "metric.accuracy.margin", "dataset.x.min_drop", "measure.blocks")
        for value in ("inf", "-inf", "nan")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", GATES)
def test_wrong_gates_are_one_line(case: str, inside: Path, zoobench: Callable[..., Said]) -> None:
    run = Folder(inside / "a").add(record(answers(20))).write()
    (inside / "g.toml").write_text(GATES[case] + "\n", encoding="utf-8")
    before = snapshot(inside)
    said = zoobench("compare", run, run, "--gates", "g.toml")
    assert said.code == 2
    assert "g.toml" in said.error
    assert snapshot(inside) == before


OWN = {
    "a name that is a list": 'name = ["x"]',
    "a name that is a table": "[name]\na = 1",
    "an identity that is a number": 'name = "x"\nidentity = 3',
    "models that are text": 'name = "x"\nmodels = "all"',
    "datasets that are a number": 'name = "x"\ndatasets = 3',
    "no toml": "<<<<<<< HEAD",
    "deep": "name = " + "[" * 20_000 + "]" * 20_000,
    "latin-1": 'name = "\udce9"',
}


@pytest.mark.parametrize("command", [
    ("report", "a"), ("recommend", "a"), ("compare", "b", "a"), ("compare", "a", "b"),
    ("history", "a", "b"), ("merge", "a", "b", "--out", "c"), ("plan", "a"), ("run", "a"),
    ("baseline", "accept", "a", "--suite", "x", "--reason", "y"), ("plan", "s.toml", "--out", "a"),
    ("run", "s.toml", "--out", "a"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("case", OWN)
def test_a_foreign_suite_file_in_a_run_is_one_line(
    case: str, command: tuple[str, ...], inside: Path, zoobench: Callable[..., Said]
) -> None:
    (inside / "s.toml").write_text(SOUND, encoding="utf-8")
    for name in "ab":
        Folder(inside / name, suite="x").add(record(answers(20))).write()
    text = OWN[case].encode("utf-8", "surrogateescape")
    (inside / "a" / "suite.toml").write_bytes(text)
    before = snapshot(inside)
    said = zoobench(*command)
    assert said.code == 2
    assert "suite.toml" in said.error or "a: " in said.error
    assert snapshot(inside) == before
