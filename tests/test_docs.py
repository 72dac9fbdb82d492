"""Every command in README, docs and recipes is one that exists, and does what it says.

The commands are read out of the files. Each must parse, with all of its options; those of a page
are then run in its order, in a folder with small data, small suites under the built-in names and
a run of one of them. What needs another machine or a public network is in ELSEWHERE,
with the test that runs it; nothing else is left out.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zoobench import models
from zoobench.advise import candidates
from zoobench.cli.main import main
from zoobench.models.catalog import SYNTHETIC
from zoobench.runs import suite as suites

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*")]
    if page.suffix in (".md", ".yml") and page.name != "CHANGELOG.md"
)

ELSEWHERE = {
    r"run .*--engine ray": "a cluster; tests/workers/test_workers_ray.py",
    r"run .*--ranks": "several processes of one model; tests/workers/test_workers_torchrun.py",
    r"compare .*--(measure|aa)": "a quarter of an hour; tests/compare/test_compare_measure.py",
    r"recommend RUN --min-retained": "an audited run; tests/ranking/test_ranking_trust.py",
    r"check ([a-z]|MODEL|RUN|--source)": "minutes of exports; tests/usability",
    r"profile .*--measure": "a stopwatch; tests/costs, tests/features/test_features_compiled.py",
    r"(run|plan) (vision|text|gpu)": "weights and data of the public hubs",
    r"run trust": "minutes; tests/runs/test_runs_planning.py plans it",
    r"run pretraining": "ten minutes; tests/runs/test_runs_pretraining.py, a small one",
    r"recommend .*--models timm/": "the public hub; tests/test_hub_recommend.py, from a hub here",
    r"save |predict |recommend .*--save": "a model of a library; tests/export/test_export_save.py",
    r"export ": "the exporter, of an extra; tests/export/test_export_onnx.py",
    r"compress ": "a variant a minute; tests/advise/test_advise_compress.py",
    r"import timm": "timm's tables; tests/runs/test_runs_published.py",
}  # fmt: skip
"""Commands that only parse here: pattern -> why, and what runs them."""

ENDS = {"merge runs/* --out results/runs/whole": 3}
"""Commands that end with another code than 0: one job of an array is no whole run."""

TOP = main.list_commands(click.Context(main))

WORDS = {
    "SUITE": "smoke", "RUN": "zoobench-run", "RUN...": "zoobench-run results/runs/pets",
    "BASE": "results/baselines/smoke",
    "CANDIDATE": "zoobench-run", "MODEL": "synthetic/gabor", "DIR": "written",
    "A": "synthetic/stripes", "B": "synthetic/stripes?noise=9", "FIRST": "synthetic/stripes",
    "SECOND": "synthetic/stripes?noise=9", "FOLDER": "photos", "TABLE": "reviews.csv",
    "TABLES": "tables", "HEAD": "HEAD", "TIMM": "results/runs/timm", "PATTERN": "syn*",
    "model=*lite0*": "model=*gabor*", "NAME": "smoke", "WHY": "a reason", "$SUITE": "smoke",
    "$BASELINE": "results/baselines/smoke",
    "SAMPLES": "photos/cat", "REAL": "photos/dog", "...": "a reason",
    "$SLURM_ARRAY_TASK_ID/8": "1/2", "runs/$SLURM_ARRAY_TASK_ID": "runs/1",
    "${{ matrix.shard }}": "1/3",
}  # fmt: skip
"""What stands for the words that a reader replaces."""


@dataclass(frozen=True)
class Written:
    """A command as a page has it."""

    page: str
    line: int
    text: str

    @property
    def arguments(self) -> list[str]:
        """The words behind `zoobench`, with a reader's replaced."""
        text = self.text.replace('${GATES:+--gates "$GATES"}', "").replace("\\|", "|")
        text = text.replace("${{ matrix.shard }}", "1/3")
        words = []
        for word in shlex.split(text, comments=True):
            plain = word if word in WORDS else word.removesuffix("...").split("|")[0]
            known = WORDS.get(plain)
            words += known.split(" ") if plain == "RUN..." and known else [known or plain]
        return [word for word in words if word and not word.startswith("[")]


def commands(page: str) -> Iterator[Written]:
    """The commands of a page: in the lines of its blocks, and as code in its prose."""
    command = re.compile(rf"(^|.)zoobench ((?:{'|'.join(TOP)})(?![\w:,]).*)")
    block = page.endswith(".yml")
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            block = not block
        elif block:
            output = page.endswith(".md") and line.startswith("  ")
            found = command.search("" if output or line.lstrip().startswith("#") else line)
            if found and found[1] in ("", " ", '"'):
                text = found[2].split('"')[0] if found[1] == '"' else found[2]
                yield Written(page, number, re.split(r" \|\| | && |  +#", text)[0].strip())
        else:
            for code in re.findall(r"`([^`]*)`", line):
                if found := command.match(code):
                    yield Written(page, number, found[2])


