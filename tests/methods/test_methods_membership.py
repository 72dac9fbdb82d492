"""Membership inference finds what was planted, and nothing where nothing was learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cells import STRIPES, cell, settings
from probes import Table, split_of
from zoobench import methods
from zoobench.datasets import load, resolve
from zoobench.errors import UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.methods import membership
from zoobench.methods.finetune import FineTune
from zoobench.methods.head import Fitted
from zoobench.methods.membership import MEMBER, Attack
from zoobench.models import load as load_model
from zoobench.schema import Ref
from zoobench.tasks.classification import Labels, labels_of
from zoobench.workers.runner import Bench

C = 3


def world(train: int, test: int, noisy: int = 0, copies: int = 0) -> tuple[Table, Splits]:
    """Overlapping Gaussian classes. The first `noisy` of train have a wrong label; the next ten are
    canaries of a wrong label each of which stands there `copies` times, as one unit."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.standard_normal((C, 12))
    values, splits = {}, {}
    for name, n in (("train", train), ("valid", 0), ("test", test)):
        labels = np.arange(n) % C
        x = centres[labels] + rng.standard_normal((n, 12))
        if name == "train":
            wrong = noisy + 10 * (copies > 0)
            labels[:wrong] = (labels[:wrong] + 1) % C
            again = np.repeat(np.arange(noisy, noisy + 10), copies)
            x, labels = np.concatenate([x, x[again]]), np.concatenate([labels, labels[again]])
        splits[name] = split_of(name, labels)
        if name == "train" and copies:
            names = [f"train{i}" for i in (*range(n), *again)]
            splits[name] = replace(splits[name], groups=tuple(names))
        values[name] = torch.from_numpy(x.astype(np.float32))
    every = (splits["train"], splits["valid"], splits["test"])
    return Table(values), Splits(*every, tuple("abc"), "image")


def audited(source: Table, splits: Splits, lam: float, trained: bool = True) -> Attack:
    """LiRA on a probe of train at `lam`, or on one that was never trained."""
    from sklearn.linear_model import LogisticRegression

    x, y = source.values["train"].numpy().astype(np.float64), labels_of(splits.train)
    inverse = x.shape[1] / (len(x) * lam * x.var(axis=0).sum())
    fit = LogisticRegression(C=inverse, max_iter=1000).fit(x, y)
    said = {
        name: torch.from_numpy(fit.predict_log_proba(value.numpy())).float()
        if trained
        else torch.full((len(value), C), -float(np.log(C)))
        for name, value in source.values.items()
        if len(value)
    }
    adapted = Fitted(lambda split: said[split.name], torch.empty(0), {"lambda": lam})
    attack = membership.on_probe(adapted, source, splits, [splits.train])
    assert attack is not None
    return attack


def auc_of(attack: Attack, chosen: NDArray[np.intp]) -> float:
    """The members at `chosen` of train against all non-members."""
    member = attack.pool.role == MEMBER
    ups, downs = attack.scores[np.isin(attack.pool.at, chosen) & member], attack.scores[~member]
    return float(np.mean(ups[:, None] > downs) + np.mean(ups[:, None] == downs) / 2)


def test_wrong_labels_and_copied_canaries_are_found() -> None:
    source, splits = world(150, 150, noisy=10, copies=4)
    attack = audited(source, splits, 1e-3)
    noise, canaries = np.arange(10), np.concatenate([np.arange(10, 20), np.arange(150, 190)])
    usual = auc_of(attack, np.arange(20, 150))
    assert auc_of(attack, canaries) > 0.9
    assert auc_of(attack, noise) > usual + 0.1
    assert auc_of(attack, canaries) > auc_of(attack, noise)


def test_an_untrained_head_tells_nothing() -> None:
    source, splits = world(200, 200)
    found = {m.metric: m for m in membership.numbers(audited(source, splits, 1e-3, trained=False))}
    auc = found["membership_auc"]
    assert auc.low is not None and auc.high is not None  # noqa: PT018
    assert 0.0 < auc.low < 0.5 < auc.high < 1.0
    assert "membership_tpr_at_1pct_fpr" not in found, "200 others cannot tell a rate of 1%"


