"""Commands that decide or measure apart from a run."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zoobench import escape
from zoobench.cli.base import JSON_FLAG, PATH, Commands, echo, own_folder, say, user_errors
from zoobench.errors import UserError, unknown

if TYPE_CHECKING:
    from zoobench.compare.accept import Accepted
    from zoobench.compare.gates import Gates
    from zoobench.schema import Cell


@click.command()
@click.argument("baseline", type=PATH)
@click.argument("candidate", type=PATH, required=False)
@click.option("--gates", type=PATH, help="A TOML file of margins.")
@click.option("--strict", is_flag=True, help="Exit with 5 when anything is inconclusive.")
@click.option("--measure", is_flag=True, help="Time two environments or git revisions now.")
@click.option("--aa", type=click.IntRange(min=1), metavar="N", help="A against A, N times.")
@click.option("--suite", help="With --measure: the models of this suite.")
@click.option("--model", "models", multiple=True, help="With --measure and --aa: this model.")
@click.option("--device", default="cpu", show_default=True, help="With --measure and --aa.")
@click.option(
    "--out",
    type=PATH,
    help="Where the verdicts go; else CANDIDATE/gate, or zoobench-measure with --measure.",
)
@JSON_FLAG
@user_errors
def compare(baseline: Path, candidate: Path | None, as_json: bool, **options: Any) -> None:
    """Did CANDIDATE regress against BASELINE? Verdicts are written too.

    \b
    compare BASELINE CANDIDATE        two runs: run directories, or an accepted baseline
    compare --measure BASE HEAD       time and memory of two Python environments, source
                                      folders or git revisions, measured in turns
    compare --aa N RUN                how often --measure would be wrong on this machine

    Exit codes: 0 fine, 1 confirmed regression, 3 cells failed or missing, 4 nothing
    comparable, 5 inconclusive under --strict.
    """
    from zoobench.compare.compare import read_gates

    gates = read_gates(options["gates"])
    if options["strict"]:
        gates = gates.model_copy(update={"strict": True})
    if options["aa"] is not None:
        if candidate is not None or options["measure"]:
            raise UserError("compare --aa N RUN: takes one run, and no --measure")
        against_itself(baseline, gates, options, as_json)
        return
    if candidate is None:
        raise UserError("compare: takes two runs, BASELINE and CANDIDATE (or --aa N RUN)")
    if options["measure"]:
        measure(str(baseline), str(candidate), gates, options, as_json)
    if options["suite"] or options["models"]:
        raise UserError("compare: --suite and --model go with --measure; two runs say themselves")
    out = options["out"] or own_folder(candidate, "gate")
    compare_runs(baseline, candidate, gates, out, as_json)


def compare_runs(
    baseline: Path, candidate: Path, gates: Gates, folder: Path, as_json: bool
) -> NoReturn:
    """Decide, write the verdicts into `folder`, print, and exit with the verdict's code."""
    from zoobench.compare.accept import propose
    from zoobench.compare.compare import compare as decide
    from zoobench.compare.compare import load
    from zoobench.report import gate
    from zoobench.store import no_collection

    with no_collection():
        new = load(candidate)
        if not baseline.exists():
            made = propose(new, None, folder / "baseline")
            raise UserError(f"{baseline}: there is no baseline yet{_first(made, candidate)}")
        old = load(baseline)
        found = decide(old, new, gates)
        gate.write(found, folder)
        propose(new, old, folder / "baseline")
        gc.freeze()  # the command ends: looking for cycles among all records would take 0.3 s
    click.echo(escape.json_ascii(gate.gate_json(found)) if as_json else gate.text(found))
    raise click.exceptions.Exit(found.exit_code)


def _first(made: Accepted | None, candidate: Path) -> str:
    """How to take what was proposed as the first baseline."""
    if made is None:
        return ", and no cell to make one of"
    name = "NAME" if made.folder.name == "unnamed" else made.folder.name
    return (
        f". What this run would make is in {made.folder}; to take it: "
        f"zoobench baseline accept {candidate} --suite {name} --reason ..."
    )


