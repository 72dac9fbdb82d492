"""What every command shares: lazy groups, and errors without a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from zoobench import plugins
from zoobench.errors import ZoobenchError, unknown

USER_ERROR = 2
INTERRUPTED = 130

PATH = click.Path(path_type=Path)
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            fail(unknown("", "command", name, self.list_commands(ctx)), debug=False)
        return super().resolve_command(ctx, args)


def fail(error: ZoobenchError, debug: bool) -> NoReturn:
    """Print a user's mistake without a traceback, and exit with 2."""
    if debug:
        raise error
    click.echo(f"Error: {error}", err=True)
    raise SystemExit(USER_ERROR)


def user_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """A UserError becomes one message and exit code 2; --debug shows its traceback."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ZoobenchError as error:
            context = click.get_current_context(silent=True)
            root = context.find_root().params if context else {}
            fail(error, bool(root.get("debug")))

    return wrapped


def say(body: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """One JSON object a line for a machine, the lines for a person."""
    if as_json:
        click.echo(json.dumps(body, ensure_ascii=False, default=str))
    else:
        click.echo("\n".join(lines))
