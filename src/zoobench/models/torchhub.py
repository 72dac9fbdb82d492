"""Files that torch.hub's downloader keeps under $TORCH_HOME, their names' hash verified."""

from __future__ import annotations

import os
import re
import shutil
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from zoobench import network
from zoobench.errors import MissingWeights
from zoobench.models import checkpoints
from zoobench.transfer import Meter

HASH = re.compile(r"-([0-9a-f]{8,64})\.")


def checkpoint_path(url: str) -> Path:
    """Where torch.hub keeps the file of `url`, without importing torch."""
    env = os.environ
    home = env.get("TORCH_HOME") or str(
        Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints" / Path(urlsplit(url).path).name


def available(url: str) -> tuple[bool, str]:
    """Whether the file of `url` is here, and where that is."""
    path = checkpoint_path(url)
    return path.is_file(), f"{'in' if path.is_file() else 'not in'} {path.parent}"


def fetch(url: str, meter: Meter | None = None) -> tuple[Path, str]:
    """(path, sha256) of the file of `url`, downloaded when it is not here and `meter` allows it.

    A file whose sha256 does not begin as its name says is thrown away. Raises
    MissingWeights.
    """
    from torch.hub import download_url_to_file

    path = checkpoint_path(url)
    match = HASH.search(path.name)
    prefix = match.group(1) if match else ""
    if path.is_file():
        sha256 = checkpoints.sha256_file(path)
        if sha256.startswith(prefix):
            return path, sha256
        path.unlink()
    try:
        network.knock(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        if meter is not None:
            size = _length(url)
            meter.expect(size, shutil.disk_usage(path.parent).free, path.name)
            meter.received += size
        download_url_to_file(url, str(path), prefix or None, progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingWeights(
            f"{path.name} is not in {path.parent} and could not be fetched from {url}: {error}"
        ) from error
    return path, checkpoints.sha256_file(path)


def _length(url: str) -> int:
    """Bytes of the file at `url`. Raises OSError."""
    asked = urllib.request.Request(url, method="HEAD")  # noqa: S310  a library's own address
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        return int(answer.headers["Content-Length"] or 0)
