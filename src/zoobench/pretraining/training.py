"""Pretraining one encoder: every rate of the grid, the best by kNN on `valid`, as a checkpoint.

All that a step draws follows from the seed and the number of the step, so a training that was
killed goes on from its last state to bitwise the same weights, on the same number of threads.
`test` is not to be had here: what is given is sealed.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench import worktime
from zoobench.errors import NotFinite
from zoobench.files import write_atomic
from zoobench.interfaces import SealedSplits, Split
from zoobench.machine import sent
from zoobench.methods.inputs import Inputs
from zoobench.methods.optimizers import adamw
from zoobench.methods.training import FiniteLosses, batches, edge, factor
from zoobench.models.weights import parameters
from zoobench.pretraining import PretrainingRecipe
from zoobench.pretraining.objective import Learner
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import FeatureSource

POINTS = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Shares of the training at which kNN on `valid` is asked."""
NEIGHBOURS = (10, 20)
BANK = 4000
"""Train examples among which neighbours are looked for, at most."""
KEEP_EVERY = 100
"""Steps between two states that a killed training can go on from."""

Point = tuple[int, float]
"""A number of steps, and the kNN accuracy on `valid` after them."""


@dataclass
class Pretrained:
    """The best rate's encoder and heads, in place, and what is known of its training."""

    learner: Learner
    heads: Any
    rate: float
    curve: list[Point]
    macs: int
    memory: float
    seconds: float
    flags: tuple[str, ...]
    uncounted: bool = False
    joules: float | None = None

    @property
    def accuracy(self) -> float:
        return self.curve[-1][1]


@dataclass
class PretrainingRun:
    """`source` is the encoder as it begins, a FeatureSource of its own module, which is trained.

    `meter` reads the joules used so far where the hardware says; of a training whose parts were
    not all metered nothing is said.
    """

    recipe: PretrainingRecipe
    source: Any
    splits: SealedSplits
    seed: int
    state: Path
    progress: Callable[[str, int, int], None] | None = None
    keep_every: int = KEEP_EVERY
    meter: Callable[[], float] | None = None
    _known: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Pretrained:
        """Raises NotFinite where the loss of every rate leaves the finite numbers."""
        import torch

        clock = worktime.now()
        with reproducible():
            self._known = self._found()
            before = float(self._known.get("seconds", 0.0))
            self._joules = self._known.get("joules")
            self._metered = self.meter() if self.meter is not None else 0.0
            for number in range(self._known.get("number", 0), len(self.rates)):
                self._begin(number)
                self._train(number, lambda: before + worktime.now() - clock)
            torch.manual_seed(self.seed)
            best = self._known["best"]
            if best is None:
                raise NotFinite(f"the pretraining loss at every rate of {list(self.rates)}")
            self.net.load_state_dict(best["net"])
            self.net.eval()
            counted = self._counted() if self.objective.trains else (0, 0.0, False)
        flags = edge(best["rate"], self.rates) if self.objective.trains else ()
        return Pretrained(
            self.learner, self.net.heads, best["rate"], [tuple(one) for one in best["curve"]],
            counted[0], counted[1], before + worktime.now() - clock, flags, counted[2],
            self._joules,
        )  # fmt: skip

    @property
    def rates(self) -> tuple[float, ...]:
        return self.recipe.rates if self.objective.trains else (0.0,)

    @property
    def steps(self) -> int:
        return self.recipe.steps if self.objective.trains else 0

    @cached_property
    def objective(self) -> Any:
        return self.recipe.made

    @cached_property
    def learner(self) -> Learner:
        return Learner(self.source, len(self.splits.classes))

    @cached_property
    def net(self) -> Any:
        """Encoder and heads, the heads drawn from the seed."""
        import torch

        torch.manual_seed(self.seed)
        heads = self.objective.heads(self.learner).to(self.source.device)
        return whole(self.learner, self.objective, heads)

    @cached_property
    def initial(self) -> Any:
        return copy.deepcopy(self.net.state_dict())

    @cached_property
    def train(self) -> Inputs:
        return Inputs(self.source, self.splits.train)

    @cached_property
    def valid(self) -> Inputs:
        return Inputs(self.source, self.splits.valid)

    @cached_property
    def labels(self) -> torch.Tensor:
        import torch

        return torch.from_numpy(labels_of(self.splits.train))

    def _found(self) -> dict[str, Any]:
        """The state of a training that was killed, of the same data and network; else the
        beginning."""
        import torch

        new = {
            "number": 0, "step": 0, "best": None, "train": self.splits.train.fingerprint,
            "joules": None if self.meter is None else 0.0,
        }  # fmt: skip
        try:
            known = torch.load(self.state, map_location="cpu", weights_only=True)
            own = {name: value.shape for name, value in self.initial.items()}
            nets = [known.get("net"), (known["best"] or {}).get("net")]
            fits = all({k: v.shape for k, v in net.items()} == own for net in nets if net)
        except Exception:  # noqa: BLE001  none, or one that cannot be read: it begins anew
            return new
        return known if fits and known.get("train") == new["train"] else new

    def _begin(self, number: int) -> None:
        """The network as it begins at a rate of the grid, or as the killed training left it."""
        initial = self.initial  # before what was found is loaded
        self.net.load_state_dict(self._known.get("net", initial))
        groups = [{"params": list(self.net.parameters())}]
        self.optimizer = adamw(groups, 1.0, self.recipe.weight_decay)
        if "optimizer" in self._known:
            self.optimizer.load_state_dict(self._known["optimizer"])
        self.curve: list[Point] = [tuple(one) for one in self._known.get("curve", ())]

    def _train(self, number: int, seconds: Callable[[], float]) -> None:
        """One rate, from the step that is known on; then the best so far is kept."""
        rate, first = self.rates[number], int(self._known["step"])
        points = {round(share * self.steps) for share in POINTS}
        drawn = batches(len(self.splits.train), self.steps, self.recipe.batch, self.seed)
        losses, lost = FiniteLosses(), first == 0 and not self._ask(0)
        for step, rows in enumerate(islice(drawn, first, None), first):
            if lost := lost or losses.lost(self._step(step, rows, rate)):
                break
            self._spend()
            if self.progress is not None:
                self.progress(f"pretrain at {rate:g}", step + 1, self.steps)
            if step + 1 in points and (lost := not self._ask(step + 1)):
                break
            if (step + 1) % self.keep_every == 0 and step + 1 < self.steps:
                self._keep(number, step + 1, seconds(), within=True)
        best = self._known["best"]
        if not lost and losses.all and (best is None or self.curve[-1][1] > best["curve"][-1][1]):
            state = self.net.state_dict()
            net = {key: value.detach().cpu().clone() for key, value in state.items()}
            self._known["best"] = {"rate": rate, "curve": list(self.curve), "net": net}
        self._keep(number + 1, 0, seconds(), within=False)

    def _step(self, step: int, rows: Any, rate: float) -> torch.Tensor:
        """The loss before the step."""
        import torch

        torch.manual_seed(hash_of(self.seed, step))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * factor(self.recipe, step)  # type: ignore[arg-type]
        self.net.train()
        with self.source.autocast():
            labels = sent(self.labels[rows], self.source.device)
            loss = self.net(self.train.batch(rows.tolist()), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()  # type: ignore[no-any-return]

    def _ask(self, steps: int) -> bool:
        """Whether the features are numbers; then their kNN accuracy is on the curve."""
        import torch

        self.net.eval()
        rows = sample(self.splits.train, BANK)
        bank = embedded(self.source, self.train, rows)
        asked = embedded(self.source, self.valid, np.arange(len(self.splits.valid)))
        if not bool(torch.isfinite(bank).all() and torch.isfinite(asked).all()):
            return False
        truth = torch.from_numpy(labels_of(self.splits.valid))
        labels = self.labels[rows]
        accuracy = knn_accuracy(bank, labels, asked, truth, len(self.splits.classes))
        self.curve.append((steps, accuracy))
        return True

    def _keep(self, number: int, step: int, seconds: float, within: bool) -> None:
        """Write the state, at once and whole."""
        import torch

        self._spend()
        known: dict[str, Any] = {
            "number": number, "step": step, "best": self._known["best"], "seconds": seconds,
            "train": self.splits.train.fingerprint, "joules": self._joules,
        }  # fmt: skip
        if within:
            known["net"], known["curve"] = self.net.state_dict(), list(self.curve)
            known["optimizer"] = self.optimizer.state_dict()
        buffer = io.BytesIO()
        torch.save(known, buffer)
        self.state.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.state, buffer.getvalue())
        if not within:
            self._known = known

    def _spend(self) -> None:
        """Add the joules that were used since this was last asked."""
        if self.meter is None:
            self._joules = None
        elif self._joules is not None:
            now = self.meter()
            self._joules, self._metered = self._joules + now - self._metered, now

    def _counted(self) -> tuple[int, float, bool]:
        """MACs and bytes of memory of one step, and whether an operator was not counted."""
        from zoobench.costs.counter import count

        rows = next(batches(len(self.splits.train), 1, self.recipe.batch, self.seed))
        labels = sent(self.labels[rows], self.source.device)
        found = count(self.net, (self.train.batch(rows.tolist()), labels), train=True)
        # A weight, its gradient and AdamW's two moments, 4 bytes each.
        memory = 16.0 * parameters(self.net) + (found.activation_bytes or 0)
        return found.macs, memory, found.lower_bound


