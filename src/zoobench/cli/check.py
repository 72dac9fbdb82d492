"""`zoobench check`: can a model be used? Its licence, files, behaviour and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoobench.cli.base import JSON_FLAG, PATH, echo, echo_json, user_errors
from zoobench.errors import UserError


@click.command()
@click.argument("models", nargs=-1, metavar="MODEL...|RUN")
@click.option("--only", multiple=True, metavar="PROBE", help="A probe; may be given again.")
@click.option("--again", is_flag=True, help="Of a RUN: ask anew what is answered there.")
@click.option("--list", "listed", is_flag=True, help="The probes that there are.")
@click.option("--source", help="Sweep known architectures: timm, torchvision or transformers.")
@click.option("--pattern", default="*", show_default=True, help="With --source: a glob.")
@click.option("--out", type=PATH, help="With --source: the CSV to go on with.")
@JSON_FLAG
@user_errors
def check(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Probe whether models can be used: yes, no or a number for each question, with the reason.

    Each probe runs in a process of its own, within a time limit. No grade is made of them; what
    cannot be found out is unknown. Of a RUN directory each model is asked, and the answers are kept
    there, for its report and for `recommend --needs`; run again, it goes on. With --json one object
    a model, a line each.
    """
    from zoobench.usability import PROBES, probe

    for name in options["only"]:
        probe(name, "check: --only")
    check_together(models, as_json, options)
    if options["listed"]:
        show_probes(as_json)
    elif options["source"] is not None:
        sweep(options["source"], options["pattern"], options["out"])
    elif not models:
        raise UserError(
            "check: name a model, such as timm/resnet18, or a run directory; "
            "--list shows the probes"
        )
    else:
        for model in models:
            if is_run(model):
                beside(Path(model), options["only"], options["again"], as_json)
            else:
                one(model, options["only"] or tuple(PROBES), as_json)


def check_together(models: tuple[str, ...], as_json: bool, options: dict[str, Any]) -> None:
    """Raises UserError for what would be passed over."""
    swept = options["source"] is not None
    if swept:
        told = {"MODEL": models, "--only": options["only"], "--again": options["again"]}
        told["--json"] = as_json
    else:
        told = {"--pattern": options["pattern"] != "*", "--out": options["out"]}
    for name, given in told.items():
        if given:
            raise UserError(f"check: {name} goes {'without' if swept else 'with'} --source")


def is_run(name: str) -> bool:
    """Whether `name` is a run directory, and no model's name."""
    from zoobench.store import RECORDS

    path = Path(name)
    return path.is_file() or (path / RECORDS).exists() or (path.is_dir() and not is_model(name))


def is_model(name: str) -> bool:
    from zoobench import models, plugins

    return "/" in name and name.partition("/")[0] in plugins.table("models", models.SOURCES)


def beside(run: Path, only: tuple[str, ...], again: bool, as_json: bool) -> None:
    """The answers of a run's models, kept in its directory."""
    from itertools import groupby

    from zoobench import store
    from zoobench.report import usability as render
    from zoobench.usability import PROBES
    from zoobench.usability.beside import check_run

    kept = asked = 0
    found = check_run(store.load(run), only, again)
    for model, answers in groupby(found, key=lambda one: one[0]):
        rows: list[dict[str, Any]] = []
        if not as_json:
            echo(model.private.text)
        for _, answer, new in answers:
            kept, asked = kept + (not new), asked + new
            rows.append(render.body(answer.probe, answer.result))
            if not as_json:
                echo(*render.lines(answer.probe, answer.result, PROBES[answer.probe]))
        if as_json:
            echo_json({"model": model.private.text, "usability": rows})
    if not as_json:
        there = f", {kept} were there (--again asks them anew)" if kept else ""
        echo(f"{asked} answers are new{there}. `zoobench report {run}` shows them.")


def show_probes(as_json: bool) -> None:
    from zoobench.report import usability as render
    from zoobench.usability import PROBES

    if as_json:
        for row in render.table(PROBES):
            echo_json(row)
    else:
        echo(*render.listing(PROBES))


def one(model: str, only: tuple[str, ...], as_json: bool) -> None:
    """The answers of a model as they come, or one object."""
    from zoobench import models
    from zoobench.report import usability as render
    from zoobench.usability import PROBES
    from zoobench.usability.check import check as probed

    models.resolve(model)
    answers: list[dict[str, Any]] = []
    if not as_json:
        echo(model)
    for name, answer in probed(model, only):
        answers.append(render.body(name, answer))
        if not as_json:
            echo(*render.lines(name, answer, PROBES[name]))
    if as_json:
        echo_json({"model": model, "usability": answers})


def sweep(source: str, pattern: str, out: Path | None) -> None:
    """Probe known architectures of a source with random weights. Run again to go on."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from zoobench.usability.sweep import sweep as models_of

    file = out or Path(f"{source}-usability.csv")
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(source, total=None)

        def progress(done: int, total: int, model: str) -> None:
            bar.update(task, completed=done, total=total, description=model)

        count = sum(1 for _ in models_of(source, pattern, file, progress))
    echo(f"{file}: {count} architectures")
