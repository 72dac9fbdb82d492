"""`zoobench import` and `similarity`: published results, and how alike two datasets are."""

from __future__ import annotations

from pathlib import Path

import click

from zoobench.cli.base import DEVICE, JSON_FLAG, PATH, Commands, echo, say, user_errors


@click.group(name="import", cls=Commands)
def import_() -> None:
    """Published results as a run that `report` and `recommend` can read."""


@import_.command()
@click.argument("tables", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="The run directory to write.")
@user_errors
def timm(tables: tuple[Path, ...], out: Path) -> None:
    """timm's result TABLES: the folder `results` of its repository, or some of its CSV files.

    Accuracy comes from results-*.csv, MACs from benchmark-infer-*.csv where the picture's
    size is the same. The records are marked as imported; they hold no predictions.
    """
    from zoobench.runs.published import LICENSE, SOURCE, run

    done = run(tables, out)
    echo(
        f"{out}: {done.records} published scores of {done.models} models "
        f"from {len(done.files)} tables",
        f"Source: {SOURCE}, {LICENSE}.",
    )
    if done.ignored:
        echo(f"Not used: {', '.join(done.ignored)}.")
    echo(f"Now: zoobench report {out}")


@click.command()
@click.argument("model")
@click.argument("first")
@click.argument("second")
@click.option("--max", "most", default=1000, show_default=True, help="Examples of each, at most.")
@DEVICE
@JSON_FLAG
@user_errors
def similarity(model: str, first: str, second: str, most: int, device: str, as_json: bool) -> None:
    """How alike two datasets, FIRST and SECOND, look to MODEL.

    Frechet distance and maximum mean discrepancy of their train splits in the model's
    feature space, beside what two halves of FIRST give.
    """
    from zoobench.advise.similarity import similarity as measure
    from zoobench.advise.similarity import text
    from zoobench.schema import to_json

    found = measure(model, first, second, most, device)
    say(to_json(found), text(found), as_json)
