"""A report is UTF-8 whatever the locale, and a terminal without a character gets another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fakes import make_run
from zoobench.report.write import write_report
from zoobench.store import load


def test_an_ascii_locale_gives_the_same_report(tmp_path: Path) -> None:
    truth = {"timm/nét·A@1": 0.9, "timm/网B@1": 0.4}
    make_run(tmp_path / "run", list(truth), ["packaged/digits@1"], truth, n=60)
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "zoobench", "report", "run", "--out", "ascii"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **locale}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    write_report([load(tmp_path / "run")], tmp_path / "utf8")
    for name in ("report.html", "report.md", "ranking.csv", "measurements.csv"):
        assert (tmp_path / "ascii" / name).read_bytes() == (tmp_path / "utf8" / name).read_bytes()
    assert "网B" in (tmp_path / "ascii" / "report.html").read_text(encoding="utf-8")
