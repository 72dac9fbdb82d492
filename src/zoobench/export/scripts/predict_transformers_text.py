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


def load(folder: Path) -> tuple[Any, list[str]]:
    """A function from a list of texts to their scores (N, C), and the C classes."""
    told = json.loads((folder / "predict.json").read_text("utf-8"))
    made = told["model"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    model = getattr(transformers, made["class"])(config)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
    head = load_file(folder / "head.safetensors")

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
                rows = rows @ head[f"{number}.weight"].T + head.get(f"{number}.bias", 0)
                rows = getattr(torch.nn, layer)()(rows)
        return rows

    def scores(texts: list[str]) -> Any:
        with torch.inference_mode():
            rows = torch.cat([features(one) for one in texts])
            return rows.double() @ head["weight"].T + head["bias"]

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
