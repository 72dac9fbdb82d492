"""`zoobench export`: a pretrained model as a file of ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from zoobench.cli.base import JSON_FLAG, PATH, say, user_errors


@click.command()
@click.argument("model")
@click.option("--onnx", "path", type=PATH, required=True, help="A new file.")
@JSON_FLAG
@user_errors
def export(model: str, path: Path, as_json: bool) -> None:
    """Write MODEL, a backbone of pictures, as a file of ONNX.

    Its metadata say how pictures become its input, so that onnx/NAME reads it back as the same
    model. Nothing is written unless it does.
    """
    from zoobench.export.onnx_file import export as write

    found = write(model, path)
    scores = f" and scores of {found.classes} classes" if found.classes else ""
    body = {
        "file": str(found.path), "model": found.model.text, "bytes": found.bytes,
        "distance": found.distance, "classes": found.classes, "license": found.license,
    }  # fmt: skip
    lines = [
        f"{found.path}: {found.model.short}, {found.bytes / 1e6:.1f} MB, features{scores}",
        f"  read back, its features are off by {found.distance:.1e} at most",
        f"  licence of the weights: {found.license}",
        f"Now: zoobench profile onnx/{found.path}",
    ]
    say(body, lines, as_json)
