"""`zoobench recommend`: which model to take, from a run or for data that no run has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoobench.cli.base import (
    JSON_FLAG,
    PATH,
    QuantityType,
    echo,
    echo_json,
    filled,
    going_on,
    say,
    user_errors,
)
from zoobench.errors import UserError, check_finite
from zoobench.files import expanded, file_name
from zoobench.quantities import COUNT, SIZE, TIME

if TYPE_CHECKING:
    from zoobench.ranking.recommend import Limits
    from zoobench.schema import Ref, Value


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `recommend` takes beside a RUN's options."""
    for decorate in (
        click.option(
            "--save", type=PATH, help="With --data: write the most accurate to this new folder."
        ),
        click.option("--no-fine-tune", is_flag=True, help="With --data: probes alone."),
        click.option("--device", default="auto", show_default=True, help="With --data."),
        click.option(
            "--models", multiple=True, metavar="MODEL",
            help="With --data: try these alone, in place of a pool.",
        ),
        click.option(
            "--max-download", type=QuantityType(SIZE), default="5GB", show_default=True,
            help="With --data: fetch at most so much, over all sessions.",
        ),
        click.option(
            "--pool", type=click.Choice(["quick", "wide", "offline", "all"]), default="quick",
            show_default=True,
            help="With --data: beside what is here, fetch a short or a wide list, nothing, or "
            "all that has published results.",
        ),
        click.option(
            "--out", type=PATH,
            help="With --data: where its state lies. Default: results/runs/advice-<data>.",
        ),
        click.option("--label", help="A table's column of classes. Default: label."),
        click.option("--image", help="A table's column of picture files."),
        click.option("--audio", help="A table's column of sound files."),
        click.option("--text", help="A table's column of texts. Default: text."),
        click.option(
            "--budget", type=QuantityType(TIME), default="10m", show_default=True,
            help="With --data: time over all sessions, as 90s, 10m or 1h30m.",
        ),
        click.option("--task", default="classification", show_default=True, help="With --data."),
        click.option("--data", help="A folder of pictures by class, a table, or a dataset's name."),
    ):  # fmt: skip
        command = decorate(command)
    return command


