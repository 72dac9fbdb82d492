"""Features of words: the states of a split's words, computed once, kept in half size (`mapped`).

A word's feature is its first piece's, in the window that gives it most context, after each of
three layers (`TokenReader.depths`). N texts, R words of all of them, L layers, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import NotFinite
from zoobench.features import precision
from zoobench.features.extraction import extract_into
from zoobench.features.mapped import MappedCache, MappedSource, Rounded, filled, job_of
from zoobench.interfaces import InputSpec, Split
from zoobench.models.tokens import Window, collate, windows
from zoobench.schema import digest
from zoobench.views import TokenReader, WordFeatures

if TYPE_CHECKING:
    import torch

    from zoobench.features.source import Features

VERSION = 1


@dataclass(frozen=True)
class PlacedWindow(Window):
    """A window, and the number of its text's first word among all words of the split."""

    start: int = 0


@dataclass(frozen=True)
class _Words:
    """The backbone as `extraction` runs one: it reads windows, and embeds the words in them."""

    reader: TokenReader
    module: torch.nn.Module
    input_spec: InputSpec
    feature_dim: int
    pooling: str = "words"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, raw: PlacedWindow) -> PlacedWindow:
        return raw

    def collate(self, prepared: Sequence[PlacedWindow]) -> dict[str, torch.Tensor]:
        """Beside ids and mask the `places` (B, W) of the words' first pieces, W those of the window
        that has most; what fills up a row is its first piece."""
        import torch

        most = max(len(one.words) for one in prepared)
        places = torch.zeros((len(prepared), most), dtype=torch.int64)
        for i, one in enumerate(prepared):
            places[i, : len(one.words)] = torch.tensor([place for _, place in one.words])
        return {**collate(prepared, self.reader.pad_id), "places": places}

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(B, W, L, D)."""
        import torch

        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        states = self.reader.read(self.module, given, self.reader.depths)
        rows = torch.arange(len(batch["places"]), device=batch["places"].device)[:, None]
        return torch.stack([one[rows, batch["places"]] for one in states], dim=2)


class WordSource(MappedSource[WordFeatures]):
    """What `Features.words` reads from."""

    def __init__(self, source: Features, cache: MappedCache | None) -> None:
        """Raises Unsupported where the model has no tokens."""
        self.source, self.cache = source, cache
        backbone: Any = source.half if source.precision == "bf16" else source.backbone
        self.reader: TokenReader = reader_of(backbone)
        self.backbone = _Words(
            self.reader, backbone.module, source.input_spec, self._width(backbone.module)
        )
        super().__init__()

    def _width(self, module: torch.nn.Module) -> int:
        """D, as a window of one word shows it."""
        import torch

        module.eval().to(self.source.device)
        (one,) = windows(self.reader.pieces(["a"]), self.reader)
        batch = {k: v.to(self.source.device) for k, v in collate([one], self.reader.pad_id).items()}
        with torch.inference_mode():
            (states,) = self.reader.read(module, batch, [self.reader.layers])
        return int(states.shape[2])

    def key(self, split: Split) -> str:
        """Flips with each thing that can change a number, and with nothing else."""
        reader = self.reader
        return digest(
            {
                **self.source.ingredients(),
                "words": VERSION,
                "folded": False,
                "split": split.fingerprint,
                "reader": split.reader,
                "precision": precision.keyed(self.source.precision),
                "windows": [reader.length, list(reader.before), list(reader.after)],
                "depths": list(reader.depths),
            },
            length=40,
        )

    def _kept(self, split: Split, key: str) -> WordFeatures | None:
        """From the cache, where the model still makes of the fixed texts what it made."""
        held = self.cache.get(key) if self.cache is not None else None
        if held is None or not self.source.as_kept(held[1]):
            return None
        values, body = held
        self.source.took(split, float(body["seconds"]), str(body["timed_on"]))
        starts = np.asarray(body["starts"], dtype=np.int64)
        return WordFeatures(values, starts, self.reader.depths, float(body["loss"]))

    def _computed(self, split: Split, key: str) -> WordFeatures:
        some, starts = placed(split, self.reader)
        shape = (int(starts[-1]), len(self.reader.depths), self.backbone.feature_dim)
        probe = self.source.fingerprint().get("features")

        def fill(rounded: Rounded) -> Mapping[str, Any]:
            self._extract(split, some, rounded)
            return {"starts": starts.tolist()}

        values, loss = filled(self.source, self.cache, key, split, shape, probe, fill)
        return WordFeatures(values, starts, self.reader.depths, loss)

    def _extract(self, split: Split, some: Sequence[PlacedWindow], rounded: Rounded) -> None:
        """Fill `rounded` (R, L, D)."""

        def put(rows: Sequence[int], features: torch.Tensor) -> None:
            for i, one in zip(rows, features.numpy(), strict=True):
                numbers = [some[i].start + number for number, _ in some[i].words]
                rounded.put(numbers, one[: len(numbers)])

        read = replace(split.subset(np.zeros(len(some), dtype=np.intp)), read=some.__getitem__)
        extract_into(job_of(self.source, self.backbone), read, put, self.source.reporter(read))
        if rounded.bad:
            raise NotFinite(f"the states of {rounded.bad} words of {split.name}")


def reader_of(backbone: Any) -> TokenReader:
    """Raises Unsupported for a backbone without tokens."""
    from zoobench.errors import Unsupported

    reads = getattr(backbone, "token_reader", None)
    if reads is None:
        raise Unsupported("this backbone has no tokens: only embed")
    found: TokenReader = reads()
    return found


def placed(split: Split, reader: TokenReader) -> tuple[list[PlacedWindow], NDArray[np.int64]]:
    """All windows of the texts of `split`, and (N + 1,) where each text's words begin."""
    found: list[PlacedWindow] = []
    starts = np.zeros(len(split) + 1, dtype=np.int64)
    for i in range(len(split)):
        pieces = reader.pieces(split.read(i))
        start = int(starts[i])
        found.extend(PlacedWindow(w.ids, w.words, start) for w in windows(pieces, reader))
        starts[i + 1] = start + len(pieces)
    return found, starts
