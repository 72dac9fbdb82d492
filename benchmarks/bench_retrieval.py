"""Ranks of 5,000 pictures among 25,000 captions, and back, against the whole matrix in numpy.

    python benchmarks/bench_retrieval.py [--pictures 5000] [--captions 5] [--repeats 3]

Embeddings are drawn, a caption near its picture. The script that one writes makes all cosines at
once, sorts each row and each column, and looks for the right answer; what is level it puts in any
order. Both give the same ranks but for that, which is seen first; then each runs in a process of
its own, in turns, as many threads as there are cores. Peak memory is the process's own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from zoobench.tasks.retrieval import Embedded, ranks

DIMENSIONS = 512
Ranks = tuple[NDArray[np.int32], NDArray[np.int32]]


def drawn(pictures: int, captions: int) -> tuple[Embedded, NDArray[np.int32]]:
    """Embeddings, and the picture of each caption."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(pictures, DIMENSIONS)).astype(np.float32)
    owner = np.repeat(np.arange(pictures, dtype=np.int32), captions)
    noise = rng.normal(size=(len(owner), DIMENSIONS)).astype(np.float32)
    return Embedded(seen, seen[owner] + 8 * noise), owner


def by_sorting(said: Embedded, owner: NDArray[np.int32]) -> Ranks:
    """The same by the whole matrix."""
    seen, read = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in said)
    cosines = seen @ read.T
    to_image = np.argsort(-cosines, axis=0)
    to_image = 1 + (to_image == owner).argmax(axis=0)
    order = np.argsort(-cosines, axis=1)
    right = owner[order] == np.arange(len(seen))[:, None]
    first = right.argmax(axis=1)  # before it stand other pictures' captions alone
    return (1 + first).astype(np.int32), to_image.astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--captions", type=int, default=5, help="of each picture")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "script"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        data = drawn(arguments.pictures, arguments.captions)
        start = time.perf_counter()
        (ranks if arguments.one == "ours" else by_sorting)(*data)
        seconds = time.perf_counter() - start
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    few = drawn(300, arguments.captions)
    apart = [np.abs(a - b) for a, b in zip(ranks(*few), by_sorting(*few), strict=True)]
    # Of millions of cosines some are level to 4e-6, which counts against in ours alone.
    same = all(one.max() <= 1 and one.mean() < 0.01 for one in apart)
    assert same, "the two give other ranks"
    found: dict[str, list[list[float]]] = {"ours": [], "script": []}
    size = ["--pictures", str(arguments.pictures), "--captions", str(arguments.captions)]
    for _ in range(arguments.repeats):
        for name, times in found.items():
            said = subprocess.run(
                [sys.executable, __file__, *size, "--one", name],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            times.append([float(one) for one in said.stdout.split()])
    print(f"{arguments.pictures:,} pictures, {arguments.pictures * arguments.captions:,} captions")
    for name, times in found.items():
        seconds, memory = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:8}{seconds:8.2f} s {memory / 1e9:8.2f} GB")
    pairs = zip(found["ours"], found["script"], strict=True)
    print(f"ratio   {statistics.median(a[0] / b[0] for a, b in pairs):8.3f}")


if __name__ == "__main__":
    main()
