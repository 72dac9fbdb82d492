"""`zoobench profile`: costs of models with no dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from zoobench.cli.base import DEVICE, JSON_FLAG, PATH, echo, say, user_errors
from zoobench.errors import UserError


@click.command()
@click.argument("models", nargs=-1)
@click.option("--input-size", type=int, help="Side of the picture, in pixels.")
@click.option("--seq-len", type=int, help="Tokens of the text.")
@click.option("--weights/--no-weights", default=False, help="Count the loaded weights' features.")
@click.option("--cross-check", is_flag=True, help="Beside fvcore's count, and why they differ.")
@click.option(
    "--measure", is_flag=True, help="Measure as well: latency, memory, loading, training."
)
@click.option("--compile", is_flag=True, help="With --measure: of the compiled network.")
@click.option("--ab", is_flag=True, help="Time two MODELS interleaved, in fresh processes.")
@DEVICE
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto")
@click.option("--batch", type=click.IntRange(1), help="Of --ab (1), or the training step (8).")
@click.option("--source", help="Sweep a whole source: timm or torchvision.")
@click.option("--pattern", default="*", show_default=True, help="With --source: a glob.")
@click.option("--out", type=PATH, help="With --source: the CSV to go on with.")
@JSON_FLAG
@user_errors
def profile(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Costs of MODELS with no dataset: parameters, MACs, FLOPs, bytes, activations.

    No weights are downloaded: of an hf/ model its configuration and tokenizer are. A count
    that an operator without a formula makes a lower bound is shown with ≥. With --measure
    also times and memory on this device, each model in a process of its own.
    """
    if options["compile"] and (options["ab"] or options["source"] or not options["measure"]):
        raise UserError("profile --compile: goes with --measure, which times the compiled network")
    if options["source"]:
        sweep(options["source"], options["pattern"], options["out"])
        return
    if not models:
        raise UserError("profile: name a model, such as timm/resnet18, or a --source")
    if options["ab"]:
        one_against_other(models, options, as_json)
        return
    for name in models:
        body, lines = one(name, options)
        say(body, lines, as_json)


def one(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The static costs of a model, the measured ones under `measured` if asked, and the lines."""
    from zoobench import machine
    from zoobench.costs.architectures import sized
    from zoobench.costs.device_costs import device_costs
    from zoobench.costs.profile import profile as counted
    from zoobench.report import profile as render
    from zoobench.schema import Ref

    side, length = options["input_size"], options["seq_len"]
    size = (side, side) if side else None
    body = counted(name, size, length, options["weights"], cross_check=options["cross_check"])
    lines = render.render(body)
    if options["measure"]:
        ref = sized(Ref.parse(name), size, length)
        place = machine.place(options["device"], options["precision"])
        if options["compile"]:
            machine.check_compiler(place.device, "profile --compile")
        measured = device_costs(ref, place, options["batch"] or 8, compile=options["compile"])
        body["measured"] = measured
        lines += render.render_measured(measured)
    return body, lines


def one_against_other(models: tuple[str, ...], options: Mapping[str, Any], as_json: bool) -> None:
    """`--ab`: the ratio of two models' times, measured interleaved."""
    from zoobench import machine
    from zoobench.costs import interleaved
    from zoobench.report import profile as render

    if len(models) != 2:
        raise UserError(f"profile --ab: takes two models, got {len(models)}")
    place = machine.place(options["device"], options["precision"])
    found = interleaved.ab(models[0], models[1], place, batch=options["batch"] or 1)
    say(found, render.render_ab(found), as_json)


def sweep(source: str, pattern: str, out: Path | None) -> None:
    """Profile every model of `source`; a failure is a row. Run again to go on."""
    import sys

    from rich.console import Console
    from rich.progress import Progress

    from zoobench.costs.profile import sweep as rows

    file = out or Path(f"{source}-costs.csv")
    failed = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(source, total=None)

        def progress(done: int, total: int, row: Mapping[str, Any]) -> None:
            bar.update(task, completed=done, total=total, description=str(row["model"]))

        count = 0
        for row in rows(source, pattern, file, progress):
            count += 1
            failed += bool(row["error"])
    echo(f"{file}: {count} models, {failed} of them failed (see the column `error`)")
