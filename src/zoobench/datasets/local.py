"""What sources of a user's own files have in common, once each has said how they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable

from zoobench.datasets import control, options
from zoobench.datasets.faults import about, raised_as
from zoobench.datasets.splits import Found, assemble
from zoobench.errors import BadData, UserError
from zoobench.interfaces import Splits
from zoobench.schema import Ref

Read = Callable[[], tuple[Found, str]]
"""Gives what the files hold, and the revision. Raises BadData where they cannot be used."""


def with_path(ref: Ref, name: str) -> Ref:
    """`ref` with the option `path`: where it is not given, its name is the path, and `name` its
    name."""
    if "path" in dict(ref.options):
        return ref
    return Ref(ref.source, name, ref.revision, ref.options).with_options(path=ref.name)


def resolved(ref: Ref, where: str, read: Read) -> Ref:
    """`ref` at the revision of what is read, which can be split. Its faults are said on standard
    error, before a run and where it is planned. Raises UserError."""
    with raised_as(UserError, where):
        found, revision = read()
        splits = assemble(found, ref)
        control.counted(ref, splits)
    if told := about(splits.notes):
        logging.getLogger(__name__).warning("%s: %s", ref.id, told)
    return options.pin(ref, revision, where)


def loaded(ref: Ref, place: str, read: Read) -> Splits:
    """The splits of what is read at `place`. Raises BadData where it is not what `ref` was pinned
    to, and for all that is wrong with it."""
    with raised_as(BadData):
        found, here = read()
    if ref.revision not in ("", here):
        raise BadData(f"{place}: its content is not what {ref} was pinned to")
    return assemble(found, ref)
