"""zoobench from Python: its names, the page that documents it, and what each function gives."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoobench as zb
from fakes import make_run
from test_architecture import never_loads
from zoobench.api import RunResults
from zoobench.errors import StoreError, UserError
from zoobench.report.write import write_report

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
CELL = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")
END = "--- end of a cell ---"

GOOD, LARGE, BROKEN = "timm/good@1", "timm/large@1", "timm/broken@1"
DIGITS, WORDS = "packaged/digits@1", "packaged/words@1"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    """The second model costs twice the first; the third fails on one of two datasets."""
    path = tmp_path_factory.mktemp("run")
    truth = {GOOD: 0.7, LARGE: 0.9, BROKEN: 0.5}
    fault = {(BROKEN, DIGITS): ("oom", "needed 3 GB")}
    make_run(path, list(truth), [DIGITS, WORDS], truth, failures=fault)
    return zb.load(path)


def test_the_public_names() -> None:
    names = ["compare", "features", "judge_images", "load", "profile", "rank", "recommend", "run"]
    assert zb.__all__ == names
    assert set(zb.__all__) <= set(dir(zb))
    with pytest.raises(AttributeError, match="no attribute 'rnk'"):
        zb.rnk  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    never_loads({"torch", "numpy", "pandas", "zoobench.api"}, "import zoobench")
    never_loads({"torch", "pandas"}, "import zoobench", "zoobench.load")


def test_a_room_does_not_hide_the_function_of_its_name() -> None:
    import zoobench.compare.gates
    import zoobench.features.cache

    assert zb.compare is zoobench.api.compare
    assert zb.features is zoobench.api.features
    assert zoobench.compare.__name__ == "compare"


def shown(code: str) -> str:
    """`code` that also prints its last line's value, as a notebook does."""
    tree = ast.parse(code)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        value = ast.unparse(last.value)
        show = ast.parse(f"if (_ := ({value})) is not None: print(_)").body
        tree.body[-1:] = show
    return f"{ast.unparse(tree)}\nprint({END!r})\n"


