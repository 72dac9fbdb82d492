"""A plug-in that cannot be loaded costs itself, whatever it does, and no command that can do
without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cells import write_suite
from zoobench import metrics, plugins
from zoobench.cli import main as cli
from zoobench.compare import gates

SMOKE = Path(__file__).parents[1] / "results" / "baselines" / "smoke"
BODIES = {
    "raises": "raise RuntimeError('boom')",
    "exits": "raise SystemExit(0)",
    "unsound": "def",
    "missing": "import no_such_module",
    "empty": "",
}


@pytest.fixture(params=sorted(BODIES))
def broken(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A package with an entry point in every group, none of which can be loaded."""
    name = f"broken_{request.param}"
    (tmp_path / f"{name}.py").write_text(BODIES[request.param])
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (f"[zoobench.{group}]\nbroken = {name}:Thing\n" for group in plugins.NOUNS)
    (info / "entry_points.txt").write_text("".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (metrics.theirs, gates.gated):
        cached.cache_clear()
    yield
    for cached in (metrics.theirs, gates.gated):
        cached.cache_clear()


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "command",
    [
        ("list", "models", "glove*"),
        ("list", "datasets", "digits"),
        ("list", "methods"),
        ("list", "tasks"),
        ("compare", str(SMOKE), str(SMOKE), "--out", "{tmp}/gate"),
    ],
)
def test_commands_do_without_it(command: tuple[str, ...], tmp_path: Path) -> None:
    said = CliRunner().invoke(cli.main, [part.format(tmp=tmp_path) for part in command])
    assert said.exit_code == 0, said.output
    assert said.output.strip()


@pytest.mark.usefixtures("broken")
def test_naming_it_is_the_users_mistake(tmp_path: Path) -> None:
    mistakes: list[dict[str, Any]] = [
        {"models": ["broken/x"]}, {"datasets": ["broken/x"]}, {"methods": ["broken"]},
    ]  # fmt: skip
    for changed in mistakes:
        file = write_suite(tmp_path / "s.toml", **changed)
        said = CliRunner().invoke(cli.main, ["plan", str(file)])
        assert said.exit_code == 2, said.output
        assert "plug-in 'broken'" in said.output
        assert "cannot be loaded" in said.output


def test_what_nobody_foresaw_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def boom(standalone_mode: bool) -> None:
        raise KeyError("boom")

    monkeypatch.setattr(cli, "main", boom)
    with pytest.raises(SystemExit) as ended:
        cli.entry()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "KeyError: 'boom'" in said
    assert "a fault of zoobench" in said
