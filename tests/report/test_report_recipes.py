"""The recipes are valid YAML, their shell parses, and they read files that are written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zoobench.report.gate import FILES

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
yaml = pytest.importorskip("yaml")


def read(name: str) -> dict[Any, Any]:
    body = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))
    assert isinstance(body, dict)
    return body


def scripts() -> list[tuple[str, str]]:
    found = [
        ("action.yml", step["run"]) for step in read("action.yml")["runs"]["steps"] if "run" in step
    ]
    gitlab = read("gitlab-ci.yml")["zoobench"]
    lines = [*gitlab["before_script"], *gitlab["script"]]
    return [*found, ("gitlab-ci.yml", "\n".join(lines))]


@pytest.mark.parametrize(("name", "script"), scripts())
def test_shell_parses(name: str, script: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"


def test_recipes_read_files_that_compare_writes() -> None:
    for name in ("action.yml", "gitlab-ci.yml"):
        text = (RECIPES / name).read_text(encoding="utf-8")
        named = {part.split()[0].strip("\"'];)") for part in text.split("zoobench-run/gate/")[1:]}
        assert named
        assert named <= FILES.keys()


def run_step(tmp_path: Path, run_code: int, compare_code: int) -> tuple[int, str, str]:
    """The action's comparing step with a stand-in for `zoobench` on the PATH."""
    (script,) = [s for _, s in scripts()[:-1] if "GITHUB_OUTPUT" in s]
    fake = tmp_path / "bin" / "zoobench"
    fake.parent.mkdir()
    fake.write_text(
        "#!/usr/bin/env bash\n"
        f'if [ "$1" = run ]; then mkdir -p zoobench-run; exit {run_code}; fi\n'
        "mkdir -p zoobench-run/gate\n"
        "echo SUMMARY > zoobench-run/gate/summary.md\n"
        "echo ::error::x > zoobench-run/gate/annotations.txt\n"
        f"exit {compare_code}\n"
    )
    fake.chmod(0o755)
    environment = {
        "PATH": f"{fake.parent}:/usr/bin:/bin",
        "SUITE": "smoke",
        "BASELINE": "b",
        "GATES": "",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    output = (tmp_path / "output").read_text()
    summary = tmp_path / "summary"
    return done.returncode, output, summary.read_text() if summary.exists() else ""


@pytest.mark.parametrize(
    ("run_code", "compare_code", "expected"), [(0, 0, 0), (0, 1, 1), (3, 3, 3), (2, 0, 2)]
)
def test_the_action_hands_on_the_exit_code(
    tmp_path: Path, run_code: int, compare_code: int, expected: int
) -> None:
    code, output, summary = run_step(tmp_path, run_code, compare_code)
    assert code == expected
    assert output == f"code={expected}\n"
    assert summary == ("" if run_code == 2 else "SUMMARY\n")


COMMENTS = {
    "none": [],
    "of another marker": [(3, "ci[bot]", "<!-- n -->\nbody")],
    "of somebody else": [(4, "eve", "<!-- m -->\nmine"), (5, "ci", "<!-- m -->\nbody")],
    "its own, after somebody else's": [
        (6, "eve", "<!-- m -->\nmine"),
        (11, "ci[bot]", "<!-- m -->\nold"),
        (12, "ci[bot]", "<!-- m -->"),
    ],
}


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq stands in for gh's own")
@pytest.mark.parametrize("name", COMMENTS)
def test_the_action_edits_its_own_comment_only(tmp_path: Path, name: str) -> None:
    """The action's commenting step with a stand-in for `gh` on the PATH."""
    (script,) = [s for _, s in scripts()[:-1] if "gh api" in s]
    comments = [{"id": n, "user": {"login": who}, "body": b} for n, who, b in COMMENTS[name]]
    (tmp_path / "log.comments").write_text(json.dumps(comments))
    fake = tmp_path / "bin" / "gh"
    fake.parent.mkdir()
    fake.write_text(
        "#!/usr/bin/env bash\n"
        'echo "$@" >> "$LOG"\n'
        "if [ \"$2\" = graphql ]; then echo 'ci[bot]'; fi\n"
        'if [ "$2" = --paginate ]; then jq "$5" "$LOG.comments"; fi\n'
    )
    fake.chmod(0o755)
    gate = tmp_path / "zoobench-run" / "gate"
    gate.mkdir(parents=True)
    (gate / "gate.md").write_text("<!-- m -->\nbody\n")
    jq = shutil.which("jq")
    assert jq is not None
    environment = {
        "PATH": f"{fake.parent}:{Path(jq).parent}:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "COMMENTS": "repos/o/r/issues/7/comments",
        "ONE": "repos/o/r/issues/comments",
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    own = name.startswith("its own")
    asked = "PATCH repos/o/r/issues/comments/11" if own else "POST repos/o/r/issues/7/comments"
    assert log[-1] == f"api --method {asked} -F body=@zoobench-run/gate/gate.md --silent"


def test_the_recipes_name_files_that_are_there() -> None:
    """The workflow uses the action where the action says it lies, and caches by that file."""
    place = ".github/actions/zoobench"
    (job,) = read("github.yml")["jobs"].values()
    assert f"./{place}" in [step.get("uses") for step in job["steps"]]
    setup = read("action.yml")["runs"]["steps"][0]["with"]
    assert setup["cache-dependency-path"] == f"{place}/action.yml"
    given = next(step["with"] for step in job["steps"] if "with" in step)
    assert given.keys() <= read("action.yml")["inputs"].keys()