def test_the_page_says_what_happens(tmp_path: Path) -> None:
    """As a script of its own, without a guard: its workers must not run it again."""
    cells = CELL.findall(PAGE.read_text(encoding="utf-8"))
    script = tmp_path / "session.py"
    script.write_text("".join(shown(code) for code, _ in cells), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, cwd=tmp_path, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(f"{END}\n")[:-1]
    assert len(printed) == len(cells)
    for (code, expected), got in zip(cells, printed, strict=True):
        assert alike(got, expected), f"{code}\nprinted\n{got}"


def alike(got: str, expected: str) -> bool:
    """Equal but for spaces at the ends, and but for two points of a score: other processors
    may sum in another order."""
    values = [[float(n) for n in NUMBER.findall(text)] for text in (got, expected)]
    texts = [re.sub(r" +", " ", NUMBER.sub("#", text)).strip() for text in (got, expected)]
    return texts[0] == texts[1] and all(
        abs(a - b) <= 2.0 for a, b in zip(values[0], values[1], strict=True)
    )


def test_frames_are_the_tables_of_the_report(results: RunResults, tmp_path: Path) -> None:
    board = results.ranking()
    write_report([results], tmp_path, board)
    for name, frame in (("measurements", results.frame()), ("ranking", board.frame())):
        assert frame.to_csv(index=False) == (tmp_path / f"{name}.csv").read_text()
    assert results.frame().seed.dtype == "Int64"


def test_a_failed_cell_is_a_record(results: RunResults) -> None:
    assert [(r.cell.model.text, r.status) for r in results.failed] == [(BROKEN, "oom")]
    assert repr(results).startswith("<zoobench run: 18 cells (17 ok, 1 oom), 3 models, 2 datasets")


def test_a_ranking_is_data_and_text(results: RunResults) -> None:
    board = zb.rank(results.path, metric="macro_f1")
    assert not board.sections, "these records hold accuracy alone"
    board = zb.rank(results)
    assert [row.model.text for row in board.overall[0].rows] == [LARGE, GOOD]
    assert "large is the best" in str(board)
    assert "large is the best" in board._repr_html_()
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        zb.rank(results, metric="acuracy")


def test_several_runs_are_ranked_together(results: RunResults, tmp_path: Path) -> None:
    make_run(tmp_path, ["timm/third@1"], [DIGITS, WORDS], {"timm/third@1": 0.99}, controls=False)
    board = zb.rank(results, tmp_path)
    assert "timm/third@1" in {row.model.text for row in board.overall[0].rows}


def test_recommend_keeps_to_limits(results: RunResults) -> None:
    (free,), (small,) = zb.recommend(results), zb.recommend(results.path, max_params="1.5M")
    assert [one.accurate and one.accurate.model.text for one in (free, small)] == [LARGE, GOOD]
    assert "Most accurate: good" in str(zb.recommend(results, max_params=1.5e6))
    (none,) = zb.recommend(results, license="Nobody-1.0")
    assert none.accurate is None
    with pytest.raises(UserError, match="Did you mean 'accuracy'"):
        zb.recommend(results, objective="acuracy")
    with pytest.raises(UserError, match="max_params: expected a finite number, not nan"):
        zb.recommend(results, max_params=float("nan"))


def test_compare_gives_the_gates_verdict(results: RunResults, tmp_path: Path) -> None:
    assert zb.compare(results, results.path).exit_code == 0
    make_run(tmp_path, [GOOD, LARGE], [DIGITS, WORDS], {GOOD: 0.7, LARGE: 0.6})
    worse = zb.compare(results, tmp_path, gates={"margin": 2.0})
    assert worse.failing
    assert "regressed" in str(worse).casefold()
    with pytest.raises(UserError, match=r"gates.*Did you mean 'margin'"):
        zb.compare(results, results, gates={"margn": 2.0})
    with pytest.raises(StoreError, match="no run directory"):
        zb.compare("nowhere", results)


def test_features_are_arrays_with_ids_and_targets() -> None:
    found = zb.features("synthetic/bag", "synthetic/phrases?test=10")
    assert found.features.shape == (10, 32)
    assert found.features.dtype.name == "float32"
    assert found.targets.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert len(set(found.ids.tolist())) == 10
    assert found.classes == ("class0", "class1", "class2", "class3")
    numbers = zb.features("synthetic/bag", "synthetic/phrases?task=regression", "valid")
    assert numbers.targets.dtype.name == "float64"
    assert numbers.classes == ()
    with pytest.raises(UserError, match=r"unknown split 'tset'. Did you mean 'test'\?"):
        zb.features("synthetic/bag", "synthetic/phrases", "tset")
    with pytest.raises(UserError, match="bag reads text, but synthetic/stripes holds image"):
        zb.features("synthetic/bag", "synthetic/stripes")


def test_profile_counts_without_weights() -> None:
    found = zb.profile("torchvision/resnet18", input_size=(64, 64))
    assert found["params"] == 11_689_512
    assert found["flops"] == 2 * found["macs"]


@pytest.mark.parametrize(
    ("suite", "options", "says"),
    [
        ("dem", {}, "unknown suite 'dem'. Did you mean 'demo'"),
        ({"name": "x", "model": []}, {}, "suite: unknown key 'model'. Did you mean 'models'"),
        ({"name": "x"}, {}, "suite: models: at least 1 is needed"),
        ("smoke", {"only": {"modle": "x"}}, "only: unknown key 'modle'. Did you mean 'model'"),
        ("smoke", {"retry_failed": "oomm"}, "retry_failed: unknown status 'oomm'"),
        ("smoke", {"device": "gpu"}, "device: unknown device 'gpu'"),
        ("smoke", {"workers": 0}, "workers: must be auto or a number of at least 1"),
    ],
)
def test_a_mistake_is_said_before_anything_is_begun(
    suite: object, options: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(says)}"):
        zb.run(suite, tmp_path / "run", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run" / "records.jsonl").exists()


def test_a_dict_may_hold_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    rows = [f"{word} number {i},{word}" for i in range(40) for word in ("yes", "no")]
    table.write_text("text,label\n" + "\n".join(rows) + "\n")
    data = {"id": "table/t", "path": table, "text": "text", "label": "label"}
    suite = {"name": "t", "models": ["synthetic/bag"], "datasets": [data], "methods": ["knn"],
             "controls": False}  # fmt: skip
    seen = []
    done = zb.run(suite, tmp_path / "run", "cpu", watch=lambda plan, event: seen.append(event))
    assert [r.status for r in done.records] == ["ok"]
    assert seen
    assert capsys.readouterr() == ("", "")
