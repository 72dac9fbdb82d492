"""The README.md of a saved folder: what the model is, how good, whose, and how that was checked.

Every name in it comes from a file or a hub, and is text here: see `escape.markdown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoobench import __version__, datasets, metrics
from zoobench.errors import ZoobenchError
from zoobench.escape import markdown
from zoobench.export.cells import told
from zoobench.interfaces import Splits
from zoobench.schema import Measurement, Modality, Record

PACKAGES = {
    "timm": "torch timm safetensors pillow",
    "torchvision": "torch torchvision safetensors pillow",
    "transformers-image": "torch torchvision transformers safetensors pillow",
    "transformers-text": "torch transformers safetensors",
    "transformers-audio": "torch transformers safetensors soundfile scipy",
    "words": "torch safetensors",
    "onnx": "torch torchvision timm onnxruntime safetensors pillow",
}
"""What a library's predict.py imports, as pip calls it."""
MORE = {"int8-weight": " torchao", "int8-dynamic": " torchao", "int8-static": " onnxruntime"}
"""By variant: and this."""
INPUTS: dict[Modality, tuple[str, str]] = {
    "image": ("PICTURE", "picture"),
    "text": ("FILE", "line of text"),
    "audio": ("FILE", "recording"),
}
"""By what a model reads: what its script is given, and what it answers."""
SHOWN = 100
"""Names of classes in the card; predict.json holds all."""


def write(folder: Path, record: Record, splits: Splits, compared: int) -> None:
    """README.md in `folder`, which holds the rest; it was tried on `compared` test examples."""
    described = json.loads((folder / "predict.json").read_text("utf-8"))
    lines = [*_front(record, described["library"]), *_card(record, splits, described, compared)]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _front(record: Record, library: str) -> Iterator[str]:
    """What the hub reads of a card; JSON texts are YAML's too."""
    model = told(record, "model")
    yield "---"
    if model.get("license", "unknown") != "unknown":
        yield f"license: {json.dumps(str(model['license']).lower())}"
    yield f"library_name: {json.dumps(library.partition('-')[0])}"
    yield "tags: [zoobench]"
    yield "---"


def _card(
    record: Record, splits: Splits, described: Mapping[str, Any], compared: int
) -> Iterator[str]:
    cell = record.cell
    yield f"# {markdown(f'{cell.model.name} for {cell.dataset.name}')}"
    yield ""
    yield f"{markdown(cell.method)} on {len(splits.train)} training examples, judged by zoobench."
    yield ""
    yield "| on the test examples | value | 95% interval | n |"
    yield "| --- | --- | --- | --- |"
    for number in record.measurements:
        if _is_quality(number):
            yield _row(number)
    yield ""
    yield "The interval is of data like the test examples. Other data may be harder."
    if record.flags:
        yield f"The record is flagged: {markdown(', '.join(record.flags))}."
    yield from _table(record, splits, described)
    yield "## Use"
    yield ""
    yield "```"
    packages = PACKAGES[described["library"]] + MORE.get(described.get("variant", ""), "")
    yield f"pip install {packages}"
    files, what = INPUTS[splits.modality]
    yield f"python predict.py {files}...    # one JSON object a {what}"
    yield "```"
    yield ""
    yield (
        "`predict.py` needs no zoobench and no network: the weights are all here. It was tried on "
        f"{compared} of the {len(splits.test)} test examples before this card was written, and "
        "says of each what was judged."
    )


def _is_quality(number: Measurement) -> bool:
    row = metrics.METRICS.get(number.metric)
    return row is not None and row.section == "quality"


def _row(number: Measurement) -> str:
    low, high = number.low, number.high
    interval = f"{low:.4g} to {high:.4g}" if low is not None and high is not None else "-"
    unit = f" {number.unit}" if number.unit not in ("", "fraction") else ""
    cells = (markdown(number.metric + unit), f"{number.value:.4g}", interval, number.n or "-")
    return f"| {' | '.join(map(str, cells))} |"


def _table(record: Record, splits: Splits, described: Mapping[str, Any]) -> Iterator[str]:
    """Origin, licences, preprocessing, classes."""
    cell, model = record.cell, told(record, "model")
    sizes = {split.name: len(split) for split in (splits.train, splits.valid, splits.test)}
    try:
        data_license = datasets.card(cell.dataset).license
    except (ZoobenchError, LookupError, OSError):
        data_license = "unknown"
    chosen = ", ".join(f"{name} = {value:.6g}" if isinstance(value, float) else f"{name} = {value}"
                       for name, value in record.chosen.items())  # fmt: skip
    names = list(splits.classes[:SHOWN])
    more = f" and {len(splits.classes) - SHOWN} more" if len(splits.classes) > SHOWN else ""
    rows = {
        "model": cell.model.text,
        "licence of the weights": model.get("license", "unknown"),
        "pretrained on": model.get("pretrained_on", "unknown"),
        "weights' file": " ".join(
            str(model[name]) for name in ("repository", "distribution", "file", "url")
            if model.get(name)
        ),
        "its sha256": model.get("weights_sha256", ""),
        "compressed": _compressed(record),
        "data": cell.dataset.text,
        "licence of the data": data_license,
        "nature of the data": record.provenance.get("nature", ""),
        "examples": ", ".join(f"{name} {many}" for name, many in sizes.items()),
        "chosen on valid": chosen,
        "preprocessing": _preprocessing(described["model"]),
        "classes": f"{len(splits.classes)}: {', '.join(names)}{more}" if names else "",
        "seed": str(cell.seed),
        "zoobench": f"{__version__}, record {record.key}",
    }  # fmt: skip
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for name, value in rows.items():
        if value:
            yield f"| {name} | {markdown(str(value))} |"
    yield ""


def _compressed(record: Record) -> str:
    """The variant, what it touches, and whose features its head was fitted on; "" for none."""
    variant = told(record, "model").get("variant")
    if not isinstance(variant, Mapping):
        return ""
    head = {"carried": "the original's features", "anew": "its own features"}
    fitted = head.get(str(record.cell.params.get("head")), "")
    shares = ", ".join(
        f"{share:.0%} of the {what}"
        for name, what in (("params", "parameters"), ("macs", "MACs"))
        if isinstance(share := variant.get(name), float)
    )
    parts = (str(variant.get("name")), shares, f"head fitted on {fitted}" if fitted else "")
    return "; ".join(part for part in parts if part)


KEYS = ("interpolation", "length", "rate", "prefix", "pool")
"""Of predict.json, what preprocessing is told by."""


def _preprocessing(model: Mapping[str, Any]) -> str:
    """In one line, from what predict.json says."""
    told = {**model.get("transform", {}), **model.get("processing", {})}
    told |= {k: model[k] for k in KEYS if model.get(k)}
    own = "of preprocessor_config.json" if {"processing", "rate"} & model.keys() else ""
    return "; ".join([own] * bool(own) + [f"{name} {value}" for name, value in told.items()])
