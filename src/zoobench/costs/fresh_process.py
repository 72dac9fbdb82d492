"""A function of zoobench called in a process of its own, so that nothing is inherited."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any

from zoobench.errors import UserError, ZoobenchError
from zoobench.machine import SAFE_PATH

OTHER_VERSION = (
    "AttributeError: module 'zoobench",
    "ModuleNotFoundError: No module named 'zoobench",
)
"""How the last line of a side begins whose zoobench lacks what it was asked for."""
FORMER = {
    "zoobench.costs.interleaved:turns": "zoobench.metrics.ab:turns",
    "zoobench.costs.device_costs:costs": "zoobench.metrics.device_costs:costs",
}
"""Where a target stood in versions that had no room `costs`: a side may run one of them."""
_CHILD = """
import sys
target, former, arguments = sys.argv[1:]
try:
    from zoobench.costs.fresh_process import child
except ModuleNotFoundError:
    from zoobench.metrics.fresh import child
    target = former
child(target, arguments)
"""


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
        own = {**os.environ, **SAFE_PATH}
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
    with talk(target, arguments, timeout, side) as process:
        return process.answer()


@contextmanager
def talk(
    target: str, arguments: Mapping[str, Any], timeout: float = 600.0, side: Side = HERE
) -> Iterator[Talk]:
    """The process of `call`, to be asked again and again where `target` is a generator: it rests
    between its answers. `timeout` holds for each of them. Ended with the block."""
    # -P: the folder that the user stands in must not come before the side's own sources.
    command = [
        side.python, "-P", "-W", "ignore", "-c", _CHILD,
        target, FORMER.get(target, target), json.dumps(dict(arguments)),
    ]  # fmt: skip
    name = str(arguments.get("ref", target))
    where = name if side is HERE else f"{name} in {side.name}"
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command, bufsize=0, env=side.environment, process_group=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{where}: {side.python}: {error.strerror}") from None
        try:
            yield Talk(process, said, where, timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what a library started in it
            process.communicate()


class Talk:
    """A running process; made by `talk`."""

    def __init__(
        self, process: subprocess.Popen[bytes], said: IO[bytes], where: str, timeout: float
    ) -> None:
        self._process, self._said, self._where, self._timeout = process, said, where, timeout
        self._read = b""

    def ask(self) -> Any:
        """The next answer. Raises UserError, as `call` does."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
        except BrokenPipeError:
            raise self._failure() from None
        return self.answer()

    def answer(self) -> Any:
        """The answer that was asked for last, the first one at the start. Raises UserError."""
        until = time.monotonic() + self._timeout
        while True:
            line, newline, rest = self._read.partition(b"\n")
            if newline:
                self._read = rest
                body = _body(line)
                if body is None:  # a library says something
                    continue
                if "error" in body:
                    raise UserError(f"{self._where}: {body['error']}")
                return body["value"]
            assert self._process.stdout is not None
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise UserError(f"{self._where}: no timing within {self._timeout:g} s")
            block = self._process.stdout.read(2**16)
            if not block:
                raise self._failure()
            self._read += block

    def _failure(self) -> UserError:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        if not code:
            return UserError(f"{self._where}: the timing process wrote no result")
        last = lines[-1] if lines else f"exit code {code}"
        if last.startswith(OTHER_VERSION):
            return UserError(f"{self._where}: its zoobench has no such measurement: {last}")
        return UserError(f"{self._where}: the timing process failed: {last}")


def _body(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line)
    except ValueError:
        return None
    return body if isinstance(body, dict) and body.keys() & {"value", "error"} else None


def child(target: str, arguments: str) -> None:
    """In the fresh process: a line of JSON on standard output; of a generator one for each of
    its values, the next as often as a line comes in."""
    module, _, function = target.partition(":")
    try:
        value = getattr(import_module(module), function)(**json.loads(arguments))
        for body in value if isinstance(value, Iterator) else [value]:
            # A line of its own, whatever a library left unfinished before it.
            sys.stdout.write("\n" + json.dumps({"value": body}) + "\n")
            sys.stdout.flush()
            if not isinstance(value, Iterator) or not sys.stdin.readline():
                return
    except ZoobenchError as error:
        sys.stdout.write("\n" + json.dumps({"error": str(error)}) + "\n")