def test_a_probe_is_audited_beside_its_scores() -> None:
    """The numbers of the cell stay, and the detail says what was attacked and how."""
    plain = Bench(settings()).run(cell(method="linear-probe")).record
    asked = Bench(settings()).run(cell(method="linear-probe", membership=True)).record
    assert asked.status == "ok", asked.error
    assert asked.value("accuracy") == plain.value("accuracy")
    assert plain.get("membership_auc") is None
    found = asked.get("membership_auc")
    assert found is not None
    assert found.detail["of"] == "this one trained model"
    assert found.detail["attack"] == "LiRA, online"
    assert found.detail["converged"] == membership.SHADOWS
    assert found.detail["members"] == 120  # train and valid, which the refit has seen
    assert found.detail["non_members"] == 60
    assert found.low is not None and found.high is not None  # noqa: PT018
    assert found.low <= found.value <= found.high
    assert asked.value("membership_loss_auc") is not None


def test_few_shots_and_shifted_test_splits_are_not_audited() -> None:
    few = cell(method="linear-probe", shots=2, membership=True)
    shifted = cell(
        dataset=STRIPES + "&corrupt=contrast&severity=5", method="linear-probe", membership=True
    )
    for own in (few, shifted):
        record = Bench(settings()).run(own).record
        assert record.status == "ok", record.error
        assert record.get("membership_auc") is None


def trained(rates: tuple[float, ...], steps: int) -> dict[str, Any]:
    """The attacks on a fine-tune of labels at random."""
    splits = load(resolve("synthetic/stripes?train=32&valid=40&test=60"))
    rng = np.random.default_rng(0)
    train, valid, test = (
        replace(part, targets=Labels(rng.permutation(labels_of(part))))
        for part in (splits.train, splits.valid, splits.test)
    )
    splits = replace(splits, train=train, valid=valid, test=test)
    backbone = load_model(Ref.parse("synthetic/gabor@1"), 0)
    source = Features(backbone, View("synthetic/gabor@1", "cpu", "fp32"), None, None, None)
    method = FineTune(steps=steps, batch_size=32, rates=rates, weight_decay=0.0, membership=True)
    adapted = method.adapt(source, splits.sealed(), 0)
    return {m.metric: m for m in method.audit(adapted, source, splits, 0)}


def test_a_fine_tune_that_memorises_is_found() -> None:
    found = trained((1e-2,), 60)
    assert found["membership_auc"].value > 0.9
    assert found["membership_loss_auc"].value > 0.9
    assert found["membership_auc"].detail["attack"] == "RMIA"


def test_a_fine_tune_that_learned_nothing_is_not() -> None:
    auc = trained((1e-9,), 2)["membership_auc"]
    assert auc.low <= 0.5 <= auc.high


def test_true_positives_at_a_rate_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 400, 700) / 100 + 0.0, rng.random(700) < 0.4
    scores[member] += 1.0
    weights = rng.integers(0, 3, (5, 700)).astype(float)
    found = membership.true_positives(scores, member, weights)
    for b, weight in enumerate(weights):
        best = 0.0
        for threshold in np.unique(scores):
            above = scores >= threshold
            rates = [weight[above & k].sum() / weight[k].sum() for k in (member, ~member)]
            if rates[1] <= 0.01:
                best = max(best, rates[0])
        assert found[b] == pytest.approx(best)


def test_halves_hold_half_of_each_class_and_whole_units() -> None:
    source, splits = world(60, 60, copies=3)
    pool = membership.pool_of(splits, [splits.train])
    _, parts = membership.divided(pool, 8)
    assert (parts[::2] == ~parts[1::2]).all()
    units = pool.units
    assert all(len(set(parts[0][units == u])) == 1 for u in units)
    singles = np.array([np.sum(units == u) == 1 for u in units])
    for c in range(C):
        mine = singles & (pool.labels == c)
        assert abs(parts[0][mine].mean() - 0.5) < 0.2
    assert len(source.values["train"]) == len(splits.train)


def test_the_option_stands_in_no_cell_that_does_not_ask() -> None:
    for name in ("linear-probe", "fine-tune", "from-scratch", "lora"):
        assert "membership" not in methods.params_of(methods.build(name, {}))
        asked = methods.params_of(methods.build(name, {"membership": True}))
        assert asked["membership"] is True
    with pytest.raises(UserError, match="asks about classes, not about regression"):
        methods.build("fine-tune", {"membership": True}, "s.toml: methods[0]", "regression")