def measure(
    base: str, head: str, gates: Gates, options: Mapping[str, Any], as_json: bool
) -> NoReturn:
    """Measure both sides, write the verdicts into --out, print, and exit with the code."""
    from zoobench import machine
    from zoobench.compare.measured import Schedule, measured, side
    from zoobench.report import gate
    from zoobench.runs import suite
    from zoobench.schema import Ref

    models = [Ref.parse(name) for name in options["models"]]
    if options["suite"]:
        models += [ref.at("") for ref in suite.read(options["suite"]).models]
    if not models:
        raise UserError("compare --measure: which models? Give --suite NAME or --model NAME")
    plan = Schedule(gates.measure, machine.place(options["device"]))
    with side(base) as one, side(head) as other:
        found = measured(list(dict.fromkeys(models)), one, other, plan, gates.strict, said)
    gate.write(found, options["out"] or Path("zoobench-measure"))
    click.echo(escape.json_ascii(gate.gate_json(found)) if as_json else gate.text(found))
    raise click.exceptions.Exit(found.exit_code)


def against_itself(run: Path, gates: Gates, options: Mapping[str, Any], as_json: bool) -> None:
    """The false-alarm rate of `measure` on this machine, for the models of `run`."""
    import dataclasses
    import itertools

    from zoobench import machine
    from zoobench.compare.false_alarms import false_alarms, models_of
    from zoobench.compare.measured import Schedule
    from zoobench.compare.reading import load
    from zoobench.report.gate import aa_text
    from zoobench.runs.suite import matches

    plan = Schedule(gates.measure, machine.place(options["device"]))
    models = models_of(load(run))
    if options["models"]:
        chosen = [[m for m in models if matches(m, p)] for p in options["models"]]
        for pattern, hits in zip(options["models"], chosen, strict=True):
            if not hits:
                raise unknown("compare --aa", "model", pattern, map(str, models), f"of {run}")
        models = list(dict.fromkeys(itertools.chain.from_iterable(chosen)))
    found = false_alarms(models, options["aa"], plan, said)
    say(dataclasses.asdict(found), aa_text(found, gates.measure), as_json)


def said(text: str) -> None:
    """Progress, on standard error."""
    echo(text, err=True)


@click.group(cls=Commands)
def baseline() -> None:
    """What later runs are compared with."""


@baseline.command()
@click.argument("run", type=PATH)
@click.option("--suite", required=True, help="The suite's name.")
@click.option("--reason", required=True, help="Why: somebody will ask in a year.")
@click.option("--only", multiple=True, metavar="KEY=GLOB", help="Only cells that match.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="The acceptance ends then.")
@click.option("--partial", is_flag=True, help="Take a run that lacks cells of its suite.")
@click.option("--root", type=PATH, default=Path("results/baselines"), show_default=True)
@user_errors
def accept(
    run: Path,
    suite: str,
    reason: str,
    only: tuple[str, ...],
    until: datetime | None,
    partial: bool,
    root: Path,
) -> None:
    """Make RUN, or the cells of it that --only names, the baseline of its suite."""
    from zoobench.compare.accept import Proposal
    from zoobench.compare.accept import accept as take

    request = Proposal(reason, only, until.date() if until else None)
    done = take(run, suite, request, root, () if partial else planned_cells(run))
    echo(
        f"{done.folder}: {len(done.changed)} cells accepted, {done.unchanged} unchanged, "
        f"{len(done.removed)} removed, {len(done.kept)} kept since they failed in this run"
    )


def planned_cells(run: Path) -> Sequence[Cell]:
    """The cells of the suite of `run`; none where nothing says which they are, as of an import.

    Raises UserError where the suite cannot be resolved on this machine.
    """
    from zoobench.runs import planning, suite
    from zoobench.store import located, read_suite

    folder, _ = located(run)
    if not read_suite(folder).get("models"):
        return ()
    try:
        return planning.plan(suite.read(str(folder)))
    except UserError as error:
        raise UserError(
            f"{error}. So nobody can say here whether {run} has all cells of its suite; "
            "--partial accepts it as it is"
        ) from error


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--metric", "metrics", multiple=True, help="Default: each task's primary one.")
@click.option("--accepted", type=PATH, help="The suite's baseline: its run is marked.")
@click.option("--release", type=PATH, help="The run of the last release, marked.")
@click.option("--figures", type=PATH, help="Write a figure a metric into this folder.")
@user_errors
def history(
    runs: tuple[Path, ...],
    metrics: tuple[str, ...],
    accepted: Path | None,
    release: Path | None,
    figures: Path | None,
) -> None:
    """One suite over many RUNS, oldest first: a table, and where a metric stepped."""
    from zoobench.compare.history import history as follow
    from zoobench.report.history import history_figures, history_text

    found = follow(runs, metrics, accepted, release)
    click.echo(history_text(found))
    for path in history_figures(found, figures) if figures else ():
        echo(str(path))
