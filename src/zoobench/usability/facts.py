"""Probes of what is known of a model without running it: licence, revision, files."""

from __future__ import annotations

import re
import time

from zoobench import models
from zoobench.costs.counted import weights_bytes
from zoobench.models.weights import parameters
from zoobench.ranking.recommend import PERMISSIVE
from zoobench.usability import ProbeResult
from zoobench.usability.subject import Subject

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".tar")
SAFE = (".safetensors", ".npz", ".npy", ".parquet", ".onnx", ".h5", ".keras")
UNPINNED = ("", "main", "master", "latest", "head")


def loads_offline(subject: Subject) -> ProbeResult:
    here, why = models.available(subject.ref)
    return ProbeResult("yes" if here else "no", why)


def license_known(subject: Subject) -> ProbeResult:
    name = subject.card.license
    known = name.casefold() not in ("", "unknown", "other")
    return ProbeResult("yes" if known else "no", name if known else "its card names none")


def permissive(subject: Subject) -> ProbeResult:
    name = subject.card.license
    if license_known(subject).answer == "no":
        return ProbeResult("unknown", "its card names no licence")
    parts = re.split(r"\s+(?:AND|OR)\s+", name.strip("()"))
    every = all(part.strip("() ").casefold() in PERMISSIVE for part in parts)
    return ProbeResult("yes" if every else "no", name)


def revision_pinned(subject: Subject) -> ProbeResult:
    revision = subject.ref.revision
    if revision.casefold() in UNPINNED:
        said = f"{revision!r} moves on" if revision else "its name has no revision"
        return ProbeResult("no", f"{said}: name a commit, as in {subject.ref.source}/...@COMMIT")
    return ProbeResult("yes", revision)


def trained_on_known(subject: Subject) -> ProbeResult:
    text = subject.card.pretrained_on
    known = text.casefold() not in ("", "unknown")
    return ProbeResult("yes" if known else "no", text if known else "its card does not say")


def loads(subject: Subject) -> ProbeResult:
    """In a process that has loaded nothing of this model before."""
    started = time.perf_counter()
    module = subject.backbone.module
    seconds = time.perf_counter() - started
    many = parameters(module)
    return ProbeResult("yes", f"{many:,} parameters", seconds)


def safe_format(subject: Subject) -> ProbeResult:
    said = subject.backbone.provenance
    if said.get("weights") == "random":
        return ProbeResult("unknown", "random weights come from no file")
    if kind := said.get("format"):
        return ProbeResult("yes", f"{kind}, which holds tensors alone")
    name = str(said.get("file") or "")
    suffix = name[name.rfind(".") :].casefold() if "." in name else ""
    if suffix in PICKLES:
        return ProbeResult("no", f"{name} is a pickle, which is read here without running code")
    if suffix in SAFE:
        return ProbeResult("yes", name)
    return ProbeResult("unknown", f"{name} is of no known format" if name else "no file is named")


def size_on_disk(subject: Subject) -> ProbeResult:
    """Of the file where it is known, else of the tensors."""
    said = subject.backbone.provenance.get("weights_bytes")
    if isinstance(said, (int, float)):
        return ProbeResult("yes", "the file of its weights", float(said))
    size = sum(weights_bytes(subject.backbone.module).values())
    return ProbeResult("yes", "its tensors, for no file is named", float(size))
