"""Whisper in CTranslate2's binary format (version 6): one file of named arrays, little-endian.

    uint32 6, text "WhisperSpec", uint32 revision
    uint32 count, then as often: text name, uint8 rank, uint32 each size, uint8 type,
                                 uint32 bytes, the bytes
    uint32 count, then as often: text alias, text name

A text is a uint16 of its bytes, the last of which is 0. Every array is used once, and nothing may
be left over: a file that says more than we read is another network than we would build.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.errors import MissingWeights, Unsupported
from zoobench.escape import plain

if TYPE_CHECKING:
    from zoobench.models.checkpoints import State

VERSION, SPEC, REVISION = 6, "WhisperSpec", 3
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2")
"""numpy's names of the format's types 0 to 4."""
MOST_RANK = 8
FLAGS = {
    "decoder/activation": 3, "decoder/alibi": 0, "decoder/alignment_heads": 1,
    "decoder/alignment_layer": -1, "decoder/pre_norm": 1, "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}  # fmt: skip
"""Single numbers by name: what they are in a network that transformers' Whisper computes, with
exact GELU (3), norms before each part, and embeddings as they are."""
ALIASES = {"decoder/projection/weight": "decoder/embeddings/weight"}


@dataclass
class _Cursor:
    """Where reading has come to. Raises MissingWeights where the file ends before that."""

    data: bytes
    path: Path
    at: int = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise MissingWeights(f"{self.path} breaks off after {len(self.data)} bytes")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> int:
        """Of a struct's letter: B, H or I."""
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        raw = self.take(self.number("H"))
        try:
            if raw[-1:] != b"\0":
                raise ValueError("no end")
            return raw[:-1].decode("ascii")
        except ValueError:
            raise MissingWeights(f"{self.path} holds a name that is none at {self.at}") from None


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file at `path` by name, as it is stored; aliases must be the known ones.

    Raises MissingWeights where the file is damaged, Unsupported where it is of another format.
    """
    try:
        cursor = _Cursor(path.read_bytes(), path)
    except OSError as error:
        raise MissingWeights(f"{path} cannot be read: {error}") from error
    if (version := cursor.number("I")) != VERSION:
        raise Unsupported(f"{path}: version {version} of CTranslate2's format; known: {VERSION}")
    found = cursor.text(), cursor.number("I")
    if found != (SPEC, REVISION):
        raise Unsupported(f"{path} holds a {plain(found[0])} {found[1]}; known: {SPEC} {REVISION}")
    read: dict[str, NDArray[Any]] = {}
    for _ in range(cursor.number("I")):
        name = cursor.text()
        if name in read:
            raise Unsupported(f"{path} holds {plain(name)} twice")
        read[name] = _array(cursor, name)
    aliases = {cursor.text(): cursor.text() for _ in range(cursor.number("I"))}
    if aliases != ALIASES:
        raise Unsupported(f"{path}: its aliases are not those of a Whisper")
    if cursor.at != len(cursor.data):
        raise MissingWeights(f"{path} holds {len(cursor.data) - cursor.at} bytes too many")
    return read


def _array(cursor: _Cursor, name: str) -> NDArray[Any]:
    rank = cursor.number("B")
    if rank > MOST_RANK:
        raise MissingWeights(f"{cursor.path}: {plain(name)} has {rank} dimensions")
    shape = tuple(cursor.number("I") for _ in range(rank))
    kind, size = cursor.number("B"), cursor.number("I")
    if kind >= len(TYPES):
        raise Unsupported(f"{cursor.path}: {plain(name)} is of the unknown type {kind}")
    dtype = np.dtype(TYPES[kind])
    if size != prod(shape) * dtype.itemsize:
        raise MissingWeights(f"{cursor.path}: {plain(name)} has {size} bytes for {shape} {dtype}")
    return np.frombuffer(cursor.take(size), dtype=dtype).reshape(shape)


class _Parts:
    """The arrays of a file, each given out once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = arrays(path)

    def one(self, name: str) -> NDArray[Any]:
        """Raises Unsupported where there is none."""
        if name not in self.held:
            raise Unsupported(f"{self.path} holds no {name}")
        return self.held.pop(name)

    def tensor(self, name: str) -> Any:
        """The float32 tensor of an array of floats. Raises Unsupported for what is quantised."""
        import torch

        array = self.one(name)
        if array.dtype.kind != "f":
            raise Unsupported(f"{self.path}: {name} is quantised ({array.dtype})")
        return torch.from_numpy(array.astype(np.float32))

    def expect(self, name: str, value: int) -> None:
        """Raises Unsupported where the number `name` is another."""
        array = self.one(name)
        if array.ndim or int(array) != value:
            raise Unsupported(f"{self.path}: {name} is {array.tolist()}; known: {value}")


