"""Multiply-accumulates of each operator, and the operators too cheap to count.

FORMULAS: operator name -> (args, kwargs, out) -> MACs, from shapes alone (PROTOCOL section
4). A formula counts the products of the operator's definition, never the work of one
kernel: padding of a convolution is counted in full, causal attention as the full score
matrix, the backward of fused attention without its recomputation of the scores, so
that fused and maths attention give one number. Adding a bias, normalising,
activating, pooling, interpolating and reducing are not MACs.

Names are "namespace::operator" without the overload. B, L, S, H, E, C, K below are batch,
target and source length, heads, head size, channels and kernel volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

Args = Sequence[Any]
Kwargs = Mapping[str, Any]
Formula = Callable[[Args, Kwargs, Any], int]

COUNTER_VERSION = 1
"""Changes when any formula or the list of cheap operators changes a count."""


def _product(a: Any, b: Any) -> int:
    """(..., n, m) by (..., m, p), the batch dimensions equal; either may be a vector."""
    return int(a.numel()) * (int(b.shape[-1]) if b.dim() > 1 else 1)


def _at(first: int, second: int) -> Formula:
    return lambda args, kwargs, out: _product(args[first], args[second])


def _dot(args: Args, kwargs: Kwargs, out: Any) -> int:
    return int(args[0].numel())


def _linear(args: Args, kwargs: Kwargs, out: Any) -> int:
    """x (..., I) by weight (O, I)."""
    weight = args[1]
    return int(args[0].numel()) * (int(weight.shape[0]) if weight.dim() > 1 else 1)


def _linear_backward(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(x, grad, weight, mask): one product each for the input's and the weight's gradient."""
    return _linear((args[0], args[2]), kwargs, out) * sum(map(bool, args[3][:2]))


def _grouped_mm(args: Args, kwargs: Kwargs, out: Any) -> int:
    """Rows (M, K) in E groups by (E, K, N); or columns in groups; or both in 3-D.

    Each of the M rows meets one expert, so E never multiplies.
    """
    a, b = args[0], args[1]
    if a.dim() == 3 and b.dim() == 2:  # the columns of b are what is grouped
        return int(a.shape[-2] * a.shape[-1] * b.shape[-1])
    return _product(a, b)


def _trilinear(args: Args, kwargs: Kwargs, out: Any) -> int:
    """sum of i1 * i2 * i3 over a broadcast box: one MAC for each of its points."""
    tensors = [args[0], args[1], args[2]]
    for i, dims in enumerate(args[3:6]):
        for d in sorted(dims):
            tensors[i] = tensors[i].unsqueeze(d)
    box = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
    return int(prod(box))


def _cdist(args: Args, kwargs: Kwargs, out: Any) -> int:
    return int(out.numel()) * int(args[0].shape[-1])


def _conv_macs(x: Any, weight: Any, out: Any, transposed: bool) -> int:
    """weight (C_out, C_in/groups, *K), or (C_in, C_out/groups, *K) where transposed.

    Every point of the side that is not strided over (the output; the input where
    transposed) meets one slice weight[i] of its channel i.
    """
    return int((x if transposed else out).numel()) * int(prod(weight.shape[1:]))


def _convolution(args: Args, kwargs: Kwargs, out: Any) -> int:
    transposed = args[6] if len(args) > 6 else kwargs.get("transposed", False)
    return _conv_macs(args[0], args[1], out, bool(transposed))


def _plain_conv(args: Args, kwargs: Kwargs, out: Any) -> int:
    return _conv_macs(args[0], args[1], out[0] if isinstance(out, tuple) else out, False)


def _transposed_conv(args: Args, kwargs: Kwargs, out: Any) -> int:
    return _conv_macs(args[0], args[1], out, True)


def _convolution_backward(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(grad, x, weight, bias_sizes, stride, padding, dilation, transposed, ..., mask).

    The gradients of the input and of the weight each take the forward's products once,
    in groups as well: each group of channels meets only its own.
    """
    grad, x, weight, mask = args[0], args[1], args[2], args[10]
    return _conv_macs(x, weight, grad, bool(args[7])) * sum(map(bool, mask[:2]))


def _conv_tbc(args: Args, kwargs: Kwargs, out: Any) -> int:
    """out (T, B, C_out), weight (K, C_in, C_out)."""
    return int(out.numel()) * int(args[1].shape[0] * args[1].shape[1])


def _attention(q: Any, k: Any, v: Any) -> int:
    """(B, H, L, E), (B, H_k, S, E), (B, H_k, S, E_v): scores, then the weighted values."""
    return int(prod(q.shape[:-1])) * int(k.shape[-2]) * int(q.shape[-1] + v.shape[-1])


def _sdpa(first: int) -> Formula:
    """Queries, keys and values from the argument `first` on."""
    return lambda args, kwargs, out: _attention(*args[first : first + 3])


def _packed(q: Any, k: Any, v: Any, q_ends: Any, k_ends: Any) -> int:
    """q (B, L, H, E), or (total, H, E) with the sequences' cumulative ends."""
    if q_ends is None:
        return _attention(q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2))
    k_ends = q_ends if k_ends is None else k_ends
    pairs = int((q_ends.diff().long() * k_ends.diff().long()).sum())
    return pairs * int(q.shape[-2]) * int(q.shape[-1] + v.shape[-1])


