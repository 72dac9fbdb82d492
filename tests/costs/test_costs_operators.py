"""The counter, operator by operator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoobench.costs.counter import CountMode, count, params_by_block, plain_kernels
from zoobench.costs.counter_formulas import CHEAP, FORMULAS

aten = torch.ops.aten


def empty(*shape: int, device: str = "meta") -> torch.Tensor:
    return torch.empty(shape, device=device)


def encoder_layer(tokens: int, d: int, ffn: int) -> int:
    return tokens * (4 * d * d + 2 * tokens * d + 2 * d * ffn)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_and_its_backward(groups: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(8, 16, 3, stride=2, padding=1, groups=groups)
    first, x = nn.Conv2d(8, 8, 1), torch.rand(2, 8, 9, 7)
    out = layer(x)
    # Brute force: every weight is used once for each position of the side not strided over.
    positions = (x if transposed else out).shape
    expected = 2 * positions[2] * positions[3] * layer.weight.numel()
    assert count(layer, (x,)).macs == expected
    # The first layer of a network needs no gradient of its input.
    assert count(layer, (x,), train=True).macs == 2 * expected
    both = 2 * (2 * 9 * 7 * 64) + 3 * expected
    assert count(nn.Sequential(first, layer), (x,), train=True).macs == both


def test_three_dimensional_and_one_dimensional_convolutions() -> None:
    assert count(nn.Conv3d(2, 4, 3), (torch.rand(1, 2, 5, 6, 7),)).macs == 4 * 27 * 2 * 3 * 4 * 5
    assert count(nn.Conv1d(2, 4, 3, dilation=2), (torch.rand(1, 2, 9),)).macs == 4 * 3 * 2 * 5


B, H, L, S, E, EV = 2, 3, 5, 7, 8, 8
SCORES = B * H * L * S * (E + EV)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_functional_attention(device: str, causal: bool) -> None:
    q, k, v = (empty(B, H, n, E, device=device) for n in (L, S, S))
    counted = count(F.scaled_dot_product_attention, (q, k, v), {"is_causal": causal})
    assert counted.macs == SCORES
    assert counted.attention == ("causal" if causal else "full")


def fused(name: str, *extra: Any) -> Callable[..., Any]:
    return lambda q, k, v: getattr(aten, name)(q, k, v, *extra)


@pytest.mark.parametrize(
    "kernel",
    [
        fused("_scaled_dot_product_flash_attention_for_cpu"),
        fused("_scaled_dot_product_flash_attention"),
        fused("_scaled_dot_product_efficient_attention", None, True),
        fused("_scaled_dot_product_cudnn_attention", None, True),
        fused("_scaled_dot_product_fused_attention_overrideable"),
    ],
)
def test_fused_attention_counts_as_its_maths(kernel: Callable[..., Any]) -> None:
    q, k, v = (empty(B, H, n, E) for n in (L, S, S))
    assert count(kernel, (q, k, v)).macs == SCORES


def test_fused_backward_is_twice_the_forward() -> None:
    q = torch.rand(B, H, L, E)
    k = v = torch.rand(B, H, S, E)

    def both() -> None:
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        aten._scaled_dot_product_flash_attention_for_cpu_backward(
            torch.ones_like(out), q, k, v, out, lse, 0.0, False
        )

    assert count(both).macs == 3 * SCORES


def test_attention_of_the_packed_layout() -> None:
    q, k = empty(B, L, H, E), empty(B, S, H, E)
    formula = FORMULAS["aten::_flash_attention_forward"]
    assert formula((q, k, k, None, None), {}, None) == SCORES
    # Two sequences of 3 and 5 tokens in one row, cumulative ends given.
    packed, ends = torch.rand(8, H, E), torch.tensor([0, 3, 8], dtype=torch.int32)
    expected = (3 * 3 + 5 * 5) * H * 2 * E
    assert formula((packed, packed, packed, ends, ends), {}, None) == expected
    efficient = FORMULAS["aten::_efficient_attention_forward"]
    assert efficient((packed, packed, packed, None, ends, ends), {}, None) == expected


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_fast_path_of_the_encoder_layer(device: str) -> None:
    """In eval mode without gradients torch runs one opaque kernel, which most miss."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).to(device).eval()
    x = empty(2, 10, 32, device=device).fill_(0.1)
    assert count(layer, (x,)).macs == 2 * encoder_layer(10, 32, 64)
    assert torch.backends.mha.get_fastpath_enabled()


def test_formulas_of_the_fast_path_agree() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.rand(2, 10, 32)
    counting = CountMode()
    with torch.no_grad(), counting:
        layer(x)
    assert counting.macs == {"aten::_transformer_encoder_layer_fwd": 2 * encoder_layer(10, 32, 64)}


def test_products_of_every_shape() -> None:
    a, b = torch.rand(3, 4), torch.rand(4, 5)
    assert count(lambda: a @ b).macs == 60
    assert count(lambda: a @ b[:, 0]).macs == 12
    assert count(lambda: torch.dot(b[:, 0], b[:, 1])).macs == 4
    assert count(lambda: torch.einsum("ij,kj->ik", a, b.T)).macs == 60
    assert count(lambda: torch.addmm(torch.zeros(5), a, b)).macs == 60
    batch = torch.rand(2, 3, 4), torch.rand(2, 4, 5)
    assert count(lambda: torch.baddbmm(torch.zeros(1), *batch)).macs == 120
    assert count(lambda: torch.addbmm(torch.zeros(1), *batch)).macs == 120
    assert count(lambda: batch[0] @ batch[1]).macs == 120
    assert count(lambda: F.linear(torch.rand(2, 7, 4), torch.rand(5, 4))).macs == 2 * 7 * 20
    assert count(lambda: torch.cdist(a, b.T)).macs == 60
    assert count(nn.Bilinear(3, 4, 5), (torch.rand(2, 3), torch.rand(2, 4))).macs == 2 * 60


