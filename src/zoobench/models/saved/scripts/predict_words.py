"""What the saved model says of texts, by torch alone: python predict.py FILE...

Each line of a file is a text.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

WORD = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|(?:(?!n't\b)\w)+(?:[-.](?:(?!n't\b)\w)+)*")


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of texts to their scores (N, C), and the C classes."""
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    words = json.loads((folder / "words.json").read_text("utf-8"))
    rows = {word: row for row, word in enumerate(words)}
    vectors = load_file(folder / "model.safetensors")["weight"]
    head = load_file(folder / "head.safetensors")

    def features(text: str) -> Any:
        found: list[int] = []
        for word in WORD.findall(text.lower().replace("\u2019", "'")):
            parts = [word] if word in rows else re.split(r"[-._]", word)
            found += [rows[part] for part in parts if part in rows]
        known = vectors[found[: told["model"]["length"]]]
        return known.mean(0) if len(known) else vectors.new_zeros(vectors.shape[1])

    def scores(texts: list[str]) -> Any:
        with torch.inference_mode():
            means = torch.stack([features(one) for one in texts])
            return means.double() @ head["weight"].T + head["bias"]

    return scores, told["classes"]


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
