"""Operation counters side by side: error against the truth, and time, on 15 models.

    python benchmarks/bench_profile.py [--out results/costs/bench_profile.csv]

The truth is torchvision's published count where there is one, and a formula written out
here for BERT, Whisper's encoder, AST and an LSTM. Each tool counts the same network, built
once with random weights, on the CPU in eval mode; ours runs on the meta device. A tool that
is not installed is skipped, with its pip command; one that raises says so. Times are the
second of two calls, imports and building left out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

Inputs = Callable[[], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    truth: float


PICTURES = (
    "resnet50", "vgg16", "densenet121", "mobilenet_v3_large", "efficientnet_b0",
    "regnet_y_400mf", "convnext_tiny", "swin_t", "vit_b_16", "maxvit_t",
)  # fmt: skip


def transformer(tokens: int, d: int, layers: int, ffn: int) -> int:
    """MACs of an encoder: projections, scores and weighted values, feed-forward."""
    return layers * tokens * (4 * d * d + 2 * tokens * d + 2 * d * ffn)


def picture(name: str) -> Case:
    from torchvision import models

    truth = 1e9 * models.get_model_weights(name).DEFAULT.meta["_ops"]
    return Case(
        f"torchvision/{name}",
        lambda: models.get_model(name, weights=None).eval(),
        lambda: (torch.rand(1, 3, 224, 224),),
        truth,
    )


def cases() -> list[Case]:
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    def bert(length: int) -> Case:
        return Case(
            f"transformers/bert-base at {length}",
            lambda: transformers.BertModel(transformers.BertConfig()).eval(),
            lambda: (torch.ones(1, length, dtype=torch.long),),
            transformer(length, 768, 12, 3072) + 768 * 768,
        )

    whisper = Case(
        "transformers/whisper-tiny encoder",
        lambda: WhisperEncoder(transformers.WhisperConfig()).eval(),
        lambda: (torch.rand(1, 80, 3000),),
        3000 * 3 * 80 * 384 + 1500 * 3 * 384 * 384 + transformer(1500, 384, 4, 1536),
    )
    ast = Case(
        "transformers/ast",
        lambda: transformers.ASTModel(transformers.ASTConfig()).eval(),
        lambda: (torch.rand(1, 1024, 128),),
        1212 * 768 * 256 + transformer(1214, 768, 12, 3072),
    )
    lstm = Case(
        "torch/LSTM 256-512-512, 100 steps",
        lambda: nn.LSTM(256, 512, num_layers=2, batch_first=True).eval(),
        lambda: (torch.rand(1, 100, 256),),
        100 * 4 * 512 * (256 + 512 + 512 + 512),
    )
    return [*map(picture, PICTURES), bert(128), bert(512), whisper, ast, lstm]


def ours(module: nn.Module, inputs: Inputs) -> float:
    from zoobench.costs.counter import count

    return count(module.to("meta"), tuple(x.to("meta") for x in inputs())).macs


def fvcore(module: nn.Module, inputs: Inputs) -> float:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs())
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return float(analysis.tracer_warnings("none").total())


def ptflops(module: nn.Module, inputs: Inputs) -> float:
    from ptflops import get_model_complexity_info

    (given,) = inputs()
    macs, _ = get_model_complexity_info(
        module,
        tuple(given.shape[1:]),
        input_constructor=lambda _: given,
        as_strings=False,
        print_per_layer_stat=False,
        verbose=False,
        backend="pytorch",
    )
    if macs is None:
        raise RuntimeError("gave no count")
    return float(macs)


def calflops(module: nn.Module, inputs: Inputs) -> float:
    from calflops import calculate_flops

    _, macs, _ = calculate_flops(
        model=module,
        args=list(inputs()),
        print_results=False,
        print_detailed=False,
        output_as_string=False,
    )
    return float(macs)


def torchinfo(module: nn.Module, inputs: Inputs) -> float:
    from torchinfo import summary

    return float(summary(module, input_data=inputs(), verbose=0, device="cpu").total_mult_adds)


TOOLS: dict[str, tuple[Callable[[nn.Module, Inputs], float], str]] = {
    "zoobench": (ours, "zoobench"),
    "fvcore": (fvcore, "fvcore"),
    "ptflops": (ptflops, "ptflops"),
    "calflops": (calflops, "calflops accelerate"),
    "torchinfo": (torchinfo, "torchinfo"),
}


def measure(tool: str, case: Case) -> dict[str, Any]:
    """One row: MACs, error against the truth, seconds of the second call, or the error."""
    row: dict[str, Any] = {"model": case.name, "tool": tool, "truth_macs": int(case.truth)}
    counter = TOOLS[tool][0]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            module = case.build()
            with torch.no_grad():
                counter(module, case.inputs)
                started = time.perf_counter()
                macs = counter(module, case.inputs)
        row |= {"macs": int(macs), "error_share": round(macs / case.truth - 1, 5)}
        row["seconds"] = round(time.perf_counter() - started, 4)
    except Exception as error:  # noqa: BLE001 - how a tool fails is part of what is compared
        row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:120]
    return row


def present(tool: str) -> bool:
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(tool)
            if tool == "calflops":
                importlib.import_module("accelerate")
    except ImportError:
        return False
    return True


def shown(row: dict[str, Any]) -> str:
    if "failed" in row:
        return "failed"
    return f"{row['error_share']:+.1%} {row['seconds']:.2f}s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write every row to this CSV")
    out: Path | None = parser.parse_args().out
    torch.manual_seed(0)
    tools = [tool for tool in TOOLS if present(tool)]
    for tool in TOOLS.keys() - set(tools):
        print(f"{tool} is not installed: pip install {TOOLS[tool][1]}")
    print(f"{'':36}" + "".join(f"{tool:>18}" for tool in tools))
    rows = []
    for case in cases():
        line = [measure(tool, case) for tool in tools]
        rows += line
        print(f"{case.name:36}" + "".join(f"{shown(row):>18}" for row in line), flush=True)
    for tool in tools:
        mine = [row for row in rows if row["tool"] == tool]
        near = sum(abs(row.get("error_share", 1)) <= 0.01 for row in mine)
        times = sorted(row["seconds"] for row in mine if "seconds" in row)
        middle = f"{times[len(times) // 2]:.2f} s" if times else "-"
        print(f"{tool}: within 1% on {near} of {len(mine)}, median {middle}")
    if out is not None:
        names = ("model", "tool", "truth_macs", "macs", "error_share", "seconds", "failed")
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
