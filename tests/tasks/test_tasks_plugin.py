"""A task that the package does not know, from plan to gate: CONTRIBUTING's code, as a plug-in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cells import write_suite
from zoobench import metrics, store, tasks
from zoobench.cli.main import main
from zoobench.compare import gates
from zoobench.ranking.rank import rank
from zoobench.schema import Outcomes, Record

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"

REST = '''

class Posts:
    """The source `posts`: texts of five words; the tags are which of four topics they name."""

    TOPICS = 4

    @classmethod
    def cards(cls):
        return (DatasetCard("posts", "made", "text", 0, (300, 60, 200), "1", task="tagging"),)

    @classmethod
    def resolve(cls, ref, where):
        return ref.at("1")

    @classmethod
    def available(cls, ref):
        return True, "made on the spot"

    @classmethod
    def load(cls, ref):
        rng = np.random.default_rng(0)
        parts = []
        for name, n in (("train", 300), ("valid", 60), ("test", 200)):
            values = rng.random((n, cls.TOPICS)) < 0.4
            texts = [
                " ".join(f"topic{t}word{rng.integers(0, 3)}" for t in np.flatnonzero(row)) or "none"
                for row in values
            ]
            ids = tuple(f"{name}{i}" for i in range(n))
            parts.append(Split(name, ids, Tags(values), texts.__getitem__))
        return Splits(*parts, (), "text", task="tagging")


@dataclass(frozen=True)
class TagProbe:
    """Least squares on +1 and -1 for each tag."""

    version = 1
    needs = "features"
    tasks = ("tagging",)
    view = "embed"

    penalty: float = 1e-3

    def adapt(self, backbone, splits, seed):
        import torch

        x = backbone.features(splits.train).double()
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        y = torch.from_numpy(splits.train.targets.values).double() * 2 - 1
        gram = x.T @ x + self.penalty * len(x) * torch.eye(x.shape[1])
        weights = torch.linalg.solve(gram, x.T @ y)

        def predict(split):
            rows = backbone.features(split).double()
            return torch.cat([rows, torch.ones(len(rows), 1)], dim=1) @ weights

        return Fitted(predict, predict(splits.valid))
'''

IMPORTS = """
from zoobench.interfaces import Split, Splits
from zoobench.methods.head import Fitted
from zoobench.schema import DatasetCard
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package with the one file, on the path of this process and of its workers."""
    page = PAGE.read_text(encoding="utf-8")
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Tagging" in c]
    assert len(code.splitlines()) < 80
    site = tmp_path_factory.mktemp("site")
    (site / "tagpackage.py").write_text(
        code.replace("\nimport numpy", IMPORTS + "import numpy") + REST
    )
    info = site / "tagpackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tagpackage\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zoobench.tasks]\ntagging = tagpackage:Tagging\n"
        "[zoobench.datasets]\nposts = tagpackage:Posts\n"
        "[zoobench.methods]\ntag-probe = tagpackage:TagProbe\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        own = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), own])))
        for cached in (metrics.theirs, gates.gated):
            cached.cache_clear()
        yield site
    sys.modules.pop("tagpackage", None)
    for cached in (metrics.theirs, gates.gated):
        cached.cache_clear()


@pytest.fixture(scope="module")
def ran(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three models, two of which are the same, with its report."""
    folder = tmp_path_factory.mktemp("tags")
    suite = write_suite(
        folder / "s.toml",
        name="tags",
        models=["synthetic/bag", "synthetic/bag?seconds=1.0", "synthetic/bag?weights=random"],
        datasets=["posts/made", "synthetic/phrases?train=60&test=40"],
        methods=["tag-probe", "ridge"],
        rest="[limits]\ncost_seconds = 0\n",
    )
    planned = said("plan", str(suite), "--out", str(folder / "run"))
    assert "left out: tag-probe serves tagging, synthetic/phrases" in planned
    assert "left out: ridge serves classification, regression, posts/made asks tagging" in planned
    assert "6 cells: 0 done, 6 to do" in planned
    said("run", str(suite), "--out", str(folder / "run"), "--device", "cpu")
    return folder / "run"


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def of_tags(run: Path) -> list[Record]:
    return [r for r in store.load(run).records if r.cell.method == "tag-probe"]


