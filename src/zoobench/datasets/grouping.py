"""Which files of a folder belong together: a speaker's, a kit's, a recording's.

    folder/words?path=words&group_pattern={group}_nohash_*
    folder/drums?path=drums&group_level=1

Groups are whole in a derived split, and intervals resample groups. A pattern has no more than `*`
for any characters and `{group}`: a regular expression of a stranger's may run for years.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from zoobench.datasets import options
from zoobench.datasets.listing import shown
from zoobench.errors import BadData, UserError, opening
from zoobench.schema import Ref

OPTIONS = ("group_level", "group_pattern")
MARK = "{group}"
STARS = 4
"""Of a pattern: matching takes time as the name's length to the power of them."""
LONGEST = 200
"""Characters of a pattern."""


def check(ref: Ref, where: str) -> None:
    """Raises UserError for options that make no sense together or apart."""
    level, pattern = ref.option("group_level"), options.text(ref, "group_pattern")
    at = f"{opening(where)}{ref.id}"
    if level is not None and pattern:
        raise UserError(f"{at}: group_level and group_pattern are two ways to group: one")
    if level is not None and (isinstance(level, bool) or not isinstance(level, int) or level < 1):
        raise UserError(
            f"{at}: group_level is 1 for the folders inside of a class, 2 for those inside of "
            f"these, not {level!r}"
        )
    if "group_pattern" not in dict(ref.options):
        return
    if pattern.count(MARK) != 1 or pattern.count("*") > STARS or len(pattern) > LONGEST:
        raise UserError(
            f"{at}: group_pattern is a file's name with {MARK} once, and up to {STARS} times * for "
            f"any characters, such as '{MARK}_*', not {pattern!r}"
        )
    if f"*{MARK}" in pattern or f"{MARK}*" in pattern or "**" in pattern:
        raise UserError(
            f"{at}: group_pattern {pattern!r} does not say where {MARK} ends or begins: put a "
            "character between it and *"
        )


def of_files(ref: Ref, files: Sequence[tuple[str, str]], root: str) -> dict[str, str]:
    """Path -> group of `files`, (split, path), in a folder of classes `root`; empty where `ref`
    asks for none. Raises BadData where some have no group."""
    if not any(name in OPTIONS for name, _ in ref.options):
        return {}
    find = _by_level(ref, root) if ref.option("group_level") is not None else _by_name(ref)
    groups = {path: find(split, path) for split, path in files}
    without = [path for path, group in groups.items() if not group]
    if without:
        raise BadData(
            f"{shown(root)}: {len(without)} of {len(groups)} files are of no group, such as "
            f"{shown(os.path.relpath(without[0], root))!r}"
        )
    return groups


def _by_level(ref: Ref, root: str) -> Callable[[str, str], str]:
    level = int(ref.option("group_level", 1))

    def find(split: str, path: str) -> str:
        folders = os.path.relpath(path, root).split(os.sep)[:-1]
        inner = folders[1 + bool(split) :]
        return shown(inner[level - 1]) if len(inner) >= level else ""

    return find


def _by_name(ref: Ref) -> Callable[[str, str], str]:
    parts = re.split(r"(\*|\{group\})", options.text(ref, "group_pattern"))
    means = {"*": ".*?", MARK: "(.+?)"}
    pattern = re.compile("".join(means.get(part) or re.escape(part) for part in parts), re.DOTALL)

    def find(split: str, path: str) -> str:
        match = pattern.fullmatch(shown(os.path.basename(path)))
        return match[1] if match else ""

    return find
