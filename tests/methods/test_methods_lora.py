"""Low-rank adaptation: nothing changes before training, and what was trained is in the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from cells import cell, settings
from tinysound import tiny_sound
from zoobench import datasets, methods, models
from zoobench.costs.counted import batch_of
from zoobench.costs.training_memory import saved_for_backward, training_bytes
from zoobench.errors import Unsupported, UserError
from zoobench.methods.lora import adapt, adaptable, merge
from zoobench.models.weights import state_digest
from zoobench.schema import Record
from zoobench.workers.runner import Bench

HEARS = ("wav2vec2-group", "ast")
NETWORKS = (
    "synthetic/gabor",
    "packaged/efficientnet-lite0",
    "packaged/minilm-l6-v2",
    "timm/test_vit?weights=random",
    "torchvision/mobilenet_v3_small?weights=random",
)
POLARITY = "packaged/word-polarity?max_train=100&max_valid=30&max_test=60"
STRIPES = "synthetic/stripes?test=60&train=80"


def moved(module: torch.nn.Module) -> int:
    """Every trained parameter moved by noise; how many there are."""
    noise, number = torch.Generator().manual_seed(0), 0
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=noise))
            number += parameter.numel()
    return number


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("ref", [*NETWORKS, *HEARS])
def test_updates_begin_at_nothing_and_end_in_the_weights(ref: str, tmp_path: Path) -> None:
    if ref in HEARS:
        tiny_sound(ref, tmp_path)
        ref = f"hf/tiny/ears?weights={tmp_path}"
    backbone: Any = models.load(models.resolve(ref), 0)
    batch = batch_of(backbone, 2)
    shapes = {name: one.shape for name, one in backbone.module.state_dict().items()}
    total = sum(p.numel() for p in backbone.module.parameters())
    torch.manual_seed(0)  # of which the updates' one half is drawn
    with torch.no_grad():
        before = backbone.embed(batch)
        adapt(backbone.module, 4, 8.0)
        assert torch.equal(backbone.embed(batch), before)
        assert 0 < moved(backbone.module) < total / 2
        changed = backbone.embed(batch)
        assert float((changed - before).norm()) > 0.03 * float(before.norm())
        merge(backbone.module)
        torch.testing.assert_close(backbone.embed(batch), changed, rtol=1e-4, atol=1e-4)
    assert {name: one.shape for name, one in backbone.module.state_dict().items()} == shapes


def test_attentions_of_torch_and_layers_of_gpt_are_adapted() -> None:
    from transformers import GPT2Config, GPT2Model

    gpt = GPT2Model(
        GPT2Config(
            n_layer=1,
            n_head=2,
            n_embd=16,
            vocab_size=20,
            n_positions=8,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    ids, states = torch.arange(6)[None], torch.randn(1, 6, 16)
    pairs: Any = (
        (gpt, lambda: gpt(input_ids=ids).last_hidden_state),
        (layer, lambda: layer(states)),
    )
    for module, run in pairs:
        # As it is trained: in eval mode a kernel of torch's reads the plain weights.
        module.train()
        before = run()
        adapt(module, 2, 4.0)
        moved(module)
        changed = run()
        merge(module)
        torch.testing.assert_close(run(), changed, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before, changed)
    assert "self_attn" in adaptable(torch.nn.Sequential(layer))[0]
    assert not any("out_proj" in name for name in adaptable(layer))


def test_a_layer_is_adapted_by_its_whole_name() -> None:
    body: Any = torch.nn.Sequential()
    body.add_module("conv", torch.nn.Conv2d(4, 4, 1))
    body.add_module("block", torch.nn.Sequential())
    body.block.add_module("conv", torch.nn.Conv2d(4, 4, 3, groups=4))
    assert adaptable(body) == ["conv"]
    adapt(body, 2, 2.0)
    trained = {name for name, p in body.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("conv.lora_") for name in trained)


def test_what_has_no_matrix_is_refused() -> None:
    backbone = models.load(models.resolve("synthetic/bag"), 0)
    with pytest.raises(Unsupported, match="EmbeddingBag has no linear layer"):
        adapt(backbone.module, 4, 8.0)
    for wrong, why in (
        ({"rank": 0}, "rank must be at least 1"), ({"freeze": "all-but-last"}, "no weights that"),
        ({"layer_decay": 0.5}, "no weights that"), ({"alpha": 0}, "alpha above 0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=why):
            methods.build("lora", wrong, "s.toml")


def judged(method: str, model: str, dataset: str, **params: Any) -> Record:
    budget: Mapping[str, Any] = {"steps": 25, "batch_size": 8, **params}
    record = Bench(settings()).run(cell(model, dataset, method, **budget)).record
    assert record.status == "ok", record.error
    return record


@pytest.mark.parametrize(
    ("model", "dataset", "rate"),
    [
        pytest.param("packaged/minilm-l6-v2", POLARITY, 3e-3, marks=pytest.mark.rare),
        ("packaged/efficientnet-lite0?input_size=32", STRIPES, 3e-3),
    ],
)
def test_it_is_the_same_again_and_takes_less_than_fine_tuning(
    model: str, dataset: str, rate: float
) -> None:
    model, dataset = models.resolve(model).text, datasets.resolve(dataset).text
    record = judged("lora", model, dataset, rates=[rate])
    again = judged("lora", model, dataset, rates=[rate])
    assert record.value("accuracy") == again.value("accuracy")
    assert record.value("nll") == again.value("nll")
    online = record.value("train_accuracy_online")
    assert online is not None
    assert online > (0.6 if "minilm" in model else 0.3)
    whole = judged("fine-tune", model, dataset, rates=[1e-4])
    for name in ("trainable_params", "train_memory_bytes"):
        mine, theirs = record.value(name), whole.value(name)
        assert mine is not None
        assert theirs is not None
        assert mine < 0.9 * theirs
    assert record.cell.key != whole.cell.key
    assert record.cell.key != dataclasses.replace(
        record.cell, params={**record.cell.params, "rank": 4}
    ).key  # fmt: skip


def test_the_memory_of_a_step_by_hand() -> None:
    net = torch.nn.Sequential(
        torch.nn.Linear(10, 20), torch.nn.Sigmoid(), torch.nn.Linear(20, 1, bias=False)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0)
    with saved_for_backward(net) as saved:
        loss = net(torch.zeros(3, 10)).sum()
    loss.backward()
    optimizer.step()
    weights = 10 * 20 + 20 + 20
    activations = 3 * 10 + 3 * 20  # the input and what the sigmoid gives; the sum keeps nothing
    states = 2 * weights + 3  # two moments of each, and a count a tensor
    assert sum(saved.values()) == 4 * activations
    assert training_bytes(net, optimizer, 4 * activations) == 4 * (
        2 * weights + states + activations
    )
    assert state_digest(net)
