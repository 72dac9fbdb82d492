"""Third-party models, datasets, methods and tasks, found through stdlib entry points.

A package offers one by an entry point in the group `zoobench.models`,
`zoobench.datasets` (both: a source module), `zoobench.methods` or `zoobench.tasks` (a class).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from zoobench.errors import unknown


def table(group: str, own: Mapping[str, str]) -> dict[str, str]:
    """`own` rows (name -> "module" or "module:attribute"), then the plug-ins' of `group`.

    Nothing is imported. A plug-in cannot replace one of our own names.
    """
    from importlib.metadata import entry_points  # a third of the time that --help takes

    theirs = {point.name: point.value for point in entry_points(group=f"zoobench.{group}")}
    return {**theirs, **own}


def named(group: str, own: Mapping[str, str], name: str, where: str) -> Any:
    """What `name` stands for in `group` (a plural); UnknownName with the nearest otherwise."""
    target = own.get(name)
    if target is None:  # entry points cost milliseconds, and a plan asks for every cell
        known = table(group, own)
        if name not in known:
            raise unknown(where, group.removesuffix("s"), name, known)
        target = known[name]
    return load(target)


def load(target: str) -> Any:
    """The module "a.b", or the attribute "a.b:c"."""
    module, _, attribute = target.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
