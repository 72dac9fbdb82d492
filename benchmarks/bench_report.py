"""How long a report of 1,550 models takes: CPU seconds of one process, stage by stage.

    python benchmarks/bench_report.py [TIMM_TABLES]

TIMM_TABLES is the folder `results` of timm's repository; without it tables of the same
shape are made up (1,556 rows, six test sets). Imports are done before the clock starts.
It ends with an error if a model that was imported is missing from any output.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from zoobench.runs.published import TEST_SETS, run

MODELS = 1556
LIMIT_SECONDS = 10.0


def made_up(folder: Path) -> Path:
    """Tables of timm's shape."""
    draw = random.Random(0)
    skill = [draw.betavariate(8, 3) for _ in range(MODELS)]
    size = [round(10 ** draw.uniform(0, 3), 2) for _ in range(MODELS)]
    for name in TEST_SETS:
        hard = draw.uniform(0.3, 1.0)
        lines = ["model,img_size,top1,top5,param_count"]
        for m in range(MODELS):
            top1 = 100 * min(0.99, max(0.01, hard * skill[m] + draw.gauss(0, 0.01)))
            lines.append(f"net{m % 400}_{m}.tag,224,{top1:.3f},{min(99.9, top1 + 5):.3f},{size[m]}")
        (folder / name).write_text("\n".join(lines) + "\n")
    lines = ["model,infer_img_size,infer_gmacs,param_count"]
    lines += [f"net{m % 400}_{m},224,{size[m] / 5:.2f},{size[m]}" for m in range(MODELS)]
    (folder / "benchmark-infer-made-up.csv").write_text("\n".join(lines) + "\n")
    return folder


def main(tables: Path | None) -> None:
    import jinja2  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import pandas as pd
    import scipy.stats  # noqa: F401

    from zoobench import store
    from zoobench.ranking.rank import rank
    from zoobench.report.write import write_report

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tables").mkdir()
        done = run([tables or made_up(folder / "tables")], folder / "run")
        clock = [time.process_time()]
        loaded = store.load(folder / "run")
        clock.append(time.process_time())
        ranking = rank([loaded])
        clock.append(time.process_time())
        paths = write_report([loaded], folder / "report", ranking)
        clock.append(time.process_time())
        written = pd.read_csv(folder / "report" / "ranking.csv")
        held = set(written[written.scope == "dataset"].model)
        assert held == {r.cell.model.text for r in loaded.records}, "a model is missing"
        page = (folder / "report" / "report.html").read_text(encoding="utf-8")
        assert page.count("<summary>") >= done.models
        stages = [b - a for a, b in itertools.pairwise(clock)]
        size = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{done.models} models, {done.records} records; {len(paths)} files, {size:.1f} MB")
    for stage, seconds in zip(("read", "rank", "write"), stages, strict=True):
        print(f"{stage:<6}{seconds:6.2f} s of CPU")
    total = sum(stages)
    print(f"total {total:6.2f} s of CPU: {'under' if total < LIMIT_SECONDS else 'ABOVE'} "
          f"{LIMIT_SECONDS:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
