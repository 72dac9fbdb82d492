"""Which of a run's cells `save` takes, and how it says that it cannot tell."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import make_record
from zoobench.errors import UserError
from zoobench.export.cells import CellPattern, chosen
from zoobench.export.save import Saved, threads_of
from zoobench.schema import Record
from zoobench.store import Run

RIGHT = np.ones(20, dtype=bool)


def record(model: str = "timm/netA@1", data: str = "packaged/digits@1", **changes: Any) -> Record:
    train = changes.pop("train", 100)
    provenance = {"sizes": {"train": train}, "model": {}}
    return make_record(model, data, right=RIGHT, provenance=provenance, **changes)


def with_params(model: str, **params: Any) -> Record:
    made = record(model)
    return dataclasses.replace(made, cell=dataclasses.replace(made.cell, params=params))


def run(*records: Record) -> Run:
    return Run(Path("run"), records, {})


def test_one_model_needs_no_words() -> None:
    control = record("control/chance", method="chance")
    random = record("timm/netA@1?weights=random")
    knn, probe = record(method="knn"), record()
    assert chosen(run(control, random, knn, probe), CellPattern()) is probe


def test_most_of_the_data_and_the_first_seed_are_meant() -> None:
    part = record(data="packaged/digits@1?max_train=50", train=50)
    shots = record(shots=5, train=300)
    later, first = record(seed=1), record(seed=0)
    assert chosen(run(part, shots, later, first), CellPattern()) is first
    assert chosen(run(part, shots, later, first), CellPattern(cell=later.key[:9])) is later


def test_of_two_heads_the_one_that_is_deployed_is_meant() -> None:
    model = "timm/netA@1?variant=bf16"
    anew, carried = (with_params(model, head=head) for head in ("anew", "carried"))
    assert chosen(run(anew, carried), CellPattern()) is carried
    assert chosen(run(anew, carried), CellPattern(cell=anew.key[:9])) is anew


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (CellPattern(), "--model: say which of 2: timm/netA, timm/netB"),
        (CellPattern(model="netZ"), "unknown model 'netZ'. Known: timm/netA, timm/netB"),
        (CellPattern(model="netB", dataset="mnist"), "unknown dataset 'mnist'"),
        (CellPattern(model="netA"), "--dataset: say which of 2: packaged/digits, packaged/faces"),
        (
            CellPattern(model="netA", dataset="digits"),
            "--method: say which of 2: linear-probe, ridge",
        ),
        (CellPattern(model="netB", method="ridge"), "unknown method 'ridge' of this model here"),
        (CellPattern(model="netB", method="knn"), "no model of knn is saved: it keeps all train"),
        (CellPattern(model="netB", cell="zz"), "--cell: 0 records"),
        (CellPattern(model="netC"), "crash: it died: nothing to save"),
        (CellPattern(model="netD"), "no model of knn is saved"),
        (CellPattern(model="netE"), "--cell: say which of 2"),
    ],
    ids=str,
)
def test_what_is_not_one_is_said(wanted: CellPattern, said: str) -> None:
    died = record("timm/netC@1", status="crash", error={"message": "it died"})
    several = run(
        record(), record(data="packaged/faces@1"), record(method="ridge"), record("timm/netB@1"),
        *([died, record("timm/netD@1", method="knn")] if wanted.model in ("netC", "netD") else []),
        *(with_params("timm/netE@1", lambdas=n) for n in (3, 4) if wanted.model == "netE"),
    )  # fmt: skip
    with pytest.raises(UserError, match=said):
        chosen(several, wanted)


def test_a_run_of_controls_has_nothing_to_save() -> None:
    with pytest.raises(UserError, match="no record of a model"):
        chosen(run(record("control/chance", method="chance")), CellPattern())


@pytest.mark.parametrize("odd", [7, "text", [], {"train": "many"}, {"train": None}])
def test_a_strangers_provenance_is_no_fault_of_ours(odd: Any) -> None:
    made = record()
    made = dataclasses.replace(made, provenance={"sizes": odd, "model": odd})
    assert chosen(run(made), CellPattern()) is made
    assert Saved(Path(), made, 0, 0).license == "unknown"
    with threads_of(dataclasses.replace(made, environment={"threads": odd})):
        pass
