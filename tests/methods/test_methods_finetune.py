"""Fine-tuning: what is trained, at which rate, and what few-shot cells may learn from."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings
from devices import DEVICES
from zoobench import datasets, models
from zoobench.datasets.splits import at_most
from zoobench.features.extraction import lay_out
from zoobench.features.source import Features, View
from zoobench.methods.finetune import FineTune, Training, network, score
from zoobench.methods.inputs import Inputs
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


@pytest.mark.parametrize("room", [5, 1])
def test_a_network_answers_in_parts_where_memory_ends(room: int) -> None:
    """It was trained in pieces then, and a batch to be scored is no smaller than one to learn."""
    splits = datasets.load(datasets.resolve("synthetic/stripes?train=20&valid=20&test=8"))
    backbone = models.load(models.resolve("synthetic/gabor"), 0)
    inputs = Inputs(Features(backbone, View("synthetic/gabor")), splits.valid)
    objective, net = ClassObjective(4), network(inputs.backbone, 4, 0)
    torch.nn.init.normal_(net.head.weight)  # type: ignore[union-attr, arg-type]
    expected, asked = score(net, inputs, objective), []

    def full(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        asked.append(len(given[0]))
        if asked[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = net.register_forward_pre_hook(full)
    torch.testing.assert_close(score(net, inputs, objective), expected)
    handle.remove()
    assert max(asked) == 20
    assert expected.std() > 0


def losses_of(seeds: range, device: str, precision: str, steps: int = 12) -> list[float]:
    """NLL on valid of a small network that was trained with each seed."""
    splits = datasets.load(datasets.resolve("synthetic/stripes?train=96&valid=64&test=8"))
    found = []
    for seed in seeds:
        backbone = models.load(models.resolve("synthetic/gabor"), 0)
        lay_out(backbone, device)
        source = Features(backbone, View("synthetic/gabor", device, precision))
        recipe = FineTune(steps=steps, batch_size=16, rates=(1e-2,))
        tuned: Any = recipe.adapt(source, splits.sealed(), seed)
        found.append(float(tuned.valid_loss))
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_another_device_or_precision_changes_less_than_another_seed(
    device: str, precision: str
) -> None:
    exact = np.array(losses_of(range(4), "cpu", "fp32"))
    found = np.array(losses_of(range(4), device, precision))
    spread = float(np.ptp(exact))
    assert np.abs(found - exact).max() < spread / 4
    barely = losses_of(range(1), device, precision, steps=1)[0]
    assert barely > exact.max() + spread, "who learned nothing would be seen"
