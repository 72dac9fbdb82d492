"""advice.jsonl: what the advisor did and what it took, so that it can go on where it was.

Beside the run directory's records. A line is flushed before the next step begins; one
that a kill cut short is dropped. A step that began twice and never ended is a crash.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoobench.advise.nouns import LADDER, Action, Done
from zoobench.errors import StoreError
from zoobench.files import parse_json, write_atomic

FILE = "advice.jsonl"
TRIES = 2


@dataclass
class Journal:
    """`spent` seconds and `downloaded` bytes by all sessions until now; `sizes` and `classes` once
    they are known."""

    path: Path
    spent: float = 0.0
    downloaded: float = 0.0
    sizes: tuple[int, int, int] | None = None
    classes: int = 0
    done: tuple[Done, ...] = ()

    def opened(self, sizes: tuple[int, int, int], classes: int, spent: float) -> None:
        self.sizes, self.classes = sizes, classes
        body = {"did": "opened", "ladder": LADDER, "sizes": sizes, "classes": classes}
        self._write({**body, "spent": spent})

    def begun(self, action: Action, spent: float) -> None:
        step = {"model": action.model, "stage": action.stage, "rung": action.rung}
        self._write({"did": "begun", "step": step, "spent": spent})

    def ended(self, one: Done, spent: float) -> None:
        self.done = (*self.done, one)
        self._write({"did": "ended", "step": dataclasses.asdict(one), "spent": spent})

    def fetched(self, one: Done, spent: float) -> None:
        """A download ended. One that failed is tried again by the next session."""
        self.done = (*self.done, one)
        self.downloaded += one.facts["download_bytes"]
        self._write({"did": "fetched", "step": dataclasses.asdict(one), "spent": spent})

    def closed(self, spent: float) -> None:
        """A session ends here, so that what it took beside its steps counts too."""
        self._write({"did": "closed", "spent": spent})

    def _write(self, body: dict[str, Any]) -> None:
        self.spent = body["spent"]
        body["spent"] = round(body["spent"], 3)
        line = json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())


def read(folder: Path) -> Journal:
    """The journal in `folder`, new where there is none. Raises StoreError for a damaged one."""
    path = folder / FILE
    journal = Journal(path)
    if not path.exists():
        return journal
    blob = path.read_bytes()
    whole = blob[: blob.rfind(b"\n") + 1]
    if whole != blob:
        write_atomic(path, whole)
    open_steps: Counter[tuple[str, str, int]] = Counter()
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            _take(journal, parse_json(line), open_steps)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}:{number}: not a line of a journal: {error}") from error
    for (model, stage, rung), tries in open_steps.items():
        if tries >= TRIES:
            why = f"began {tries} times and never ended"
            dead: Any = {"model": model, "stage": stage, "rung": rung}
            journal.done = (*journal.done, Done(**dead, seconds=0.0, status="crash", why=why))
    return journal


def _take(
    journal: Journal, body: dict[str, Any], open_steps: Counter[tuple[str, str, int]]
) -> None:
    journal.spent = float(body["spent"])
    if body["did"] == "opened":
        if body.get("ladder") != LADDER:
            raise StoreError(
                f"{journal.path}: begun by a zoobench whose steps had other sizes: "
                "give another --out, or remove the folder"
            )
        train, valid, test = body["sizes"]
        journal.sizes, journal.classes = (train, valid, test), int(body["classes"])
        return
    if body["did"] == "closed":
        # Stopped by hand, not by a step: what was under way is no crash.
        open_steps.clear()
        return
    step = body["step"]
    if body["did"] == "fetched":
        journal.downloaded += step["facts"]["download_bytes"]
        if step["status"] == "ok":
            journal.done = (*journal.done, msgspec.convert(step, Done))
        return
    key = (step["model"], step["stage"], step["rung"])
    if body["did"] == "begun":
        open_steps[key] += 1
        return
    del open_steps[key]
    journal.done = (*journal.done, msgspec.convert(step, Done))
