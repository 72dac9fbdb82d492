"""The Hugging Face hub through its own client and cache, with what the client leaves out.

huggingface_hub accepts a damaged file of the right size and keeps it: here every file
is checked against the hash that names its blob, and a bad one is thrown away. Some of
its versions give up at the first 503, and others knock at a closed door for half a
minute: here a server's fault is tried again, and a host that does not answer is not.
Every failure becomes a MissingWeights that says what, where it was looked for, and
what to do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from zoobench.errors import MissingWeights

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TRIES = 3
PAUSE = 0.5
"""Seconds before the second try; doubled for the third."""

T = TypeVar("T")

Choose = Callable[[Sequence[str]], list[str]]
"""The files to take of those in a repository, the weights last; [] when they do not suffice."""


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit on this disk. `sha256` is that of the last one chosen (the weights)."""

    folder: Path
    commit: str
    files: tuple[Path, ...]
    sha256: str

    @property
    def bytes(self) -> int:
        """Size on disk of the weights: the files chosen that hold tensors."""
        weights = [f for f in self.files if f.suffix in (".safetensors", ".bin", ".pth", ".pt")]
        return sum(path.stat().st_size for path in weights)


def config_only(names: Sequence[str]) -> list[str]:
    """A Choose that takes config.json and nothing else."""
    return ["config.json"] if "config.json" in names else []


def cache_folder() -> Path:
    """Where the hub's client keeps its files, by the same variables, without importing it."""
    env = os.environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    home = env.get("HF_HOME")
    base = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return (Path(home).expanduser() if home else base) / "hub"


Kind = Literal["models", "datasets"]
MARK: dict[Kind, str] = {"models": "config.json", "datasets": "README.md"}
"""A small file to ask for, by which the client learns what commit a revision means."""


def _repo_folder(repo: str, kind: Kind = "models") -> Path:
    return cache_folder() / f"{kind}--{repo.replace('/', '--')}"


def offline() -> bool:
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in ("1", "ON", "YES", "TRUE")


def cached_commit(repo: str, revision: str = "", kind: Kind = "models") -> str | None:
    """The commit that `revision` (default main) meant when it was last fetched."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        commit = (_repo_folder(repo, kind) / "refs" / (revision or "main")).read_text().strip()
    except OSError:
        return None
    return commit if COMMIT.fullmatch(commit) else None


def cached(repo: str, revision: str, choose: Choose) -> list[Path]:
    """The chosen files of a snapshot that is already complete here, else []."""
    commit = cached_commit(repo, revision)
    if commit is None:
        return []
    folder = _repo_folder(repo) / "snapshots" / commit
    present = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return [folder / name for name in choose(present)]


def pin(repo: str, revision: str = "", kind: Kind = "models") -> str | None:
    """The commit `revision` means now: from the cache, else asked once; None when unknown.

    Asking fetches one small file, so that the client notes the branch's commit in its cache
    and the same name means the same thing offline. A repository without that file still
    tells its commit.
    """
    commit = cached_commit(repo, revision, kind)
    if commit is not None or offline():
        return commit
    with contextlib.suppress(MissingWeights):
        return _ask(repo, revision, timeout=5, tries=1, kind=kind)
    return cached_commit(repo, revision, kind)


def fetch(repo: str, revision: str, choose: Choose, wanted: str) -> Snapshot:
    """The chosen files at `revision`, downloaded where they are not here, all verified.

    `wanted` says in words what `choose` looks for. Raises MissingWeights.
    """
    commit = revision
    if not COMMIT.fullmatch(revision):
        try:
            commit = _ask(repo, revision, timeout=10, tries=TRIES)
        except MissingWeights:
            # No answer: what the branch meant last time is the best that is known.
            known = cached_commit(repo, revision)
            if known is None or not cached(repo, known, choose):
                raise
            commit = known
    files = cached(repo, commit, choose)
    if files and not (bad := [f for f in files if not _verify(f)]):
        return _snapshot(commit, files)
    if files:
        _discard(bad)
    names = choose(_listing(repo, commit))
    if not names:
        raise MissingWeights(f"{repo} at {commit[:12]} on the hub holds no {wanted}")
    return _snapshot(commit, [_download(repo, name, commit) for name in names])


def _snapshot(commit: str, files: list[Path]) -> Snapshot:
    folder = next(p for p in files[0].parents if p.name == commit)
    name = files[-1].resolve().name
    sha256 = name if SHA256.fullmatch(name) else _sha(files[-1], "sha256")
    return Snapshot(folder, commit, tuple(files), sha256)


def _sha(path: Path, kind: str, head: bytes = b"") -> str:
    hasher = hashlib.new(kind, head, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _verify(path: Path) -> bool:
    """Whether the blob's content has the hash it is named by: sha256, or git's sha1."""
    blob = path.resolve()
    if SHA256.fullmatch(blob.name):
        return _sha(blob, "sha256") == blob.name
    if COMMIT.fullmatch(blob.name):
        return _sha(blob, "sha1", b"blob %d\0" % blob.stat().st_size) == blob.name
    return True  # copied instead of linked: nothing to check against


def _discard(paths: Sequence[Path]) -> None:
    for path in paths:
        blob = path.resolve()
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)


@functools.cache
def _reached(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=5).close()


def knock(url: str) -> None:
    """One quick TCP connection to `url`'s host, once a process. Raises OSError.

    Behind a proxy nothing is tried: there the host need not be reachable.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    _reached(host, parts.port or (443 if parts.scheme == "https" else 80))


