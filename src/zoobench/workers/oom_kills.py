"""Whether the system itself has killed a process of ours for want of memory.

The kernel counts such kills for each control group, the victim's own; a limit of a parent
group and the machine's end count there too. SIGKILL alone says nothing: anybody can send it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def oom_kills(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Kills so far in our control group, or of the machine; None where nobody counts them.

    Read from `memory.events` (cgroup 2), `memory.oom_control` (cgroup 1) or, where no group is
    to be seen, `vmstat`.
    """
    for file in _counters(proc, groups):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def _counters(proc: Path, groups: Path) -> Iterator[Path]:
    """Where the count may stand, the nearest to us first."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        ours = path.lstrip("/")
        # In a container the path may be the host's, and the group lies at the mount itself.
        if not controllers:
            yield groups / ours / "memory.events"
            yield groups / "memory.events"
        elif "memory" in controllers.split(","):
            yield groups / "memory" / ours / "memory.oom_control"
            yield groups / "memory" / "memory.oom_control"
    yield proc / "vmstat"
