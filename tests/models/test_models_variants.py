"""Variants of backbones: what each touches, and that it computes what it says."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import models
from zoobench.costs import counted
from zoobench.errors import UnknownName, Unsupported
from zoobench.features import fingerprint
from zoobench.interfaces import Backbone
from zoobench.models import variants
from zoobench.models.variants.coverage import covered
from zoobench.models.weights import plain_state, state_digest
from zoobench.schema import Ref

VIT, RESNET = "timm/test_vit?weights=random", "timm/test_resnet?weights=random"
torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs torchao")


@pytest.fixture(scope="module")
def vit() -> Any:
    return models.load(models.resolve(VIT))


@pytest.fixture(scope="module")
def resnet() -> Any:
    return models.load(models.resolve(RESNET))


def batch(backbone: Any) -> torch.Tensor:
    return torch.stack([backbone.prepare(one) for one in fingerprint.pictures()])


def embed(backbone: Backbone, inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return backbone.embed(inputs)


def test_a_variant_is_an_option_of_any_model_and_its_name_is_checked() -> None:
    ref = models.resolve("packaged/efficientnet-lite0?variant=bf16&input_size=128")
    assert variants.name_of(ref) == "bf16"
    assert variants.original(ref) == models.resolve("packaged/efficientnet-lite0?input_size=128")
    assert models.resolve(ref.text) == ref
    assert models.card(ref) == models.card(variants.original(ref))
    with pytest.raises(UnknownName, match=r"'int8-dynamc'.*Did you mean 'int8-dynamic'"):
        models.resolve("packaged/minilm-l6-v2?variant=int8-dynamc", "suite.toml: models[0]")
    with pytest.raises(UnknownName, match="unknown variant '8'"):
        models.resolve("packaged/minilm-l6-v2?variant=8")


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_half_is_the_module_in_that_type(vit: Any, name: str, dtype: torch.dtype) -> None:
    before = state_digest(vit.module)
    half: Any = variants.made(vit, name)
    assert {t.dtype for t in half.module.state_dict().values() if t.is_floating_point()} == {dtype}
    inputs = batch(vit)
    plain = copy.deepcopy(vit.module).to(dtype)
    with torch.inference_mode():
        tokens = plain.forward_features(inputs.to(dtype))
        expected = plain.forward_head(tokens, pre_logits=True).float()
    torch.testing.assert_close(embed(half, inputs), expected, rtol=0, atol=0)
    assert state_digest(vit.module) == before, "the original is left as it was"
    assert half.provenance["variant"] == {"name": name, "params": 1.0, "macs": 1.0}
    whole, own = (sum(counted.weights_bytes(one.module).values()) for one in (vit, half))
    assert own * 2 == whole


def test_a_half_of_anybody_s_backbone_has_its_maps() -> None:
    gabor: Any = models.load(models.resolve("synthetic/gabor"))
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    half: Any = variants.made(gabor, "bf16")
    for backbone in (gabor, half):
        reader = backbone.map_reader((64, 64))
        with torch.inference_mode():
            maps.append(reader.read(reader.module, inputs, range(len(reader.taps))))
    for one, other in zip(*maps, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, one, rtol=0.05, atol=0.05 * float(one.abs().max()))


def test_maps_of_a_half_are_those_of_its_module(resnet: Any) -> None:
    half: Any = variants.made(resnet, "bf16")
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    for backbone in (resnet, half):
        reader = backbone.map_reader((64, 64))
        with torch.inference_mode():
            maps.append(reader.read(reader.module, inputs, range(len(reader.taps)))[-1])
    assert maps[1].dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(maps[0].flatten(), maps[1].flatten(), dim=0)
    assert 0.99 < float(cosine) < 1


@pytest.mark.parametrize("name", [VIT, RESNET])
def test_coverage_of_all_layers_is_the_counter_s_own_count(name: str) -> None:
    """But for attention, whose products have no weights: both counts of it agree."""
    backbone: Any = models.load(models.resolve(name))
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    layers = {n: m for n, m in backbone.module.named_modules() if isinstance(m, kinds)}
    costs = {one.metric: one.value for one in counted.static_costs(backbone)}
    found = covered(backbone, layers)
    weights = sum(layer.weight.numel() for layer in layers.values())
    assert found.params == weights / costs["params"]
    products = 0
    if name == VIT:
        blocks = backbone.module.blocks
        tokens = backbone.module.patch_embed.num_patches + backbone.module.num_prefix_tokens
        width = backbone.module.embed_dim
        products = len(blocks) * 2 * tokens * tokens * width
    assert found.macs == pytest.approx(1 - products / costs["macs"], abs=1e-6)


def test_half_of_the_weights_is_pruned_the_smaller_half(resnet: Any) -> None:
    pruned: Any = variants.made(resnet, "pruned-50")
    kinds = (torch.nn.Linear, torch.nn.Conv2d)

    def weights(backbone: Any) -> np.ndarray[Any, Any]:
        found = [m.weight for m in backbone.module.modules() if isinstance(m, kinds)]
        return np.concatenate([w.detach().contiguous().numpy().ravel() for w in found])

    old, new = weights(resnet), weights(pruned)
    zero = new == 0
    assert zero.sum() == round(len(old) / 2)
    np.testing.assert_array_equal(new[~zero], old[~zero])
    assert np.abs(old[zero]).max() <= np.abs(old[~zero]).min()
    assert sum(counted.weights_bytes(pruned.module).values()) == sum(
        counted.weights_bytes(resnet.module).values()
    )


def test_what_covers_too_little_is_refused_with_its_shares(resnet: Any) -> None:
    with pytest.raises(Unsupported, match="int8-weight covers 0% of the parameters and 0% of the"):
        variants.made(resnet, "int8-weight")


def test_a_variant_that_is_calibrated_needs_pictures(resnet: Any) -> None:
    with pytest.raises(Unsupported, match="calibrated on the train pictures of a dataset"):
        variants.made(resnet, "int8-static")


def test_which_variants_there_are_not_is_told_by_the_card() -> None:
    text = models.card(models.resolve("packaged/minilm-l6-v2"))
    assert "reads text" in variants.unsuited(text, "int8-static")
    assert variants.unsuited(text, "int8-dynamic") == ""
    detector = models.card(models.resolve("detector/fasterrcnn_mobilenet_v3_large_320_fpn"))
    assert "complete model" in variants.unsuited(detector, "bf16")


@torchao
@pytest.mark.parametrize("name", ["int8-weight", "int8-dynamic"])
def test_int8_is_rounding_by_a_scale_a_row(vit: Any, name: str) -> None:
    """Of the weights in both; of the inputs, a token at a time, in the dynamic one."""
    quantised: Any = variants.made(vit, name)
    kept = plain_state(quantised.module)
    generator = torch.Generator().manual_seed(0)
    for at, layer in vit.module.named_modules():
        if not isinstance(layer, torch.nn.Linear):
            continue
        whole, scale = kept[f"{at}.weight.qdata"], kept[f"{at}.weight.scale"]
        assert whole.dtype == torch.int8
        assert scale.shape == (len(whole), 1), "a scale a row"
        assert bool(((whole * scale - layer.weight).abs() <= 0.501 * scale).all())
        given = torch.randn(3, 7, layer.in_features, generator=generator)
        heard = given
        if name == "int8-dynamic":
            step = given.abs().amax(dim=-1, keepdim=True) / 127.5
            heard = (given / step).round().clamp(-128, 127) * step
        by_hand = torch.nn.functional.linear(heard.double(), (whole * scale).double())
        with torch.inference_mode():
            said = quantised.module.get_submodule(at)(given) - layer.bias
        off = (said - by_hand).norm() / by_hand.norm()
        assert float(off) < 2e-3, "an input on an edge may be rounded either way"
    linear = [m for m in vit.module.modules() if isinstance(m, torch.nn.Linear)]
    total = sum(p.numel() for p in vit.module.parameters())
    share = sum(layer.weight.numel() for layer in linear) / total
    assert quantised.provenance["variant"]["params"] == share
    in_int8 = sum(t.numel() for n, t in kept.items() if n.endswith(".qdata"))
    assert in_int8 == sum(layer.weight.numel() for layer in linear)


@torchao
def test_the_same_variant_twice_is_the_same_model(vit: Any) -> None:
    one, two = (variants.made(vit, "int8-dynamic") for _ in range(2))
    assert state_digest(one.module) == state_digest(two.module)
    assert fingerprint.conduct(one.module) == fingerprint.conduct(two.module)
    assert (
        Ref.parse("timm/test_vit?variant=int8-dynamic").without("variant").text == "timm/test_vit"
    )


@pytest.mark.parametrize("name", [VIT, RESNET])
def test_coverage_is_counted_wherever_the_module_lies(name: str) -> None:
    here: Any = models.load(models.resolve(name))
    there: Any = models.load(models.resolve(name))
    there.module.to("meta")
    layers = [n for n, one in here.module.named_modules() if isinstance(one, torch.nn.Linear)]
    assert covered(there, layers) == covered(here, layers)
