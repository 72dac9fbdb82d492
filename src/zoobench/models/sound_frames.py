"""How each architecture of transformers that hears is fed, and how the states of frames are read.

    waves        samples as they are: wav2vec 2.0, HuBERT, WavLM and their like; 20 ms a frame
    windows      Whisper's encoder: log-mel of 30 s, whatever of it is filled; 20 ms a frame
    patches      AST: log-mel of 10.24 s in patches, whose frequencies are averaged; 100 ms a frame
    whole        CLAP: one vector a clip of 10 s, which it repeats to fill them; no frames

B clips, T samples, F frames, D features. Importing this imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from zoobench.errors import Unsupported
from zoobench.views import FrameReader

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Batch = Mapping[str, torch.Tensor]
    Parts = list[tuple[torch.Tensor, Batch]]


@dataclass(frozen=True)
class SoundFamily:
    """One way to be fed and read, by its `name`.

    `listen(extractor, config, samples)` makes of one clip what a batch holds for it.
    `window(extractor, config)` is the most seconds that the network reads, or 0 for any.
    `reader(extractor, config)` is None where there are no frames.
    `read_at_once(config, batch)` gives the parts of a batch that a network reads at once, where
    that is not all of it.
    """

    name: str
    listen: Callable[[Any, Any, NDArray[np.float32]], torch.Tensor]
    window: Callable[[Any, Any], float]
    reader: Callable[[Any, Any], FrameReader | None]
    pools: tuple[str, ...] = ("mean",)
    read_at_once: Callable[[Any, Batch], Parts] | None = None


def _extracted(extractor: Any, samples: NDArray[np.float32], name: str) -> torch.Tensor:
    """What the extractor makes of one clip, by the name that it gives it."""
    import numpy as np
    import torch

    rate = int(extractor.sampling_rate)
    made = extractor(samples, sampling_rate=rate, return_tensors="np")[name][0]
    return torch.from_numpy(np.ascontiguousarray(made, dtype=np.float32))


def _filled(samples: NDArray[np.float32], least: int) -> NDArray[np.float32]:
    """At least that many samples, silent behind."""
    import numpy as np

    return np.pad(samples, (0, max(0, least - len(samples))))


def _layers(output: Any, wanted: Sequence[int], layers: int) -> list[torch.Tensor]:
    """States after the layers `wanted`: of the last what the network itself gives."""
    last = output.last_hidden_state
    return [last if one == layers else output.hidden_states[one] for one in wanted]


def _asks(wanted: Sequence[int], layers: int) -> dict[str, Any]:
    return {"output_hidden_states": any(one != layers for one in wanted)}


# Waves

MASKED = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")
"""Model types whose networks take a mask, where their first layers do not normalise over time
(feat_extract_norm = "layer"). All others, which let neighbours or a norm reach over the end, read
clips of one length at a time."""


def receptive_field(config: Any) -> int:
    """The samples that the first frame is made of: a shorter clip is filled up to them."""
    field = 1
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        field = (field - 1) * stride + kernel
    return int(field)


def _wave(extractor: Any, config: Any, samples: NDArray[np.float32]) -> torch.Tensor:
    import torch

    values = _extracted(extractor, samples, "input_values")
    least = receptive_field(config)
    return torch.nn.functional.pad(values, (0, max(0, least - len(values))))


def _wave_frames(config: Any, lengths: torch.Tensor) -> torch.Tensor:
    lengths = lengths.clamp(min=receptive_field(config))
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = (lengths - kernel) // stride + 1
    return lengths


def _wave_states(
    config: Any, module: torch.nn.Module, batch: Batch, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    import torch

    layers = int(config.num_hidden_layers)
    parts = _wave_parts(config, batch)
    if len(parts) == 1:
        return _layers(module(**parts[0][1], **_asks(wanted, layers)), wanted, layers)
    found: list[list[torch.Tensor]] = [[] for _ in wanted]
    for _, inputs in parts:
        output = module(**inputs, **_asks(wanted, layers))
        for states, one in zip(found, _layers(output, wanted, layers), strict=True):
            states += list(one)
    back = torch.cat([rows for rows, _ in parts]).argsort().tolist()
    pad = torch.nn.utils.rnn.pad_sequence
    return [pad([states[one] for one in back], batch_first=True) for states in found]


def _wave_parts(config: Any, batch: Batch) -> Parts:
    """(rows, inputs): the whole batch with a mask, or the clips of each length by themselves."""
    import torch

    values, lengths = batch["values"], batch["lengths"].clamp(min=receptive_field(config))
    if len(values) == 1:  # nothing is padded, and an exporter need not ask how long it is
        return [(torch.zeros_like(lengths), {"input_values": values})]
    if config.model_type in MASKED and getattr(config, "feat_extract_norm", "") == "layer":
        mask = torch.arange(values.shape[1], device=values.device)[None] < lengths[:, None]
        rows = torch.arange(len(values), device=lengths.device)
        return [(rows, {"input_values": values, "attention_mask": mask.long()})]
    apart = [(lengths == one).nonzero()[:, 0] for one in sorted(set(lengths.tolist()))]
    return [(rows, {"input_values": values[rows, : int(lengths[rows[0]])]}) for rows in apart]


def _wave_reader(extractor: Any, config: Any) -> FrameReader:
    if getattr(config, "add_adapter", False):
        raise Unsupported("its adapter shortens frames after the last layer, which is not read")
    hop = prod(config.conv_stride)
    return FrameReader(
        layers=int(config.num_hidden_layers),
        rate=extractor.sampling_rate / hop,
        frames=partial(_wave_frames, config),
        read=partial(_wave_states, config),
    )


# Windows


def _mel(extractor: Any, config: Any, samples: NDArray[np.float32]) -> torch.Tensor:
    return _extracted(extractor, samples, "input_features")


def _mel_states(
    layers: int, module: torch.nn.Module, batch: Batch, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    return _layers(module(batch["values"], **_asks(wanted, layers)), wanted, layers)


def _mel_frames(hop: int, most: int, lengths: torch.Tensor) -> torch.Tensor:
    return (-(-lengths // hop)).clamp(1, most)


def _mel_reader(extractor: Any, config: Any) -> FrameReader:
    hop, layers = 2 * int(extractor.hop_length), int(config.encoder_layers)  # its second stride
    return FrameReader(
        layers=layers,
        rate=extractor.sampling_rate / hop,
        frames=partial(_mel_frames, hop, int(config.max_source_positions)),
        read=partial(_mel_states, layers),
    )


def _mel_window(extractor: Any, config: Any) -> float:
    return float(config.max_source_positions * 2 * extractor.hop_length / extractor.sampling_rate)


# Patches

AST_FRAME, AST_HOP = 400, 160
"""Samples of a frame of its log-mel, and from one to the next, whatever the rate."""


def _patches(extractor: Any, config: Any, samples: NDArray[np.float32]) -> torch.Tensor:
    return _extracted(extractor, _filled(samples, AST_FRAME), "input_values")


def _patch_window(extractor: Any, config: Any) -> float:
    return float(extractor.max_length * AST_HOP / extractor.sampling_rate)


def _patch_frames(config: Any, lengths: torch.Tensor) -> torch.Tensor:
    mel: torch.Tensor = (lengths - AST_FRAME).clamp(min=0) // AST_HOP + 1
    most = int((config.max_length - config.patch_size) // config.time_stride + 1)
    frames: torch.Tensor = (mel - config.patch_size) // config.time_stride + 1
    return frames.clamp(1, most)


def _patch_states(
    config: Any, module: torch.nn.Module, batch: Batch, wanted: Sequence[int]
) -> Sequence[torch.Tensor]:
    layers = int(config.num_hidden_layers)
    states = _layers(module(batch["values"], **_asks(wanted, layers)), wanted, layers)
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    # Two tokens stand before the patches, which go through time once for each band.
    return [one[:, 2:].reshape(len(one), bands, -1, one.shape[2]).mean(1) for one in states]


def _patch_reader(extractor: Any, config: Any) -> FrameReader:
    return FrameReader(
        layers=int(config.num_hidden_layers),
        rate=extractor.sampling_rate / (AST_HOP * config.time_stride),
        frames=partial(_patch_frames, config),
        read=partial(_patch_states, config),
    )


# Whole clips


def _whole_window(extractor: Any, config: Any) -> float:
    return float(extractor.nb_max_samples / extractor.sampling_rate)


WAVES = SoundFamily(
    "waves", _wave, lambda extractor, config: 0.0, _wave_reader, read_at_once=_wave_parts
)
WINDOWS = SoundFamily("windows", _mel, _mel_window, _mel_reader)
PATCHES = SoundFamily("patches", _patches, _patch_window, _patch_reader, ("cls", "mean"))
WHOLE = SoundFamily("whole", _mel, _whole_window, lambda extractor, config: None, ("pooler",))
FAMILIES = {one.name: one for one in (WAVES, WINDOWS, PATCHES, WHOLE)}


def masked_mean(reader: FrameReader, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """(B, D): the mean over each clip's own frames of the last layer's states."""
    import torch

    (states,) = reader.read(module, batch, [reader.layers])
    counts = reader.frames(batch["lengths"]).to(states.device)
    mask = torch.arange(states.shape[1], device=states.device)[None] < counts[:, None]
    return (states * mask[:, :, None]).sum(1) / counts[:, None]


def pooled(pool: str, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """(B, D) of AST's two first tokens ("cls"), or CLAP's own pooling ("pooler")."""
    values = batch["values"]
    # A clip is never longer than its window: nothing has to be fused.
    told = {"is_longer": values.new_zeros(len(values), 1)} if pool == "pooler" else {}
    found: torch.Tensor = module(values, **told).pooler_output
    return found


def class_scores(family: SoundFamily, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """(B, K) of a network with a head that classifies whole clips."""
    import torch

    if family.read_at_once is None:
        whole: torch.Tensor = module(batch["values"]).logits
        return whole
    parts = family.read_at_once(module.config, batch)
    scores = torch.cat([module(**inputs).logits for _, inputs in parts])
    return scores[torch.cat([rows for rows, _ in parts]).argsort()]
