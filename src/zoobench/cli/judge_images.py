"""`zoobench judge-images`: folders of generated pictures beside real ones."""

from __future__ import annotations

from pathlib import Path

import click

from zoobench.cli.base import DEVICE, JSON_FLAG, PATH, echo, echo_json, user_errors
from zoobench.errors import UserError
from zoobench.files import lies_in


@click.command("judge-images")
@click.argument("samples", type=PATH)
@click.option("--reference", required=True, type=PATH, help="A folder of real pictures.")
@click.option(
    "--model", help="The encoder whose features are compared. Default: EfficientNet-Lite0."
)
@click.option("--train", type=PATH, help="Look here for copies, in place of --reference.")
@click.option("--paired", is_flag=True, help="Compare pictures of the same name: PSNR and SSIM.")
@click.option(
    "--lpips", is_flag=True, help="With --paired: LPIPS too, by the extra lpips and AlexNet."
)
@click.option("--out", type=PATH, help="A new folder for judge.json and a picture of neighbours.")
@DEVICE
@JSON_FLAG
@user_errors
def judge_images(
    samples: Path, reference: Path, model: str | None, train: Path | None, out: Path | None,
    as_json: bool, **rest: bool | str,
) -> None:  # fmt: skip
    """How far the pictures in the folder SAMPLES are from real ones, and which are copies.

    Whatever made them: a GAN, a diffusion model, super-resolution, style transfer. KID with its
    interval, FID where there are pictures enough, precision and recall, each beside what one half
    of the real pictures gives against the other (docs/judge-images.md).
    """
    from zoobench.generation import folders
    from zoobench.generation.judge import MODEL, check_lpips, judge, model_of
    from zoobench.workers.loaded import feature_source

    check_lpips(bool(rest["lpips"]), bool(rest["paired"]))
    given = {folders.SAMPLES: samples, folders.REFERENCE: reference}
    if train is not None:
        given[folders.TRAIN] = train
    if out is not None:
        check_out(out, list(given.values()))
    ref = model_of(model or MODEL)
    read = folders.read(given)
    found = judge(
        read, ref, feature_source, bool(rest["paired"]), str(rest["device"]),
        lambda line: echo(line, err=True), bool(rest["lpips"]),
    )  # fmt: skip
    from zoobench.report import judged_images as render

    if as_json:
        echo_json(render.as_json(found))
    else:
        echo(*render.text(found))
    if out is not None:
        names = render.write(found, read, out)
        echo("", "Written:", *(f"  {out / name}" for name in names), err=as_json)


def check_out(out: Path, given: list[Path]) -> None:
    """Raises UserError where `out` is not new or empty, or lies in one of the folders `given`."""
    from zoobench.export.save import check_free

    check_free(out)
    for folder in given:
        if lies_in(out, folder):
            raise UserError(f"--out {out}: lies in {folder}, whose pictures are judged")
