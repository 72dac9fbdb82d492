"""Our counts of timm networks beside timm's own published table.

    python benchmarks/compare_published.py PUBLISHED.csv

PUBLISHED.csv is one of the benchmark-infer-*.csv files of timm's results folder (columns
model, infer_img_size, param_count, infer_gmacs). It is compared with results/costs/timm.csv
at equal input size and parameters; where the two differ, the network is counted once more
to say why. Writes results/costs/timm_published.csv.

Classes:
    agrees        within 2%
    rounding      the published value has two decimals, and ours rounds to it
    fvcore        theirs is what fvcore gives; `products` and `other` are ours less fvcore's
                  in matrix products (which it skips in fused attention) and in norms,
                  pooling and interpolation (which are no MACs here)
    reparameterised  theirs is what fvcore gives for the network with its training-time
                  branches merged, as timm's benchmark ran it
    attention     theirs lacks products of two activations, and no more than all of them
    smaller       theirs is smaller for another reason
    larger        theirs is larger for another reason
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

from zoobench.costs.profile import profile

COSTS = Path(__file__).parents[1] / "results" / "costs"
COLUMNS = (
    "model", "input", "macs", "published_gmacs", "difference", "class",
    "fvcore_macs", "convolutions", "products", "other",
)  # fmt: skip
HALF_DIGIT = 0.0051
PRODUCTS = ("aten::bmm", "aten::baddbmm")


def published(path: Path) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """(architecture, input size) -> (million parameters, GMACs) of each of its weights."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["model"].partition(".")[0], int(row["infer_img_size"])
            pair = float(row["param_count"]), float(row["infer_gmacs"])
            found.setdefault(key, []).append(pair)
    return found


def explained(name: str, macs: int, theirs: float) -> dict[str, object]:
    """The class of a difference over 2%, and the numbers that it rests on."""
    if abs(macs / 1e9 - theirs) <= HALF_DIGIT:
        return {"class": "rounding"}
    body = profile(f"timm/{name}", cross_check=True)
    check, counted = body["cross_check"], body["macs_by_operator"]
    more: dict[str, object] = {}
    if "error" not in check:
        more = {"fvcore_macs": check["fvcore_macs"], **check["explained"]}
        slack = max(0.01 * theirs, HALF_DIGIT)
        if abs(check["fvcore_macs"] / 1e9 - theirs) <= slack:
            return {"class": "fvcore", **more}
        if abs(merged_by_fvcore(name) / 1e9 - theirs) <= slack:
            return {"class": "reparameterised", **more}
    missing = macs / 1e9 - theirs
    activations = sum(counted.get(each, 0) for each in PRODUCTS) / 1e9
    if 0 < missing <= 1.02 * activations + HALF_DIGIT:
        return {"class": "attention", **more}
    return {"class": "smaller" if missing > 0 else "larger", **more}


def merged_by_fvcore(name: str) -> float:
    """fvcore's MACs of the network with its training-time branches merged (timm's own way)."""
    import timm
    import torch
    from fvcore.nn import FlopCountAnalysis
    from timm.utils.model import reparameterize_model

    network = reparameterize_model(timm.create_model(name).eval())
    size = timm.get_pretrained_cfg(name).input_size
    analysis = FlopCountAnalysis(network, torch.zeros(1, *size))
    return float(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def main() -> int:
    theirs = published(Path(sys.argv[1]))
    rows = []
    with (COSTS / "timm.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            size = line["input"].split("x")[-1]
            if line["error"] or (line["model"], int(size)) not in theirs:
                continue
            params, macs = int(line["params"]) / 1e6, int(line["macs"])
            known, gmacs = min(
                theirs[line["model"], int(size)], key=lambda pair: abs(pair[0] - params)
            )
            if abs(known - params) > 0.01 * params + 0.01:
                continue  # other weights, with another head
            row = {"model": line["model"], "input": line["input"], "macs": macs}
            row |= {
                "published_gmacs": gmacs,
                "difference": f"{macs / 1e9 / max(gmacs, 1e-9) - 1:+.4f}",
            }
            if abs(macs / 1e9 - gmacs) <= 0.02 * gmacs:
                row["class"] = "agrees"
            else:
                row |= explained(line["model"], macs, gmacs)
                print(row, flush=True)
            rows.append(row)
    with (COSTS / "timm_published.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(len(rows), dict(Counter(str(row["class"]) for row in rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
