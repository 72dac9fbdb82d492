"""What the saved model says of pictures, by torchvision alone: python predict.py PICTURE..."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""Of others Pillow may start a program."""


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of RGB pictures to their scores (N, C), and the C classes."""
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    made = told["model"]
    model: Any = zoo.get_model(made["architecture"], weights=None, **made["arguments"])
    parent, _, last = made["last"].rpartition(".")
    setattr(model.get_submodule(parent), last, torch.nn.Identity())  # the classifier's place
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
    head = load_file(folder / "head.safetensors")
    weights = zoo.get_model_weights(made["architecture"])[made["weights"]]
    interpolation = InterpolationMode(made["interpolation"])
    transform = weights.transforms(interpolation=interpolation, **made["transform"])

    def scores(pictures: list[Any]) -> Any:
        with torch.inference_mode():
            features = model(torch.stack([transform(one) for one in pictures]))
            return features.double() @ head["weight"].T + head["bias"]

    return scores, told["classes"]


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
