"""Whole cells on a card that is imitated: every method of every task says there what it says on the
CPU, and gives no operation tensors of two devices, which a GPU would refuse.

Load, features or training, scores, audits and what is foreseen: all that a worker does but the
measuring of costs (tests/test_gpu.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cells import write_suite
from imitated_card import DEVICE, imitated
from zoobench.runs.planning import plan
from zoobench.runs.suite import read
from zoobench.schema import Record
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

pytestmark = [pytest.mark.rare, pytest.mark.timeout(600)]

STEPS = "steps = 3, batch_size = 4, rates = [1e-3]"
TRAINED = tuple(f'{{ name = "{name}", {STEPS} }}' for name in ("fine-tune", "from-scratch"))
BRIEF = "size = 64, steps = 1, batch_size = 2, rates = [1e-3]"
AUDITED = (
    '{ name = "linear-probe", membership = true, explain = true }',
    f'{{ name = "fine-tune", membership = true, explain = true, {STEPS} }}',
)
GRADIENTS = '{ name = "linear-probe", explain = "integrated-gradients" }'
VIT = "timm/test_vit?input_size=64&weights=random"
GABOR, BAG, EARS = "synthetic/gabor", "synthetic/bag", "synthetic/chirplet"
SIZES = "train=24&valid=8&test=8"

# A task, or what else is asked -> models, data, methods beside the controls that a suite adds.
ASKED: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "classification": (
        (GABOR,), "stripes", ("knn", "ridge", *TRAINED, f'{{ name = "lora", {STEPS} }}', GRADIENTS)
    ),
    "variants": (
        (VIT, *(f"{VIT}&variant={name}" for name in ("bf16", "fp16", "pruned-50"))), "stripes",
        ("linear-probe",),
    ),
    "texts": ((BAG,), "phrases", ("knn", *TRAINED, *AUDITED)),
    "recordings": ((EARS,), "tones", ("knn", "linear-probe", *TRAINED)),
    "regression": ((GABOR,), "stripes?task=regression", ("ridge", *TRAINED)),
    "segmentation": (
        (GABOR,), "stripes?task=segmentation",
        (
            '{ name = "knn", size = 64 }', '{ name = "linear-probe", size = 64 }',
            f'{{ name = "fine-tune", {BRIEF} }}',
        ),
    ),
    "detection": (
        (GABOR,), "stripes?task=detection",
        tuple(f'{{ name = "{name}", {BRIEF} }}' for name in ("linear-probe", "fine-tune")),
    ),
    "token-classification": (
        (BAG,), "phrases?task=token-classification", ("linear-probe", *TRAINED)
    ),
    "question-answering": (
        (BAG,), "phrases?task=question-answering",
        ('{ name = "linear-probe", lambdas = 5 }', *TRAINED),
    ),
    "speech-recognition": (
        (EARS,), "phrases?task=speech-recognition",
        (f'{{ name = "linear-probe", {STEPS} }}', TRAINED[0]),
    ),
}  # fmt: skip
OF_THE_MACHINE = re.compile("seconds|share|memory|real_time")


def qualities(record: Record) -> dict[str, float]:
    assert record.status == "ok", (record.cell.method, record.error)
    found = {one.metric: one.value for one in record.measurements}
    return {name: value for name, value in found.items() if not OF_THE_MACHINE.search(name)}


@pytest.mark.parametrize("name", ASKED)
def test_a_card_says_what_the_cpu_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, data, methods = ASKED[name]
    joint = "&" if "?" in data else "?"
    file = write_suite(
        tmp_path / "s.toml", models=models, datasets=[f"synthetic/{data}{joint}{SIZES}"],
        methods=[one if one.startswith("{") else f'{{ name = "{one}" }}' for one in methods],
        controls=str(name != "detection").lower(),  # whose raw input takes minutes
        rest='seeds = [0]\nprecision = "fp32"\n',
    )  # fmt: skip
    cells = plan(read(str(file)))
    assert len(cells) >= len(methods)
    bench = Bench(Settings("cpu", measure_costs=False))
    expected = [qualities(bench.run(cell).record) for cell in cells]
    with imitated(monkeypatch) as card:
        bench = Bench(Settings(DEVICE.type, measure_costs=False))
        for cell, known in zip(cells, expected, strict=True):
            found = qualities(bench.run(cell).record)
            assert found == pytest.approx(known, rel=1e-6, abs=1e-6), cell.method
    assert card.operations > 100
