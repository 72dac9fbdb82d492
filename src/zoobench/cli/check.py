"""`zoobench check`: can a model be used? Its licence, files, behaviour and exports."""

from __future__ import annotations

from typing import Any

import click

from zoobench.cli.base import JSON_FLAG, echo, echo_json, user_errors
from zoobench.errors import UserError


@click.command()
@click.argument("models", nargs=-1)
@click.option("--only", multiple=True, metavar="PROBE", help="A probe; may be given again.")
@click.option("--list", "listed", is_flag=True, help="The probes that there are.")
@JSON_FLAG
@user_errors
def check(models: tuple[str, ...], only: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """Probe whether MODELS can be used: yes, no or a number for each question, with the reason.

    Each probe runs in a process of its own, within a time limit. No grade is made of them; what
    cannot be found out is unknown. With --json one object a model, a line each.
    """
    from zoobench.report import usability as render
    from zoobench.usability import PROBES, probe
    from zoobench.usability.check import check as probed

    if listed:
        if as_json:
            for row in render.table(PROBES):
                echo_json(row)
        else:
            echo(*render.listing(PROBES))
        return
    if not models:
        raise UserError("check: name a model, such as timm/resnet18; --list shows the probes")
    for name in only:
        probe(name, "check: --only")
    for model in models:
        answers: list[dict[str, Any]] = []
        if not as_json:
            echo(model)
        for name, answer in probed(model, only):
            answers.append(render.body(name, answer))
            if not as_json:
                echo(*render.lines(name, answer, PROBES[name]))
        if as_json:
            echo_json({"model": model, "usability": answers})
