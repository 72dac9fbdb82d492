"""What `zoobench profile` prints, as lines of plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoobench.quantities import duration

_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float, unit: str = "") -> str:
    """Four significant digits with a decimal prefix: 4.089 G, 25.56 M."""
    for scale, prefix in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}".rstrip()


def render(body: Mapping[str, Any]) -> list[str]:
    """Lines for one result of `profile`; a lower bound shows as ≥."""
    at_least = "≥ " if body["lower_bound"] else ""
    also = "≥ " if body.get("train_uncounted_ops") else at_least
    lines = [
        f"{body['model']}  ({body['scope']})",
        f"  input           {_shape(body)}",
        f"  parameters      {amount(body['params'])}"
        f"  ({amount(body['trainable_params'])} trainable)",
        f"  weights         {_by_dtype(body['weights_bytes'])}",
        f"  forward         {at_least}{amount(body['macs'], 'MACs')}"
        f" = {at_least}{amount(body['flops'], 'FLOPs')}  (1 MAC = 2 FLOPs)",
    ]
    if "train_macs" in body:
        share = body["train_macs"] / body["macs"] if body["macs"] else 0.0
        lines.append(
            f"  training step   {also}{amount(body['train_macs'], 'MACs')}"
            f" = {also}{amount(body['train_flops'], 'FLOPs')}  ({share:.2f} x forward)"
        )
        kept = amount(body["activation_bytes"], "B")
        lines.append(f"  activations     {kept} kept for the backward, batch 1")
    else:
        lines.append(f"  training step   not counted: {body['train_error']}")
    if body["attention"] != "none":
        causal = ", counted in full" if "causal_counted_as" in body else ""
        lines.append(f"  attention       {body['attention']}{causal}")
    if body["uncounted_ops"]:
        lines.append(f"  no formula for  {', '.join(body['uncounted_ops'])}")
    if "depends_on_data" in body:
        lines.append("  depends on      how many boxes the picture gives: counted for a plain one")
    where = "on the meta device" if body["counted_on"] == "meta" else "on the CPU"
    if body["reads_values"]:
        where += ": the model reads values, the count may depend on them"
    lines.append(f"  counted         {where}, {body['counter']}, {duration(body['seconds'])}")
    lines += _blocks(body["params_by_block"], body["params"])
    if "cross_check" in body:
        lines += _cross_check(body["cross_check"])
    return lines


def render_measured(body: Mapping[str, Any]) -> list[str]:
    """Lines for one result of `device_costs`; what was not measured has no line."""
    found = {one["metric"]: one for one in body["measurements"]}
    latency, rate = found["latency_ms_p50"], found["throughput"]
    how = latency["detail"]
    lines = [
        f"  measured        {body['device_name']}, {how['dtype']}, {how['layout']},"
        f" {how['threads']} threads, {body['weights']} weights",
        f"  latency         {latency['value']:.4g} ms{_interval(latency)},"
        f" p95 {found['latency_ms_p95']['value']:.4g} ms, batch 1{_noise(latency)}",
        f"  throughput      {rate['value']:.4g} /s{_interval(rate)} at batch"
        f" {rate['detail']['batch']} (search ended: {_ended(rate['detail'])}){_noise(rate)}",
        f"  peak memory     {amount(found['peak_memory_bytes']['value'], 'B')}, batch 1",
    ]
    if "real_time_factor" in found:
        heard = found["real_time_factor"]
        lines.append(
            f"  real time       {heard['value']:.4g} s{_interval(heard)} for a second of sound, of"
            f" {heard['detail']['seconds']:g} s at once{_noise(heard)}"
        )
    if "load_seconds" in found:
        cold, warm = found["load_seconds_cold"]["value"], found["load_seconds"]["value"]
        lines.append(f"  load            {cold:.3g} s cold with imports, {warm:.3g} s warm")
    if "compile_seconds" in found:
        spent = found["compile_seconds"]["detail"]
        lines.append(
            f"  compiling       {spent['inference']:.3g} s, and {spent['training_step']:.3g} s for"
            f" the training step{_failed(body)}"
        )
    if "train_step_ms" in found:
        step, kept = found["train_step_ms"], found["train_peak_memory_bytes"]["value"]
        lines.append(
            f"  training step   {step['value']:.4g} ms{_interval(step)}, {amount(kept, 'B')},"
            f" batch {step['detail']['batch']}{_noise(step)}"
        )
    else:
        lines.append(f"  training step   not measured: {body['train_error']}")
    if "energy_joules" in found:
        spent = found["energy_joules"]
        lines.append(f"  energy          {amount(spent['value'], 'J')} an example, batch"
                     f" {spent['detail']['batch']}, by {spent['detail']['source']}")  # fmt: skip
    return lines


def _interval(one: Mapping[str, Any]) -> str:
    return f" [{one['low']:.4g}, {one['high']:.4g}]"


def _failed(body: Mapping[str, Any]) -> str:
    why = body.get("compile_error")
    return f"; failed, and not compiled: {why}" if why else ", in none of the times"


def _noise(one: Mapping[str, Any]) -> str:
    return ", noisy" if one["detail"].get("noisy") else ""


def _ended(detail: Mapping[str, Any]) -> str:
    batch = detail.get("oom_batch")
    return str(detail["sweep_ended"]) + (f" at {batch}" if batch else "")


def _shape(body: Mapping[str, Any]) -> str:
    shape = body["input_shape"]
    if isinstance(shape, Mapping):
        text = ", ".join(f"{name} {'x'.join(map(str, size))}" for name, size in shape.items())
    else:
        text = "x".join(map(str, shape))
    if "seconds_of_sound" in body:
        return f"{text}  ({body['seconds_of_sound']:g} s of sound)"
    length = body.get("sequence_length")
    return text if length is None else f"{text}  (sequence length {length})"


def _by_dtype(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{amount(n, 'B')} {dtype}" for dtype, n in sizes.items()) or "none"


def _blocks(blocks: Mapping[str, int], total: int) -> list[str]:
    if not total or not blocks:
        return []
    width = max(map(len, blocks))
    rows = (f"    {name:<{width}}  {amount(n):>9}  {n / total:6.1%}" for name, n in blocks.items())
    return ["  parameters by block", *rows]


def _cross_check(found: Mapping[str, Any]) -> list[str]:
    if "error" in found:
        return [f"  fvcore          could not trace it: {found['error']}"]
    share = "" if found["ratio"] is None else f"  ({found['ratio']:.1%} of ours)"
    lines = [f"  fvcore          {amount(found['fvcore_macs'], 'MACs')}{share}"]
    lines += [
        f"    {name:<14}{'fvcore has ' + amount(abs(n), 'MACs')} {'less' if n > 0 else 'more'}"
        for name, n in found["explained"].items()
        if n
    ]
    if found["skipped"]:
        met = ", ".join(f"{name} x{n}" for name, n in found["skipped"].items())
        lines.append(f"    it skips      {met}")
    if found["disagrees"]:
        lines.append("    the two disagree by more than 5%")
    return lines


def render_ab(found: Mapping[str, Any]) -> list[str]:
    """Lines for one result of `ab.ab`."""
    verdict = "cannot be told apart" if not found["clear"] else (
        "A is slower" if found["ratio"] > 1 else "A is faster"
    )  # fmt: skip
    return [
        f"A {found['a']}",
        f"B {found['b']}",
        f"time of A / time of B  {found['ratio']:.3f}"
        f"  [{found['low']:.3f}, {found['high']:.3f}]  {verdict}",
        f"batch {found['batch']} on {found['device']}, {found['blocks']} blocks of two fresh"
        " processes that take turns A B B A",
    ]
