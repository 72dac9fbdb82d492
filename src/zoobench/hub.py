"""The Hugging Face hub through its own client and cache, with what the client leaves out.

huggingface_hub accepts a damaged file of the right size and keeps it: here every file
is checked against its hash (which names its blob, or is noted beside our own cache where
that holds copies instead of links), and a bad one is thrown away. Some of
its versions give up at the first 503, and others knock at a closed door for half a
minute: here a server's fault is tried again, and a host that does not answer is not.
Its newer versions begin a broken download anew: here large files go on (see transfer).
Every failure becomes a MissingWeights that says what, where it was looked for, and
what to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from zoobench import machine, network, transfer
from zoobench.errors import MissingWeights
from zoobench.files import parse_json
from zoobench.transfer import Meter

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TRIES = 3
PAUSE = 0.5
"""Seconds before the second try; doubled for the third."""

ABSENT = "not downloaded yet"
TENSORS = (".safetensors", ".bin", ".pth", ".pt")

T = TypeVar("T")

Choose = Callable[[Sequence[str]], list[str]]
"""The files to take of those in a repository, the weights last; [] when they do not suffice."""


@dataclass(frozen=True)
class File:
    """What the hub tells of a file: sha256, or git's sha1 of a small one, "" where untold."""

    hash: str = ""
    size: int = 0


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit on this disk. `sha256` is that of the weights, over all shards."""

    folder: Path
    commit: str
    files: tuple[Path, ...]
    sha256: str

    @property
    def bytes(self) -> int:
        """Size on disk of the weights: the files chosen that hold tensors."""
        weights = [f for f in self.files if f.suffix in TENSORS]
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


def cached_commit(repo: str, revision: str = "", kind: Kind = "models") -> str | None:
    """The commit that `revision` (default main) meant when it was last fetched."""
    if COMMIT.fullmatch(revision):
        return revision
    if ".." in Path(revision).parts or Path(revision).is_absolute():
        return None  # no name of a branch
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
    if commit is not None or network.offline():
        return commit
    with contextlib.suppress(MissingWeights):
        return _ask(repo, revision, timeout=5, tries=1, kind=kind)
    return cached_commit(repo, revision, kind)


def fetch(
    repo: str, revision: str, choose: Choose, wanted: str, meter: Meter | None = None
) -> Snapshot:
    """The chosen files at `revision`, downloaded where they are not here, all verified.

    `wanted` says in words what `choose` looks for, `meter` what downloading may take. Raises
    MissingWeights.
    """
    commit = _commit(repo, revision, choose)
    listed = _files(repo, commit, choose)
    folder = _repo_folder(repo) / "snapshots" / commit
    here = cached(repo, commit, choose)
    names = choose(sorted(listed)) if listed else [p.relative_to(folder).as_posix() for p in here]
    if not names:
        raise MissingWeights(f"{repo} at {commit[:12]} on the hub holds no {wanted}")
    told = {name: listed.get(name, File()) for name in names}
    present = [name for name in names if (folder / name).is_file()]
    bad = [name for name in present if not _verify(folder / name, told[name].hash)]
    if bad and network.offline():
        raise MissingWeights(
            f"{bad[0]} of {repo}@{commit[:12]} is damaged in {cache_folder()}: its content does "
            "not have the hash it is named by, and HF_HUB_OFFLINE forbids fetching it anew"
        )
    _discard([folder / name for name in bad])
    absent = [name for name in names if name not in present or name in bad]
    meter = meter or Meter()
    if absent:
        meter.expect(sum(_lacking(repo, told[n]) for n in absent), _free(), f"{repo}@{commit[:12]}")
    files = [
        _download(repo, name, commit, told[name], name in bad, meter)
        if name in absent
        else folder / name
        for name in names
    ]
    return _snapshot(commit, files)


def _blob(repo: str, file: File) -> Path:
    """Where the client keeps the content of a large file."""
    return _repo_folder(repo) / "blobs" / file.hash


def _lacking(repo: str, file: File) -> int:
    """Bytes of a file that are still to come."""
    begun = transfer.held(_blob(repo, file)) if SHA256.fullmatch(file.hash) else 0
    return max(0, file.size - begun)


def _free() -> int:
    """Bytes that are free where the client keeps its files."""
    folder = cache_folder()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _commit(repo: str, revision: str, choose: Choose) -> str:
    """What `revision` means now, or meant last time where nobody answers and all is here."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        return _ask(repo, revision, timeout=10, tries=TRIES)
    except MissingWeights:
        known = cached_commit(repo, revision)
        if known is None or not cached(repo, known, choose):
            raise
        return known


def _files(repo: str, commit: str, choose: Choose) -> dict[str, File]:
    """Every file of the commit: as noted before, else asked and noted for ever.

    What another programme downloaded may be a part of what the model needs, so that files
    in the cache do not say which there are. Empty where nobody answers and enough is here.
    """
    note = machine.cache_dir() / "hub" / repo.replace("/", "--") / f"{commit}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        noted = parse_json(note.read_text("utf-8"))
        files = {str(name): File(*one) for name, one in noted.items()}
        if all(isinstance(f.hash, str) and isinstance(f.size, int) for f in files.values()):
            return files
    try:
        files = _listing(repo, commit)
    except MissingWeights:
        if not cached(repo, commit, choose):
            raise
        return {}
    with contextlib.suppress(OSError):  # a cache that cannot be written costs a request each time
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({n: [f.hash, f.size] for n, f in files.items()}), "utf-8")
        part.replace(note)
    return files


