"""Fine-tuning on questions: what is learned, and that windows pad nothing into the loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.errors import NotFinite
from zoobench.features.source import Features, View
from zoobench.features.windowed import reader_of
from zoobench.interfaces import Splits
from zoobench.methods.span_finetune import TrainedPairs, _loss
from zoobench.methods.text_training import network
from zoobench.models.pairs import pair_windows
from zoobench.models.weights import state_digest
from zoobench.tasks.question_answering import QuestionAnswering, TextQuestion

QUICK: dict[str, Any] = {"steps": 40, "batch_size": 16, "rates": [0.01]}


def splits_of(options: str = "") -> Splits:
    name = f"synthetic/phrases?task=question-answering&train=120&test=60{options}"
    return datasets.load(datasets.resolve(name))


def source_of() -> Features:
    ref = models.resolve("synthetic/bag")
    return Features(models.load(ref, 0), View(str(ref)))


def adapted(splits: Splits, name: str = "fine-tune", seed: int = 0, **params: Any) -> Any:
    source = source_of()
    before = state_digest(source.module)
    method = methods.build(name, {**QUICK, **params}, task="question-answering")
    fitted = method.adapt(source, splits.sealed(), seed)
    assert state_digest(source.module) == before
    return fitted


def f1(said: Any, splits: Splits) -> float:
    outcomes = QuestionAnswering().judge(said, splits.test, (None, splits.valid))
    return float(outcomes.arrays["f1"].mean())


def test_it_learns_what_can_be_learned_and_nothing_else_and_never_reads_test() -> None:
    splits = splits_of()

    def sealed(i: int) -> Any:
        raise AssertionError("test was read while adapting")

    hidden = dataclasses.replace(splits, test=dataclasses.replace(splits.test, read=sealed))
    fitted = adapted(hidden)
    said = fitted.predict(splits.test)
    assert f1(said, splits) > 0.6
    assert said == adapted(splits).predict(splits.test)
    assert adapted(splits, seed=1).network.decoder.weight.ne(fitted.network.decoder.weight).any()
    assert fitted.chosen == {"rate": 0.01}
    assert fitted.facts["trainable_params"] == 1024 * 32 + 2 * 32 + 2
    assert fitted.facts["valid_f1"] == pytest.approx(fitted.quality)
    assert len(fitted.valid_scores) == len(splits.valid)
    shuffled = splits_of("&shuffled=true")
    assert f1(adapted(shuffled).predict(shuffled.test), shuffled) < 0.55


def test_a_frozen_encoder_keeps_its_weights_and_the_best_rate_is_kept() -> None:
    splits = splits_of()
    fitted = adapted(splits, freeze="encoder", rates=[1e-6, 0.01])
    own = source_of().module.state_dict()["weight"]
    assert torch.equal(fitted.network.encoder.state_dict()["weight"], own)
    assert fitted.facts["trainable_params"] == 2 * 32 + 2
    assert fitted.rate == 0.01
    assert fitted.flags == ("rate-on-edge",)
    assert methods.method_class("from-scratch", task="question-answering").random_weights  # type: ignore[attr-defined]


def test_rates_that_leave_the_numbers_are_said() -> None:
    with pytest.raises(NotFinite, match="every learning rate"):
        adapted(splits_of(), rates=[1e30])
    with pytest.raises(Exception, match="at least 1"):
        methods.build("fine-tune", {"steps": 0}, task="question-answering")


def test_a_window_s_loss_does_not_depend_on_what_is_beside_it() -> None:
    source = source_of()
    reader = reader_of(source.backbone)
    torch.manual_seed(0)
    net = network(source.backbone.module, reader, 2)
    states = TrainedPairs(reader, net, source.input_spec, (1,), source=source)
    short, long = (
        pair_windows(TextQuestion("which?", text), reader)[0] for text in ("a b", "c d e f g h i")
    )
    apart = [_loss(states, [one], [(1, 2)], source.device) for one in (short, long)]
    both = _loss(states, [short, long], [(1, 2), (1, 2)], source.device)
    assert both.item() == pytest.approx(sum(one.item() for one in apart) / 2, rel=1e-5)
    scores = net(states.collate([short]))[0, [0, *range(short.first, len(short))]]
    plain = -scores.log_softmax(dim=0)[[1, 2], [0, 1]].mean()
    assert apart[0].item() == pytest.approx(plain.item(), rel=1e-5)
