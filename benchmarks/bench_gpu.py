"""What a device can do, and how much of it the product uses: extraction, training, probes.

    python benchmarks/bench_gpu.py [--device cuda] [--quick] [--compile] [--out FILE.json]

First the ceilings: a large matrix product in float32 (without TF32) and bfloat16, and a copy on
the device. Then for each network: the bare forward on pictures that lie on the device; extraction
by the product, end to end, from its cache of pixels and from JPEG files, and what bounded it;
steps of its fine-tuning beside the plain loop of a training script, with `--compile` compiled, too;
of the first network the share of an extraction in which the device idles, and of each what a
recorded CUDA graph of it would gain. Then the two probes, what one product for several penalties
would gain, and the suite `vision` as the sum of its parts (gpu_parts.py). Weights are random: speed
does not see them. Rates are examples a second, medians over turns. Both sides of a comparison take
turns; first they are checked to compute the same thing. `--quick` uses tiny networks and little
data: it shows that all parts run, as a test does on the CPU. One JSON (`SCHEMA`), written again
after each part, and a table. A part that fails has an `error` in place of its numbers, and the exit
code is 3.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu_clock import QUICK, WHOLE, Bench, StepClock
from gpu_inputs import Cached, jpegs, pixels, sentences, split_of, splits_of, text_encoder
from gpu_parts import attempted, idle, probes, products, recorded, suite, suite_models

SCHEMA = 4
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
TINY_SUITE = ("timm/test_resnet.r160_in1k?input_size=64", "timm/test_vit.r160_in1k?input_size=64")


def ceilings(bench: Bench) -> dict[str, float]:
    """FLOP/s of a matrix product by type, and bytes/s of a copy (read and written)."""
    import torch

    side, found = bench.sizes.matrix, {}
    for name in ("float32", "bfloat16"):
        a = torch.randn(side, side, device=bench.device, dtype=getattr(torch, name))
        bench.warm(lambda a=a: a @ a)
        found[f"matmul_{name}"] = 2 * side**3 / bench.best(lambda a=a: a @ a)
    one = torch.empty(side * side * 4, device=bench.device, dtype=torch.uint8)
    other = torch.empty_like(one)
    found["copy_bytes"] = 2 * one.nbytes / bench.best(lambda: other.copy_(one))
    return found


def made(bench: Bench, backbone: Any, ref: str) -> tuple[Any, Callable[..., Any], Any]:
    """(A model's features, its bare forward on resident data or what it is given, that data)."""
    import torch

    from zoobench.costs.counted import batch_of
    from zoobench.features.extraction import lay_out
    from zoobench.features.incoming import to_device
    from zoobench.features.source import Features, View

    lay_out(backbone, bench.device)
    precision = "bf16" if bench.device.type == "cuda" else "fp32"
    source = Features(backbone, View(ref, str(bench.device), precision))
    resident = to_device(batch_of(backbone, bench.sizes.batch), bench.device)
    fast = source.taking(precision)

    def bare(batch: Any = resident) -> Any:
        with torch.inference_mode():
            return fast.embed(batch)

    return source, bare, resident


def network(
    bench: Bench, name: str, ref: str, files: Sequence[str], compiling: bool, first: bool
) -> dict[str, Any]:
    """The rates of one network, each beside the bare forward in the same arithmetic."""
    import torch

    from zoobench import models
    from zoobench.costs.counted import static_costs
    from zoobench.datasets.readers import Files, Texts
    from zoobench.features.pixels import PixelCache

    size = bench.sizes
    backbone: Any = models.load(models.resolve(ref), 0)
    flops = next(one.value for one in static_costs(backbone) if one.metric == "flops")
    source, bare, resident = made(bench, backbone, ref)
    text = source.input_spec.modality == "text"
    sources: dict[str, tuple[Any, int]] = (
        {"texts": (Texts(sentences(size.pictures)), size.pictures)}
        if text
        else {
            "pixels": (Cached(pixels(size.pictures)), size.pictures),
            "jpeg": (Files(tuple(files)), len(files)),
        }
    )
    same(source, split_of(*next(iter(sources.values()))))
    row: dict[str, Any] = {
        "name": name, "ref": ref, "precision": source.precision, "flops": flops,
        "bare": size.batch / bench.best(bare), "stages": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for kind, (read, many) in sources.items():
            kept = PixelCache(Path(folder)) if kind == "pixels" else None
            row[kind], row["stages"][kind], again = extraction(
                bench, source, split_of(read, many), kept
            )
            if first and kind == "pixels":
                row["idle_share"] = idle(bench, again)
    row |= training(bench, source, text, compiling)
    if bench.device.type == "cuda":
        row["peak_memory_bytes"] = torch.cuda.max_memory_allocated(bench.device)
    row["recorded"] = recorded(bench, bare, resident)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    return row


def same(source: Any, split: Any) -> None:
    """Raises AssertionError where the product's features are not the network's own."""
    import torch

    from zoobench.features.incoming import to_device

    some, backbone = split.subset(range(4)), source.backbone
    batch = backbone.collate([backbone.prepare(some.read(i)) for i in range(len(some))])
    with torch.inference_mode():
        plain = backbone.embed(to_device(batch, source.device)).float().cpu()
    ours = source.features(some).float().cpu()
    cosine = torch.nn.functional.cosine_similarity(ours, plain).min()
    least = 0.98 if source.precision == "bf16" else 0.99999
    assert float(cosine) > least, f"features differ: cosine {float(cosine):.5f}"


def extraction(
    bench: Bench, source: Any, split: Any, kept: Any
) -> tuple[float, dict[str, Any], Callable[[], Any]]:
    """(Examples a second, what the last turn spent its seconds on, another turn) of the product's
    extraction; the turn that is not counted fills the cache of pixels, where one is given."""
    from zoobench.features.extraction import Job, extract
    from zoobench.features.stages import StageSeconds

    noted: list[StageSeconds] = []
    precision = source.precision
    job = Job(
        source.backbone, source.taking(precision), bench.device,
        item_bytes=2 if precision == "bf16" else 4, pixels=kept, note=noted.append,
    )  # fmt: skip

    def turn() -> Any:
        return extract(job, split, lambda done: None)

    seconds = bench.best(turn)
    last = noted[-1]
    told = {"bound": last.bound, "waiting_share": round(last.waiting_share, 4), **last.facts()}
    return len(split) / seconds, told, turn


def training(bench: Bench, source: Any, text: bool, compiling: bool) -> dict[str, Any]:
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

    spent, source.progress = Compiling(), StepClock(bench)
    Training(recipe, source, objective_of(splits), 1e-4, 0, spent).train(train, valid, Share())
    steady, source.progress = source.progress.seconds, None
    told = {"compile_seconds": spent.seconds, "compile_failed": spent.failed}
    return {**rates, "compiled_steps": (size.steps - 1) / steady, **told}


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


def name_of(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def measured(
    device: Any, quick: bool, compiling: bool, keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The JSON's body, which `keep` is given after each part, as far as it is measured."""
    import torch

    from zoobench import machine, models

    started = time.perf_counter()
    bench = Bench(device, QUICK if quick else WHOLE)
    body: dict[str, Any] = {
        "schema": SCHEMA, "device": name_of(device), "torch": str(torch.__version__),
        "driver": machine.driver() if device.type == "cuda" else "", "cores": machine.cores(),
        "quick": quick, "ceilings": ceilings(bench), "networks": [],
    }  # fmt: skip

    def done(**part: Any) -> None:
        body.update(part, seconds=time.perf_counter() - started)
        keep(body)

    with tempfile.TemporaryDirectory() as folder:
        files = jpegs(Path(folder), bench.sizes.files)
        texts = text_encoder(Path(folder) / "texts", quick)
        for name, ref in (TINY if quick else NETWORKS).items():
            whole = f"hf/bench?weights={texts}&{ref}" if name == TEXTS else ref
            first = not body["networks"]
            row = attempted(
                lambda name=name, whole=whole, first=first: network(
                    bench, name, whole, files, compiling, first
                )
            )
            body["networks"].append({**row, "name": name, "ref": ref})
            print(line(body["networks"][-1], body["ceilings"]), flush=True)
            done()
    done(probes=attempted(lambda: probes(bench)))
    done(products=attempted(lambda: products(bench)))

    def rate(ref: str) -> float:
        backbone = models.load(models.resolve(ref), 0)
        return bench.sizes.batch / bench.best(made(bench, backbone, ref)[1])

    refs = TINY_SUITE if quick else suite_models()
    whole = [row for row in body["networks"] if "error" not in row]
    done(suite=attempted(lambda: suite(bench, refs, whole, rate)))
    return body


HEAD = (
    f"{'network':16}{'bare/s':>9}{'of peak':>9}{'pixels':>8}{'jpeg':>7}{'texts':>7}"
    f"{'steps/s':>9}{'of plain':>10}  bound"
)


def line(row: dict[str, Any], peaks: dict[str, float]) -> str:
    """A network's row: extraction as shares of the bare forward."""
    if "error" in row:
        return f"{row['name']:16}{row['error']}"[:100]
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


def main() -> int:
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

    def keep(body: dict[str, Any]) -> None:
        if asked.out is not None:
            asked.out.write_text(json.dumps(body, indent=1) + "\n", encoding="ascii")

    body = measured(device, asked.quick, asked.compile, keep)
    print(summary(body, asked.quick))
    parts = [*body["networks"], body["probes"], body["products"], body["suite"]]
    return 3 if any("error" in part for part in parts) else 0


def summary(body: dict[str, Any], quick: bool) -> str:
    """What stands below the table."""
    peaks, networks = body["ceilings"], [row for row in body["networks"] if "error" not in row]
    n, d, c = (QUICK if quick else WHOLE).probe
    idles = next((row["idle_share"] for row in networks if "idle_share" in row), "not measured")
    share = f"{idles:.0%}" if isinstance(idles, float) else idles
    gains = [f"{row['name']} {row['recorded']}" for row in networks if row["recorded"] is not None]
    return "\n".join((
        "",
        f"matrix product {peaks['matmul_float32'] / 1e12:.2f} TFLOP/s in float32, "
        f"{peaks['matmul_bfloat16'] / 1e12:.2f} in bfloat16; copy "
        f"{peaks['copy_bytes'] / 1e9:.0f} GB/s",
        told(body["probes"], f"probe of {n:,} x {d:,}, {c} classes", (
            "{logistic_seconds:.2f} s to a gap of {relative_gap:.0e}; ridge {ridge_seconds:.2f} s"
        )),
        told(body["products"], "several penalties in one product", (
            "{lambdas} of them: scores {scores_ratio:.2f} and gradients {gradients_ratio:.2f} "
            "times as fast"
        )),
        f"idle in extraction from pixels, profiled: {share}",
        f"recorded graphs, times as fast by batch: {'; '.join(gains) or 'none on this device'}",
        told(body["suite"], "the suite's models on 10,000 pictures", (
            "{seconds:.0f} s, features {features_seconds:.0f}, probes {probe_seconds:.0f}"
        )),
        f"all of it in {body['seconds']:.0f} s",
    ))  # fmt: skip


def told(part: dict[str, Any], what: str, numbers: str) -> str:
    """A line of a part: its `numbers`, filled in, or its error."""
    return f"{what}: {part.get('error') or numbers.format(**part)}"


if __name__ == "__main__":
    sys.exit(main())
