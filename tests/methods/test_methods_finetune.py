"""Fine-tuning: what is trained, at which rate, and what few-shot cells may learn from."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch

from cells import cell, settings
from zoobench import datasets
from zoobench.datasets.splits import at_most
from zoobench.methods.finetune import FineTune, Training
from zoobench.methods.objectives import ClassObjective
from zoobench.methods.optimizers import depths, parameter_groups
from zoobench.methods.training import factor
from zoobench.runs.planning import few_shot_spec
from zoobench.runs.suite import MethodSpec
from zoobench.tasks.classification import labels_of
from zoobench.workers.runner import Bench


def tower() -> torch.nn.Module:
    """Names as a ViT's: an embedding, two blocks, a last norm, a head."""
    body = torch.nn.Module()
    body.patch = torch.nn.Linear(4, 4)
    body.blocks = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
    body.norm = torch.nn.LayerNorm(4)
    net = torch.nn.Module()
    net.body, net.head = body, torch.nn.Linear(4, 2)
    return net


def test_a_lone_norm_counts_with_the_block_before_it() -> None:
    assert depths(tower()) == {
        "head": 0,
        "body.norm": 1,
        "body.blocks.1": 1,
        "body.blocks.0": 2,
        "body.patch": 3,
    }


def test_all_but_last_trains_the_last_block_and_the_head() -> None:
    net = tower()
    parameter_groups(net, FineTune(freeze="all-but-last"), 1.0)
    trained = {name.rsplit(".", 1)[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"head", "body.norm", "body.blocks.1"}


def test_rates_fall_away_from_the_head_and_biases_do_not_decay() -> None:
    groups = parameter_groups(tower(), FineTune(layer_decay=0.5, weight_decay=0.1), 1.0)
    assert sorted({group["lr"] for group in groups}) == [0.125, 0.25, 0.5, 1.0]
    for group in groups:
        matrices = {p.ndim > 1 for p in group["params"]}
        assert matrices == {group["weight_decay"] > 0}


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    factors = [factor(FineTune(steps=100, warmup=0.1), step) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1.0
    assert factors[-1] < 0.001
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_batches_are_epochs_of_permutations() -> None:
    run = Training(FineTune(steps=6, batch_size=4), None, ClassObjective(2), 1.0, 3)
    batches = list(run._batches(10))
    assert [len(b) for b in batches] == [4] * 6
    assert len(set(batches[0] + batches[1])) == 8, "no example twice in an epoch"
    assert batches == list(
        Training(FineTune(steps=6, batch_size=4), None, ClassObjective(2), 1.0, 3)._batches(10)
    )


def test_a_few_shot_probe_never_learns_from_more_than_k() -> None:
    spec = few_shot_spec(MethodSpec("linear-probe", {"lambdas": 45, "refit": True}))
    assert spec.params["refit"] is False
    splits = datasets.load(datasets.resolve("synthetic/stripes?valid=40"))
    few = at_most(splits.valid, 3)
    assert np.bincount(labels_of(few)).tolist() == [3, 3, 3, 3]
    assert at_most(splits.valid, 99).fingerprint == splits.valid.fingerprint
    own = cell(method="linear-probe", shots=2, refit=False)
    record = Bench(settings()).run(own).record
    assert record.status == "ok", record.error
    assert record.provenance["sizes"] == {"train": 8, "valid": 8, "test": 60}
    assert "temperature-of-few" in record.flags, "eight examples do not calibrate"
    assert "temperature-of-few" not in Bench(settings()).run(cell()).record.flags
    both = cell(method="linear-probe", shots=2, refit=True)
    assert dataclasses.replace(own).key != both.key
