"""Extraction against the loop that the documentation shows; equality first, then the ratio.

    python benchmarks/bench_extract.py [--only CASE] [--repeats N] [--images N] [--texts N]
                                       [--sweep]

Pictures: timm's create_model, the model's own transform, a DataLoader, no_grad. Texts:
sentence-transformers' encode. Both sides have the same weights and read the same JPEG files
or sentences, decoding and tokenising included, each in a process of its own on one thread
(the allocator's settings are a process's), taking turns. Times are CPU seconds of the whole
process, medians over the repeats; what is done once a model (folding) is in the column `once`.
bf16 is a contestant where the processor has arithmetic in it. lite0 and MiniLM have their real
weights; those of ResNet-50 and ViT-S ship in no package and are random, which speed does not
see. `peak` is
the share of the fastest matrix product that this machine was seen to do in that precision,
2048 x 2048, counting the network's multiplications and additions alone. `--sweep` compares
the rule's batch size with the others instead: images a second of the forward pass alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
"""Batch size of the documented loops: sentence-transformers' default, and usual for timm."""


@dataclass(frozen=True)
class Case:
    """`ref` is what zoobench loads; `architecture` timm's name, empty for a text encoder."""

    name: str
    ref: str
    architecture: str = ""


CASES = {
    "lite0": Case("lite0", "packaged/efficientnet-lite0", "tf_efficientnet_lite0"),
    "resnet50": Case("resnet50", "timm/resnet50?weights=random", "resnet50"),
    "vit-s": Case("vit-s", "timm/vit_small_patch16_224?weights=random", "vit_small_patch16_224"),
    "minilm": Case("minilm", "packaged/minilm-l6-v2"),
}