def _packed_at(first: int, ends: int) -> Formula:
    """Queries, keys and values from the argument `first` on, their ends from `ends` on."""
    return lambda args, kwargs, out: _packed(*args[first : first + 3], *args[ends : ends + 2])


def _twice(formula: Formula) -> Formula:
    """A backward of products: gradients of both factors of each."""
    return lambda args, kwargs, out: 2 * formula(args, kwargs, out)


def _native_mha(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(query, key, value, D, heads, qkv_weight, qkv_bias, proj_weight, ...): the fast path."""
    q, k = args[0], args[1]
    rows, d = int(q.shape[0] * q.shape[1]), int(args[3])
    source = int(k.shape[0] * k.shape[1])
    scores = 2 * rows * int(k.shape[1]) * d
    return 2 * rows * d * d + 2 * source * d * d + scores


def _encoder_layer(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(src, D, heads, qkv_w, qkv_b, proj_w, proj_b, ..., ffn_w1 [14], b1, ffn_w2 [16], b2)."""
    src, d = args[0], int(args[1])
    rows = int(src.shape[0] * src.shape[1])
    attention = 4 * rows * d * d + 2 * rows * int(src.shape[1]) * d
    return attention + rows * int(args[14].numel() + args[16].numel())


def _steps(x: Any) -> int:
    """Time steps times batch of (T, B, I), or of packed (total, I)."""
    return int(prod(x.shape[:-1]))


def _mkldnn_rnn(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(x (T, B, I), w_ih (gates H, I), w_hh (gates H, H), ...): one layer, one direction."""
    return _steps(args[0]) * int(args[1].numel() + args[2].numel())


def _cudnn_rnn(args: Args, kwargs: Kwargs, out: Any) -> int:
    """(x, weights, ...): every matrix of every layer and direction meets every step."""
    return _steps(args[0]) * sum(int(w.numel()) for w in args[1] if w.dim() == 2)


FORMULAS: dict[str, Formula] = {
    "aten::mm": _at(0, 1),
    "aten::_int_mm": _at(0, 1),
    "aten::_scaled_mm": _at(0, 1),
    "aten::addmm": _at(1, 2),
    "aten::_addmm_activation": _at(1, 2),
    "aten::bmm": _at(0, 1),
    "aten::baddbmm": _at(1, 2),
    "aten::baddbmm_": _at(1, 2),
    "aten::addbmm": _at(1, 2),
    "aten::mv": _at(0, 1),
    "aten::addmv": _at(1, 2),
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::linear": _linear,
    "aten::mkldnn_linear": _linear,
    "aten::linear_backward": _linear_backward,
    "aten::_grouped_mm": _grouped_mm,
    "aten::_scaled_grouped_mm": _grouped_mm,
    "aten::_trilinear": _trilinear,
    "aten::_cdist_forward": _cdist,
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "aten::mkldnn_convolution": _plain_conv,
    "aten::cudnn_convolution": _plain_conv,
    "aten::cudnn_convolution_relu": _plain_conv,
    "aten::cudnn_convolution_add_relu": _plain_conv,
    "aten::cudnn_convolution_transpose": _transposed_conv,
    "aten::miopen_convolution": _plain_conv,
    "aten::miopen_depthwise_convolution": _plain_conv,
    "aten::_conv_depthwise2d": _plain_conv,
    "aten::conv_depthwise3d": _plain_conv,
    "aten::_slow_conv2d_forward": _plain_conv,
    "aten::slow_conv3d_forward": _plain_conv,
    "aten::slow_conv_dilated2d": _plain_conv,
    "aten::slow_conv_dilated3d": _plain_conv,
    "aten::slow_conv_transpose2d": _transposed_conv,
    "aten::slow_conv_transpose3d": _transposed_conv,
    "aten::conv_tbc": _conv_tbc,
    "aten::convolution_backward": _convolution_backward,
    "aten::_scaled_dot_product_flash_attention": _sdpa(0),
    "aten::_scaled_dot_product_flash_attention_for_cpu": _sdpa(0),
    "aten::_scaled_dot_product_efficient_attention": _sdpa(0),
    "aten::_scaled_dot_product_cudnn_attention": _sdpa(0),
    "aten::_scaled_dot_product_fused_attention_overrideable": _sdpa(0),
    "aten::_scaled_dot_product_flash_attention_backward": _twice(_sdpa(1)),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _twice(_sdpa(1)),
    "aten::_scaled_dot_product_efficient_attention_backward": _twice(_sdpa(1)),
    "aten::_scaled_dot_product_cudnn_attention_backward": _twice(_sdpa(1)),
    "aten::_scaled_dot_product_fused_attention_overrideable_backward": _twice(_sdpa(1)),
    "aten::_flash_attention_forward": _packed_at(0, 3),
    "aten::_flash_attention_backward": _twice(_packed_at(1, 6)),
    "aten::_efficient_attention_forward": _packed_at(0, 4),
    "aten::_efficient_attention_backward": _twice(_packed_at(1, 6)),
    "aten::_native_multi_head_attention": _native_mha,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::mkldnn_rnn_layer": _mkldnn_rnn,
    "aten::mkldnn_rnn_layer_backward": _twice(_mkldnn_rnn),
    "aten::_cudnn_rnn": _cudnn_rnn,
    "aten::_cudnn_rnn_backward": _twice(_cudnn_rnn),
    "aten::miopen_rnn": _cudnn_rnn,
}

_CHEAP = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar
    _assert_tensor_metadata _batch_norm_with_update _conj _conj_physical _copy_from
    _cudnn_rnn_flatten_weight _embedding_bag _embedding_bag_forward_only _foreach_add
    _foreach_mul _fused_dropout _fused_rms_norm _is_all_true _local_scalar_dense _log_softmax
    _log_softmax_backward_data _masked_softmax _native_batch_norm_legit
    _native_batch_norm_legit_no_training _neg_view _nested_tensor_from_mask
    _pack_padded_sequence _pad_packed_sequence _pin_memory _prelu_kernel _reshape_alias
    _reshape_copy _resize_output_ _safe_softmax _softmax _softmax_backward_data
    _thnn_fused_gru_cell _thnn_fused_lstm_cell _thnn_fused_lstm_cell_backward_impl _to_copy
    _unique2 _unsafe_index _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    _weight_norm_interface adaptive_avg_pool1d adaptive_max_pool1d adaptive_max_pool2d add_
    affine_grid_generator alias all alpha_dropout amax amin aminmax any arange argmax argmin
    argsort as_strided avg_pool1d avg_pool2d avg_pool3d batch_norm_backward_elemt
    batch_norm_elemt batch_norm_stats bernoulli bincount bucketize cat channel_shuffle clone
    col2im constant_pad_nd contiguous copy cudnn_batch_norm detach diag_embed diagonal dropout
    embedding embedding_dense_backward empty empty_like empty_permuted empty_strided equal
    expand expand_copy exponential_ eye feature_dropout fill flatten flip full full_like gather
    glu hardsigmoid hardswish hardtanh im2col index index_add index_copy index_fill index_put
    index_select instance_norm is_nonzero isin item kthvalue layer_norm lift lift_fresh
    lift_fresh_copy linalg_vector_norm linspace log_sigmoid_backward log_sigmoid_forward
    logsumexp masked_fill masked_scatter masked_select max max_pool2d max_pool2d_with_indices
    max_pool3d_with_indices max_unpool2d mean median meshgrid min miopen_batch_norm mode
    mse_loss multinomial native_batch_norm native_channel_shuffle native_dropout
    native_group_norm native_layer_norm new_empty new_empty_strided new_full new_ones new_zeros
    nll_loss2d_forward nll_loss_backward nll_loss_forward nonzero norm normal_ one_hot ones
    ones_like permute pixel_shuffle pixel_unshuffle prelu prod rand rand_like randint
    randint_like randn randn_like random_ randperm reflection_pad1d reflection_pad2d repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape resize_
    resolve_conj resolve_neg roll rot90 rrelu_with_noise scalar_tensor scatter scatter_add
    scatter_reduce searchsorted select select_scatter set_ slice slice_scatter sort split
    split_with_sizes split_with_sizes_copy squeeze stack std std_mean sum sum_to_size sym_numel
    sym_size t take topk trace transpose tril tril_indices triu triu_indices trunc_normal_
    unbind unfold uniform unique_consecutive unique_dim unsafe_chunk unsafe_split
    unsafe_split_with_sizes unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean
    view view_as_complex view_as_real view_copy zero zeros zeros_like
"""
CHEAP: frozenset[str] = frozenset(f"aten::{name}" for name in _CHEAP.split())
"""Operators with a small constant of work for each element they read or write: moving and
making data, reductions, norms, softmax, pooling, interpolation, sorting. Beside these, their
in-place forms (`add_`) and their backwards (`glu_backward`), whatever torch tags as pointwise
counts as cheap. Not here, hence named when met: FFTs, grid_sample, deformable convolution,
cumulative sums and scans, nms and RoI operators, decompositions and solvers of linear algebra."""
