"""Decoders on maps: what they learn, what they leave as it was, and how pictures are changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoobench import datasets, methods, models, tasks
from zoobench.errors import NotFinite, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits
from zoobench.methods.dense_finetune import augmented, decoder, network
from zoobench.models.dense import dense
from zoobench.models.weights import state_digest
from zoobench.tasks.segmentation import IGNORED, masks_of

QUICK = {"size": 96, "steps": 20, "batch_size": 4, "rates": [1e-2], "decoder": "linear"}


def splits_of(options: str = "train=12&valid=4&test=6&noise=20") -> Splits:
    return datasets.load(datasets.resolve(f"synthetic/stripes?task=segmentation&{options}"))


def source_of(name: str = "synthetic/gabor") -> Features:
    ref = models.resolve(name)
    return Features(models.load(ref, seed=0), View(str(ref)))


def adapted(splits: Splits, source: Features, name: str = "fine-tune", **params: Any) -> Any:
    method = methods.build(name, {**QUICK, **params}, task="segmentation")
    return method.adapt(source, splits.sealed(), 0)


def miou(fitted: Any, split: Split) -> float:
    task = tasks.task("segmentation")
    outcomes = task.judge(fitted.predict(split), split, (None, split))
    return float(task.statistics(outcomes)(np.ones((1, outcomes.n)), ["miou"])["miou"][0])


WIDE_VIEW = dense(source_of().backbone, (48, 64))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return splits_of()


@pytest.mark.parametrize(("kind", "rate"), [("linear", 1e-2), ("fpn", 3e-3)])
def test_either_decoder_learns_directions_and_never_reads_test(
    kind: str, rate: float, splits: Splits
) -> None:
    source = source_of()
    before = state_digest(source.module)

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    masks = dataclasses.replace(masks_of(splits.test), read=sealed)
    hidden = dataclasses.replace(
        splits, test=dataclasses.replace(splits.test, read=sealed, targets=masks)
    )
    fitted = adapted(hidden, source, decoder=kind, rates=[rate])
    assert state_digest(source.module) == before
    assert miou(fitted, splits.test) > 0.4
    assert fitted.chosen == {"rate": rate}
    assert fitted.flags == ()
    assert [m.shape for m in fitted.valid_scores] == masks_of(splits.valid).sizes


def test_a_frozen_encoder_stays_and_a_free_one_moves(splits: Splits) -> None:
    source = source_of()
    start = dense(source.backbone, (96, 96)).module.state_dict()
    for freeze, same in (("encoder", True), ("none", False)):
        fitted = adapted(splits, source, steps=2, freeze=freeze)
        moved = fitted.network.encoder.state_dict()
        assert all(torch.equal(start[k], moved[k]) for k in start) == same
        assert fitted.facts["trainable_params"] == (
            132 if same else 132 + sum(p.numel() for p in source.module.parameters())
        )


def test_the_best_rate_is_chosen_on_valid_and_one_on_the_edge_is_flagged(splits: Splits) -> None:
    source = source_of()
    poor, good = 1e-6, 1e-2
    one, other = (adapted(splits, source, rates=[rate], steps=10).quality for rate in (poor, good))
    assert other > one
    both = adapted(splits, source, rates=[poor, good], steps=10)
    assert both.chosen == {"rate": good}
    assert both.flags == ("rate-on-edge",)
    assert both.quality == other, "the same seed gives the same network"


def test_a_loss_that_is_no_number_and_a_model_without_maps_are_said(splits: Splits) -> None:
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted(splits, source_of(), rates=[1e30])
    with pytest.raises(Unsupported):
        adapted(splits, source_of("synthetic/bag"))
    wrong: list[dict[str, Any]] = [{"steps": 0}, {"rates": []}, {"size": 3}, {"decoder": "unett"}]
    for params in wrong:
        with pytest.raises(UserError):
            methods.build("fine-tune", params, task="segmentation")


def test_from_scratch_is_the_same_recipe_from_random_weights() -> None:
    kind = methods.method_class("from-scratch", task="segmentation")
    assert getattr(kind, "random_weights", False)
    built = methods.params_of(methods.build("from-scratch", {}, task="segmentation"))
    assert built == methods.params_of(methods.build("fine-tune", {}, task="segmentation"))


@settings(max_examples=10)
@given(height=st.integers(12, 80), width=st.integers(12, 80), seed=st.integers(0, 999))
def test_a_picture_and_its_mask_are_changed_alike(height: int, width: int, seed: int) -> None:
    """A picture whose grey is its class: wherever the mask says one, the picture shows it."""
    view = WIDE_VIEW
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 2 :] += 1
    mask[:, width // 2 :] += 2
    picture = Image.fromarray(np.repeat((mask * 60 + 20)[:, :, None], 3, axis=2))
    pixels, target = augmented(view, picture, mask, np.random.default_rng(seed))
    assert pixels.shape == (48, 64, 3)
    assert target.shape == (48, 64)
    valid = target != IGNORED
    assert valid.any()
    far = np.abs(pixels[..., 0].astype(int) - (target.astype(int) * 60 + 20))[valid]
    assert np.median(far) <= 8, "but for the borders, where pictures are blended"
    padding = np.array(view.colours.padding, dtype=np.uint8)
    assert (pixels[~valid] == padding).all()


def test_scores_cover_the_frame_and_batch_norms_of_the_encoder_stay() -> None:
    import timm

    from zoobench.methods.training import train_mode

    body = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=0)
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    view = dense(source_of().backbone, (64, 96))
    net = network(view, 5)
    net.encoder = body
    train_mode(net)
    assert norms
    assert not any(m.training for m in norms)
    assert body.training
    assert net.decoder.training
    scores = network(view, 5)(torch.zeros(2, 64, 96, 3, dtype=torch.uint8))
    assert scores.shape == (2, 5, 8, 12)
    finest = decoder((dataclasses.replace(view.specs[0], channels=4),) * 3, 5)
    maps = [torch.zeros(1, 4, side, side) for side in (8, 4, 2)]
    assert finest(maps).shape == (1, 5, 8, 8)