def pictures(folder: Path, count: int) -> tuple[str, ...]:
    """Paths of JPEG files of 500 x 375, ImageNet's usual size: smooth colours and noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(noisy).save(paths[-1], quality=90)
    return tuple(paths)


def sentences(count: int) -> tuple[str, ...]:
    """Mixed lengths: 3 to 200 words (log-normal, median 20) of the packaged word list."""
    from zoobench import datasets

    split = datasets.load(datasets.resolve("packaged/word-polarity?max_train=2000")).train
    rng = np.random.default_rng(0)
    words = [split.read(i) for i in range(len(split))]
    lengths = np.clip(np.exp(rng.normal(3.0, 0.9, count)), 3, 200).astype(int)
    return tuple(" ".join(rng.choice(words, n)) for n in lengths)


class Peer:
    """The loops of timm's and sentence-transformers' documentation."""

    def __init__(self, case: Case, items: tuple[str, ...]) -> None:
        import torch

        from zoobench import models

        started = time.process_time()
        self.case, self.items = case, items
        ref = models.resolve(case.ref)
        if not case.architecture:
            from sentence_transformers import SentenceTransformer

            from zoobench.models import packaged_

            entry = packaged_._entry(ref)
            folder = packaged_._locate(entry)["config.json"].parent
            self.encoder = SentenceTransformer(str(folder), device="cpu")
        else:
            import timm
            from timm.data import create_transform, resolve_model_data_config

            self.model = timm.create_model(case.architecture, num_classes=0).eval()
            state = models.load(ref, 0).module.state_dict()
            self.model.load_state_dict(state)
            self.transform = create_transform(
                **resolve_model_data_config(self.model), is_training=False
            )
        self.once = time.process_time() - started
        self.torch = torch

    def run(self, repeat: int, precision: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        if not self.case.architecture:
            found: Any = self.encoder.encode(list(self.items), show_progress_bar=False)
            return np.asarray(found, dtype=np.float32)
        from PIL import Image

        torch, paths, transform = self.torch, self.items, self.transform

        class Files(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
            def __len__(self) -> int:
                return len(paths)

            def __getitem__(self, i: int) -> Any:
                return transform(Image.open(paths[i]).convert("RGB"))

        loader = torch.utils.data.DataLoader(Files(), batch_size=BATCH)
        with torch.no_grad():
            found = torch.cat([self.model(batch) for batch in loader])
        return np.asarray(found.numpy())


class Ours:
    """The product's own Features over its own readers; nothing is cached."""

    def __init__(self, case: Case, items: tuple[str, ...]) -> None:
        from zoobench import models
        from zoobench.datasets.readers import Files, Texts

        self.read = Files(items) if case.architecture else Texts(items)
        self.ids = tuple(str(i) for i in range(len(items)))
        ref = models.resolve(case.ref)
        self.sources: dict[str, Any] = {}
        self.ref = ref
        self.once = 0.0

    def source(self, precision: str) -> Any:
        import torch

        from zoobench import models
        from zoobench.features.source import Features, View

        if precision not in self.sources:
            backbone = models.load(self.ref, 0)
            if backbone.input_spec.size:
                backbone.module.to(memory_format=torch.channels_last)
            started = time.process_time()
            source = Features(backbone, View(str(self.ref), precision=precision))
            source.fast  # noqa: B018 - folds the batch norms
            self.once = time.process_time() - started
            self.sources[precision] = source
        return self.sources[precision]

    def split(self, repeat: int) -> Any:
        from zoobench.interfaces import Split
        from zoobench.tasks.classification import Labels

        # Other labels, another fingerprint: nothing is read from memory.
        labels = Labels((np.arange(len(self.ids), dtype=np.int64) + repeat) % 4)
        return Split("train", self.ids, labels, self.read)

    def run(self, repeat: int, precision: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.asarray(self.source(precision).features(self.split(repeat + 1)).numpy())


def serve(pipe: Connection, side: str) -> None:
    """A contestant's process: ("load", case, items), then ("run", repeat, precision)..."""
    import torch

    torch.set_num_threads(1)
    contestant: Any = None
    while True:
        message = pipe.recv()
        if message[0] == "load":
            contestant = (Peer if side == "documented" else Ours)(message[1], message[2])
            contestant.items_all = message[2]
            pipe.send(None)
        elif message[0] == "warm":
            # Unmeasured: first calls choose kernels on both sides.
            if side == "documented":
                contestant.items = contestant.items_all[:4]
                contestant.run(0, "fp32")
                contestant.items = contestant.items_all
            else:
                contestant.source(message[1])
            pipe.send(contestant.once)
        elif message[0] == "run":
            started = time.process_time()
            features = contestant.run(message[1], message[2])
            pipe.send((time.process_time() - started, features))
        else:
            return


@dataclass
class Row:
    name: str
    side: str
    precision: str
    once: float = 0.0
    seconds: tuple[float, ...] = ()
    features: Any = None


def distance(one: Any, other: Any) -> tuple[float, float]:
    """(least cosine, largest difference relative to the largest entry)."""
    product = (one * other).sum(1)
    cosine = product / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return float(cosine.min()), float(np.abs(one - other).max() / np.abs(other).max())


def matmul_peak(dtype: str) -> float:
    """FLOP/s of the best of five products of 2048 x 2048 matrices on one thread."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(2048, 2048, dtype=getattr(torch, dtype))
    seconds = []
    with torch.inference_mode():
        for _ in range(5):
            started = time.process_time()
            _ = a @ a
            seconds.append(time.process_time() - started)
            if seconds[0] > 5:
                break
    return 2 * 2048**3 / min(seconds)


def flops(case: Case, items: tuple[str, ...]) -> float:
    """FLOPs of one item, counted by the product at the dispatcher; texts at their mean length."""
    from zoobench import models
    from zoobench.costs import counted as cost

    ref = models.resolve(case.ref)
    if not case.architecture:
        whole = models.load(ref, 0)
        lengths = [len(whole.prepare(text)["input_ids"]) for text in items]
        ref = ref.with_options(length=round(float(np.mean(lengths))))
    counted = cost.static_costs(models.load(ref, 0))
    return float(next(m.value for m in counted if m.metric == "flops"))


def contest(
    case: Case, items: tuple[str, ...], pipes: dict[str, Connection], repeats: int
) -> Iterator[str]:
    import torch

    rows = [
        Row("documented loop", "documented", "fp32"),
        Row("zoobench fp32", "zoobench", "fp32"),
    ]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # elsewhere it is imitated, and slow
        rows.append(Row("zoobench bf16", "zoobench", "bf16"))
    for pipe in pipes.values():
        pipe.send(("load", case, items))
        pipe.recv()
    for row in rows:
        pipes[row.side].send(("warm", row.precision))
        row.once = pipes[row.side].recv()
    for repeat in range(repeats):
        for row in rows:
            pipes[row.side].send(("run", repeat, row.precision))
            seconds, row.features = pipes[row.side].recv()
            row.seconds = (*row.seconds, seconds)
    cosine, error = distance(rows[1].features, rows[0].features)
    assert error < 1e-3, f"{case.name}: exact features differ by {error:.1e}"
    peak = {p: matmul_peak(d) for p, d in (("fp32", "float32"), ("bf16", "bfloat16"))
            if any(row.precision == p for row in rows)}  # fmt: skip
    work = flops(case, items)
    base = statistics.median(rows[0].seconds)
    yield (
        f"{case.name} ({len(items)} items, {work / 1e9:.2f} GFLOP each; matmul peak "
        + ", ".join(f"{p} {v / 1e9:.0f} GFLOP/s" for p, v in peak.items())
        + ")"
    )
    yield f"  {'':22}{'once':>7}{'items/s':>9}{'peak':>7}{'cosine':>10}{'error':>9}{'ratio':>7}"
    for row in rows:
        seconds = statistics.median(row.seconds)
        cosine, error = distance(row.features, rows[0].features)
        rate = len(items) / seconds
        yield (
            f"  {row.name:22}{row.once:>7.1f}{rate:>9.1f}{rate * work / peak[row.precision]:>7.0%}"
            f"{cosine:>10.5f}{error:>9.0e}{base / seconds:>7.2f}"
        )


def sweep(case: Case) -> str:
    """Images per CPU second at each batch size; the rule's choice in brackets."""
    import torch

    from zoobench import models
    from zoobench.features.extraction import keep_large_blocks, picture_batch
    from zoobench.features.source import Features, View

    torch.set_num_threads(1)
    keep_large_blocks()
    backbone = models.load(models.resolve(case.ref), 0)
    backbone.module.to(memory_format=torch.channels_last)
    fast = Features(backbone, View(case.ref)).fast
    sizes = (1, 2, 4, 8, 16, 32)
    inputs = torch.randn(max(sizes), *(backbone.input_spec.size or ()))
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    best = dict.fromkeys(sizes, 0.0)
    with torch.inference_mode():
        for repeat in range(4):
            for size in sizes:
                started = time.process_time()
                for start in range(0, max(sizes), size):
                    fast.embed(inputs[start : start + size])
                rate = max(sizes) / (time.process_time() - started)
                best[size] = max(best[size], rate if repeat else 0.0)
    chosen = picture_batch(fast, torch.device("cpu"))
    shown = {size: f"{size}: {rate:.1f}" for size, rate in best.items()}
    shown[chosen] = f"[{shown.get(chosen, chosen)}]"
    return f"{case.name:10} " + "  ".join(shown.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(CASES), action="append")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--sweep", action="store_true", help="batch sizes instead")
    asked = parser.parse_args()
    # Before torch is imported by either side.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{platform.machine()} ({capability}), one thread, torch {torch.__version__}")
    if asked.sweep:
        for name, case in CASES.items():
            if case.architecture and name in (asked.only or CASES):
                print(sweep(case), flush=True)
        return
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for side in ("documented", "zoobench"):
        pipes[side], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, side), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures(Path(folder), asked.images)
        texts = sentences(asked.texts)
        for name in asked.only or CASES:
            case = CASES[name]
            items = paths if case.architecture else texts
            for line in contest(case, items, pipes, asked.repeats):
                print(line, flush=True)
    for pipe in pipes.values():
        pipe.send(("end",))


if __name__ == "__main__":
    main()
