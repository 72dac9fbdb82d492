"""Features once: a cache on disk, and the FeatureSource that frozen methods read.

One packed file a (model, split, view) under $ZOOBENCH_CACHE/features, named by a
key of all that can change the values. The manifest is written last, so that its
existence means the file is whole; its sha256 is checked when it is read. Two
processes may share the directory: the worst that happens is work done twice.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import NotFinite
from zoobench.interfaces import Backbone, InputSpec, Raw, Split
from zoobench.methods.folding import folded
from zoobench.schema import digest
from zoobench.store import write_atomic

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from zoobench.methods.sharing import Team

CACHE_VERSION = 1
DEFAULT_LIMIT_BYTES = 20 * 2**30
MEMORY_LIMIT_BYTES = 2**30
"""Features kept in memory by one worker, besides those on disk."""

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) examples."""


def cache_dir() -> Path:
    """$ZOOBENCH_CACHE, or ~/.cache/zoobench."""
    return Path(os.environ.get("ZOOBENCH_CACHE", "~/.cache/zoobench")).expanduser()


@dataclass(frozen=True)
class FeatureCache:
    """A bounded directory of feature files; the least recently used go first."""

    root: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def get(self, key: str) -> tuple[NDArray[np.float32], dict[str, Any]] | None:
        """(features, manifest) of `key`, or None. A damaged file is removed and None given."""
        import numpy as np

        manifest_path, data_path = self._paths(key)
        try:
            manifest: dict[str, Any] = json.loads(manifest_path.read_text(encoding="utf-8"))
            blob = data_path.read_bytes()
            if hashlib.sha256(blob).hexdigest() != manifest["sha256"]:
                raise ValueError("the content does not match its manifest")
            features = np.frombuffer(blob, dtype="<f4").reshape(manifest["shape"])
            os.utime(manifest_path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self._remove(key)
            return None
        return features.astype(np.float32), manifest

    def put(self, key: str, features: NDArray[np.float32], facts: Mapping[str, Any]) -> None:
        """Keep `features`; a full disk or an unwritable cache costs the cache, not the run."""
        manifest_path, data_path = self._paths(key)
        blob = features.astype("<f4").tobytes()
        manifest = {
            **facts,
            "shape": list(features.shape),
            "sha256": hashlib.sha256(blob).hexdigest(),
            "cache_version": CACHE_VERSION,
        }
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._evict(len(blob))
            write_atomic(data_path, blob)
            write_atomic(manifest_path, json.dumps(manifest, sort_keys=True).encode())
        except OSError:
            self._remove(key)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.root / f"{key}.json", self.root / f"{key}.f4"

    def _remove(self, key: str) -> None:
        for path in self._paths(key):  # the manifest first: without it the rest is nothing
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _evict(self, incoming: int) -> None:
        """Remove the least recently used entries until `incoming` bytes fit."""
        entries = []
        for manifest in self.root.glob("*.json"):
            try:
                size = manifest.with_suffix(".f4").stat().st_size
                entries.append((manifest.stat().st_mtime, manifest.stem, size))
            except FileNotFoundError:  # another process is evicting, or has yet to write
                continue
        held = sum(size for _, _, size in entries)
        for _, key, size in sorted(entries):
            if held + incoming <= self.limit_bytes:
                return
            self._remove(key)
            held -= size


def state_digest(module: torch.nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of the state_dict: what is really loaded."""
    import torch

    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        hasher.update(f"{name}:{data.dtype}:{tuple(data.shape)};".encode())
        hasher.update(data.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()[:32]


@dataclass(frozen=True)
class View:
    """How features are computed, beside by what: part of the cache's key.

    `precision` is "fp32" or "bf16" (autocast); `device` a torch device string.
    """

    name: str
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int = 64


class Features:
    """A FeatureSource: `backbone` on its device, its features kept on disk and in memory.

    `seconds` is the extraction time of each split by fingerprint: measured, or as
    the cache's manifest says it was, if that was on this device with as many threads;
    `computed` lists the keys that were computed here and not found in the cache.
    """

    def __init__(
        self,
        backbone: Backbone,
        view: View,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
    ) -> None:
        import torch

        self.backbone = backbone
        self.view = view
        self.cache = cache
        self.progress = progress
        self.device = torch.device(view.device)
        self.module = backbone.module
        self.input_spec: InputSpec = backbone.input_spec
        self.feature_dim = backbone.feature_dim
        self.pooling = backbone.pooling
        self.provenance = backbone.provenance
        self.team: Team | None = None
        self.seconds: dict[str, float] = {}
        self.computed: list[str] = []
        self._memory: OrderedDict[str, torch.Tensor] = OrderedDict()

    @cached_property
    def weights(self) -> str:
        """Digest of the state_dict that was really loaded."""
        return state_digest(self.module)

    @cached_property
    def fast(self) -> Backbone:
        """The backbone as it is run for features: batch norms folded, where that is exact."""
        return folded(self.backbone)

    def prepare(self, raw: Raw) -> Any:
        return self.backbone.prepare(raw)

    def collate(self, prepared: Sequence[Any]) -> Any:
        return self.backbone.collate(prepared)

    def embed(self, batch: Any) -> torch.Tensor:
        return self.backbone.embed(batch)

    def copy(self) -> Features:
        """The same source over a module of its own, to be trained; it keeps no features."""
        own = copy.copy(self.backbone)
        object.__setattr__(own, "module", copy.deepcopy(self.module))
        return Features(own, self.view, None, self.progress)

    def autocast(self) -> Any:
        """bf16 autocast where the view asks for it, else a context that does nothing."""
        import torch

        bf16 = self.view.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    def key(self, split: Split) -> str:
        """Flips with each thing that can change a feature's value, and with nothing else."""
        import torch

        ingredients = {
            "version": CACHE_VERSION,
            "model": self.view.name,
            "weights": self.weights,
            "input": self.input_spec.digest,
            "pooling": self.pooling,
            "split": split.fingerprint,
            "precision": self.view.precision,
            "device": self.device.type,
            "torch": torch.__version__,
            "libraries": self.provenance.get("libraries", {}),
        }
        return digest(ingredients, length=40)

    def features(self, split: Split) -> torch.Tensor:
        """(N, D) float32 on the CPU. Raises NotFinite where the model gives NaN or infinity."""
        import torch

        key = self.key(split)
        if key not in self._memory:
            held = self.cache.get(key) if self.cache is not None else None
            if held is None:
                self._memory[key] = self._extract_and_keep(split, key)
            else:
                self._memory[key] = torch.from_numpy(held[0])
                if held[1].get("timed_on") == timed_on(self.device):
                    self.seconds[split.fingerprint] = float(held[1]["seconds"])
            self._forget()
        self._memory.move_to_end(key)
        return self._memory[key]

    def assemble(self, split: Split, parts: Sequence[Split]) -> None:
        """Take the features of `split` from those of `parts`, which hold its examples by id.

        So a subset that grows costs its new examples alone, and each part is kept on disk.
        """
        import torch

        place: dict[str, int] = {}
        for part in parts:
            for one in part.ids:
                place.setdefault(one, len(place))
        rows = torch.empty(len(place), self.feature_dim)
        for part in parts:
            rows[torch.tensor([place[one] for one in part.ids])] = self.features(part)
        self._memory[self.key(split)] = rows[torch.tensor([place[one] for one in split.ids])]
        spent = [self.seconds.get(part.fingerprint) for part in parts]
        if None not in spent:
            self.seconds[split.fingerprint] = sum(one for one in spent if one is not None)

    def _forget(self) -> None:
        def held() -> int:
            return sum(t.numel() * t.element_size() for t in self._memory.values())

        while len(self._memory) > 1 and held() > MEMORY_LIMIT_BYTES:
            self._memory.popitem(last=False)

    def _extract_and_keep(self, split: Split, key: str) -> torch.Tensor:
        import torch

        started = time.perf_counter()
        features = extract(self, split)
        seconds = time.perf_counter() - started
        if not bool(torch.isfinite(features).all()):
            bad = int((~torch.isfinite(features)).any(dim=1).sum())
            raise NotFinite(f"the features of {bad} of {len(split)} {split.name} examples")
        self.seconds[split.fingerprint] = seconds
        self.computed.append(key)
        if self.cache is not None:
            facts = {
                "seconds": seconds,
                "timed_on": timed_on(self.device),
                "model": self.view.name,
            }
            self.cache.put(key, features.numpy(), facts)
        return features


def extract(source: Features, split: Split) -> torch.Tensor:
    """(N, D) float32 features of every example of `split`, in order, in eval mode.

    The next batch is decoded in a thread while this one is computed. Texts are
    taken shortest first, so that a batch pads little; the order is restored.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    order = reading_order(split, source.input_spec)
    step = source.view.batch_size
    batches = [order[i : i + step] for i in range(0, len(order), step)]
    out = torch.empty(len(split), source.feature_dim)

    def load(rows: Sequence[int]) -> Any:
        return source.collate([source.prepare(split.read(i)) for i in rows])

    source.module.eval().to(source.device)
    embed = source.fast.embed
    with (
        ThreadPoolExecutor(1, initializer=_alone) as decoder,
        torch.inference_mode(),
        source.autocast(),
    ):
        waiting = [decoder.submit(load, rows) for rows in batches[:2]]
        for number, rows in enumerate(batches):
            batch = waiting.pop(0).result()
            if number + 2 < len(batches):
                waiting.append(decoder.submit(load, batches[number + 2]))
            features = embed(to_device(batch, source.device))
            out[torch.as_tensor(rows)] = features.float().cpu()
            if source.progress is not None:
                source.progress(split.name, min((number + 1) * step, len(split)), len(split))
    return out


def timed_on(device: torch.device) -> str:
    """The device and threads that a time was measured on."""
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.node()} {platform.machine()} with {torch.get_num_threads()} threads"


def _alone() -> None:
    """Keep the calling thread's own tensor operations on that thread.

    A decoding thread would get a second team of OpenMP threads, and two teams that wait for
    each other's cores are slower than one.
    """
    import torch
    from threadpoolctl import ThreadpoolController

    torch.get_num_threads()  # torch sets its count at a thread's first use: let it be past
    ThreadpoolController().select(user_api="openmp").limit(limits=1)


def reading_order(split: Split, spec: InputSpec) -> list[int]:
    """Row numbers: as they are for pictures, by length for texts (ties by row)."""
    if spec.modality != "text":
        return list(range(len(split)))
    lengths = [len(split.read(i)) for i in range(len(split))]
    return sorted(range(len(split)), key=lengths.__getitem__)


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` (a tensor or a dict of tensors) on `device`; pictures in channels-last."""
    import torch

    if isinstance(batch, torch.Tensor):
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        return batch.to(device, non_blocking=True)
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