@click.command()
@click.argument("run", type=PATH, required=False)
@click.option("--max-params", type=QuantityType(COUNT), help="Parameters, at most, as 10M.")
@click.option(
    "--max-macs",
    type=QuantityType(COUNT),
    help="Multiply-accumulates of one example, at most, as 4G.",
)
@click.option(
    "--max-latency",
    type=QuantityType(TIME, "ms", bare=False),
    help="Median time of one example, at most, as 20ms.",
)
@click.option(
    "--max-latency-ms", type=QuantityType(TIME, "ms"), help="The same; a plain number is in ms."
)
@click.option("--max-memory", type=QuantityType(SIZE), help="Peak memory, at most, as 2GB.")
@click.option("--max-bytes", type=QuantityType(SIZE), help="The saved weights, at most, as 25MB.")
@click.option(
    "--min-retained",
    type=float,
    metavar="FRACTION",
    help="Of a RUN: what must be left of the score under corruptions, on average, as 0.8.",
)
@click.option(
    "--max-membership-auc",
    type=float,
    metavar="AUC",
    help="Of a RUN: how well an attack may tell who was in train, at most, as 0.6.",
)
@click.option("--license", "license_", callback=filled, help="permissive, or SPDX names by comma.")
@click.option(
    "--tolerance",
    type=float,
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="What the cheapest good enough may lose; percent of an error in the target's unit.",
)
@click.option(
    "--cheapest",
    type=click.Choice(["latency", "macs", "params"]),
    default=None,
    help="The cost that counts. Default: latency from one device and without noise, else MACs.",
)
@click.option(
    "--needs",
    callback=filled,
    metavar="PROBES",
    help="Usability probes (zoobench check --list) that must say yes, by comma.",
)
@click.option("--objective", help="A quality metric. Default: each task's primary one.")
@data_options
@JSON_FLAG
@user_errors
def recommend(
    run: Path | None,
    data: str | None,
    license_: str,
    needs: str,
    objective: str | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Which models of RUN to take under limits: the most accurate and the cheapest good enough.

    With --data in place of RUN: for a folder of pictures or a table of texts, models are
    tried within --budget. Run it again with the same --out, and it goes on.
    """
    from zoobench import metrics
    from zoobench.ranking.recommend import Limits

    if objective is not None:
        metrics.metric(objective, "--objective")
    latency = rest.pop("max_latency")
    if latency is not None and rest["max_latency_ms"] is not None:
        raise UserError("--max-latency: --max-latency-ms says the same; give one of the two")
    names = ("max_params", "max_macs", "max_latency_ms", "max_memory", "max_bytes", "tolerance")
    limits = Limits(
        **{name: rest.pop(name) for name in (*names, *TRUST_LIMITS)},
        license=license_, cheapest=rest.pop("cheapest") or "", needs=needed(needs),
    )  # fmt: skip
    if latency is not None:
        limits = dataclasses.replace(limits, max_latency_ms=latency)
    check_finite("--tolerance", limits.tolerance)
    for name in TRUST_LIMITS:
        check_trust(f"--{name.replace('_', '-')}", getattr(limits, name), of_data=data is not None)
    if limits.tolerance < 0:
        raise UserError(f"--tolerance: expected 0 or more, got {limits.tolerance:g}")
    if (run is None) == (data is None):
        raise UserError("recommend: give either a RUN or --data, such as --data photos")
    if data is not None:
        advise_data(data, limits, objective, as_json, rest)
    else:
        assert run is not None
        recommend_run(run, limits, objective, as_json)


TRUST_LIMITS = ("min_retained", "max_membership_auc")


def check_trust(option: str, limit: float | None, of_data: bool) -> None:
    """Raises UserError for a limit that is no fraction, or that nothing is measured for."""
    if limit is None:
        return
    check_finite(option, limit)
    if not 0 <= limit <= 1:
        raise UserError(f"{option}: expected a fraction from 0 to 1, got {limit:g}")
    if of_data:
        raise UserError(f"{option}: it is a limit of a RUN: with --data it is not measured")


def needed(names: str) -> tuple[str, ...]:
    """Loads nothing of the probes' room where no need is named."""
    if not names.strip():
        return ()
    from zoobench.usability.needs import parse

    return parse(names, "--needs")


def recommend_run(run: Path, limits: Limits, objective: str | None, as_json: bool) -> None:
    """The picks of each overall ranking of `run`."""
    from zoobench import store
    from zoobench.compare.variants import ranked
    from zoobench.ranking.recommend import recommend_all, to_json
    from zoobench.report.text import recommendation_text

    loaded = store.load(run)
    if limits.needs:
        from zoobench.usability.needs import left_out

        limits = dataclasses.replace(limits, unmet=left_out(loaded, limits.needs))
    ranking, _ = ranked([loaded], objective)
    chosen = recommend_all(loaded, limits, objective, ranking)
    if as_json:
        echo_json([to_json(one) for one in chosen])
        return
    for number, one in enumerate(chosen):
        echo(*[""] * (number > 0), *recommendation_text(one))


def advise_data(
    data: str, limits: Limits, objective: str | None, as_json: bool, options: Mapping[str, Any]
) -> None:
    """Try models on `data` within the budget, and print the advice."""
    import time

    started = time.monotonic()
    from zoobench import tasks
    from zoobench.advise.loop import AdviceRequest, advise
    from zoobench.cli import save
    from zoobench.export.save import check_free
    from zoobench.report.advice import advice_json, advice_text
    from zoobench.runs.session import RUNS

    primary = tasks.task(options["task"], "--task").metrics[0]
    if options["task"] != "classification":
        raise UserError(
            f"--task: {options['task']}: --data tries models on classes alone; write a suite with "
            "this data, and recommend from its RUN"
        )
    if objective not in (None, primary):
        raise UserError(f"--objective: with --data it is {primary}")
    if limits.cheapest == "latency":
        raise UserError("--cheapest: with --data it is macs or params: nothing is timed")
    if not options["budget"]:
        raise UserError("--budget: expected more than 0")
    if options["save"]:
        check_free(options["save"])
    columns = {name: options[name] for name in CONTENT if options[name]}
    ref = resolve_data(data, columns)
    out = options["out"] or RUNS / file_name(f"advice-{ref.name}")
    request = AdviceRequest(
        ref, options["budget"], out, limits, options["models"], options["device"],
        not options["no_fine_tune"], started, options["pool"], options["max_download"],
    )  # fmt: skip
    with going_on(lambda: f"Stopped. What was tried is kept in {out}."):
        found = advise(request, lambda line: echo(line, err=True))
    if as_json:
        echo_json(advice_json(found))
    else:
        echo(*advice_text(found))
        echo(f"State: {out}; with a larger --budget the same command goes on.")
        if not options["save"] and found.pick is not None:
            echo("With --save DIR it also writes the most accurate model, ready to use.")
    if options["save"]:
        saved = save.save_advised(out, found.pick, options["save"], options["device"])
        say(save.saved_json(saved), save.saved_text(saved), as_json)


CONTENT = ("text", "image", "audio", "label")
"""Options that name a table's columns."""


def resolve_data(data: str, columns: Mapping[str, Value]) -> Ref:
    """A folder, a table or a dataset's name as a resolved Ref. Raises UserError."""
    from zoobench import datasets
    from zoobench.schema import Ref

    path = expanded(data)
    if path.is_dir():
        if columns:
            raise UserError(f"--data {data}: a folder has no columns ({', '.join(columns)})")
        named = Ref("folder", path.resolve().name).with_options(path=str(path.resolve()))
    elif path.is_file():
        content: dict[str, Value] = {} if {"image", "audio"} & columns.keys() else {"text": "text"}
        options: dict[str, Value] = {**content, "label": "label", **columns}
        named = Ref("table", path.stem).with_options(path=str(path.resolve()), **options)
    else:
        source = data.partition("/")[0]
        if "/" not in data or source not in datasets.SOURCES:
            raise UserError(f"--data: there is no folder or file {data}")
        if columns:
            raise UserError(f"--data {data}: columns are a table's own ({', '.join(columns)})")
        named = Ref.parse(data)
    return datasets.resolve(named, "--data")
