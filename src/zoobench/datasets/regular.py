"""Files as a stranger's folder holds them: only regular ones are read, and no more than is said.

A named pipe never ends, a device has no end, and either may stand behind a link.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

LARGEST = 1 << 29
"""Bytes of one example's file: a bound on what one file can take of the memory. Pillow refuses
more than 179 million pixels, which as a raw RGB bitmap fill it."""

_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
}  # fmt: skip


def irregular(path: str) -> str:
    """What `path` is when it is no regular file, in words; "" for a regular one, links followed.

    Raises OSError where there is nothing, or nothing that may be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL byte", path) from None
    except OSError:
        if os.path.islink(path):
            return "a broken link"
        raise
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a special file")


def _opened(path: str) -> BinaryIO:
    """Raises OSError for anything but a regular file, its `strerror` a few words for people."""
    what = irregular(path)
    if what:
        raise OSError(errno.EINVAL, f"it is {what}", path)

    def opener(name: str, flags: int) -> int:
        # Whoever swaps the file for a pipe after the look above does not make us wait.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return file


def head(path: str, most: int) -> bytes:
    """The first `most` bytes of a regular file. Raises OSError as `read` does."""
    with _opened(path) as file:
        return file.read(most)


def read(path: str, most: int = LARGEST) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises OSError for anything else, its `strerror` a few words for people.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, {most:,} are read at most", path)
        content = file.read(size + 1)
    if len(content) != size:
        raise OSError(errno.EIO, "its size is not what the file system says", path)
    return content
