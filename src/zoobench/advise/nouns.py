"""What the advisor speaks of. Plain data; seconds are wall seconds, sizes are examples."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LADDER = 2
"""Version of what a rung's number means, in journals."""

Stage = Literal["download", "pace", "scores", "probe", "fine-tune", "control"]


def packed(right: NDArray[np.bool_]) -> str:
    """Outcomes (N,) as text, for the journal: base64 of their bits."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(text: str, n: int) -> NDArray[np.float64]:
    """(n,) 0.0 or 1.0, from what `packed` gave."""
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=n).astype(np.float64)


METHOD = {"scores": "knn", "probe": "linear-probe", "fine-tune": "fine-tune"}
"""stage -> the method whose answers are judged there."""

RAW = "control/raw-input"
"""What is asked at the stage "control": whether the data need a network at all."""


@dataclass(frozen=True)
class Candidate:
    """A model that may be tried. `prior` is its mean published top-1, None where unknown.

    `bytes` have to be downloaded before it can be loaded, as estimated, 0 where that is
    unknown; None where it is here.
    """

    model: str
    license: str
    family: str
    prior: float | None = None
    params: float | None = None
    macs: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Wanted:
    """A model of the shortlist that is not here. `bytes` of its download are estimated, `prior` is
    its mean published top-1, None where nothing is published."""

    model: str
    kind: str
    license: str
    prior: float | None
    params: float
    bytes: int


@dataclass(frozen=True)
class Rung:
    """So many examples of each split; `whole` is all of them."""

    train: int
    valid: int
    test: int
    whole: bool = False

    @property
    def total(self) -> int:
        return self.train + self.valid + self.test


@dataclass(frozen=True)
class Recipe:
    """A fine-tune's budget; the same for every finalist."""

    steps: int
    batch_size: int
    rates: tuple[float, ...]

    @property
    def passes(self) -> int:
        """Examples that are run forwards and backwards."""
        return self.steps * self.batch_size * len(self.rates)


@dataclass(frozen=True)
class Action:
    """One step, and the seconds that it is predicted to take.

    `among` are the models that a rung of probes was begun for, this one included.
    """

    model: str
    stage: Stage
    rung: int
    predicted: float
    recipe: Recipe | None = None
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """A step that ended. `key` is its cell's, "" where it is none.

    `extract` seconds were spent on the features of `new` examples, the rest of `seconds` on
    loading and fitting. `facts` are transferability scores, and costs of the model. A
    download's `seconds` are those that were waited for it, its own stand in `facts`.

    A probe's `value` is its accuracy out of fold over all examples of its rung, `right` the
    outcomes behind it (see `packed`); a kNN's or fine-tune's is that on `test`.
    """

    model: str
    stage: Stage
    rung: int
    seconds: float
    status: str = "ok"
    why: str = ""
    key: str = ""
    value: float | None = None
    new: int = 0
    extract: float = 0.0
    recipe: Recipe | None = None
    predicted: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)
    among: tuple[str, ...] = ()
    right: str = ""


@dataclass(frozen=True)
class State:
    """All that a decision is taken from. `candidates` stand in the static order, best first.

    `ruled_out` says why a candidate broke a limit once its costs were known. `absent` are not on
    this disk; of them `coming` are being downloaded, the next one within `arrival` seconds.
    """

    candidates: tuple[Candidate, ...]
    ladder: tuple[Rung, ...]
    budget: float
    spent: float
    done: tuple[Done, ...] = ()
    fine_tune: bool = True
    ruled_out: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    coming: tuple[str, ...] = ()
    arrival: float = 0.0

    @property
    def left(self) -> float:
        return self.budget - self.spent

    def share(self, rung: int) -> float:
        """The part of all examples that `rung` holds."""
        return self.ladder[rung].total / self.ladder[-1].total

    def find(self, model: str, stage: Stage, rung: int | None = None) -> Done | None:
        """The newest such step that ended well."""
        for one in reversed(self.done):
            if (one.model, one.stage, one.status) == (model, stage, "ok") and rung in (
                None,
                one.rung,
            ):
                return one
        return None

    def outcomes(self, rung: int) -> dict[str, NDArray[np.float64]]:
        """model -> (N,) whether its probe was right, out of fold, on each example of `rung`."""
        found = {}
        for one in self.candidates:
            step = self.find(one.model, "probe", rung)
            if step is not None and step.right and one.model not in self.ruled_out:
                found[one.model] = unpacked(step.right, self.ladder[rung].total)
        return found

    @property
    def first(self) -> int | None:
        """The rung that every model begins on; None before any has."""
        return next((d.rung for d in self.done if d.stage == "scores"), None)

    def failed(self, model: str) -> Done | None:
        """The step that put `model` out of the race."""
        bad = (d for d in self.done if d.model == model and d.status != "ok")
        return next((d for d in bad if d.stage != "fine-tune"), None)


@dataclass(frozen=True)
class Standing:
    """What is known of one candidate at the end.

    `value` is its accuracy at `stage`, out of fold over `examples` for a probe, else on test
    after `examples` training examples; `first` is its probability of being the best candidate,
    `tied` whether it cannot be told from the pick.
    """

    candidate: Candidate
    stage: str
    examples: int
    value: float | None
    low: float | None
    high: float | None
    first: float
    tied: bool
    why: str
    facts: Mapping[str, float]


@dataclass(frozen=True)
class RawInputResult:
    """The linear probe of raw input, without any network, out of fold over the same `examples` as
    the pick's own probe: its accuracy with 95% limits, and the p-value of McNemar's test
    (two-sided) that they differ, times the number of models probed on them. `beaten` where the pick
    is significantly better."""

    value: float
    low: float
    high: float
    examples: int
    p: float
    beaten: bool


@dataclass(frozen=True)
class Advice:
    """The answer. `standings` are best first; `pick` is the most accurate of them: that with the
    least expected loss, which stands in `loss`, against the true best of those measured.

    `cheapest` is the cheapest good enough by the cost `cost`, None where nobody is within
    `tolerance` of the true best with probability 0.9, and `within` that probability of it.
    `untried` is the probability that the best is one that was not measured. `stages` are the
    seconds that each stage took. `needs` are the probes that both picks answered with yes.
    `raw_input` is None where it was not asked on examples that the pick was probed on.
    """

    data: str
    pick: Standing | None
    cheapest: Standing | None
    cost: str
    tolerance: float
    method: str
    standings: tuple[Standing, ...]
    loss: Mapping[str, float]
    within: float | None
    ruled_out: Mapping[str, str]
    wanted: tuple[Wanted, ...]
    not_available: int
    budget: float
    spent: float
    stages: Mapping[str, float]
    ended: str
    done: tuple[Done, ...]
    sizes: Rung
    untried: float = 0.0
    needs: tuple[str, ...] = ()
    raw_input: RawInputResult | None = None
