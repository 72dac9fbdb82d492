"""Third-party models, datasets, methods and tasks, found through stdlib entry points.

A package offers one by an entry point in the group `zoobench.models`,
`zoobench.datasets` (both: a source module), `zoobench.methods` or `zoobench.tasks` (a class).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from zoobench.errors import UserError, unknown

NOUNS = {
    "models": "model source", "datasets": "source of datasets", "methods": "method",
    "tasks": "task",
}  # fmt: skip
"""Group -> what one of its names is called in an error."""


def table(group: str, own: Mapping[str, str]) -> dict[str, str]:
    """`own` rows (name -> "module" or "module:attribute"), then the plug-ins' of `group`.

    Nothing is imported. A plug-in cannot replace one of our own names.
    """
    from importlib.metadata import entry_points  # a third of the time that --help takes

    theirs = {point.name: point.value for point in entry_points(group=f"zoobench.{group}")}
    return {**theirs, **own}


def named(group: str, own: Mapping[str, str], name: str, where: str) -> Any:
    """What `name` stands for in `group`; UnknownName with the nearest otherwise, and UserError for
    a plug-in that cannot be loaded."""
    if name in own:  # entry points cost milliseconds, and a plan asks for every cell
        return load(own[name])
    known = table(group, own)
    if name not in known:
        raise unknown(where, NOUNS[group], name, known)
    try:
        return load(known[name])
    except (Exception, SystemExit) as error:  # another package's code, which may do anything
        raise UserError(
            f"{where}: " * bool(where) + f"the plug-in {name!r} of zoobench.{group} "
            f"({known[name]}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def every(group: str, own: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """(name, what it stands for), all of `group`. A plug-in that cannot be loaded costs itself and
    a warning in the log."""
    for name in sorted(table(group, own)):
        try:
            yield name, named(group, own, name, "")
        except UserError as error:
            if name in own:
                raise
            logging.getLogger(__name__).warning("%s", error)


def load(target: str) -> Any:
    """The module "a.b", or the attribute "a.b:c"."""
    module, _, attribute = target.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
