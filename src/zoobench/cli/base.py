"""What every command shares: lazy groups, and errors without a traceback."""

from __future__ import annotations

import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zoobench import escape, plugins
from zoobench.cli.endings import USER_ERROR, mistake
from zoobench.errors import UserError, unknown
from zoobench.files import check_within
from zoobench.quantities import Quantity
from zoobench.workers import interrupts


class FilledPath(click.Path):
    """A path; empty text, as an unset variable of a script gives, is none and not this folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


def filled(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """A limit's text, "" where it is not given. Empty, as a script's unset variable is, it
    would be no limit."""
    if value is not None and not value.strip():
        raise click.UsageError(f"{param.opts[0]}: is empty; leave it out for no limit", ctx)
    return value or ""


if TYPE_CHECKING:
    NumberType = click.ParamType[float]
else:
    NumberType = click.ParamType  # generic from click 8.3 on


class QuantityType(NumberType):
    """A number as people write it, such as 10M or 2GB; `read` says in what unit it arrives."""

    def __init__(self, kind: Quantity, unit: str = "", bare: bool = True) -> None:
        self.kind, self.unit, self.bare = kind, unit, bare
        self.name = kind.what.split()[-1]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        where = param.opts[0] if param is not None else self.name
        try:
            return self.kind.read(value, where, self.unit, self.bare)
        except UserError as error:
            raise click.UsageError(str(error), ctx) from None


PATH = FilledPath(path_type=Path)
TYPED = "zoobench.typed"
"""Where a context's `meta` holds the arguments of the command line."""
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class Commands(click.Group):
    """A group that answers an unknown command with the nearest one.

    Commands in `lazy` (name -> "module:attribute") are imported when they are used.
    """

    lazy: Mapping[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy:
            found: click.Command = plugins.load(self.lazy[cmd_name])
            return found
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first sentence of each command, whole: click cuts it to one line."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, one.get_short_help_str(limit=10**6)) for name, one in found if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta.setdefault(TYPED, tuple(args))
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            fail(unknown("", "command", name, self.list_commands(ctx)), debug=False)
        return super().resolve_command(ctx, args)


def fail(error: BaseException, debug: bool) -> NoReturn:
    """Print a user's mistake, with its traceback under --debug alone, and exit with 2."""
    if debug:
        traceback.print_exception(error)
    echo(f"Error: {mistake(error)}", err=True)
    raise SystemExit(USER_ERROR)


def user_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the user can mend becomes one message and exit code 2; --debug shows its traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if mistake(error) is None:
                raise
            context = click.get_current_context(silent=True)
            root = context.find_root().params if context else {}
            fail(error, bool(root.get("debug")))

    return wrapped


def typed() -> str:
    """The command line that is running, to be pasted into a shell."""
    arguments = click.get_current_context().meta.get(TYPED, ())
    module = Path(sys.argv[0]).name == "__main__.py"
    return shlex.join([*(("python", "-m") if module else ()), "zoobench", *arguments])


@contextmanager
def going_on(stopped: Callable[[], str]) -> Iterator[None]:
    """Where it is interrupted, what `stopped` says and the command line that goes on from there."""
    try:
        yield
    except KeyboardInterrupt as error:
        echo("", stopped(), "To go on:", f"  {typed()}", err=True)
        raise SystemExit(interrupts.exit_code(error)) from None


def own_folder(run: Path, name: str) -> Path:
    """A folder of a run directory, or beside a lone records file, that may be written to.

    Raises UserError where it is a link that leads out.
    """
    folder = run if run.is_dir() else run.parent
    check_within(folder, folder / name)
    return folder / name


def echo(*lines: str, err: bool = False) -> None:
    """Print lines in which names, paths and messages stand: nothing in them acts on a terminal."""
    click.echo("\n".join(map(escape.terminal, lines)), err=err)


def echo_json(body: Any) -> None:
    """Print one JSON value in a line, in ASCII."""
    click.echo(escape.json_ascii(json.dumps(body, default=str)))


def say(body: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """One JSON object a line for a machine, the lines for a person."""
    if as_json:
        echo_json(body)
    else:
        echo(*lines)
