"""What the saved model says of recordings, by transformers alone: python predict.py FILE..."""

import json
import sys
from math import gcd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from safetensors.torch import load_file
from scipy.signal import resample_poly

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Variants whose weights and arithmetic are in another type -> the type."""
FED = {"waves": "input_values", "patches": "input_values"}
"""What the extractor calls what the network is fed, where it is not "input_features"."""
AST_FRAME, AST_HOP = 400, 160
"""Samples of a frame of AST's log-mel, and from one to the next."""


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of recordings to their scores (N, C), and the C classes.

    A recording has `samples` (T,) float32, one channel, and `rate`.
    """
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    made = told["model"]
    extractor, network = parts(folder, made, told.get("variant", ""))
    head = load_file(folder / "head.safetensors")

    def scores(clips: list[Any]) -> Any:
        with torch.inference_mode():
            rows = torch.stack([features(made, extractor, network, clip) for clip in clips])
            return rows.double() @ head["weight"].T + head["bias"]

    return scores, told["classes"]


def parts(folder: Path, made: dict[str, Any], variant: str) -> tuple[Any, Any]:
    """The feature extractor, and the network that hears."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    model = getattr(transformers, made["class"])(config)
    network = getattr(model, made["part"]) if made["part"] else model
    fill(network, load_file(folder / "model.safetensors"), variant)
    return extractor, network


def features(made: dict[str, Any], extractor: Any, network: Any, clip: Any) -> Any:
    """(D,) of one recording: of a longer one its middle is heard, and only its own frames count."""
    shared = gcd(made["rate"], clip.rate)
    up, down = made["rate"] // shared, clip.rate // shared
    samples = clip.samples
    if up != down:
        samples = resample_poly(samples, up, down, window=("kaiser", 5.0)).astype(np.float32)
    start = max(0, len(samples) - made["length"]) // 2
    samples = samples[start : start + made["length"]]
    config, fed, least = network.config, made["fed"], 0
    if fed == "waves":
        least = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            least = (least - 1) * stride + kernel
    heard = np.pad(samples, (0, max(0, AST_FRAME - len(samples)))) if fed == "patches" else samples
    name = FED.get(fed, "input_features")
    values = extractor(heard, sampling_rate=made["rate"], return_tensors="np")[name][0]
    batch = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    if fed == "waves":
        batch = torch.nn.functional.pad(batch, (0, max(0, least - batch.shape[1])))
    batch = batch.to(next(network.parameters()).dtype)
    more = {"is_longer": torch.zeros(1, 1, dtype=batch.dtype)} if fed == "whole" else {}
    output = network(batch, **more)
    if made["pool"] != "mean":
        return output.pooler_output[0]
    states = output.last_hidden_state[0]
    if fed == "windows":
        states = states[: max(1, -(-len(samples) // (2 * extractor.hop_length)))]
    if fed == "patches":
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        states = states[2:].reshape(bands, -1, states.shape[1]).mean(0)
        frames = max(0, len(samples) - AST_FRAME) // AST_HOP + 1
        states = states[: max(1, (frames - config.patch_size) // config.time_stride + 1)]
    return states.mean(0)


def fill(model: Any, weights: dict[str, Any], variant: str) -> None:
    """Put the stored weights into `model`: those of int8 layers as whole numbers and scales."""
    layers = [name.removesuffix(".weight.qdata") for name in weights if name.endswith(".qdata")]
    if variant in ("int8-weight", "int8-dynamic"):
        from torchao import quantization

        kind = "Int8WeightOnly" if variant == "int8-weight" else "Int8DynamicActivationInt8Weight"
        config = getattr(quantization, f"{kind}Config")()
        quantization.quantize_(model, config, lambda _, name: name in layers)
        for name in layers:
            weight = model.get_submodule(name).weight
            for part in weight.__tensor_flatten__()[0]:
                getattr(weight, part).copy_(weights.pop(f"{name}.weight.{part}"))
            weights[f"{name}.weight"] = weight
    model.load_state_dict(weights)
    model.to(HALVES.get(variant, torch.float32)).eval()


def recording(file: str) -> Any:
    """The mean of a file's channels."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return SimpleNamespace(samples=samples.mean(axis=1), rate=rate)


def answer(said: Any, classes: list[str]) -> dict[str, Any]:
    """One row of scores (C,) in words: a class and its probability, or a number."""
    if not classes:
        return {"value": float(said)}
    best = int(said.argmax())
    return {"class": classes[best], "probability": float(said.softmax(0)[best])}


def main(files: list[str]) -> None:
    """One JSON object a recording."""
    scores, classes = load(Path(__file__).parent)
    for file in files:
        print(json.dumps({"file": file, **answer(scores([recording(file)])[0], classes)}))


if __name__ == "__main__":
    main(sys.argv[1:])
