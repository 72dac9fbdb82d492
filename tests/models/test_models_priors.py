"""The packed table of published results."""

from __future__ import annotations

import pytest

from zoobench import models
from zoobench.costs.known import counted
from zoobench.models.priors import TESTS, prior_of, published


def test_the_table_holds_what_was_published() -> None:
    table = published()
    assert len(table) > 1200
    lite = table["tf_efficientnet_lite0.in1k"]
    assert lite.top1["imagenet"] == pytest.approx(0.74846)
    assert lite.params == pytest.approx(4.65e6)
    assert lite.license == "Apache-2.0"
    assert all(set(p.top1) <= set(TESTS) for p in table.values())
    assert all(0 < p.score < 1 for p in table.values())


def test_packaged_weights_have_the_prior_of_the_same_weights_in_timm() -> None:
    lite = prior_of(models.card(models.resolve("packaged/efficientnet-lite2")))
    assert lite is not None
    assert lite.name == "tf_efficientnet_lite2.in1k"
    assert prior_of(models.card(models.resolve("packaged/minilm-l6-v2"))) is None


def test_the_macs_are_those_that_were_counted() -> None:
    unknown = 0
    for card in models.list_cards("timm/*"):
        prior, row = prior_of(card), counted(card)
        if prior is None:
            continue
        if row is None or row.lower_bound:
            assert prior.macs is None
            unknown += 1
        else:
            assert prior.macs == pytest.approx(row.macs, rel=1e-3), card.name
    assert unknown < 200