def of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the words behind them."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group) and rest:
        child = command.get_command(click.Context(command), rest.pop(0))
        assert child is not None, f"no such command: {arguments}"
        command = child
    return command, rest


def named_only(arguments: list[str]) -> bool:
    """Whether a text speaks of a command by its name, without what the command needs."""
    command, rest = of(arguments)
    if isinstance(command, click.Group):
        return True
    if not rest:  # `profile` and `recommend` want a model or data, which click cannot say
        bare = arguments in (["profile"], ["recommend"])
        return bare or any(param.required for param in command.params)
    options = [param for param in command.params if isinstance(param, click.Option)]
    return any(rest[-1] in option.opts and not option.is_flag for option in options)


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_page_parses(page: str) -> None:
    for written in commands(page):
        if not named_only(written.arguments):
            command, rest = of(written.arguments)
            try:
                command.make_context("zoobench", rest)
            except click.UsageError as error:
                pytest.fail(f"{page}:{written.line}: {written.text}: {error.format_message()}")


def test_each_option_that_a_page_names_is_one_of_a_command() -> None:
    known = {"--help"}
    for command in every(main):
        known |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for bench in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r"\"(--[a-z-]+)\"", bench.read_text("utf-8")))
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        for code in re.findall(r"`(--[a-z][^`]*)`", text):
            option = re.split(r"[ =\[]", code)[0]
            assert option in known, f"{page}: `{code}`"


def every(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            child = command.get_command(click.Context(command), name)
            assert child is not None
            yield from every(child)


SMALL = """\
name = "{name}"
models = ["synthetic/gabor", "synthetic/gabor?mean=4"]
datasets = ["synthetic/stripes?train=40&valid=12&test=40"]
methods = ["knn"]
controls = ["chance"]
[limits]
cost_seconds = 0.5
"""
NAMES = {
    "suite": "suite",
    **dict.fromkeys(
        ("smoke", "smoke-dense", "smoke-words", "smoke-sound", "demo", "shift", "pets"), "smoke"
    ),
}
"""File -> the name of its suite: one run is enough for all that are called alike."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: suites, data, runs, a baseline."""
    folder = tmp_path_factory.mktemp("prepared")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    for file, name in NAMES.items():
        (folder / f"{file}.toml").write_text(SMALL.format(name=name), encoding="utf-8")
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            pixels[:: 2 + (kind == "dog")] = 0
            Image.fromarray(pixels).save(folder / "photos" / kind / f"{number}.png")
    rows = [f"good {number},5\nbad {number},1\n" for number in range(30)]
    (folder / "reviews.csv").write_text("body,stars\n" + "".join(rows), encoding="utf-8")
    accept = ["baseline", "accept", "zoobench-run", "--suite", "smoke", "--reason", "first"]
    for arguments in (["run", "smoke.toml", "--out", "zoobench-run"], accept):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output + done.stderr
    for name in ("smoke", "smoke-dense", "smoke-words", "pets", "timm"):
        shutil.copytree("zoobench-run", f"results/runs/{name}")
    patch.undo()
    return folder


@pytest.fixture
def stage(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "stage"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(suites, "builtin_path", lambda name: folder / f"{name}.toml")
    # Two candidates that cost nothing, for each that lies on a reader's disk.
    monkeypatch.setattr(models, "list_cards", lambda pattern="*": list(SYNTHETIC))
    monkeypatch.setattr(candidates, "NOT_CANDIDATES", ())
    return folder


def argv(written: Written) -> list[str]:
    """As a shell would hand it on: patterns of files are files."""
    words = []
    for word in written.arguments:
        files = sorted(map(str, Path().glob(word))) if "/" in word and "*" in word else []
        words += files or [word]
    return words


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_page_runs(page: str, stage: Path) -> None:
    ran = set()
    for written in commands(page):
        if named_only(written.arguments) or any(re.match(p, written.text) for p in ELSEWHERE):
            continue
        if written.text not in ran:
            ran.add(written.text)
            done = CliRunner().invoke(main, argv(written))
            said = f"{page}:{written.line}: zoobench {written.text}\n{done.output}{done.stderr}"
            assert done.exit_code == ENDS.get(written.text, 0), said
