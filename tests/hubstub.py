"""A stand-in for the Hugging Face hub on 127.0.0.1: the public fake of the one seam to it.

It speaks as much of the protocol as the client's download path uses: model info, tree,
and resolve with its headers and ranges. Faults can be switched on while it runs.

    with HubStub({"user/model": {"config.json": b"{}"}}) as hub:
        subprocess.run([...], env={**os.environ, **hub.env(tmp_path)})

HF_ENDPOINT is read when huggingface_hub is imported, so the client must be a child process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


def git_sha1(body: bytes) -> str:
    """What git, and so the hub, calls a small file."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def commit_of(files: Files) -> str:
    """40 hex digits that change with any file: the stub's commit."""
    lines = "".join(f"{name} {hashlib.sha256(body).hexdigest()}\n" for name, body in files.items())
    return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()


def is_large(name: str) -> bool:
    """Whether the hub would keep the file in LFS, named by its sha256."""
    return name.endswith((".safetensors", ".bin", ".pt", ".pth", ".parquet", ".model"))


def _sibling(name: str, content: bytes) -> dict[str, object]:
    """A file as model info lists it, with its hashes."""
    told: dict[str, object] = {"rfilename": name, "size": len(content)}
    told["blobId"] = git_sha1(content)
    if is_large(name):
        sha256 = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
    return told


def folder_files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, as the stub wants them."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@dataclass
class Faults:
    """What goes wrong, by file name or repository ("*" for every file). Change them at any time."""

    missing: set[str] = field(default_factory=set)
    """Listed, but 404 when it is asked for."""
    truncated: set[str] = field(default_factory=set)
    """Half of the body, then the connection is closed."""
    corrupt: set[str] = field(default_factory=set)
    """A body of the right size whose middle byte is another."""
    slow: dict[str, float] = field(default_factory=dict)
    """Bytes a second of a body."""
    unavailable: int = 0
    """How many of the next requests get 503."""


class HubStub:
    """Serves `repos` (repository -> files) until the `with` block ends.

    `requests` lists "METHOD path" of everything asked. `kind` is "models" or "datasets".
    """

    def __init__(self, repos: Mapping[str, Files], kind: str = "models") -> None:
        self.repos = {name: dict(files) for name, files in repos.items()}
        self.kind = kind
        self.faults = Faults()
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = _passed_over  # type: ignore[method-assign]
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def commit(self, repo: str) -> str:
        return commit_of(self.repos[repo])

    def env(self, home: Path) -> dict[str, str]:
        """Variables that make a child process use this hub, with all its caches in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home / "hf"),
            "TORCH_HOME": str(home / "torch"),
            "ZOOBENCH_CACHE": str(home / "zoobench"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def __enter__(self) -> HubStub:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _passed_over(request: object, client_address: object) -> None:
    """Who asked may end before the answer does."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubStub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        kind = self.hub.kind
        prefix = "" if kind == "models" else f"{kind}/"
        repo = r"(?P<repo>[^/]+/[^/]+)"
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.faults.unavailable > 0:
            self.hub.faults.unavailable -= 1
            self._send(503, b"busy", {}, body)
        elif found := re.fullmatch(rf"/api/{kind}/{repo}(?:/(?P<what>revision|tree)/.*)?", path):
            self._info(found["repo"], found["what"], body)
        elif found := re.fullmatch(rf"/{prefix}{repo}/resolve/(?P<rev>[^/]+)/(?P<name>.+)", path):
            self._file(found["repo"], found["rev"], found["name"], body)
        else:
            self._refuse("EntryNotFound", body)

    def _refuse(self, code: str, body: bool, **headers: str) -> None:
        self._send(404, b"", {**headers, "X-Error-Code": code}, body)

    def _info(self, repo: str, what: str | None, body: bool) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._refuse("RepoNotFound", body)
            return
        answer: object = {
            "id": repo,
            "sha": commit_of(files),
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [_sibling(name, content) for name, content in files.items()],
        }
        if what == "tree":
            answer = [
                {"type": "file", "path": n, "size": len(files[n]), "oid": git_sha1(files[n])}
                for n in files
            ]
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body)

    def _file(self, repo: str, revision: str, name: str, body: bool) -> None:
        faults = self.hub.faults
        files = self.hub.repos.get(repo)
        if files is None:
            self._refuse("RepoNotFound", body)
            return
        commit = commit_of(files)
        if revision not in ("main", commit):
            self._refuse("RevisionNotFound", body)
            return
        those = {repo, name, "*"}
        if name not in files or faults.missing & those:
            self._refuse("EntryNotFound", body, **{"X-Repo-Commit": commit})
            return
        content = files[name]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{git_sha1(content)}"'
        if is_large(name):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
        if faults.corrupt & those and content:
            middle = len(content) // 2
            changed = bytes([content[middle] ^ 0xFF])
            content = content[:middle] + changed + content[middle + 1 :]
        cut = body and bool(faults.truncated & those)
        pace = min((faults.slow[one] for one in those & faults.slow.keys()), default=0.0)
        self._send(200, content, headers, body, cut, pace)

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str],
        body: bool,
        cut: bool = False,
        pace: float = 0.0,
    ) -> None:
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if status == 200 and wanted:
            start, status = min(int(wanted[1]), len(content)), 206
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers = {**headers, "Content-Range": span}
        part = content[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(part)))
        if cut:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not body:
            return
        part = part[: len(part) // 2] if cut else part
        step = max(1, round(pace / 20)) if pace else max(1, len(part))
        with contextlib.suppress(ConnectionError):  # who asked may have had enough
            for start in range(0, len(part), step):
                self.wfile.write(part[start : start + step])
                time.sleep(step / pace if pace else 0.0)
