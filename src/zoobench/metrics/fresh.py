"""A function of zoobench called in a process of its own, so that nothing is inherited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from zoobench.errors import UserError, ZoobenchError

_CHILD = "import sys; from zoobench.metrics.fresh import child; child(*sys.argv[1:])"


@dataclass(frozen=True)
class Side:
    """Where the processes of one side run: an interpreter, and the PYTHONPATH it is given.

    A `path` of None hands this process's own on; with "" the interpreter's site-packages
    are all that it sees.
    """

    name: str
    python: str = sys.executable
    path: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        own = dict(os.environ)
        if self.path is not None:
            own["PYTHONPATH"] = self.path
        return own


HERE = Side("here")


def call(
    target: str, arguments: Mapping[str, Any], timeout: float = 600.0, side: Side = HERE
) -> Any:
    """What `target` ("module:function") returns for `arguments`; both are JSON.

    Between versions of zoobench `child`, the targets and their arguments are a contract:
    `side` may run another one. Raises UserError with the child's message, or its last
    line, where it fails or outlasts `timeout` seconds.
    """
    # -P: the folder that the user stands in must not come before the side's own sources.
    command = [side.python, "-P", "-W", "ignore", "-c", _CHILD, target]
    name = str(arguments.get("ref", target))
    where = name if side is HERE else f"{name} in {side.name}"
    try:
        done = subprocess.run(
            [*command, json.dumps(dict(arguments))],
            capture_output=True, text=True, timeout=timeout, env=side.environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(f"{where}: no timing within {timeout:g} s") from None
    except OSError as error:
        raise UserError(f"{where}: {side.python}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{where}: the timing process failed: {lines[-1]}")
    try:
        body: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise UserError(f"{where}: the timing process wrote no result") from None
    if "error" in body:
        raise UserError(f"{where}: {body['error']}")
    return body["value"]


def child(target: str, arguments: str) -> None:
    """In the fresh process: one line of JSON on standard output."""
    module, _, function = target.partition(":")
    try:
        body = {"value": getattr(import_module(module), function)(**json.loads(arguments))}
    except ZoobenchError as error:
        body = {"error": str(error)}
    sys.stdout.write(json.dumps(body) + "\n")
