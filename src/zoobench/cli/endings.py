"""How a command ends: its exit code, whatever happened, and output that nobody reads."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click

from zoobench import escape
from zoobench.errors import UserError, ZoobenchError
from zoobench.workers import interrupts

USER_ERROR = 2
UNFORESEEN = 70


def mistake(error: BaseException) -> str | None:
    """What to say of an error that the user or the machine can mend; None for a fault of ours."""
    if isinstance(error, ZoobenchError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or str(error) or type(error).__name__}"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{error.object[-200:]!r}: holds a name that is not UTF-8; rename it"
    return None


def finish(command: Callable[[], Any], debug: bool = False) -> int:
    """Run `command`, say in one line what ended it, and return the exit code.

    Only `click.exceptions.Exit`, which click returns as a number, can mean 1, a regression; a
    library's `sys.exit` can't. What nobody foresaw is 70, with its traceback.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except SystemExit as end:
        if isinstance(end.code, int) and end.code != 1:
            return end.code
        return _unforeseen()
    except click.ClickException as error:
        error.show()
        return USER_ERROR
    except (KeyboardInterrupt, click.Abort) as error:  # click makes one of the other
        click.echo("Stopped.", err=True)
        return interrupts.exit_code(error.__cause__ or error)
    except Exception as error:  # noqa: BLE001  the last place to say so
        said = mistake(error)
        if said is None:
            return _unforeseen()
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {escape.terminal(said)}", err=True)
        return USER_ERROR


def _unforeseen() -> int:
    traceback.print_exc()
    click.echo("Error: a fault of zoobench; please report it with the lines above", err=True)
    return UNFORESEEN


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Standard output and error that outlive their readers, for the console script.

    A reader that went away (`| head`) costs what it would have read and nothing else: the exit
    code is the command's. Output that a full disk refuses is a UserError; of standard error
    nobody can be told. What was closed from the start is /dev/null, so that no file that is
    opened takes its number; characters that the terminal's encoding lacks are escaped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    replaced = [sys.stdout, sys.stderr]
    if sys.stdout in (None, sys.__stdout__):  # a test's, or a notebook's, is left alone
        sys.stdout = _outliving(1, sys.__stdout__)
    if sys.stderr in (None, sys.__stderr__):
        sys.stderr = _outliving(2, sys.__stderr__)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(UserError):  # said already, or it came with the last bytes
                stream.flush()
        sys.stdout, sys.stderr = replaced


class _Outlet(io.FileIO):
    """A descriptor that takes to /dev/null, once it can no longer be written."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if isinstance(error, BrokenPipeError) or self.fileno() == 2:
                return memoryview(content).nbytes
            raise UserError(f"standard output: cannot be written: {error.strerror}") from error


def _outliving(descriptor: int, was: TextIO | None) -> TextIO:
    terminal = os.isatty(descriptor)
    buffer = io.BufferedWriter(_Outlet(descriptor, "w", closefd=False))
    encoding = was.encoding if was is not None else "utf-8"
    return io.TextIOWrapper(
        buffer, encoding, "backslashreplace", line_buffering=terminal or descriptor == 2
    )
