"""What a device can do, and how much of it the product uses: extraction, training, probes.

    python benchmarks/bench_gpu.py [--device cuda] [--quick] [--compile] [--out FILE.json]

First the ceilings: a large matrix product in float32 (without TF32) and bfloat16, and a copy on
the device. Then for each network: the bare forward on pictures that lie on the device; extraction
by the product, end to end, from its cache of pixels and from JPEG files, and what bounded it;
steps of its fine-tuning beside the plain loop of a training script, with `--compile` compiled, too.
Last the two probes. Weights are random: speed does not see them. Rates are examples a second,
medians over turns. Both sides of a comparison take turns; first they are checked to compute the
same thing. `--quick` uses tiny networks and little data: it shows that all parts run, as a test
does on the CPU. One JSON (`SCHEMA`) and a table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_inputs import Cached, jpegs, pixels, sentences, split_of, splits_of, text_encoder

SCHEMA = 2
TEXTS = "text-encoder"
NETWORKS = {
    "resnet50": "timm/resnet50?weights=random",
    "vit-s": "timm/vit_small_patch16_224?weights=random",
    "efficientnet-b0": "timm/efficientnet_b0?weights=random",
    "convnext-t": "timm/convnext_tiny?weights=random",
    TEXTS: "length=32",
}
TINY = {
    "test_resnet": "timm/test_resnet?input_size=64&weights=random",
    TEXTS: "length=8",
}


@dataclass(frozen=True)
class Sizes:
    """How much is computed: `pictures` cached, `files` of JPEG, `batch` of the bare forward,
    `steps` of training, a probe's examples and features, the side of a matrix product."""

    pictures: int
    files: int
    batch: int
    steps: int
    probe: tuple[int, int, int]
    matrix: int
    turns: int


WHOLE = Sizes(4096, 2048, 256, 20, (50_000, 2_048, 100), 8192, 3)
QUICK = Sizes(16, 4, 4, 2, (400, 32, 4), 256, 1)


