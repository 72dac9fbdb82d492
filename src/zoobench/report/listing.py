"""What `list` and `doctor` show: rows for a person, or JSON Lines for a machine.

Each function imports the tables that it reads: a list of models waits for neither numpy
(datasets) nor pydantic (suites).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import click

from zoobench import escape, models
from zoobench.costs.known import counted
from zoobench.errors import ZoobenchError
from zoobench.report.profile import amount
from zoobench.schema import DatasetCard, ModelCard

Row = dict[str, Any]


def model_rows(cards: Sequence[ModelCard], offline: bool) -> list[Row]:
    """One row a model: where its weights come from, its licence, whether it is here."""
    rows = []
    for card in cards:
        here, why = models.available(card.ref)
        if here or not offline:
            rows.append(
                {
                    "model": f"{card.source}/{card.name}",
                    "reads": card.modality,
                    "offline": here,
                    **_size(card),
                    "license": card.license,
                    "weights": card.weights if here else f"{card.weights} ({why})",
                    "pretrained_on": card.pretrained_on,
                }
            )
    return rows


def show_swept(pattern: str, as_json: bool) -> None:
    """Architectures that were swept, in the columns that matter; as JSON with all probes."""
    from zoobench.report import usability
    from zoobench.usability.sweep import swept

    shown = usability.swept_body if as_json else usability.swept_row
    show([shown(model, rows) for model, rows in swept(pattern).items()], as_json, pattern)


def _size(card: ModelCard) -> Row:
    """Parameters and MACs of one example as counted before (docs/costs.md), else empty."""
    row = counted(card)
    if row is None:
        return {"params": "", "macs": ""}
    bound = "≥ " if row.lower_bound else ""
    return {"params": amount(row.params), "macs": bound + amount(row.macs)}


def dataset_rows(cards: Sequence[DatasetCard], offline: bool) -> list[Row]:
    """One row a dataset. Sizes are train/valid/test; 0 means that zoobench derives the split."""
    from zoobench import datasets

    rows = []
    for card in cards:
        here, why = datasets.available(card.ref)
        if here or not offline:
            rows.append(
                {
                    "dataset": f"{card.source}/{card.name}",
                    "reads": card.modality,
                    "task": card.task,
                    "offline": here,
                    "license": card.license,
                    "classes": card.classes,
                    "sizes": "/".join(map(str, card.sizes)),
                    "nature": card.nature,
                    "where": why,
                }
            )
    return rows


def method_rows() -> list[Row]:
    """One row a method, with its parameters and their defaults."""
    from zoobench import methods, plugins

    rows = []
    for name, _ in plugins.every("methods", methods.METHODS):
        classes: dict[type, str] = {}
        for task in methods.served(name):
            classes.setdefault(methods.method_class(name, task=task), task)
        for task in classes.values():
            method = methods.build(name, {}, task=task)
            serves = getattr(type(method), "tasks", ("classification",))
            every = dataclasses.asdict(cast("Any", method))  # options that are off with them
            params = ", ".join(f"{k}={_plain(v)}" for k, v in every.items())
            row = {"method": name, "tasks": ", ".join(serves), "parameters": params or "none"}
            rows.append({**row, "about": _about(method)})
    return rows


def task_rows() -> list[Row]:
    """One row a task, with its metrics, the primary one first."""
    from zoobench import tasks

    rows = []
    for name, task in tasks.every():
        rows.append({"task": name, "metrics": ", ".join(task.metrics), "about": _about(task)})
    return rows


def objective_rows() -> list[Row]:
    """One row a pretraining objective: what it can be trained on, and how often it sees each."""
    from zoobench import pretraining

    rows = []
    for name in pretraining.OBJECTIVES:
        kind = pretraining.objective(name)
        reads = ", ".join(kind.modalities)
        rows.append({"objective": name, "reads": reads, "views": kind.views, "about": kind.about})
    return rows


def _about(member: object) -> str:
    return (type(member).__doc__ or "").strip().partition("\n")[0]


def suite_rows() -> list[Row]:
    """One row a built-in suite."""
    import tomllib

    from zoobench.runs import suite

    rows = []
    for name in suite.BUILTIN:
        body = tomllib.loads(suite.builtin_path(name).read_text(encoding="utf-8"))
        models_ = len(body.get("models", ())) + len(body.get("pretrain", ()))
        sizes = f"models: {models_}, datasets: {len(body['datasets'])}"
        rows.append({"suite": name, "holds": sizes, "about": body.get("description", "")})
    return rows


def _plain(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else str(value)


def show(rows: Sequence[Row], as_json: bool, pattern: str) -> None:
    """A table on stdout: the whole of a short value, the start of a long one."""
    if as_json:
        for row in rows:
            click.echo(escape.json_ascii(json.dumps(row)))
        return
    if not rows:
        text = f"Nothing matches {pattern!r}. A pattern is a glob, such as '*resnet*'."
        click.echo(escape.terminal(text), err=True)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)
    cells = [[_cell(value) for value in row.values()] for row in rows]
    if not console.is_terminal:  # a pipe has no width: one row, one line, tabs between
        click.echo("\n".join(map("\t".join, cells)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(rows[0]):
        table.add_column(name, overflow="fold" if number == 0 else "ellipsis", no_wrap=number > 0)
    for line in cells:
        table.add_row(*line)
    console.print(table)
    console.print(f"{len(rows)} in all", highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape.terminal(str(value))


EXTRAS = {
    "babel": "demo", "mlxtend": "demo", "skimage": "demo", "vaderSentiment": "demo",
    "torchao": "compression", "gguf": "gguf", "ruptures": "history", "datasets": "hub",
    "h5py": "keras", "keras": "keras", "peft": "lora", "lpips": "lpips", "onnx": "onnx",
    "onnxruntime": "onnx", "onnxscript": "onnx", "open_clip": "open-clip", "pyarrow": "parquet",
    "ray": "ray", "segmentation_models_pytorch": "segmentation", "jiwer": "sound",
    "soundfile": "sound", "tensorflow": "tensorflow",
}  # fmt: skip
"""Module -> the extra that it comes with, in the order of the extras."""


def show_doctor(as_json: bool) -> None:
    """Devices, versions, caches, and which optional parts are here."""
    facts = diagnosis()
    if as_json:
        click.echo(escape.json_ascii(json.dumps(facts, indent=1)))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            wide = max(map(len, value), default=0)
            for key, item in value.items():
                click.echo(escape.terminal(f"  {key:<{wide}}  {item}"))
        else:
            click.echo(escape.terminal(f"{name + ':':<13} {value}"))


def diagnosis() -> dict[str, Any]:
    """What a bug report should hold; no network request is made."""
    from zoobench import machine
    from zoobench.runs.session import environment

    try:
        device = machine.resolve("auto")
    except ZoobenchError as error:
        device = f"none: {error}"
    have = {
        f"{module} (extra {extra})": "installed"
        if find_spec(module)
        else f"missing: pip install 'zoobench[{extra}]'"
        for module, extra in EXTRAS.items()
    }
    names = ("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TORCH_HOME", "CUDA_VISIBLE_DEVICES")
    return {
        **environment(device),
        "optional": have,
        "cache": {"directory": str(machine.cache_dir()), "bytes": size_of(machine.cache_dir())},
        "variables": {name: escape.credentials(os.environ.get(name, "not set")) for name in names},
        "models offline": dict(map(_packaged, models.list_cards("packaged/*"))),
    }


def _packaged(card: ModelCard) -> tuple[str, str]:
    here, why = models.available(card.ref)
    return f"{card.source}/{card.name}", ("yes: " if here else "no: ") + why


def size_of(folder: Path) -> int:
    """Bytes of every file below `folder`, 0 where it is absent."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
