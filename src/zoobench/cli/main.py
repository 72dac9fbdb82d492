"""The command line: parses, calls one function, sets the exit code.

Exit codes: 0 fine; 1 confirmed regression; 2 the user's mistake; 3 cells failed or
are missing; 4 nothing comparable; 5 inconclusive under --strict; 70 a fault of ours;
130, 143 and 129 stopped by Ctrl-C, SIGTERM and SIGHUP.
Nothing heavy is imported before a command needs it: `--help` never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoobench import __version__
from zoobench.cli.base import (
    DEVICE,
    JSON_FLAG,
    PATH,
    Commands,
    echo,
    echo_json,
    going_on,
    own_folder,
    user_errors,
)
from zoobench.cli.endings import finish, streams
from zoobench.errors import UserError
from zoobench.files import file_name
from zoobench.quantities import duration
from zoobench.workers import interrupts

if TYPE_CHECKING:
    from zoobench.runs.session import Plan, RunOptions

CELLS_FAILED = 3
LONG_SECONDS = 1800
"""From here on `plan` says what would make a run shorter."""


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96}
)
@click.version_option(__version__, prog_name="zoobench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Which pretrained model to use, what it costs, and how sure one can be.

    \b
    First steps:
      zoobench run demo          rank real models on real data, offline
      zoobench list models 'vit*'
      zoobench run suite.toml    your own suite
    """


def suite_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """SUITE and the options that `plan` and `run` share."""
    for decorate in (
        click.option(
            "--only", multiple=True, metavar="KEY=GLOB",
            help="Only cells whose model, dataset or method matches, as in model='vit*'.",
        ),
        DEVICE,
        click.option(
            "--workers", default="auto", show_default=True, metavar="N",
            help="Worker processes; auto: as many as end soonest. With ray, on each node.",
        ),
        click.option(
            "--out", type=PATH,
            help="Run directory. Default: results/runs/<suite>. Run again to resume.",
        ),
        click.option(
            "--shard", metavar="I/N",
            help="Only the I-th of N shares of about equal cost; `zoobench merge` joins them.",
        ),
        click.option(
            "--retry-failed", is_flag=False, flag_value="all", default=None, metavar="[KINDS]",
            help="Try failed cells again: all of them, or kinds such as oom,timeout.",
        ),
        click.argument("suite"),
    ):  # fmt: skip
        command = decorate(command)
    return command


def options_of(name: str, given: Mapping[str, Any]) -> RunOptions:
    """The options that `plan` and `run` share. A shard has a directory of its own by default."""
    from zoobench.runs import session, workers

    shard = session.parse_shard(given["shard"])
    own = name if given["shard"] is None else f"{name}-{shard[0]}-of-{shard[1]}"
    return session.RunOptions(
        out=given["out"] or session.RUNS / file_name(own),
        device=given["device"],
        workers=workers.parse_workers(given["workers"]),
        only=session.parse_only(given["only"]),
        retry=session.parse_retry(given["retry_failed"]),
        shard=shard,
    )


@main.command()
@suite_arguments
@click.option(
    "--ranks",
    type=click.IntRange(1),
    default=1,
    help="Processes, one a device, that fine-tune one model together (DDP).",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    help="local, or ray: a cluster (docs/engines.md).",
)
@click.option(
    "--address",
    default="local",
    show_default=True,
    metavar="WHERE",
    help="Of the Ray cluster: auto, HOST:PORT, or local: one on this machine for this run.",
)
@click.option("-q", "--quiet", is_flag=True, help="While it runs say nothing but what failed.")
@click.option("--json", "as_json", is_flag=True, help="The records as JSON Lines on stdout.")
@user_errors
def run(suite: str, quiet: bool, as_json: bool, **given: Any) -> None:
    """Run SUITE (a TOML file or a built-in name), then rank what was found.

    Killed or stopped, it goes on where it was when it is run again with the same --out.
    Exit code 3 when any cell failed.
    """
    import dataclasses

    from zoobench.report import progress
    from zoobench.runs import session
    from zoobench.runs import suite as suites

    spec = suites.read(suite)
    place = {name: given[name] for name in ("ranks", "engine", "address")}
    options = dataclasses.replace(options_of(spec.name, given), **place)
    watcher = progress.Watcher(quiet)
    with going_on(lambda: watcher.stopped(options.out)), watcher:
        plan = session.execute(spec, options, watcher)
    show_run(plan, options.out, as_json)
    failed = [record for record in plan.records if record.status != "ok"]
    raise SystemExit(CELLS_FAILED if failed else 0)