def _snapshot(commit: str, files: list[Path]) -> Snapshot:
    folder = next(p for p in files[0].parents if p.name == commit)
    shards = [path for path in files if path.suffix in TENSORS] or files[-1:]
    each = [_sha256(path) for path in shards]
    sha256 = each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()
    return Snapshot(folder, commit, tuple(files), sha256)


def _sha256(path: Path) -> str:
    name = path.resolve().name
    return name if SHA256.fullmatch(name) else _sha(path, "sha256")


def _sha(path: Path, kind: str, head: bytes = b"") -> str:
    hasher = hashlib.new(kind, head, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _verify(path: Path, known: str = "") -> bool:
    """Whether a file's content has the hash that its blob is named by: sha256, or git's sha1.

    A cache without links holds copies under their own names: `known` is their hash.
    """
    blob = path.resolve()
    name = blob.name if SHA256.fullmatch(blob.name) or COMMIT.fullmatch(blob.name) else known
    if SHA256.fullmatch(name):
        return _sha(blob, "sha256") == name
    if COMMIT.fullmatch(name):
        return _sha(blob, "sha1", b"blob %d\0" % blob.stat().st_size) == name
    return True  # its hash was never told: the hub could not be asked since it came


def _discard(paths: Sequence[Path]) -> None:
    for path in paths:
        blob = path.resolve()
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)


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


def _listing(repo: str, commit: str) -> dict[str, File]:
    """Every file of the commit."""
    from huggingface_hub import HfApi

    with _explained(repo, commit):
        info = _again(
            lambda: HfApi().model_info(repo, revision=commit, timeout=10, files_metadata=True),
            TRIES,
        )
    return {
        one.rfilename: File(
            str((one.lfs.sha256 if one.lfs else one.blob_id) or ""), int(one.size or 0)
        )
        for one in info.siblings or ()
    }


def _download(repo: str, name: str, commit: str, told: File, damaged: bool, meter: Meter) -> Path:
    from huggingface_hub import hf_hub_download

    for _ in range(2):
        with _explained(repo, commit, name, "was damaged here" if damaged else ABSENT):
            if SHA256.fullmatch(told.hash) and told.size and not network.offline():
                _again(lambda: _receive(repo, name, commit, told, meter), TRIES)
            meter.check()
            # It finds the content of a large file in its place, and adds the name.
            path = Path(
                _again(lambda: hf_hub_download(repo, name, revision=commit, etag_timeout=10), TRIES)
            )
        if _verify(path, told.hash):
            return path
        _discard([path])
    raise MissingWeights(
        f"{name} of {repo} at {commit[:12]} came damaged from {network.address()} twice: its "
        "content does not have the hash it is named by. The copy was thrown away; try again later."
    )


def _receive(repo: str, name: str, commit: str, told: File, meter: Meter) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(repo, name, revision=commit)
    transfer.receive(url, _blob(repo, told), told.size, build_hf_headers(), meter)


def _again(call: Callable[[], T], tries: int) -> T:
    from huggingface_hub.errors import HfHubHTTPError

    if not network.offline():
        network.knock(network.endpoint())
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
def _explained(repo: str, revision: str, name: str = "", state: str = ABSENT) -> Iterator[None]:
    """Turn whatever the client raises into one MissingWeights. `state` is what was here."""
    from huggingface_hub import errors as hub_errors

    what = f"{name + ' of ' if name else ''}{repo}@{revision[:12]}"
    broken: tuple[type[Exception], ...] = (
        *transfer.broken(), hub_errors.EntryNotFoundError, OSError, ValueError,
    )  # fmt: skip
    looked = f"looked in {cache_folder()} and at {network.address()}"
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
        raise MissingWeights(f"{what}: {_reason(error, state)}; {looked}") from error


def _reason(error: BaseException, state: str) -> str:
    """The first cause in the chain that says something, in one line."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) and len(causes) < 8:
        causes.append(inner)
    text = " ".join(str(cause) for cause in causes)
    if network.offline():
        return f"{state}, and HF_HUB_OFFLINE forbids fetching it"
    if "refused" in text.lower():
        return f"{state}, and the hub refused the connection (are you offline?)"
    silent = any(isinstance(cause, (socket.gaierror, TimeoutError)) for cause in causes)
    if silent or network.unreachable():
        return f"{state}, and the hub cannot be reached (are you offline?)"
    if "Entry Not Found" in text or "404" in text:
        return "the repository has no such file (404)"
    if "onsistency check" in text or "incomplete" in text.lower() or "peer closed" in text:
        return "the download broke off before the end (truncated file)"
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{state}, and fetching it failed: {line}"
