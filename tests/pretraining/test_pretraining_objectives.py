"""Each loss equals its published formula, written out plainly; each objective learns something."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.models import likelihood, small
from zoobench.pretraining import OBJECTIVES, cell, masked_lm, objective
from zoobench.pretraining.contrastive import nt_xent, view
from zoobench.pretraining.decoder import decoder
from zoobench.pretraining.masked import hidden, masked_error
from zoobench.pretraining.objective import Learner
from zoobench.pretraining.training import whole
from zoobench.pretraining.vae import bits_per_dim, divergence, log_likelihood
from zoobench.tasks.classification import Labels


def learner(name: str = "small-conv") -> Learner:
    return Learner(Features(small.backbone(name, 0, {}), View(name, "cpu", "fp32"), None), 3)


def batch_of(one: Learner, n: int = 12) -> Any:
    generator = torch.Generator().manual_seed(1)
    if one.encoder.input_spec.modality == "image":
        return torch.rand(n, 3, 28, 28, generator=generator) * 2 - 1
    texts = ["a cat sat", "dogs", "the rain in Spain", "on", "x" * 200, ""] * 2
    return one.encoder.collate([one.encoder.prepare(text) for text in texts])


def texts_of(texts: Sequence[str]) -> Split:
    ids = tuple(f"{zlib.crc32(text.encode()):x}-{i}" for i, text in enumerate(texts))
    return Split("test", ids, Labels(np.zeros(len(texts), dtype=np.int64)), texts.__getitem__)


def modality(name: str) -> str:
    return "small-conv" if "image" in objective(name).modalities else "small-bert"


def test_nt_xent_is_the_mean_over_views_of_the_partners_cross_entropy() -> None:
    views = torch.randn(10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = [row / row.norm() for row in views]
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = sum(math.exp(float(unit[i] @ unit[k]) / 0.2) for k in range(10) if k != i)
        total -= math.log(math.exp(float(unit[i] @ unit[partner]) / 0.2) / others)
    assert float(nt_xent(views)) == pytest.approx(total / 10, abs=1e-5)


def test_views_are_pictures_that_differ_and_keep_their_place() -> None:
    pixels = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    one, other = view(pixels), view(pixels)
    assert one.shape == pixels.shape
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1
    assert not torch.equal(one, other)
    flat = torch.full((4, 3, 28, 28), 0.5)
    assert float(view(flat).std(dim=(1, 2, 3)).max()) < 1e-6  # no crop brings in what was not there


def test_places_and_cosines_are_exact_where_training_is_in_bf16() -> None:
    pixels = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    found = []
    for rounded in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rounded):
            found.append((view(pixels), nt_xent(pixels.flatten(1))))
    (plain, loss), (other, other_loss) = found
    assert torch.equal(plain, other)
    assert torch.equal(loss, other_loss)


@pytest.mark.parametrize("side", [(28, 28), (32, 32), (30, 45), (224, 224)])
def test_sixty_percent_of_the_patches_are_hidden_whole(side: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mask = hidden(5, side)
    assert mask.shape == (5, 1, *side)
    patch = min(side) // 7
    corners = mask[:, 0, ::patch, ::patch]
    assert (corners.flatten(1).sum(dim=1) == round(0.6 * corners[0].numel())).all()
    blown = corners.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    assert torch.equal(mask[:, 0], blown[:, : side[0], : side[1]])
    assert not torch.equal(mask[0], mask[1])


def test_the_masked_loss_is_of_hidden_pixels_alone() -> None:
    torch.manual_seed(0)
    made, pixels = torch.rand(2, 3, 28, 28), torch.rand(2, 3, 28, 28)
    mask = hidden(2, (28, 28))
    where = mask.expand_as(made)
    assert torch.allclose(
        masked_error(made, pixels, mask), (made - pixels).abs()[where].mean(), atol=1e-6
    )
    changed = made.where(where, torch.zeros(()))
    assert masked_error(changed, pixels, mask) == masked_error(made, pixels, mask)


def test_the_encoder_does_not_see_what_is_hidden() -> None:
    one = learner()
    member = objective("masked")()
    torch.manual_seed(0)
    heads = member.heads(one)
    pixels = batch_of(one)
    torch.manual_seed(5)
    mask = hidden(len(pixels), (28, 28))
    other = pixels.where(~mask, torch.ones(()))
    torch.manual_seed(5)
    made = member.rebuilt(one, heads, pixels)
    torch.manual_seed(5)
    again = member.rebuilt(one, heads, other)
    where = mask.expand_as(pixels)
    assert made is not None
    assert again is not None
    assert torch.equal(made[where], again[where])
    assert torch.equal(made[~where], one.pixels(pixels)[~where])


def test_the_bound_is_the_likelihood_less_the_divergence() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(6, 4), torch.randn(6, 4)
    deviation = (0.5 * log_variance).exp()
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(divergence(mean, log_variance), expected, atol=1e-5)
    pixels, made = torch.rand(6, 3, 5, 5), torch.rand(6, 3, 5, 5)
    normal: Any = Normal(made, 0.3)
    density = normal.log_prob(pixels).flatten(1).sum(dim=1)
    assert torch.allclose(log_likelihood(pixels, made, torch.tensor(0.3).log()), density, rtol=1e-5)


def test_a_model_of_nothing_takes_eight_bits_a_pixel() -> None:
    """Uniform density on [0, 1] is 0 nats: each of 256 levels as likely as the others."""
    assert torch.equal(bits_per_dim(torch.zeros(2), 100), torch.full((2,), 8.0))
    assert float(bits_per_dim(torch.tensor(100 * math.log(2)), 100)) == pytest.approx(7.0)


def test_fifteen_percent_of_a_texts_bytes_are_hidden_and_none_of_its_padding() -> None:
    one = learner("small-bert")
    batch = batch_of(one)
    chosen = masked_lm.drawn(batch, torch.rand(batch["input_ids"].shape))
    lengths = [9, 4, 17, 2, 128, 0] * 2
    assert chosen.sum(dim=1).tolist() == [max(1, round(0.15 * n)) if n else 0 for n in lengths]
    assert not (chosen & (batch["attention_mask"] == 0)).any()


def test_the_loss_of_a_test_text_knows_nothing_of_its_batch() -> None:
    one = learner("small-bert")
    member = objective("masked-lm")()
    torch.manual_seed(0)
    heads = member.heads(one)
    one.encoder.module.eval()

    def losses(*texts: str) -> torch.Tensor:
        batch = one.encoder.collate([one.encoder.prepare(text) for text in texts])
        with torch.no_grad():
            found: torch.Tensor = member.judged(one, heads, batch)["masked_lm_loss"]
        return found

    both = losses("a cat sat", "the rain in Spain stays mainly")
    assert torch.allclose(both[:1], losses("a cat sat"), atol=1e-5)
    assert (both > 0).all()


def test_pseudo_likelihood_masks_every_byte_of_a_text_in_turn() -> None:
    """By a plain loop, one byte and one window at a time, over texts short, long and empty."""
    one, member = learner("small-bert"), masked_lm.MaskedLanguage()
    torch.manual_seed(0)
    heads = member.heads(one).eval()
    one.encoder.module.eval()
    rng = np.random.default_rng(0)
    long = "".join(rng.choice(list("abcde \u00e9"), size=150))
    texts = ["a cat sat", "x", long, ""]
    found = member.judged_whole(one, heads, texts_of(texts))["pseudo_bits_per_byte"]
    said = [text.encode() for text in texts]
    assert found[:, 1].tolist() == [len(text) for text in said]
    assert len(said[2]) > 128
    for (bits, _), text in zip(found, said, strict=True):
        places = likelihood._chosen(tuple(text), 128)
        total = 0.0
        for place in places:
            begin = max(0, min(place - 64, len(text) - 128))
            ids = torch.tensor([list(text[begin : begin + 128])])
            ids[0, place - begin] = small.MASK
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                logits = heads["bytes"](small.states(one.encoder.module, batch))[0, place - begin]
            total -= float(logits.double().log_softmax(0)[text[place]]) / math.log(2)
        scale = len(text) / max(1, len(places))
        assert bits == pytest.approx(total * scale, rel=1e-6, abs=1e-6)


def test_of_many_texts_some_are_taken_by_their_ids_and_the_others_are_in_no_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(masked_lm, "TEXTS", 2)
    one, member = learner("small-bert"), masked_lm.MaskedLanguage()
    heads = member.heads(one).eval()
    split = texts_of(["a", "bb", "ccc", "dddd"])
    found = member.judged_whole(one, heads, split)["pseudo_bits_per_byte"]
    chosen = sorted(range(4), key=lambda i: split.ids[i])[:2]
    assert [bool(row.any()) for row in found] == [i in chosen for i in range(4)]
    told = cell._with_interval("pseudo_bits_per_byte", found, split)
    assert told.value == pytest.approx(found[:, 0].sum() / found[:, 1].sum())
    assert told.n == 2


@pytest.mark.parametrize("side", [(28, 28), (30, 45), (64, 64)])
def test_the_decoder_gives_the_pictures_size(side: tuple[int, int]) -> None:
    assert decoder(16, side)(torch.zeros(2, 16)).shape == (2, 3, *side)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n != "random"])
def test_twenty_steps_on_one_batch_lower_the_loss_and_reach_the_whole_encoder(name: str) -> None:
    one = learner(modality(name))
    member = objective(name)()
    torch.manual_seed(0)
    net: Any = whole(one, member, member.heads(one))
    batch, labels = batch_of(one), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)

    def loss() -> Any:
        torch.manual_seed(7)
        return net(batch, labels)

    first = loss()
    first.backward()
    reached = [p for p in net.encoder.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(reached) >= len(list(net.encoder.parameters())) - 1  # BERT's second token type
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) < 0.97 * float(first.detach())


@pytest.mark.parametrize("name", ["autoencoder", "denoising", "vae"])
def test_what_is_mostly_black_is_not_rebuilt_as_black(name: str) -> None:
    """A white square somewhere on black: an output that saturates stays at black for ever."""
    one = learner()
    member = objective(name)()
    torch.manual_seed(0)
    net: Any = whole(one, member, member.heads(one))
    pixels = torch.zeros(16, 3, 28, 28)
    for i, picture in enumerate(pixels):
        top, left = 7 * (i // 4), 7 * (i % 4)
        picture[:, top : top + 7, left : left + 7] = 1
    batch = one.read(pixels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(60):
        loss: Any = net(batch, torch.zeros(16, dtype=torch.int64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        made = member.rebuilt(one, net.heads, batch)
    assert made is not None
    error = float((made - pixels).square().mean())
    assert error < 0.5 * float(pixels.square().mean()), "no better than black"
    assert error < 0.5 * float((pixels - pixels.mean(dim=0)).square().mean())


def test_pixels_of_a_batch_are_those_that_the_encoder_reads() -> None:
    one = learner()
    batch = batch_of(one)
    assert torch.allclose(one.read(one.pixels(batch)), batch, atol=1e-6)
    assert 0 <= float(one.pixels(batch).min()) <= float(one.pixels(batch).max()) <= 1