def test_it_is_listed_run_and_resumed(ran: Path) -> None:
    assert "tagging" in said("list", "tasks")
    assert "micro_f1" in said("list", "tasks", "--json")
    lines = (ran / "records.jsonl").read_bytes()
    assert len(of_tags(ran)) == 3
    for record in of_tags(ran):
        assert record.status == "ok", record.error
        assert str(record.cell.versions["task"]) == "tagging@1"
        f1 = record.get("micro_f1")
        assert f1 is not None
        assert f1.low is not None
        assert f1.low < f1.value
    again = said("run", str(ran.parent / "s.toml"), "--out", str(ran), "--device", "cpu")
    assert "micro_f1" in again
    assert (ran / "records.jsonl").read_bytes() == lines, "nothing was run again"


def test_it_is_ranked_with_ties_and_reported(ran: Path) -> None:
    (section,) = [s for s in rank([store.load(ran)]).sections if s.method == "tag-probe"]
    assert section.metric == "micro_f1"
    assert section.paired
    assert [row.tied for row in section.rows] == [True, True]
    assert section.rows[0].first == pytest.approx(0.5, abs=0.03)
    assert [control.model.option("weights") for control in section.controls] == ["random"]
    page = (ran / "report" / "report.html").read_text(encoding="utf-8")
    assert "micro_f1" in page
    assert "micro_f1" in (ran / "report" / "report.md").read_text(encoding="utf-8")
    assert "micro_f1" in (ran / "report" / "ranking.csv").read_text(encoding="utf-8")


def test_it_is_recommended(ran: Path) -> None:
    found: list[dict[str, Any]] = json.loads(said("recommend", str(ran), "--json"))
    assert {one["metric"] for one in found} == {"micro_f1", "accuracy"}
    (chosen,) = [one for one in found if one["metric"] == "micro_f1"]
    assert chosen["most_accurate"]["model"].startswith("synthetic/bag")


def test_it_is_gated_and_accepted(ran: Path, tmp_path: Path) -> None:
    assert "passed" in said("compare", str(ran), str(ran))
    run, worse = store.load(ran), shutil.copytree(ran, tmp_path / "worse")
    record = of_tags(ran)[0]
    outcomes = run.outcomes(record)
    assert outcomes is not None
    wrong = outcomes.arrays["said"].copy()
    wrong[::4] = False  # every fourth text loses its tags
    blob = store.pack(Outcomes(outcomes.n, {**outcomes.arrays, "said": wrong}))
    (worse / "predictions" / f"{record.key}.npz").write_bytes(blob)
    changed = Outcomes(outcomes.n, {**outcomes.arrays, "said": wrong})
    statistics = tasks.task("tagging").statistics(changed)
    value = float(statistics(np.ones((1, changed.n)), ["micro_f1"])["micro_f1"][0])
    measured = [
        m if m.metric != "micro_f1" else dataclasses.replace(m, value=value)
        for m in record.measurements
    ]
    stamp = hashlib.sha256(blob).hexdigest()[:16]
    lost = dataclasses.replace(record, predictions=stamp, measurements=tuple(measured))
    lines = [store.encode(lost if r.key == record.key else r) for r in run.records]
    (worse / "records.jsonl").write_bytes(b"".join(lines))
    assert "micro_f1" in said("compare", str(ran), str(worse), code=1)
    root = str(tmp_path / "baselines")
    said("baseline", "accept", str(ran), "--suite", "tags", "--reason", "first", "--root", root)
    assert "passed" in said("compare", f"{root}/tags", str(ran))
    said("compare", f"{root}/tags", str(worse), code=1)


def test_without_the_package_its_task_is_unknown() -> None:
    assert "tagging" not in tasks.TASKS
