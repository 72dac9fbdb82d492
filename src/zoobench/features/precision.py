"""precision = "auto": float32 on a CPU; on a card bf16, unless that costs this model something.

No dataset and no stopwatch has a say, so that a cell doesn't depend on its neighbours nor on
the hour: on a fixed probe set of the model's modality the features must point the same way in
both precisions, and a probe learned from them must predict as well. A CPU computes in float32
even where it has arithmetic in bf16: its numbers are to compare with those of any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoobench import datasets
from zoobench.interfaces import Split
from zoobench.tasks.classification import Labels, labels_of

if TYPE_CHECKING:
    import torch

VERSION = 2
BF16 = "bf16 variant"
"""What computes features in bf16: part of the key of all that was found by it or of it. Before
there were variants it was autocast, whose features and findings are others."""
SIZES = (128, 512)
"""Examples of the probe set to learn from, and to judge by."""
PICTURES = "synthetic/stripes?classes=4&noise=90&train={}&valid={}&test=0"
SOUNDS = "synthetic/tones?classes=4&noise=90&train={}&valid={}&test=0"
TOPICS = (
    "river lake ocean stream boat fish wave shore water bridge sail harbor",
    "bread cheese soup apple dinner kitchen salt butter cook sugar meat plate",
    "doctor nurse patient hospital medicine pain fever blood heart clinic cure disease",
    "judge court lawyer trial crime prison police law jury evidence sentence guilty",
    "guitar piano song concert singer violin music drum melody opera album dance",
    "goal team player coach football match league season score stadium ball champion",
    "bank money market stock profit trade loan price tax investor company dollar",
    "planet star moon rocket orbit galaxy telescope sun space comet astronaut gravity",
)
"""Of a text two words are of its topic, one is of any, and four are FILLER."""
FILLER = "time people year day man thing way part place week case point new old great small long"
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


def choice_of(facts: Mapping[str, Any]) -> Choice:
    """The `Choice` of these facts. Raises ValueError where they are none of this version."""
    import msgspec

    found = msgspec.convert(facts, Choice)
    if found.taken not in ("fp32", "bf16") or found.version != VERSION:
        raise ValueError(f"no choice of a precision: {facts}")
    return found


def computes_bf16(device: torch.device) -> bool:
    """Whether the device is a card with arithmetic in bf16."""
    import torch

    # Ampere's compute capability is 8.
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def keyed(taken: str) -> str:
    """The precision `taken` as it stands in the keys of what was computed in it."""
    return BF16 if taken == "bf16" else taken


def probe_set(modality: str) -> tuple[Split, Split]:
    """(train, valid) that precisions are compared on, made on the spot and always the same: hard
    enough that an ImageNet network (0.73 are right) and a sentence encoder (0.86) err."""
    if modality == "text":
        return _texts("train", SIZES[0]), _texts("valid", SIZES[1])
    made = SOUNDS if modality == "audio" else PICTURES
    splits = datasets.load(datasets.resolve(made.format(*SIZES)))
    return splits.train, splits.valid


def _texts(name: str, n: int) -> Split:
    import numpy as np

    labels = np.arange(n, dtype=np.int64) % len(TOPICS)
    rng = np.random.default_rng([n, VERSION])
    texts = []
    for label in labels:
        drawn = ((TOPICS[label], 2), (" ".join(TOPICS), 1), (FILLER, 4))
        words = [word for choice, k in drawn for word in rng.choice(choice.split(), k)]
        texts.append(" ".join(rng.permutation(words)))
    ids = tuple(f"precision-{VERSION}-{name}-{i}" for i in range(n))
    return Split(name, ids, Labels(labels), texts.__getitem__)


def choose(splits: tuple[Split, Split], extract: Extract) -> Choice:
    """The precision for one model, by its features of `splits` (train, valid) in both."""
    exact, fast = ([extract(split, p) for split in splits] for p in ("fp32", "bf16"))
    return judge(splits, exact, fast)


def judge(
    splits: tuple[Split, Split], exact: list[torch.Tensor], fast: list[torch.Tensor]
) -> Choice:
    """Compare features (train, valid) in the two precisions, and the probes they give."""
    import torch

    if not all(bool(torch.isfinite(part).all()) for part in (*exact, *fast)):
        return Choice("fp32", "features that are not finite in bf16")
    cosine = float(torch.cosine_similarity(exact[1], fast[1]).median())
    losses = [probe_losses(*splits, *features) for features in (exact, fast)]
    rise = losses[1] - losses[0]
    error = float(rise.std() / len(rise) ** 0.5)
    found: dict[str, Any] = {
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
    return Choice("bf16", "nothing measurable is lost", **found)


def probe_losses(
    train: Split, valid: Split, features: torch.Tensor, held: torch.Tensor
) -> torch.Tensor:
    """(N_valid,) negative log-likelihoods of the linear probe learned from `train` (PROTOCOL 2).

    Both hold every class.
    """
    import torch

    from zoobench.solvers.logistic import logistic_path

    labels, truth = torch.from_numpy(labels_of(train)), torch.from_numpy(labels_of(valid))
    path = logistic_path(features, labels, held, truth, int(labels.max()) + 1)
    return -path.fit.head.log_probs(held).gather(1, truth[:, None])[:, 0].double()