def whole(learner: Learner, objective: Any, heads: Any) -> torch.nn.Module:
    """Encoder and heads as one module, whose output is the loss of a batch."""
    import torch

    class PretrainingNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = learner.encoder.module
            self.heads = heads

        def forward(self, batch: Any, labels: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = objective.loss(learner, self.heads, batch, labels)
            return loss

    return PretrainingNetwork()


def hash_of(seed: int, step: int) -> int:
    """A seed for each step, unlike those of other seeds."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


@contextmanager
def reproducible() -> Iterator[None]:
    """torch's generator of the CPU is given back as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def sample(split: Split, most: int) -> Any:
    """(n,) rows of `split`, at most `most`, by the examples' ids alone."""
    order = np.argsort(np.array(split.ids), kind="stable")
    return np.sort(order[:most])


def embedded(source: FeatureSource, inputs: Inputs, rows: Any, size: int = 256) -> torch.Tensor:
    """(n, D) features on the CPU, of the encoder as it now is."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), size):
            batch = inputs.batch(list(map(int, rows[start : start + size])))
            parts.append(source.embed(batch).float())
    return torch.cat(parts).cpu()


def knn_accuracy(
    bank: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor, truth: torch.Tensor, classes: int
) -> float:
    """Of the better k of NEIGHBOURS, by cosine and PROTOCOL's vote: `bank` (N, D) with `labels`
    (N,), `asked` (M, D) with `truth` (M,)."""
    from zoobench.solvers.knn import knn_log_probs

    scores = knn_log_probs(bank, labels, asked, classes, NEIGHBOURS)
    hits = (scores.argmax(dim=2) == truth).double().mean(dim=1)
    return float(hits.max())
