"""Compressed variants against their originals: bytes, latency ratios, and how near they compute.

    python benchmarks/bench_variants.py [--only NAME] [--blocks 3] [--batch 1 8]

Extras: onnx, compression. A block is a fresh process that holds a model and all of its variants.
There each variant takes turns with the original in the order A B B A, and of a block the median
round is kept (costs/interleaved.py); the interval is Student's over the blocks. Before anything is
timed both sides must give nearly the same features of real inputs, by the least cosine in LEAST.
Bytes are those of the state that is saved. Set ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
(torch), to see what a processor without bf16 and int8 arithmetic would do.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.costs import fresh_process
from zoobench.costs.interleaved import ORDER, block_log, ratio

VIT = "timm/vit_small_patch16_224?weights=random"  # its time does not depend on them
HALVES, LINEAR = ("bf16", "fp16"), ("int8-weight", "int8-dynamic")
RACES: dict[str, tuple[str, ...]] = {
    "packaged/efficientnet-lite0": (*HALVES, "int8-static"),
    VIT: (*HALVES, *LINEAR),
    "packaged/minilm-l6-v2": (*HALVES, *LINEAR),
}
LEAST = {"bf16": 0.99, "fp16": 0.999, "int8-weight": 0.995, "int8-dynamic": 0.98,
         "int8-static": 0.9}  # fmt: skip
"""Mean cosine of a variant's features with the original's, at least."""
INPUTS = 32
TURN, ROUNDS, SECONDS = 5, 4, 1.5
"""Steps of a turn, rounds at least, and seconds of a variant's turns after which no further round
begins; a step that is slow has turns of one."""
MOST_ROUNDS = 12
PICTURES, TEXTS = "packaged/photo-crops", "packaged/language-id"


def block(ref: str, variants: list[str], batches: list[int]) -> Iterator[dict[str, Any]]:
    """In a fresh process: what each variant is and takes beside its original."""
    import torch

    from zoobench import datasets, models
    from zoobench.costs.counted import weights_bytes
    from zoobench.errors import CellError
    from zoobench.models import variants as made
    from zoobench.workers.loaded import calibration

    original = models.load(models.resolve(ref))
    texts = original.input_spec.modality == "text"
    splits = datasets.load(datasets.resolve(TEXTS if texts else PICTURES))
    inputs = [original.prepare(splits.test.read(i)) for i in range(max(INPUTS, *batches))]
    sides = {"original": original}
    found: dict[str, Any] = {}
    for name in variants:
        shown = calibration(original, splits.train) if made.VARIANTS[name].calibrated else ()
        try:
            sides[name] = made.made(original, name, shown)
        except CellError as error:
            found[name] = {"why": str(error)}
    with torch.no_grad():  # not inference mode, in which torchao cannot compute
        whole = original.embed(original.collate(inputs[:INPUTS])).float()
        for name, side in sides.items():
            mine = side.embed(side.collate(inputs[:INPUTS])).float()
            near = torch.nn.functional.cosine_similarity(whole, mine).mean()
            found[name] = {
                "bytes": sum(weights_bytes(side.module).values()),
                "cosine": float(near),
                **(side.provenance.get("variant") or {}),
            }
            if name in LEAST:
                assert near >= LEAST[name], f"{ref}: {name} computes something else: {near:.4f}"
        for batch in batches:
            held = original.collate(inputs[:batch])
            steps = {n: stepper(side, held) for n, side in sides.items()}
            for name in sides:
                if name != "original":
                    found[name][str(batch)] = turns({"A": steps["original"], "B": steps[name]})
    yield found


def stepper(side: Any, held: Any) -> Callable[[], float]:
    """What runs `embed` once on the same batch and gives its milliseconds."""
    from time import perf_counter

    def step() -> float:
        start = perf_counter()
        side.embed(held)
        return 1e3 * (perf_counter() - start)

    return step


def turns(pair: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Rounds of A B B A: the logarithm of B's time over A's, and both medians."""
    slow = max(min(step(), step(), step()) for step in pair.values()) > 100  # the warm-up, too
    rounds: list[list[tuple[str, list[float]]]] = []
    spent = 0.0
    while len(rounds) < (2 if slow else ROUNDS) or (
        spent < 2e3 * SECONDS and len(rounds) < MOST_ROUNDS
    ):
        taken = []
        for letter in ORDER:
            pair[letter]()  # finds out what the other side left in the caches
            taken.append((letter, [pair[letter]() for _ in range(1 if slow else TURN)]))
        rounds.append(taken)
        spent += sum(sum(steps) for _, steps in taken)
    medians = {
        side: float(
            np.median([ms for r in rounds for at, steps in r if at == side for ms in steps])
        )
        for side in "AB"
    }
    return {"log": block_log(rounds), **medians}


def processor() -> str:
    """Its name, and whether it has arithmetic for bf16 and int8, as this process may use it."""
    flags = {word for line in _cpuinfo() if line.startswith("flags") for word in line.split()}
    name = next(
        (li.partition(":")[2].strip() for li in _cpuinfo() if "model name" in li), "unknown"
    )
    has = {
        "bf16": bool(flags & {"avx512_bf16", "amx_bf16"}),
        "VNNI": bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"}),
    }
    said = ", ".join(f"{'with' if there else 'without'} {what}" for what, there in has.items())
    held = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name} ({said} arithmetic)" + (f", torch held to {held}" if held else "")


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def race(ref: str, variants: tuple[str, ...], batches: list[int], blocks: int) -> None:
    """Print the table of one model."""
    job = {"ref": ref, "variants": list(variants), "batches": batches}
    found = [fresh_process.call("bench_variants:block", job, timeout=3000) for _ in range(blocks)]
    first = found[0]
    whole = first["original"]["bytes"]
    print(f"\n{ref}: {whole:,} bytes")
    head = "".join(f"{f'batch {b}: ms':>20}{'ratio [95%]':>22}" for b in batches)
    print(f"{'':14}{'bytes':>12}{'share':>7}{'cosine':>8}{'params':>8}{'MACs':>6}{head}")
    for name in variants:
        one = first[name]
        if "why" in one:
            print(f"{name:14}{one['why']}")
            continue
        cells = ""
        for batch in batches:
            each = [block[name][str(batch)] for block in found]
            spread = ratio([e["log"] for e in each])
            ms = [float(np.median([e[side] for e in each])) for side in "AB"]
            cells += f"{f'{ms[0]:.1f} -> {ms[1]:.1f}':>20}"
            cells += f"{spread['ratio']:>8.2f} [{spread['low']:.2f}, {spread['high']:.2f}]"
        print(
            f"{name:14}{one['bytes']:>12,}{one['bytes'] / whole:>7.3f}{one['cosine']:>8.4f}"
            f"{one['params']:>8.0%}{one['macs']:>6.0%}{cells}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a part of a model's name")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    import torch

    # The processes of the blocks import this file.
    own = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([own, os.environ.get("PYTHONPATH", "")])
    print(f"{platform.machine()}, {processor()}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for ref, variants in RACES.items():
        if options.only in ref:
            race(ref, variants, options.batch, options.blocks)


if __name__ == "__main__":
    main()