def _ask(repo: str, revision: str, timeout: float, tries: int, kind: Kind = "models") -> str:
    from huggingface_hub import hf_hub_download

    with _explained(repo, revision or "main"):
        path = _again(
            lambda: hf_hub_download(
                repo,
                MARK[kind],
                revision=revision or None,
                etag_timeout=timeout,
                repo_type=kind.removesuffix("s"),
            ),
            tries,
        )
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1]


def _listing(repo: str, commit: str) -> list[str]:
    from huggingface_hub import HfApi

    with _explained(repo, commit):
        info = _again(lambda: HfApi().model_info(repo, revision=commit, timeout=10), TRIES)
    return [sibling.rfilename for sibling in info.siblings or ()]


def _download(repo: str, name: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    for _ in range(2):
        with _explained(repo, commit, name):
            path = Path(
                _again(lambda: hf_hub_download(repo, name, revision=commit, etag_timeout=10), TRIES)
            )
        if _verify(path):
            return path
        _discard([path])
    raise MissingWeights(
        f"{name} of {repo} at {commit[:12]} came damaged from {_endpoint()} twice: its content "
        "does not have the hash it is named by. The copy was thrown away; try again later."
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _transport() -> tuple[type[Exception], ...]:
    """What the client's HTTP library raises; which library that is depends on its version."""
    found: list[type[Exception]] = []
    for module, name in (
        ("httpx2", "HTTPError"),
        ("httpx", "HTTPError"),
        ("requests", "RequestException"),
    ):
        with contextlib.suppress(ImportError):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


def _again(call: Callable[[], T], tries: int) -> T:
    from huggingface_hub.errors import HfHubHTTPError

    if not offline():
        knock(_endpoint())
    for attempt in range(1, tries + 1):
        try:
            return call()
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", 0)
            if attempt == tries or (status < 500 and status != 429):
                raise
        time.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("unreachable: the last try returns or raises")


@contextlib.contextmanager
def _explained(repo: str, revision: str, name: str = "") -> Iterator[None]:
    """Turn whatever the client raises into one MissingWeights."""
    from huggingface_hub import errors as hub_errors

    what = f"{name + ' of ' if name else ''}{repo}@{revision[:12]}"
    broken: tuple[type[Exception], ...] = (
        *_transport(), hub_errors.EntryNotFoundError, OSError, ValueError,
    )  # fmt: skip
    looked = f"looked in {cache_folder()} and at {_endpoint()}"
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise MissingWeights(
            f"{what}: access must be asked for on the model's page; then set HF_TOKEN ({looked})"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise MissingWeights(
            f"{what}: no such repository, or a private one (then set HF_TOKEN); {looked}"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise MissingWeights(f"{what}: the repository has no such revision; {looked}") from error
    except broken as error:
        raise MissingWeights(f"{what}: {_reason(error)}; {looked}") from error


def _reason(error: BaseException) -> str:
    """The first cause in the chain that says something, in one line."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) and len(causes) < 8:
        causes.append(inner)
    text = " ".join(str(cause) for cause in causes)
    if offline():
        return "not downloaded yet, and HF_HUB_OFFLINE forbids fetching it"
    if "refused" in text.lower():
        return "not downloaded yet, and the hub refused the connection (are you offline?)"
    if any(isinstance(cause, (socket.gaierror, TimeoutError)) for cause in causes):
        return "not downloaded yet, and the hub cannot be reached (are you offline?)"
    if "Entry Not Found" in text or "404" in text:
        return "the repository has no such file (404)"
    if "onsistency check" in text or "incomplete" in text.lower() or "peer closed" in text:
        return "the download broke off before the end (truncated file)"
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"not downloaded yet, and fetching it failed: {line}"
