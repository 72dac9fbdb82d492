"""`zoobench save` and `predict`: a judged model as a folder, and what a folder says of files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoobench.cli.base import DEVICE, JSON_FLAG, PATH, echo, echo_json, say, user_errors
from zoobench.errors import BadData, UserError

if TYPE_CHECKING:
    from zoobench.advise.nouns import Standing
    from zoobench.export.save import Saved
    from zoobench.export.saved import SavedModel
    from zoobench.schema import Modality

FAILED = 3
BATCH = 16


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, required=True, help="A new or an empty folder.")
@click.option("--model", default="", help="Which, as a name or a glob such as '*lite0*'.")
@click.option("--dataset", default="", help="Which, likewise.")
@click.option("--method", default="", help="linear-probe, ridge, fine-tune, from-scratch, lora.")
@click.option("--cell", default="", help="The beginning of a record's key, to say exactly which.")
@DEVICE
@JSON_FLAG
@user_errors
def save(run: Path, out: Path, device: str, as_json: bool, **named: str) -> None:
    """Write a model that RUN judged as a folder: weights, model card, and a script that predicts.

    A probe is fitted again from cached features, a fine-tune is trained again; nothing is written
    unless both the model and the files say of the test examples what the record says.
    """
    from zoobench import store
    from zoobench.export import cells
    from zoobench.export.save import check_free
    from zoobench.export.save import save as write

    check_free(out)
    found = store.load(run)
    record = cells.chosen(found, cells.CellPattern(**named))
    saved = write(found, record, out, device, lambda line: echo(line, err=True))
    say(saved_json(saved), saved_text(saved), as_json)


def save_advised(state: Path, pick: Standing | None, folder: Path, device: str) -> Saved:
    """The pick of an advice, whose run directory is `state`, as a folder. Raises UserError."""
    from zoobench import store
    from zoobench.advise.nouns import METHOD
    from zoobench.export import cells
    from zoobench.export.save import save as write
    from zoobench.schema import Ref

    if pick is None or pick.stage == "scores":
        what = (
            "no model" if pick is None else f"{Ref.parse(pick.candidate.model).short} only by kNN"
        )
        raise UserError(f"--save: {what} was tried within the budget; a larger --budget goes on")
    found = store.load(state)
    wanted = cells.CellPattern.exactly(Ref.parse(pick.candidate.model), METHOD[pick.stage])
    record = cells.chosen(found, wanted)
    return write(found, record, folder, device, lambda line: echo(line, err=True))


def saved_json(saved: Saved) -> dict[str, Any]:
    """For a machine."""
    from zoobench.schema import to_json

    cell = {"key": saved.record.key, **to_json(saved.record.cell)}
    body = {"folder": str(saved.folder), "cell": cell, "compared": saved.compared}
    return {**body, "bytes": saved.bytes, "license": saved.license}


def saved_text(saved: Saved) -> Iterator[str]:
    """For a person: what was written, how good it is, and the next command."""
    from zoobench.tasks import task_of

    number = saved.record.get(task_of(saved.record.cell).metrics[0])
    yield f"{saved.folder}: {saved.record.cell.label}, {saved.bytes / 1e6:.1f} MB"
    if number is not None:
        bounds = f", 95% {number.low:.3f} to {number.high:.3f}" if number.low is not None else ""
        yield f"  {number.metric} {number.value:.3f}{bounds} on {number.n} test examples"
    yield f"  tried on {saved.compared} of them: it says what was judged"
    yield f"  licence of the weights: {saved.license}"
    yield f"Now: zoobench predict {saved.folder} FILE..."
    yield f"or, without zoobench: python {saved.folder}/predict.py FILE..."


@click.command()
@click.argument("folder", type=PATH)
@click.argument("files", nargs=-1, required=True, type=PATH)
@JSON_FLAG
@user_errors
def predict(folder: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """What the model in FOLDER, which `zoobench save` wrote, says of FILES.

    Pictures, recordings, or text files in which each line is a text. Nothing in FOLDER is run.
    Exit code 3 when a file could not be read as what it should be; the others are answered.
    """
    from zoobench.export.saved import open_saved

    for file in files:
        if file.is_dir():
            raise UserError(f"{file}: is a folder; name its files, as in {file}/*")
        if not file.exists():
            raise UserError(f"{file}: no such file")
    model = open_saved(folder)
    failed = False
    for body in answers(model, files):
        failed |= "error" in body
        if as_json:
            echo_json(body)
        else:
            echo(line_of(body))
    raise SystemExit(FAILED if failed else 0)


def answers(model: SavedModel, files: tuple[Path, ...]) -> Iterator[dict[str, Any]]:
    """An answer a picture, a recording or a line of text, or the error of a file."""
    batch: list[tuple[dict[str, Any], Any]] = []
    for where, what in inputs(files, model.modality):
        failed = isinstance(what, BadData)
        if not failed:
            batch.append((where, what))
        if failed or len(batch) == BATCH:
            yield from _answered(model, batch)
            batch.clear()
        if failed:
            yield {**where, "error": str(what)}
    yield from _answered(model, batch)


def _answered(
    model: SavedModel, batch: list[tuple[dict[str, Any], Any]]
) -> Iterator[dict[str, Any]]:
    if batch:
        said = model.answers([what for _, what in batch])
        yield from ({**where, **one} for (where, _), one in zip(batch, said, strict=True))


def inputs(files: tuple[Path, ...], modality: Modality) -> Iterator[tuple[dict[str, Any], Any]]:
    """(where, a picture, a Clip or a text), or BadData in its place."""
    from zoobench.datasets import images, regular, sounds

    for file in files:
        try:
            if modality != "text":
                decode = images.decode if modality == "image" else sounds.decode
                yield {"file": str(file)}, decode(str(file))
                continue
            content = regular.read(str(file)).decode("utf-8-sig")
        except (BadData, UnicodeDecodeError, OSError) as error:
            said = error if isinstance(error, BadData) else BadData(f"{file}: {error}")
            yield {"file": str(file)}, said
            continue
        for number, line in enumerate(io.StringIO(content, newline=None), 1):
            if text := line.rstrip("\n"):
                yield {"file": str(file), "line": number}, text


def line_of(body: dict[str, Any]) -> str:
    """The class first, since it has the narrower column."""
    where = body["file"] + (f":{body['line']}" if "line" in body else "")
    if "error" in body:
        return f"{'-':>8}  {body['error']}"
    if "value" in body:
        return f"{body['value']:>12.6g}  {where}"
    return f"{body['probability']:>8.3f}  {body['class']}  {where}"
