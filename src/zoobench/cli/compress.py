"""`zoobench compress`: which variant of a model to take for some data, judged and written."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoobench import escape
from zoobench.cli.base import (
    DEVICE,
    JSON_FLAG,
    PATH,
    QuantityType,
    echo,
    echo_json,
    going_on,
    user_errors,
)
from zoobench.errors import UserError, check_finite
from zoobench.files import file_name, lies_in
from zoobench.quantities import SIZE, TIME

if TYPE_CHECKING:
    from zoobench.advise.compress import Compression, CompressRequest
    from zoobench.schema import Value

COLUMNS = {"text": "text", "image": "", "label": "label"}
"""Of a table, with the names that they have unless said otherwise."""
REGRESSION, UNWRITTEN, INCONCLUSIVE = 1, 3, 5


@click.command()
@click.argument("model")
@click.option("--data", required=True, help="A folder by class, a table, or a dataset's name.")
@click.option(
    "--max-loss",
    type=float,
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="What may be lost; percent of an error in the target's unit.",
)
@click.option("--max-bytes", type=QuantityType(SIZE), help="The saved weights, at most, as 25MB.")
@click.option(
    "--max-latency-ms",
    type=QuantityType(TIME, "ms"),
    help="Median time of one example, at most; a plain number is in ms.",
)
@click.option("--method", default="", help="Default: linear-probe, of numbers ridge.")
@click.option("--variant", "variants", multiple=True, help="Try these alone; may be given again.")
@click.option(
    "--budget",
    type=QuantityType(TIME),
    default="10m",
    show_default=True,
    help="Begin no variant after so much time.",
)
@click.option("--out", type=PATH, help="Where its runs lie. Default: results/runs/compress-...")
@click.option("--save", "folder", type=PATH, help="Write what is picked to this new folder.")
@click.option("--strict", is_flag=True, help="What is not proven is not written: exit code 5.")
@DEVICE
@click.option("--label", help="A table's column of classes. Default: label.")
@click.option("--image", help="A table's column of picture files.")
@click.option("--text", help="A table's column of texts. Default: text.")
@JSON_FLAG
@user_errors
def compress(model: str, as_json: bool, folder: Path | None, strict: bool, **rest: Any) -> None:
    """Try compressed variants of MODEL on data, and pick one that loses no more than it may.

    Chosen on valid: the fewest bytes (the least time, where --max-latency-ms alone is given) of
    those that the gate lets pass. Judged once on test. Exit code 1 where test shows a sure loss
    that is not within --max-loss.
    """
    from zoobench.advise.compress import compress as tried
    from zoobench.export.save import check_free

    request = request_of(model, rest)
    if folder is not None:
        check_free(folder)
        if lies_in(request.out, folder):
            raise UserError(f"--save {folder}: its runs lie there (--out {request.out})")
    with going_on(lambda: f"Stopped. What was tried is kept in {request.out}."):
        found = tried(request, lambda line: echo(line, err=True))
    show(found, as_json)
    ended = code(found, strict, folder)
    written = None
    if folder is not None and not ended:
        written = save_pick(found, folder, request.device)
    if as_json:
        from zoobench.report.compress import compress_json

        echo_json({**compress_json(found), "saved": None if written is None else str(folder)})
    elif written is not None:
        echo(*written)
    elif folder is not None:
        echo(f"Nothing was written to {folder}.")
    click.get_current_context().exit(ended)


def request_of(model: str, rest: dict[str, Any]) -> CompressRequest:
    """Raises UserError."""
    from zoobench import models
    from zoobench.advise.compress import CompressRequest
    from zoobench.cli.recommend import resolve_data
    from zoobench.runs.session import RUNS

    check_finite("--max-loss", rest["max_loss"])
    if not 0 < rest["max_loss"] <= 100:
        raise UserError(f"--max-loss: expected above 0 and at most 100, got {rest['max_loss']:g}")
    if not rest["budget"]:
        raise UserError("--budget: expected more than 0")
    columns: dict[str, Value] = {
        name: rest[name] for name in ("text", "image", "label") if rest[name]
    }
    ref, data = models.pin(models.resolve(model)), resolve_data(rest["data"], columns)
    return CompressRequest(
        ref, data, rest["out"] or RUNS / file_name(f"compress-{ref.name}-{data.name}"),
        rest["method"], rest["max_loss"], rest["max_bytes"], rest["max_latency_ms"],
        tuple(dict.fromkeys(rest["variants"])), rest["budget"], rest["device"],
    )  # fmt: skip


def show(found: Compression, as_json: bool) -> None:
    """The tables and what follows from them; nothing for a machine."""
    if as_json:
        return
    from zoobench.compare.variant_verdicts import VariantVerdicts
    from zoobench.report.compress import compress_text
    from zoobench.report.terminal import print_compression

    tables = (found.choice,) if found.test is None else (found.choice, found.test)
    print_compression(VariantVerdicts(tables))
    echo("", *(line for one in compress_text(found) for line in textwrap.wrap(one, 80)))
    echo(f"Runs: {found.request.out}")


def code(found: Compression, strict: bool, folder: Path | None) -> int:
    """The exit code: what DESIGN section 4 says of each."""
    if found.pick is None:
        return UNWRITTEN if folder is not None else 0
    if found.outcome == "regressed":
        return REGRESSION
    if found.outcome == "inconclusive":
        return INCONCLUSIVE if strict else 0
    return 0 if found.outcome in ("same", "improved") else UNWRITTEN


def save_pick(found: Compression, folder: Path, device: str) -> list[str]:
    """What was judged on test, as a folder; what to say of it. Raises UserError."""
    from zoobench import store
    from zoobench.cli.save import saved_text
    from zoobench.export.save import save

    assert found.judged is not None
    assert found.judged_in is not None
    record = min(found.judged.records, key=lambda one: one.cell.seed)
    run = store.load(found.judged_in)
    saved = save(run, record, folder, device, lambda line: echo(line, err=True))
    add_command(folder / "README.md", command(found))
    return ["", *saved_text(saved), "Made by:", f"  {command(found)}"]


def add_command(card: Path, line: str) -> None:
    """The command in a block of its own, which no name in it can end: it is one line."""
    with card.open("a", encoding="utf-8") as text:
        text.write(f"\n## Made by\n\n```\n{escape.plain(line)}\n```\n")


def command(found: Compression) -> str:
    """The command that makes it again; of own data the name is told, not where they lie here."""
    asked = found.request
    own = asked.data.source in ("folder", "table")
    data = asked.data.name if own else asked.data.text
    words = ["zoobench", "compress", asked.model.private.text, "--data", data]
    for name, usual in COLUMNS.items():
        named = str(asked.data.option(name, ""))
        if asked.data.source == "table" and named not in ("", usual):
            words += [f"--{name}", named]
    words += ["--max-loss", f"{asked.margin:g}", "--method", found.method]
    if asked.max_bytes is not None:
        words += ["--max-bytes", f"{asked.max_bytes:.0f}"]
    if asked.max_latency_ms is not None:
        words += ["--max-latency-ms", f"{asked.max_latency_ms:g}"]
    for name in asked.variants:
        words += ["--variant", name]
    return shlex.join(words)
