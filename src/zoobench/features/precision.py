"""precision = "auto": bf16 where it is faster here and nothing measurable is lost, else fp32.

One sample a model, taken from train and valid: is bf16 faster on this machine; do the
features point the same way; does a probe learned from them predict `valid` as well?
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoobench.tasks.classification import Labels, labels_of

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Split

VERSION = 1
SAMPLE = 256
"""Examples of train, and as many of valid."""
LEAST = 64
"""Examples of each below which nothing can be told."""
SPEEDUP = 1.15
"""How much faster bf16 must be to be worth the question."""
COSINE = 0.98
"""Least median cosine between an example's features in the two precisions."""
NLL = 0.02
"""Largest rise of the probe's validation NLL, in nats, that must be excluded (one-sided, 97.5%)."""

Extract = Callable[["Split", str], "torch.Tensor"]
"""(split, precision) -> (N, D) features."""


@dataclass(frozen=True)
class Choice:
    """What was taken and why; numbers that were not measured are None.

    `nll_rise` is bf16 minus fp32 over `sample` examples of valid, in nats, `nll_error` its
    standard error; `cosine` the median over those examples.
    """

    taken: str
    why: str
    speedup: float | None = None
    cosine: float | None = None
    nll_fp32: float | None = None
    nll_rise: float | None = None
    nll_error: float | None = None
    sample: int | None = None
    version: int = VERSION

    @property
    def facts(self) -> dict[str, Any]:
        """For the record: numbers rounded, the unknown left out."""
        found = {k: v for k, v in asdict(self).items() if v is not None}
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()}


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 at all, or only imitates it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8  # Ampere
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(known()) if known is not None else False


def choose(train: Split, valid: Split, extract: Extract, speedup: Callable[[], float]) -> Choice:
    """The precision for one model. `speedup` measures fp32 seconds over bf16 seconds."""
    if not isinstance(train.targets, Labels):
        return Choice("fp32", "precisions are compared by a probe of classes")
    if min(len(train), len(valid)) < LEAST:
        return Choice("fp32", f"fewer than {LEAST} examples to compare on")
    factor = speedup()
    if factor < SPEEDUP:
        return Choice("fp32", f"bf16 is not {SPEEDUP} times as fast here", factor)
    few = spread(train), spread(valid)
    exact, fast = ([extract(split, p) for split in few] for p in ("fp32", "bf16"))
    return judge(factor, few, exact, fast)


def judge(
    factor: float,
    splits: tuple[Split, Split],
    exact: list[torch.Tensor],
    fast: list[torch.Tensor],
) -> Choice:
    """Compare features (train, valid) in the two precisions, and the probes they give."""
    import torch

    if not all(bool(torch.isfinite(part).all()) for part in (*exact, *fast)):
        return Choice("fp32", "features that are not finite in bf16", factor)
    cosine = float(torch.cosine_similarity(exact[1], fast[1]).median())
    losses = [probe_losses(*splits, *features) for features in (exact, fast)]
    rise = losses[1] - losses[0]
    if len(rise) < LEAST:
        return Choice("fp32", f"fewer than {LEAST} examples of classes that were learned", factor)
    error = float(rise.std() / len(rise) ** 0.5)
    found: dict[str, Any] = {
        "speedup": factor,
        "cosine": cosine,
        "nll_fp32": float(losses[0].mean()),
        "nll_rise": float(rise.mean()),
        "nll_error": error,
        "sample": len(rise),
    }
    if cosine < COSINE:
        return Choice("fp32", f"bf16 turns the features: cosine below {COSINE}", **found)
    if float(rise.mean()) - 1.96 * error > 0:
        return Choice("fp32", "bf16 raises the probe's validation NLL", **found)
    if float(rise.mean()) + 1.96 * error > NLL:
        return Choice("fp32", f"a rise of the NLL by {NLL} cannot be excluded", **found)
    return Choice("bf16", "faster, and nothing measurable is lost", **found)


def probe_losses(
    train: Split, valid: Split, features: torch.Tensor, held: torch.Tensor
) -> torch.Tensor:
    """(N_valid,) negative log-likelihoods of the linear probe learned from `train` (PROTOCOL 2).

    Examples of valid whose class the train sample lacks are left out.
    """
    import torch

    from zoobench.solvers.classes import relabel
    from zoobench.solvers.logistic import logistic_path

    classes = int(max(labels_of(train).max(), labels_of(valid).max())) + 1
    labels, truth = torch.from_numpy(labels_of(train)), torch.from_numpy(labels_of(valid))
    present = torch.unique(labels)
    kept = torch.isin(truth, present)
    local, aim = relabel(labels, present, classes), relabel(truth[kept], present, classes)
    path = logistic_path(features, local, held[kept], aim, len(present))
    scores = path.fit.head.log_probs(held[kept])
    return -scores.gather(1, aim[:, None])[:, 0].double()


def spread(split: Split) -> Split:
    """At most SAMPLE examples, evenly over the split."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(np.intp))
    return split.subset(rows, f"{split.name} sample")


def time_ratio(runs: dict[str, Callable[[], Any]], repeats: int = 3) -> float:
    """Seconds of the first over the second, the best of `repeats` each, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first chooses kernels
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    one, other = (min(times[1:]) for times in seconds.values())
    return one / other