def whisper_state(path: Path, config: Any) -> State:
    """The weights of transformers' WhisperForConditionalGeneration of `config`, float32, out of the
    file at `path`; the model's own `load_state_dict` checks names and shapes.

    Raises MissingWeights, and Unsupported where the file is not of such a network.
    """
    parts, state = _Parts(path), {}
    for name, value in FLAGS.items():
        parts.expect(name, value)
    for side, heads, layers in (
        ("encoder", config.encoder_attention_heads, config.encoder_layers),
        ("decoder", config.decoder_attention_heads, config.decoder_layers),
    ):
        parts.expect(f"{side}/num_heads", heads)
        positions = parts.tensor(f"{side}/position_encodings/encodings")
        state[f"model.{side}.embed_positions.weight"] = positions
        state |= _norm(parts, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(layers):
            state |= _layer(parts, side, layer)
    for conv in ("conv1", "conv2"):
        state |= _linear(parts, f"encoder/{conv}", f"model.encoder.{conv}")
    words = parts.tensor("decoder/embeddings/weight")
    state |= {"model.decoder.embed_tokens.weight": words, "proj_out.weight": words}
    if parts.held:
        raise Unsupported(f"{path} holds {plain(min(parts.held))}, which a Whisper has not")
    return state


def _linear(parts: _Parts, here: str, there: str) -> State:
    return {f"{there}.{name}": parts.tensor(f"{here}/{name}") for name in ("weight", "bias")}


def _norm(parts: _Parts, here: str, there: str) -> State:
    names = {"weight": "gamma", "bias": "beta"}
    return {f"{there}.{name}": parts.tensor(f"{here}/{own}") for name, own in names.items()}


def _layer(parts: _Parts, side: str, number: int) -> State:
    here, there = f"{side}/layer_{number}", f"model.{side}.layers.{number}"
    found = {
        **_attention(parts, f"{here}/self_attention", f"{there}.self_attn", ("qkv", "out")),
        **_norm(parts, f"{here}/self_attention/layer_norm", f"{there}.self_attn_layer_norm"),
        **_linear(parts, f"{here}/ffn/linear_0", f"{there}.fc1"),
        **_linear(parts, f"{here}/ffn/linear_1", f"{there}.fc2"),
        **_norm(parts, f"{here}/ffn/layer_norm", f"{there}.final_layer_norm"),
    }
    if side == "decoder":
        across = f"{here}/attention"
        found |= _attention(parts, across, f"{there}.encoder_attn", ("q", "kv", "out"))
        found |= _norm(parts, f"{across}/layer_norm", f"{there}.encoder_attn_layer_norm")
    return found


def _attention(parts: _Parts, here: str, there: str, fused: tuple[str, ...]) -> State:
    """Of the linear layers of an attention, which hold the projections `fused` side by side. Keys
    have no bias: theirs must be 0. Raises Unsupported."""
    found: State = {}
    for number, names in enumerate(fused):
        each = _linear(parts, f"{here}/linear_{number}", "")
        split = ("out",) if names == "out" else tuple(names)
        for part, tensor in each.items():
            if len(tensor) % len(split):
                raise Unsupported(f"{parts.path}: {here}/linear_{number} is not of {names}")
            for name, piece in zip(split, tensor.chunk(len(split)), strict=True):
                found[f"{there}.{name}_proj{part}"] = piece
    if bool(found.pop(f"{there}.k_proj.bias").any()):
        raise Unsupported(f"{parts.path}: the keys of {here} have a bias")
    return found