def test_grouped_products_of_experts() -> None:
    formula = FORMULAS["aten::_grouped_mm"]
    ends = torch.tensor([4, 10])
    assert formula((empty(10, 6), empty(2, 6, 3), ends), {}, None) == 10 * 6 * 3
    assert formula((empty(2, 5, 6), empty(2, 6, 3)), {}, None) == 2 * 5 * 6 * 3
    assert formula((empty(5, 10), empty(10, 3), ends), {}, None) == 5 * 10 * 3
    assert formula((empty(2, 5, 6), empty(6, 10), ends), {}, None) == 5 * 6 * 10


def test_inference_mode_inside_the_model() -> None:
    """Composite operators arrive whole there; they must still be counted."""
    x, w = torch.rand(2, 4), torch.rand(5, 4)
    weight = torch.rand(6, 3, 3, 3)

    def run() -> None:
        with torch.inference_mode():
            F.linear(x, w)
            F.conv2d(torch.rand(1, 3, 8, 8), weight)
            q = torch.rand(1, 1, 4, 4)
            F.scaled_dot_product_attention(q, q, q)

    assert count(run).macs == 40 + 36 * 6 * 27 + 4 * 4 * 8


def test_embeddings_and_norms_are_free() -> None:
    model = nn.Sequential(nn.Embedding(9, 16), nn.LayerNorm(16), nn.GELU(), nn.Softmax(-1))
    counted = count(model, (torch.zeros(2, 5, dtype=torch.long),))
    assert counted.macs == 0
    assert counted.uncounted == ()


def deformable() -> Any:
    from torchvision.ops import deform_conv2d

    x, offset = torch.rand(1, 2, 6, 6), torch.rand(1, 18, 4, 4)
    return deform_conv2d(x, offset, torch.rand(3, 2, 3, 3))


def suppression() -> Any:
    from torchvision.ops import nms

    return nms(torch.rand(4, 4), torch.rand(4), 0.5)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda: torch.fft.rfft2(torch.rand(4, 4)), "aten::_fft_r2c"),
        (lambda: torch.rand(4).cumsum(0), "aten::cumsum"),
        (lambda: torch.rand(4).logcumsumexp(0), "aten::logcumsumexp"),
        (lambda: torch.linalg.inv(torch.eye(3)), "aten::linalg_inv_ex"),
        (
            lambda: F.grid_sample(
                torch.rand(1, 2, 4, 4), torch.rand(1, 3, 3, 2), align_corners=False
            ),
            "aten::grid_sampler_2d",
        ),
        (deformable, "torchvision::deform_conv2d"),
        (suppression, "torchvision::nms"),
    ],
)
def test_arithmetic_without_a_formula_is_named(run: Callable[[], Any], name: str) -> None:
    counted = count(run)
    assert name in counted.uncounted
    assert counted.lower_bound


def test_integer_arithmetic_is_no_lower_bound() -> None:
    counted = count(lambda: torch.ones(5, dtype=torch.long).cumsum(0))
    assert counted.uncounted == ()


def test_no_operator_is_both_counted_and_cheap() -> None:
    assert not CHEAP & FORMULAS.keys()


def test_counting_a_step_leaves_no_trace() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
    ).eval()
    model[0].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    counted = count(model, (torch.ones(1, 3, 4, 4),), train=True)
    assert counted.macs == 2 * 4 * 27 * 4 + 3 * 32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_reading_a_value_on_meta_raises() -> None:
    with pytest.raises(RuntimeError):
        count(lambda x: x.sum().item(), (empty(3),))


def test_a_frozen_model_has_no_training_step() -> None:
    layer = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no gradient"):
        count(layer, (torch.ones(1, 2),), train=True)


def test_activations_kept_for_the_backward() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    expected = 4 * (3 * 8 + 3 * 16)
    # The first input (its weight's gradient needs it) and tanh's output, which tanh's own
    # backward and the second layer's weight share.
    assert count(model, (torch.rand(3, 8),), train=True).activation_bytes == expected
    assert count(model.to("meta"), (empty(3, 8),), train=True).activation_bytes == expected
    assert count(model, (empty(3, 8),)).activation_bytes is None


def test_params_by_block_counts_shared_ones_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(3, 2, bias=False)})
    model["c"] = model["a"]
    model.register_parameter("scale", nn.Parameter(torch.ones(5)))
    assert params_by_block(model) == {"scale": 5, "a": 9, "b": 6}


def test_kernel_settings_are_restored_after_an_error() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(KeyError), plain_kernels():
        raise KeyError
    assert torch.backends.mha.get_fastpath_enabled() == before


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v)


def test_fvcore_misses_what_we_count() -> None:
    """The reason for this counter: to the independent one, fused attention is free."""
    model, x = Attend().eval(), torch.rand(1, 10, 32)
    with warnings.catch_warnings():
        # fvcore, and torch.jit which it uses, warn of their own age.
        warnings.simplefilter("ignore")
        import fvcore.nn

        theirs = fvcore.nn.FlopCountAnalysis(model, (x,))
        theirs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        total = theirs.total()
    ours = count(model, (x,)).macs
    assert ours == 10 * 32 * 96 + 2 * 10 * 10 * 32
    assert total == 10 * 32 * 96
