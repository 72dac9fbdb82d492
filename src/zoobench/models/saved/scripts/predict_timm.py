"""What the saved model says of pictures, by timm alone: python predict.py PICTURE..."""

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""Of others Pillow may start a program."""
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Variants whose weights and arithmetic are in another type -> the type."""


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of RGB pictures to their scores (N, C), and the C classes."""
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    transform, network, features = parts(folder, told["model"], told.get("variant", ""))
    head = load_file(folder / "head.safetensors")

    def scores(pictures: list[Any]) -> Any:
        with torch.inference_mode():
            rows = features(network, torch.stack([transform(one) for one in pictures]))
            return rows.double() @ head["weight"].T + head["bias"]

    return scores, told["classes"]


def parts(folder: Path, made: dict[str, Any], variant: str) -> tuple[Any, Any, Any]:
    """What makes (3, H, W) of a picture, the network, and features (N, D) of it and a batch."""
    transform = timm.data.create_transform(**made["transform"])
    if variant == "int8-static":
        return transform, session(folder), run
    config = {"architecture": made["architecture"], **made["pretrained_cfg"]}
    model: Any = timm.create_model(
        made["architecture"], pretrained_cfg=config, **made["model_args"]
    )
    model.reset_classifier(0, *made["pool"])
    fill(model, load_file(folder / "model.safetensors"), variant)

    def features(network: Any, batch: Any) -> Any:
        maps = network.forward_features(batch.to(next(network.parameters()).dtype))
        return network.forward_head(maps, pre_logits=True)

    return transform, model, features


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


def session(folder: Path) -> Any:
    """The network that is a graph of ONNX."""
    import onnxruntime

    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def run(network: Any, batch: Any) -> Any:
    """Features (N, ...) of a batch by such a network, which may want batches of one size."""
    [given] = network.get_inputs()
    many = given.shape[0] if isinstance(given.shape[0], int) else len(batch)
    filled = torch.cat([batch, batch[-1:].expand(-len(batch) % many, *batch.shape[1:])])
    parts = [filled[start : start + many].numpy() for start in range(0, len(filled), many)]
    found = [network.run(None, {given.name: part})[0] for part in parts]
    return torch.cat(list(map(torch.from_numpy, found)))[: len(batch)]


def picture(file: str) -> Any:
    """As RGB: turned as its EXIF says, what is transparent on white."""
    image: Any = ImageOps.exif_transpose(Image.open(file, formats=FORMATS))
    if image.mode[0] in "IF":
        raise SystemExit(f"{file}: more than 8 bits a channel: convert it to 8 bits first")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def answer(said: Any, classes: list[str]) -> dict[str, Any]:
    """One row of scores (C,) in words: a class and its probability, or a number."""
    if not classes:
        return {"value": float(said)}
    best = int(said.argmax())
    return {"class": classes[best], "probability": float(said.softmax(0)[best])}


def main(files: list[str]) -> None:
    """One JSON object a picture."""
    scores, classes = load(Path(__file__).parent)
    for file in files:
        print(json.dumps({"file": file, **answer(scores([picture(file)])[0], classes)}))


if __name__ == "__main__":
    main(sys.argv[1:])
