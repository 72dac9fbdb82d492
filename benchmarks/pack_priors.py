"""Pack timm's published result tables into the catalogue table that `recommend --data` starts from.

    python benchmarks/pack_priors.py FOLDER

FOLDER is `results/` of huggingface/pytorch-image-models. Writes published.csv.gz beside
zoobench.models.priors; the same tables give the same bytes. Licences are those of timm's own cards.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

from zoobench import models
from zoobench.models.priors import FILE, TESTS

SOURCE = (
    "# timm's published results: github.com/huggingface/pytorch-image-models, folder results/, "
    "commit aa4b5850c154, Apache-2.0. Top-1 in percent, params in millions, gmacs counted by "
    "zoobench in 1e9, at the model's own input size alone."
)
FILES = {
    "imagenet": "results-imagenet.csv",
    "real": "results-imagenet-real.csv",
    "v2": "results-imagenetv2-matched-frequency.csv",
    "sketch": "results-sketch.csv",
    "a": "results-imagenet-a.csv",
    "r": "results-imagenet-r.csv",
}
COSTS = Path(__file__).parents[1] / "results" / "costs" / "timm.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def chosen(
    table: list[dict[str, str]], costs: dict[str, tuple[str, str]]
) -> dict[str, dict[str, str]]:
    """One row a model: the one at its own input size, else the first, which is its best."""
    found: dict[str, dict[str, str]] = {}
    for row in table:
        size, _ = costs.get(row["model"].partition(".")[0], ("", ""))
        if row["model"] not in found or row["img_size"] == size:
            found[row["model"]] = row
    return found


def main(folder: Path) -> None:
    # Our own count of an architecture at its own input size.
    costs = {
        row["model"]: (row["input"].rpartition("x")[2], row["macs"])
        for row in rows(COSTS)
        if not row["error"]
    }
    top1 = {test: chosen(rows(folder / file), costs) for test, file in FILES.items()}
    found = top1["imagenet"]
    licences = {card.name: card.license for card in models.list_cards("timm/*")}
    text = io.StringIO()
    text.write(SOURCE + "\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "params", "gmacs", "license", *TESTS])
    for name in sorted(found):
        row = found[name]
        params = row["param_count"].replace(",", "")
        size, count = costs.get(name.partition(".")[0], ("", ""))
        gmacs = f"{float(count) / 1e9:.4g}" if size == row["img_size"] else ""
        scores = [top1[test][name]["top1"] if name in top1[test] else "" for test in TESTS]
        writer.writerow([name, params, gmacs, licences.get(name, "unknown"), *scores])
    packed = gzip.compress(text.getvalue().encode(), 9, mtime=0)
    FILE.write_bytes(packed)
    print(f"{FILE}: {len(found)} models, {len(packed)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
