"""The back end of `zoobench profile`: exact costs with no weights, no GPU and no network."""

from __future__ import annotations

import csv
import gc
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zoobench import escape
from zoobench.costs import architectures
from zoobench.costs.architectures import Architecture, quiet
from zoobench.costs.counted import count_detail, count_of, weights_bytes
from zoobench.costs.counter import OpCount, count, params_by_block
from zoobench.errors import UserError, one_line
from zoobench.files import write_atomic
from zoobench.models import graphs
from zoobench.models.weights import parameters
from zoobench.schema import Ref

COLUMNS = (
    "model", "source", "input", "params", "macs", "flops", "train_flops",
    "lower_bound", "uncounted_ops", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """One architecture, counted. `train` is None where a step failed, for `train_error`."""

    module: torch.nn.Module
    device: torch.device
    forward: OpCount
    train: OpCount | None
    train_error: str


def profile(
    name: str,
    input_size: tuple[int, int] | None = None,
    seq_len: int | None = None,
    weights: bool = False,
    cross_check: bool = False,
) -> dict[str, Any]:
    """All static costs of `name` (source/name), ready for JSON.

    `input_size` is (height, width). Without `weights` a timm or torchvision network is
    counted as published, with its head; with them the loaded backbone's features are.
    `counted_on` is "meta", or "cpu": for a loaded backbone, and for a network that
    `reads_values` while it runs, whose count may depend on them. `train_macs` and
    `activation_bytes` are absent where the training step needs more than the input
    (detectors), and `train_error` says why.
    `cross_check` adds fvcore's count and what explains the difference.
    Raises UserError, or whatever the model raises when it runs on the CPU.
    """
    started = time.perf_counter()
    ref = Ref.parse(name)
    with quiet():
        shape = architectures.architecture(ref, input_size, seq_len, weights)
        found = shape.built(partial(_count, shape))
        body = _body(shape, found)
        body["seconds"] = round(time.perf_counter() - started, 4)
        if cross_check:
            from zoobench.costs.crosscheck import cross_check as check

            body["cross_check"] = check(shape, found.forward)
    return body


def _body(shape: Architecture, found: _Found) -> dict[str, Any]:
    module, forward, train = found.module, found.forward, found.train
    body: dict[str, Any] = {
        "model": shape.name,
        "scope": shape.scope,
        "input_shape": shape.shape,
        "params": parameters(module),
        "trainable_params": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "params_by_block": params_by_block(module),
        "weights_bytes": weights_bytes(module),
        "macs": forward.macs,
        "flops": 2 * forward.macs,
        "macs_by_operator": dict(forward.by_operator),
        **count_detail(forward),
        "counted_on": found.device.type,
        "reads_values": shape.meta and found.device.type == "cpu",
    }
    if shape.sequence_length is not None:
        body["sequence_length"] = shape.sequence_length
    if shape.seconds is not None:
        body["seconds_of_sound"] = shape.seconds
    if train is not None:
        body |= {"train_macs": train.macs, "train_flops": 2 * train.macs}
        body["train_uncounted_ops"] = list(train.uncounted)
        body["activation_bytes"] = train.activation_bytes
    else:
        body["train_error"] = found.train_error
    return body


def _count(shape: Architecture, module: torch.nn.Module, device: torch.device) -> _Found:
    forward = count_of(module, shape.call or module, shape.inputs(device))
    if kind := graphs.kind_of(module):
        why = f"a graph of {graphs.KINDS[kind].title}, without gradients: nothing trains it"
        return _Found(module, device, forward, None, why)
    try:
        whole = module if shape.call is None else Called(module, shape.call)
        train = count(whole, shape.inputs(device), train=True)
    except Exception as error:  # noqa: BLE001 - a training step is more than some models allow
        return _Found(module, device, forward, None, one_line(error))
    return _Found(module, device, forward, train, "")


class Called(torch.nn.Module):
    """A module with `module`'s parts whose forward is `call`."""

    def __init__(self, module: torch.nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call
        for name, child in module.named_children():
            self.add_module(name, child)
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, *args: Any) -> Any:
        return self.call(*args)


def row(source: str, name: str) -> dict[str, Any]:
    """One line of a sweep: COLUMNS; a failure fills `error` and leaves the counts empty."""
    started = time.perf_counter()
    line: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    line |= {"model": name, "source": source}
    try:
        body = profile(f"{source}/{name}")
    except Exception as error:  # noqa: BLE001 - a failure is a row with its reason, not an end
        line["error"] = one_line(error)
    else:
        line |= {
            "input": _input(body["input_shape"]),
            "params": body["params"],
            "macs": body["macs"],
            "flops": body["flops"],
            "train_flops": body.get("train_flops", ""),
            "lower_bound": str(body["lower_bound"]).lower(),
            "uncounted_ops": " ".join(body["uncounted_ops"]),
        }
    line["seconds"] = round(time.perf_counter() - started, 3)
    return line


def _input(shape: Any) -> str:
    """1x3x224x224 for one tensor; for several the first, such as 1x128 token ids."""
    first = next(iter(shape.values())) if isinstance(shape, Mapping) else shape
    return "x".join(map(str, first))


def sweep(
    source: str,
    pattern: str,
    out: Path,
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of every model of `source` that matches `pattern`, appended to the CSV `out`.

    Lazy: nothing happens until it is consumed. Rows already in `out` are yielded as they
    stand and not counted again; a last line that was cut off is dropped. `progress(done,
    total, row)` is called after each. Raises UserError for an unknown source, a pattern that
    matches nothing, or a foreign `out`.
    """
    wanted = architectures.names(source, pattern)
    known = read_rows(out)
    _rewrite(out, known)
    for done, name in enumerate(wanted, start=1):
        line: dict[str, Any] | None = known.get((source, name))
        if line is None:
            line = row(source, name)
            shown = {column: escape.csv(value) for column, value in line.items()}
            with out.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(shown)
            gc.collect()
        if progress is not None:
            progress(done, len(wanted), line)
        yield line


def read_rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(source, model) -> row of a sweep's CSV; empty where there is none.

    Whole lines only. Raises UserError where the file has other columns.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1].splitlines()
    reader = csv.DictReader(whole)
    if whole and tuple(reader.fieldnames or ()) != COLUMNS:
        raise UserError(f"{path}: not a table of costs: its columns are {reader.fieldnames}")
    return {(line["source"], line["model"]): line for line in reader if None not in line.values()}


def _rewrite(path: Path, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """The header and the whole rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(known.values())
    write_atomic(path, text.getvalue().encode())
