"""What the saved model says of texts, by transformers alone: python predict.py FILE...

Each line of a file is a text.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

POOLS: dict[str, Any] = {  # of the hidden states (1, T, D) of one text
    "mean": lambda states: states.mean(1),
    "cls": lambda states: states[:, 0],
    "max": lambda states: states.amax(1),
    "lasttoken": lambda states: states[:, -1],
    "mean_sqrt_len_tokens": lambda states: states.sum(1) / states.shape[1] ** 0.5,
    "weightedmean": lambda states: (
        (torch.arange(1, states.shape[1] + 1)[:, None] * states).sum(1)
        / (states.shape[1] * (states.shape[1] + 1) / 2)
    ),
}
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Variants whose weights and arithmetic are in another type -> the type."""


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of texts to their scores (N, C), and the C classes."""
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    made = told["model"]
    tokenizer, model, dense, head = parts(folder, made, told.get("variant", ""))

    def features(text: str) -> Any:
        ids = tokenizer(made["prefix"] + text, truncation=True, max_length=made["length"])[
            "input_ids"
        ]
        batch = torch.tensor([list(ids) or [tokenizer.unk_token_id or tokenizer.pad_token_id or 0]])
        output = model(input_ids=batch, attention_mask=torch.ones_like(batch))
        rows = POOLS[made["pool"]](output.last_hidden_state)
        for number, layer in enumerate(made["layers"]):
            if layer == "normalize":
                rows = torch.nn.functional.normalize(rows, dim=-1)
            else:  # a Dense layer: the name of its activation
                rows = getattr(torch.nn, layer)()(dense[str(number)](rows))
        return rows

    def scores(texts: list[str]) -> Any:
        with torch.inference_mode():
            rows = torch.cat([features(one) for one in texts])
            return rows.double() @ head["weight"].T + head["bias"]

    return scores, told["classes"]


def parts(folder: Path, made: dict[str, Any], variant: str) -> tuple[Any, Any, Any, Any]:
    """The tokenizer, the encoder, the linear layers that follow the pooling, and the head."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    model = getattr(transformers, made["class"])(config)
    fill(model, load_file(folder / "model.safetensors"), variant)
    weights = load_file(folder / "head.safetensors")
    head = {name: weights.pop(name) for name in ("weight", "bias")}
    return tokenizer, model, dense_layers(weights, variant), head


def dense_layers(weights: dict[str, Any], variant: str) -> Any:
    """The linear layers that follow the pooling, by their number."""
    layers = torch.nn.ModuleDict()
    for name, one in weights.items():
        number, _, part = name.partition(".")
        if part in ("weight", "weight.qdata"):
            outputs, inputs = one.shape
            layers[number] = torch.nn.Linear(inputs, outputs, bias=f"{number}.bias" in weights)
    fill(layers, weights, variant)
    return layers


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


def answer(said: Any, classes: list[str]) -> dict[str, Any]:
    """One row of scores (C,) in words: a class and its probability, or a number."""
    if not classes:
        return {"value": float(said)}
    best = int(said.argmax())
    return {"class": classes[best], "probability": float(said.softmax(0)[best])}


def main(files: list[str]) -> None:
    """One JSON object a line of text; blank lines are none. "-" is standard input."""
    scores, classes = load(Path(__file__).parent)
    for file in files:
        with open(0 if file == "-" else file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if text := line.rstrip("\n"):
                    told = answer(scores([text])[0], classes)
                    print(json.dumps({"file": file, "line": number, **told}))


if __name__ == "__main__":
    main(sys.argv[1:])
