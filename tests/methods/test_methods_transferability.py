"""Transferability scores beside frozen cells: recorded once, from cached features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cells import cell, run
from zoobench import datasets, models
from zoobench.features.source import Features, View
from zoobench.methods.transferability import foresee
from zoobench.solvers import transferability
from zoobench.tasks.classification import labels_of

ALWAYS = {"logme", "h_score", "transrate"}


def test_frozen_cells_on_all_of_the_data_hold_them() -> None:
    cells = [cell(method="knn"), cell(method="ridge"), cell(method="ridge", shots=2),
             cell(model="synthetic/gabor@1?weights=random")]  # fmt: skip
    found = run(cells)
    held = [{m.metric for m in found[c.key].measurements} & ALWAYS for c in cells]
    assert held == [ALWAYS, ALWAYS, set(), set()]
    assert found[cells[0].key].value("logme") == found[cells[1].key].value("logme")


def test_leep_and_nce_ask_the_classifier_that_the_weights_came_with() -> None:
    ref = models.resolve("packaged/efficientnet-lite0?input_size=32")
    backbone = models.load(ref, 0)
    head = getattr(backbone, "source_head", None)
    assert isinstance(head, torch.nn.Linear)
    assert (head.in_features, head.out_features) == (backbone.feature_dim, 1000)
    train = datasets.load("packaged/mnist-5k?max_train=40&max_valid=20&max_test=20").train
    source = Features(backbone, View(str(ref)))
    found = foresee(source, train)
    assert set(found) == {*ALWAYS, "leep", "nce"}
    logits = head(source.features(train))
    labels = torch.from_numpy(labels_of(train))
    assert found["leep"] == pytest.approx(transferability.leep(logits.softmax(1), labels), rel=1e-6)
    assert found["nce"] == pytest.approx(transferability.nce(logits.argmax(1), labels))
    assert found["leep"] <= 0


def test_the_classifier_gives_what_the_whole_network_gives() -> None:
    import timm

    from zoobench.models import checkpoints
    from zoobench.models.packaged_ import _entry, _verified, rename_lite
    from zoobench.schema import Ref

    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    files = _verified(_entry(Ref("packaged", "efficientnet-lite0")))
    state = rename_lite(checkpoints.read(files["weights"]), whole)
    whole.load_state_dict(state, strict=False)
    backbone: Any = models.load(models.resolve("packaged/efficientnet-lite0?input_size=32"), 0)
    untrained = models.load(models.resolve("packaged/efficientnet-lite0?weights=random"), 0)
    batch = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole.eval()(batch)
        assert torch.allclose(backbone.source_head(backbone.embed(batch)), expected, atol=1e-4)
    assert getattr(untrained, "source_head", "absent") is None
