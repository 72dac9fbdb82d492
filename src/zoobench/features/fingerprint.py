"""What a model makes of one fixed batch: small enough for a record, telling enough for a gate.

Two runs whose answers differ part somewhere: in the pixels, tokens or samples that the
preprocessing gave, in the features, or only in the probe on top. Each record holds what
says where, of a batch that is the same everywhere and for ever.

A digest says "not the same bytes", which is right for token ids. Pixels and features are
floating point: another processor or thread count adds in another order, and every bit of
a hash flips. So for them a sketch is kept: the tensor's elements, with random signs, summed
into 16 buckets (the count sketch; Charikar, Chen and Farach-Colton 2002). It is linear,
so the distance of two sketches estimates the distance of the whole tensors, to about a
third; last-bit noise stays last-bit noise, and no element is out of sight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.schema import Modality, canonical

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features
    from zoobench.interfaces import Raw

VERSION = 1
"""Another batch or another way to sum makes another version; two versions are not compared."""
BUCKETS = 16
FINE, COARSE = 1e-4, 3e-2
"""Distances of sketches of features up to which one function was computed: of float32 on a CPU, and
of bf16 or on a GPU."""
UNTELLING = ("_name_or_path", "transformers_version", "file", "url")
"""Entries of a configuration that say where it came from."""
DIGITS = 7
"""Significant digits kept of a bucket: float32's own."""

SHAPES = ((640, 427), (333, 500), (224, 224), (61, 97))
"""(width, height) of the pictures: shrunk, upright, left alone by many, and enlarged."""
CLIPS = ((16_000, 16_000), (9_000, 8_000), (44_100, 44_100), (4_800, 48_000))
"""(samples, samples a second) of the recordings: of common rates, the last a tenth of a second."""
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Straße, naïve café, \u4f60\u597d \u0645\u0631\u062d\u0628\u0627 \U0001f600 \u2014 e\u0301",
    "UPPER lower MiXeD\t tabs  and   spaces\nlines; 3.14159e-10, $1,000 (50%) user@example.com",
    "again and " * 600,
)


def pictures() -> list[Raw]:
    """RGB pictures of whole-number arithmetic alone: smooth parts, stripes and fine grain."""
    from PIL import Image

    found: list[Raw] = []
    for k, (width, height) in enumerate(SHAPES):
        y, x = np.mgrid[0:height, 0:width].astype(np.int64)
        smooth = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 3 % 256)
        grain = (x * x * (k + 3) + y * y * 7 + x * y * 11) % 128
        stripes = ((x // (k + 2) + y // 3) % 2) * 64
        channels = [(s // 2 + grain * (c == 0) + stripes * (c != 2)) for c, s in enumerate(smooth)]
        pixels = np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)
        found.append(Image.fromarray(pixels))
    return found


def recordings() -> list[Raw]:
    """Clips of whole-number arithmetic alone: a pitch that rises, and grain, in parts with
    silence between them."""
    from zoobench.audio import Clip

    found: list[Raw] = []
    for k, (samples, rate) in enumerate(CLIPS):
        t = np.arange(samples, dtype=np.int64)
        saw = (t * (40 + 7 * k) + t * t // 900) % 4096 - 2048
        grain = (t * t * (k + 3) + t * 11) % 257 - 128
        loud = (t * 5 // samples) % 2 == 0
        found.append(Clip(((saw + 4 * grain) * loud / 4096).astype(np.float32), rate))
    return found


def sketch(values: NDArray[Any]) -> list[float]:
    """The count sketch of an array of any shape: BUCKETS sums, for JSON.

    Signs are bits of SHAKE-128, which no library version can change.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    bits = hashlib.shake_128(b"zoobench probe batch").digest((flat.size + 7) // 8)
    signs = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=flat.size) * 2.0 - 1.0
    padded = np.zeros(-(-flat.size // BUCKETS) * BUCKETS)
    padded[: flat.size] = flat * signs
    return [float(f"{v:.{DIGITS}g}") for v in padded.reshape(-1, BUCKETS).sum(axis=0)]


def fixed_batch(source: Features) -> Any:
    """The pictures, texts or recordings as the model's own preprocessing makes them."""
    raws = fixed_inputs(source.input_spec.modality)
    return source.collate([source.prepare(raw) for raw in raws])


def fixed_inputs(modality: Modality) -> list[Any]:
    """The pictures, texts or recordings, which are the same everywhere."""
    made: dict[Modality, Callable[[], list[Any]]] = {
        "image": pictures, "text": lambda: list(TEXTS), "audio": recordings,
    }  # fmt: skip
    return made[modality]()


def conduct(module: torch.nn.Module) -> list[str]:
    """What says how a network computes, beside its weights: its modules with their attributes, and
    its resolved configuration."""
    config = getattr(module, "config", None) or getattr(module, "default_cfg", {})
    facts = config.to_dict() if hasattr(config, "to_dict") else config
    told = {k: str(v) for k, v in dict(facts).items() if k not in UNTELLING}
    return [repr(module), canonical(told)]


def alike(old: Mapping[str, Any], new: Mapping[str, Any], exact: bool) -> bool:
    """Whether two sketches are of one function: up to rounding, in float32 on a CPU (`exact`) or
    where arithmetic is coarser."""
    return distance(old, new) <= (FINE if exact else COARSE)


def fingerprint(source: Features) -> dict[str, Any]:
    """`pixels` and `features` of the fixed batch, computed as the run computes features.

    Pixels hold a digest of all input tensors and, where they are floating point, a sketch;
    features a sketch. Raises what the model raises.
    """
    import torch

    from zoobench.features.incoming import to_device

    batch = source.fixed_batch
    source.module.eval().to(source.device)
    with torch.inference_mode():
        features = source.taking(source.precision).embed(to_device(batch, source.device))
    found: dict[str, Any] = {"probe_batch": VERSION, "pixels": inputs(batch)}
    if bool(torch.isfinite(features).all()):
        found["features"] = {"sketch": sketch(features.float().cpu().numpy())}
    return found


def inputs(batch: Any) -> dict[str, Any]:
    """`digest` of all tensors of a batch, and `sketch` of the floating-point ones."""
    named: Mapping[str, torch.Tensor] = batch if isinstance(batch, Mapping) else {"": batch}
    hasher = hashlib.sha256()
    floating = []
    for name in sorted(named):
        array = named[name].detach().cpu().contiguous().numpy()
        hasher.update(f"{name}:{array.dtype}:{array.shape};".encode() + array.tobytes())
        if array.dtype.kind == "f":
            floating.append(array.ravel())
    found: dict[str, Any] = {"digest": hasher.hexdigest()[:16]}
    if floating:
        found["sketch"] = sketch(np.concatenate(floating))
    return found


def distance(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """How far apart two entries are, relative to the old one's size; 0 equal, inf untellable.

    Sketches estimate it to about a third; without them only equal digests are 0.
    """
    if old.get("digest") is not None and old.get("digest") == new.get("digest"):
        return 0.0
    if not (old.get("sketch") and new.get("sketch")):
        return float("inf") if old != new else 0.0
    before, after = np.array(old["sketch"]), np.array(new["sketch"])
    if before.shape != after.shape:
        return float("inf")
    size = float(np.linalg.norm(before))
    apart = float(np.linalg.norm(after - before))
    return apart / size if size else float("inf") if apart else 0.0