def show_run(plan: Plan, out: Path, as_json: bool) -> None:
    """Ranked tables and where the report lies; with `as_json` the records alone."""
    from zoobench.schema import to_json

    if as_json:
        for record in plan.records:
            echo_json(to_json(record))
        return
    paths = rank_and_write([out], own_folder(out, "report"))
    best = next((p for p in paths if p.name == "report.html"), paths[0])
    echo("", f"Report: {best}")


def rank_and_write(runs: Sequence[Path], out: Path, pictures: bool = False) -> list[Path]:
    """Print the ranked tables of `runs` and write their report below `out`."""
    from zoobench import store
    from zoobench.compare.variants import ranked
    from zoobench.report.terminal import print_compression, print_ranking
    from zoobench.report.write import write_report

    found = [store.load(path) for path in runs]
    ranking, variants = ranked(found)
    print_ranking(ranking)
    print_compression(variants)
    return write_report(found, out, ranking, pictures, variants)


@main.command()
@suite_arguments
@click.option("--json", "as_json", is_flag=True, help="One JSON object a cell.")
@user_errors
def plan(suite: str, as_json: bool, **given: Any) -> None:
    """The cells of SUITE, which of them are done, and how long the rest may take."""
    from zoobench import schema
    from zoobench.report.text import cell_labels
    from zoobench.runs import forecast, planning, session
    from zoobench.runs import suite as suites
    from zoobench.runs.pins import pinned

    spec = suites.read(suite)
    options = options_of(spec.name, given)
    made = session.make_plan(pinned(spec, options.out, ask=False), options)
    left = {cell.key for cell in made.todo}
    names = cell_labels(made.cells)
    guesses, measured = session.predicted(made)
    for cell, seconds in zip(made.cells, guesses, strict=True):
        state = "todo" if cell.key in left else made.done[cell.key].status
        if as_json:
            body = {"key": cell.key, "state": state, "cell": schema.to_json(cell)}
            body["seconds"] = round(seconds, 3)
            echo_json(body)
        else:
            echo(f"{state:<8} {names[cell.key]}")
    if not as_json:
        text = f"{len(made.cells)} cells: {len(made.cells) - len(left)} done, {len(left)} to do"
        if left:
            basis = "at the speed of this run so far" if measured else "a rough guess"
            number, total = session.predicted_end(made, options, guesses, measured)
            who = f"{number} worker{'s' * (number != 1)}"
            text += f"; about {duration(total)} with {who} ({basis})"
        for reason in planning.left_out(spec):
            echo(f"left out: {reason}")
        echo(text)
        if left and total > LONG_SECONDS:
            echo(forecast.shorter(made.cells, guesses))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, help="Default: RUN/report.")
@click.option(
    "--pictures/--no-pictures",
    help="Show test pictures (worst of dense tasks, explained, rebuilt ones) and transcripts.",
)
@user_errors
def report(runs: tuple[Path, ...], out: Path | None, pictures: bool) -> None:
    """Write report.html, report.md, CSV, Parquet and figures for RUNS."""
    paths = rank_and_write(runs, out or own_folder(runs[0], "report"), pictures)
    echo("", "Written:", *(f"  {path}" for path in paths))
    if not any(path.suffix == ".parquet" for path in paths):
        echo("No Parquet: that needs pyarrow (pip install 'zoobench[parquet]').")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="A new directory.")
@click.option("--keep-first", is_flag=True, help="In a conflict keep the RUN that is named first.")
@user_errors
def merge(runs: tuple[Path, ...], out: Path, keep_first: bool) -> None:
    """Join RUNS (shards, machines) of one suite into the run directory --out.

    Nothing is written when two runs answer a cell with other numbers, unless --keep-first.
    Exit code 3 when cells failed or are missing.
    """
    from zoobench.runs import merge as joining

    merged = joining.merge(runs, out, keep_first)
    for conflict in merged.conflicts:
        echo(f"conflict: {conflict}", err=True)
    text = f"{out}: {len(merged.records)} cells of {len(runs)} runs"
    if merged.failed:
        text += f"; {merged.failed} failed"
    if merged.missing:
        text += f"; {len(merged.missing)} of the suite's cells are missing: run {out} to add them"
    echo(text)
    raise SystemExit(CELLS_FAILED if merged.failed or merged.missing else 0)