@dataclass
class Bench:
    """A device, how much is measured on it, and the clock that waits for it."""

    device: Any
    sizes: Sizes

    def seconds(self, call: Callable[[], Any]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def best(self, call: Callable[[], Any]) -> float:
        """Median seconds of `call`, after one that is not counted."""
        call()
        return statistics.median(self.seconds(call) for _ in range(self.sizes.turns))

    def turns(self, *calls: Callable[[], Any]) -> list[float]:
        """Median seconds of each of `calls`, which take turns, after one that is not counted."""
        for call in calls:
            call()
        taken = [[self.seconds(call) for call in calls] for _ in range(self.sizes.turns)]
        return [statistics.median(row) for row in zip(*taken, strict=True)]


def ceilings(bench: Bench) -> dict[str, float]:
    """FLOP/s of a matrix product by type, and bytes/s of a copy (read and written)."""
    import torch

    side, found = bench.sizes.matrix, {}
    for name in ("float32", "bfloat16"):
        a = torch.randn(side, side, device=bench.device, dtype=getattr(torch, name))
        found[f"matmul_{name}"] = 2 * side**3 / bench.best(lambda a=a: a @ a)
    one = torch.empty(side * side * 4, device=bench.device, dtype=torch.uint8)
    other = torch.empty_like(one)
    found["copy_bytes"] = 2 * one.nbytes / bench.best(lambda: other.copy_(one))
    return found


def network(
    bench: Bench, name: str, ref: str, files: Sequence[str], compiling: bool
) -> dict[str, Any]:
    """The rates of one network, each beside the bare forward in the same arithmetic."""
    import torch

    from zoobench import models
    from zoobench.costs.counted import batch_of, static_costs
    from zoobench.datasets.readers import Files, Texts
    from zoobench.features.extraction import lay_out
    from zoobench.features.incoming import to_device
    from zoobench.features.pixels import PixelCache
    from zoobench.features.source import Features, View

    backbone: Any = models.load(models.resolve(ref), 0)
    flops = next(one.value for one in static_costs(backbone) if one.metric == "flops")
    lay_out(backbone, bench.device)
    precision = "bf16" if bench.device.type == "cuda" else "fp32"
    source = Features(backbone, View(ref, precision=precision))
    count, size = bench.sizes.batch, bench.sizes
    resident = to_device(batch_of(backbone, count), bench.device)

    def bare() -> Any:
        with torch.inference_mode():
            return source.fast.embed(resident)

    text = backbone.input_spec.modality == "text"
    sources: dict[str, tuple[Any, int]] = (
        {"texts": (Texts(sentences(size.pictures)), size.pictures)}
        if text
        else {
            "pixels": (Cached(pixels(size.pictures)), size.pictures),
            "jpeg": (Files(tuple(files)), len(files)),
        }
    )
    same(source, backbone, split_of(*next(iter(sources.values()))), precision)
    rate = count / bench.best(bare)
    row: dict[str, Any] = {
        "name": name, "ref": ref, "precision": precision, "flops": flops, "bare": rate,
        "stages": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for kind, (read, many) in sources.items():
            kept = PixelCache(Path(folder)) if kind == "pixels" else None
            row[kind], row["stages"][kind] = extraction(bench, source, split_of(read, many), kept)
    row |= training(bench, source, text, compiling)
    if bench.device.type == "cuda":
        row["peak_memory_bytes"] = torch.cuda.max_memory_allocated(bench.device)
        torch.cuda.reset_peak_memory_stats(bench.device)
    return row


def same(source: Any, backbone: Any, split: Any, precision: str) -> None:
    """Raises AssertionError where the product's features are not the network's own."""
    import torch

    from zoobench.features.incoming import to_device

    some = split.subset(range(4))
    batch = backbone.collate([backbone.prepare(some.read(i)) for i in range(len(some))])
    with torch.inference_mode():
        plain = backbone.embed(to_device(batch, source.device)).float().cpu()
    ours = source.features(some).float().cpu()
    cosine = torch.nn.functional.cosine_similarity(ours, plain).min()
    least = 0.98 if precision == "bf16" else 0.99999
    assert float(cosine) > least, f"features differ: cosine {float(cosine):.5f}"


def extraction(bench: Bench, source: Any, split: Any, kept: Any) -> tuple[float, dict[str, Any]]:
    """(Examples a second, what the last turn spent its seconds on) of the product's extraction;
    the turn that is not counted fills the cache of pixels, where one is given."""
    from zoobench.features.extraction import Job, extract
    from zoobench.features.stages import StageSeconds

    noted: list[StageSeconds] = []
    precision = source.precision
    job = Job(
        source.backbone, source.taking(precision), bench.device,
        item_bytes=2 if precision == "bf16" else 4, pixels=kept, note=noted.append,
    )  # fmt: skip
    seconds = bench.best(lambda: extract(job, split, lambda done: None))
    last = noted[-1]
    told = {"bound": last.bound, "waiting_share": round(last.waiting_share, 4), **last.facts()}
    return len(split) / seconds, told


def training(bench: Bench, source: Any, text: bool, compiling: bool) -> dict[str, float]:
    """Steps a second of the product's fine-tuning, and of the loop that a training script has; of
    the former also compiled, with the seconds of compiling apart."""
    from zoobench.features.compiled import Compiling
    from zoobench.methods.data_parallel import Share
    from zoobench.methods.finetune import FineTune, Training
    from zoobench.methods.inputs import Inputs
    from zoobench.methods.objectives import objective_of

    size, batch = bench.sizes, min(64, bench.sizes.batch)
    splits = splits_of(text, 4 * batch)
    recipe = FineTune(steps=size.steps, batch_size=batch, rates=(1e-4,))
    train, valid = Inputs(source, splits.train), Inputs(source, splits.valid)
    run = Training(recipe, source, objective_of(splits), 1e-4, 0)
    batches = [train.batch(list(range(k * batch, (k + 1) * batch))) for k in range(4)]
    taken = bench.turns(
        lambda: run.train(train, valid, Share()),
        lambda: plain_loop(bench, source.copy(), batches, size.steps),
    )
    rates = {"train_steps": size.steps / taken[0], "plain_steps": size.steps / taken[1]}
    if not compiling:
        return rates

    def compiled(steps: int) -> tuple[float, float]:
        """Seconds of so many steps with all that is done once, and of compiling."""
        spent, budget = Compiling(), replace(recipe, steps=steps)
        again = Training(budget, source, objective_of(splits), 1e-4, 0, spent)
        return bench.seconds(lambda: again.train(train, valid, Share())), spent.seconds

    (few, spent), (more, again) = compiled(size.steps), compiled(3 * size.steps)
    steady = max((more - again) - (few - spent), 1e-9)
    return {**rates, "compiled_steps": 2 * size.steps / steady, "compile_seconds": spent}


def plain_loop(bench: Bench, backbone: Any, batches: Sequence[Any], steps: int) -> None:
    """AdamW, autocast, clipping, and the loss read every 20 steps to be shown."""
    import torch

    head = torch.nn.Linear(backbone.feature_dim, 4).to(bench.device)
    backbone.module.train()
    trained = [*backbone.module.parameters(), *head.parameters()]
    fused = bench.device.type == "cuda" or None
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.02, fused=fused)
    for step in range(steps):
        batch = batches[step % len(batches)]
        many = len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
        target = torch.arange(many, device=bench.device) % 4
        optimizer.zero_grad(set_to_none=True)
        with backbone.autocast():
            loss = torch.nn.functional.cross_entropy(head(backbone.embed(batch)).float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 20 == 19:
            loss.item()


def probes(bench: Bench) -> dict[str, float]:
    """Seconds of the linear probe's whole path and of ridge regression's, and the gap that the
    former is certified to."""
    import torch

    from zoobench.solvers.grid import grid
    from zoobench.solvers.logistic import logistic_path
    from zoobench.solvers.ridge import ridge_path

    n, d, c = bench.sizes.probe
    drawn = torch.Generator().manual_seed(0)
    centres = torch.randn(c, d, generator=drawn)
    labels = torch.randint(0, c, (n + n // 5,), generator=drawn)
    rows = torch.randn(len(labels), d, generator=drawn) * 4 + centres[labels]
    train, valid = rows[:n].to(bench.device), rows[n:].to(bench.device)
    own, held = labels[:n].to(bench.device), labels[n:].to(bench.device)
    hot = torch.nn.functional.one_hot(own, c)
    found: list[Any] = []
    return {
        "logistic_seconds": bench.seconds(
            lambda: found.append(logistic_path(train, own, valid, held, c))
        ),
        "ridge_seconds": bench.seconds(lambda: ridge_path(train, hot, grid(45, 11.0))),
        "relative_gap": found[0].refit.certificate.relative_gap,
    }


def name_of(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def measured(device: Any, quick: bool, compiling: bool = False) -> dict[str, Any]:
    """The JSON's body."""
    import torch

    from zoobench import machine

    started = time.perf_counter()
    bench = Bench(device, QUICK if quick else WHOLE)
    body: dict[str, Any] = {
        "schema": SCHEMA, "device": name_of(device), "torch": str(torch.__version__),
        "driver": machine.driver() if device.type == "cuda" else "", "cores": machine.cores(),
        "quick": quick, "ceilings": ceilings(bench), "networks": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = jpegs(Path(folder), bench.sizes.files)
        texts = text_encoder(Path(folder) / "texts", quick)
        for name, ref in (TINY if quick else NETWORKS).items():
            whole = f"hf/bench?weights={texts}&{ref}" if name == TEXTS else ref
            row = network(bench, name, whole, files, compiling)
            body["networks"].append({**row, "ref": ref if name == TEXTS else row["ref"]})
            print(line(body["networks"][-1], body["ceilings"]), flush=True)
    body["probes"] = probes(bench)
    body["seconds"] = time.perf_counter() - started
    return body


HEAD = (
    f"{'network':16}{'bare/s':>9}{'of peak':>9}{'pixels':>8}{'jpeg':>7}{'texts':>7}"
    f"{'steps/s':>9}{'of plain':>10}  bound"
)


def line(row: dict[str, Any], peaks: dict[str, float]) -> str:
    """A network's row: extraction as shares of the bare forward."""
    peak = peaks["matmul_bfloat16" if row["precision"] == "bf16" else "matmul_float32"]
    shares = [
        f"{row[kind] / row['bare']:>{width}.0%}" if kind in row else " " * width
        for kind, width in (("pixels", 8), ("jpeg", 7), ("texts", 7))
    ]
    return (
        f"{row['name']:16}{row['bare']:>9.0f}{row['bare'] * row['flops'] / peak:>9.0%}"
        f"{''.join(shares)}{row['train_steps']:>9.2f}"
        f"{row['train_steps'] / row['plain_steps']:>10.2f}  "
        + ", ".join(dict.fromkeys(one["bound"] for one in row["stages"].values()))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="")
    parser.add_argument("--quick", action="store_true", help="tiny networks: does it run?")
    parser.add_argument("--compile", action="store_true", help="fine-tuning compiled, too")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    import torch

    from zoobench import machine

    device = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    machine.exact_float32(device)
    print(f"{name_of(device)}, torch {torch.__version__}\n{HEAD}", flush=True)
    body = measured(device, asked.quick, asked.compile)
    peaks, found = body["ceilings"], body["probes"]
    n, d, c = (QUICK if asked.quick else WHOLE).probe
    print(
        f"\nmatrix product {peaks['matmul_float32'] / 1e12:.2f} TFLOP/s in float32, "
        f"{peaks['matmul_bfloat16'] / 1e12:.2f} in bfloat16; copy {peaks['copy_bytes'] / 1e9:.0f} "
        f"GB/s\nprobe of {n:,} x {d:,}, {c} classes: {found['logistic_seconds']:.2f} s to a gap of "
        f"{found['relative_gap']:.0e}; ridge {found['ridge_seconds']:.2f} s\n"
        f"all of it in {body['seconds']:.0f} s"
    )
    if asked.out is not None:
        asked.out.write_text(json.dumps(body, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
