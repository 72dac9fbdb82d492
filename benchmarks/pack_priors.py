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
from zoobench.costs.known import counted
from zoobench.models.priors import FILE, TESTS
from zoobench.runs.published import TEST_SETS

SOURCE = (
    "# timm's published results: github.com/huggingface/pytorch-image-models, folder results/, "
    "commit aa4b5850c154, Apache-2.0. Top-1 in percent, params in millions, gmacs counted by "
    "zoobench in 1e9, at the model's own input size alone."
)
FILES = {test.name.removeprefix("imagenet-"): file for file, test in TEST_SETS.items()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def chosen(table: list[dict[str, str]], sizes: dict[str, str]) -> dict[str, dict[str, str]]:
    """One row a model: the one at its own input size, else the first, which is its best."""
    found: dict[str, dict[str, str]] = {}
    for row in table:
        name = row["model"]
        if name not in found or row["img_size"] == sizes.get(name):
            found[name] = row
    return found


def main(folder: Path) -> None:
    cards = {card.name: card for card in models.list_cards("timm/*")}
    sizes = {name: str(dict(card.extra)["input_size"]) for name, card in cards.items()}
    top1 = {test: chosen(rows(folder / FILES[test]), sizes) for test in TESTS}
    found = top1["imagenet"]
    text = io.StringIO()
    text.write(SOURCE + "\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "params", "gmacs", "license", *TESTS])
    for name in sorted(found):
        card = cards.get(name)
        network = counted(card) if card else None
        params = found[name]["param_count"].replace(",", "")
        gmacs = f"{network.macs / 1e9:.4g}" if network and not network.lower_bound else ""
        scores = [top1[test][name]["top1"] if name in top1[test] else "" for test in TESTS]
        writer.writerow([name, params, gmacs, card.license if card else "unknown", *scores])
    packed = gzip.compress(text.getvalue().encode(), 9, mtime=0)
    FILE.write_bytes(packed)
    print(f"{FILE}: {len(found)} models, {len(packed)} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