@main.group(name="list", cls=Commands)
def list_() -> None:
    """What exists, and what can be loaded offline right now."""


@list_.command(name="models")
@click.argument("pattern", default="*")
@click.option("--offline", is_flag=True, help="Only what can be loaded without a network.")
@click.option(
    "--usability",
    is_flag=True,
    help="In place of models: architectures that were swept with random weights, and whether they "
    "can be used.",
)
@JSON_FLAG
@user_errors
def list_models(pattern: str, offline: bool, usability: bool, as_json: bool) -> None:
    """Models whose source/name, or name alone, matches PATTERN.

    With --usability: the same features for the same input, other sizes, gradients, memory of a
    training step of 8, torch.export, ONNX, TorchScript, int8 (docs/check.md).
    """
    from zoobench import models
    from zoobench.report import listing

    if usability:
        if offline:
            raise UserError("list models --usability: goes without --offline: it needs no weights")
        listing.show_swept(pattern, as_json)
        return
    listing.show(listing.model_rows(models.list_cards(pattern), offline), as_json, pattern)


@list_.command(name="datasets")
@click.argument("pattern", default="*")
@click.option("--offline", is_flag=True, help="Only what can be loaded without a network.")
@JSON_FLAG
@user_errors
def list_datasets(pattern: str, offline: bool, as_json: bool) -> None:
    """Datasets whose source/name, or name alone, matches PATTERN."""
    from zoobench import datasets
    from zoobench.report import listing

    listing.show(listing.dataset_rows(datasets.list_cards(pattern), offline), as_json, pattern)


@list_.command(name="methods")
@JSON_FLAG
@user_errors
def list_methods(as_json: bool) -> None:
    """Methods, their parameters and defaults."""
    from zoobench.report import listing

    listing.show(listing.method_rows(), as_json, "*")


@list_.command(name="tasks")
@JSON_FLAG
@user_errors
def list_tasks(as_json: bool) -> None:
    """What a dataset can ask, and the metrics that answer it."""
    from zoobench.report import listing

    listing.show(listing.task_rows(), as_json, "*")


@list_.command(name="objectives")
@JSON_FLAG
@user_errors
def list_objectives(as_json: bool) -> None:
    """What a suite's [[pretrain]] can pretrain an encoder by."""
    from zoobench.report import listing

    listing.show(listing.objective_rows(), as_json, "*")


@list_.command(name="suites")
@JSON_FLAG
@user_errors
def list_suites(as_json: bool) -> None:
    """The built-in suites."""
    from zoobench.report import listing

    listing.show(listing.suite_rows(), as_json, "*")


main.lazy = {
    "profile": "zoobench.cli.profile:profile",
    "check": "zoobench.cli.check:check",
    "compress": "zoobench.cli.compress:compress",
    "recommend": "zoobench.cli.recommend:recommend",
    "save": "zoobench.cli.save:save",
    "export": "zoobench.cli.export:export",
    "predict": "zoobench.cli.save:predict",
    "compare": "zoobench.cli.compare:compare",
    "baseline": "zoobench.cli.compare:baseline",
    "history": "zoobench.cli.compare:history",
    "import": "zoobench.cli.imports:import_",
    "similarity": "zoobench.cli.imports:similarity",
    "judge-images": "zoobench.cli.judge_images:judge_images",
}


@main.command()
@JSON_FLAG
@user_errors
def doctor(as_json: bool) -> None:
    """Devices, versions, caches, and what is here without a network."""
    from zoobench.report import listing

    listing.show_doctor(as_json)


def entry() -> None:
    """The console script: whatever happens becomes one of the exit codes above."""
    with streams(), interrupts.for_a_command():
        code = finish(lambda: main(standalone_mode=False))
    raise SystemExit(code)
