"""Fine-tuning, and the same recipe from random weights (PROTOCOL section 2).

One recipe for every model: a new linear head on the backbone's own features,
AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), a linear warm-up and a cosine
decay to zero, a budget in steps, and one small grid of learning rates whose best
is chosen on `valid`, by NLL or for numbers by squared error. `test` is scored once,
by the chosen run's last step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoobench.costs.training_memory import saved_for_backward, training_bytes
from zoobench.errors import NotFinite
from zoobench.features.compiled import Compiling, training
from zoobench.features.halving import Halving
from zoobench.interfaces import Adapted, SealedSplits, Split, Splits, Team
from zoobench.machine import out_of_memory, release_memory, sent
from zoobench.methods.audit import off
from zoobench.methods.data_parallel import Share
from zoobench.methods.head import AffineHead
from zoobench.methods.inputs import Inputs
from zoobench.methods.objectives import Objective, objective_of
from zoobench.methods.optimizers import make_optimizer, parameter_groups
from zoobench.methods.training import FiniteLosses, check_budget, factor
from zoobench.schema import Measurement

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FineTune:
    """All weights, new head. `steps` and `batch_size` are the budget of one run of the grid.

    `freeze` "all-but-last" trains the last block of parameters only, with the head;
    `layer_decay` multiplies the rate by itself for each block below the head; of classes,
    `membership` asks beside whether one can tell who was in train, and
    `explain` what its answers rest on (docs/trust.md).
    """

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "module"
    random_weights: ClassVar[bool] = False
    carries: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")
    view: ClassVar[str] = "embed"
    decay: ClassVar[str] = "cosine"

    steps: int = 500
    batch_size: int = 64
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    weight_decay: float = 0.02
    warmup: float = 0.1
    freeze: Literal["none", "all-but-last"] = "none"
    layer_decay: float = 1.0
    membership: bool = off()
    explain: Literal[False, True, "integrated-gradients"] = off()

    def __post_init__(self) -> None:
        check_budget(self)
        if not 0 <= self.warmup < 1 or not 0 < self.layer_decay <= 1:
            raise ValueError("0 <= warmup < 1 and 0 < layer_decay <= 1 must hold")

    def prepared(self, net: Any, rate: float) -> list[dict[str, Any]]:
        """Make of `net` what is trained, and give the optimiser's groups of it."""
        return parameter_groups(net, self, rate)

    def finished(self, net: Any) -> None:
        """Make of the trained `net` what answers."""

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """Train one copy of the backbone a learning rate; keep the best on `valid`.

        Raises NotFinite when the loss of every rate leaves the finite numbers.
        """
        train = Inputs(backbone, splits.train)
        valid = Inputs(backbone, splits.valid)
        best: Tuned | None = None
        pieces = 1
        view = getattr(backbone, "view", None)
        compiling = Compiling() if view is not None and view.compile else None
        for rate in self.rates:
            run = Training(self, backbone, objective_of(splits), rate, seed, compiling)
            tuned, pieces = fitting(run, train, valid, pieces)
            if tuned is not None and (best is None or tuned.valid_loss < best.valid_loss):
                best = tuned
        if best is None:
            raise NotFinite(f"the training loss at every learning rate of {list(self.rates)}")
        edge = best.rate in (min(self.rates), max(self.rates)) and len(self.rates) > 1
        said = {"rate-on-edge": edge, "gradient-accumulation": "gradient_pieces" in best.facts}
        if compiling is not None:
            best.facts = {**best.facts, "compile_seconds": compiling.seconds}
            said["compile-failed"] = bool(compiling.failed)
        best.flags = tuple(flag for flag, holds in said.items() if holds)
        return best

    def audit(
        self, adapted: Adapted, backbone: Any, splits: Splits, seed: int
    ) -> tuple[Measurement, ...]:
        """What its options ask for, when `test` has been read. Raises NotFinite where a reference
        cannot be trained."""
        from zoobench.methods import explain, membership

        recipe = replace(self, rates=(float(adapted.chosen["rate"]),))

        def again(part: Split, number: int) -> Adapted:
            run = Training(
                recipe, backbone, objective_of(splits), recipe.rates[0], seed + 1 + number
            )
            tuned, _ = fitting(run, Inputs(backbone, part), Inputs(backbone, splits.valid), 1)
            if tuned is None:
                raise NotFinite("the training loss of a reference for membership inference")
            return tuned

        found: tuple[Measurement, ...] = ()
        if self.membership:
            found += membership.numbers(membership.on_training(adapted, splits, again))
        if self.explain:
            found += explain.explained(adapted, backbone, splits, self.explain)
        return found


@dataclass(frozen=True)
class FromScratch(FineTune):
    """The same recipe on the same architecture with random weights.

    The runner loads the backbone with weights "random" for it; its distance to
    fine-tune is the transfer gain.
    """

    random_weights: ClassVar[bool] = True
    carries: ClassVar[bool] = False


@dataclass
class Tuned:
    """A trained network. The copy of the backbone belongs to it alone."""

    backbone: Any
    network: torch.nn.Module
    rate: float
    objective: Objective
    valid_loss: float
    valid_scores: torch.Tensor
    facts: Mapping[str, float]
    flags: tuple[str, ...] = ()

    @property
    def chosen(self) -> Mapping[str, Any]:
        return {"rate": self.rate}

    def predict(self, split: Split) -> torch.Tensor:
        return score(self.network, Inputs(self.backbone, split), self.objective)

    def on(self, backbone: Any) -> Tuned:
        """The same trained head on the features of `backbone`: of a variant of the trained one."""
        net: Any = network(backbone, self.objective.outputs, 0)
        net.head.load_state_dict(self.network.head.state_dict())  # type: ignore[union-attr]
        return replace(self, backbone=backbone, network=net)

    def head(self) -> AffineHead:
        """The trained head, in the target's unit."""
        linear: Any = self.network.head
        return self.objective.head(AffineHead.of(linear.weight, linear.bias))


def fitting(run: Training, train: Inputs, valid: Inputs, pieces: int) -> tuple[Tuned | None, int]:
    """`run` trained, and the pieces that each batch was cut into: twice as many whenever
    memory ended. The rate then begins anew, so that the answer does not depend on when.

    Raises the error of memory where a piece of one example does not fit.
    """
    size = min(run.recipe.batch_size, len(train.split))
    while True:
        try:
            return run.train(train, valid, Share(pieces=pieces)), pieces
        except Exception as error:
            if run.compiling is not None and run.compiling.blames(error):
                continue
            if not out_of_memory(error) or pieces >= size:
                raise
        pieces *= 2
        release_memory()


def network(backbone: Any, outputs: int, seed: int) -> torch.nn.Module:
    """The backbone's module, with a linear head that begins at zero: uniform scores, or the mean
    of the train targets, at step 0."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = backbone.module
            self.head = torch.nn.Linear(backbone.feature_dim, outputs)
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, batch: Any) -> torch.Tensor:
            logits: torch.Tensor = self.head(backbone.embed(batch))
            return logits

    torch.manual_seed(seed)
    return Network().to(backbone.device)


@dataclass(frozen=True)
class Training:
    """One learning rate of the grid, from the backbone as loaded to a scored `valid`."""

    recipe: FineTune
    source: Any
    objective: Objective
    rate: float
    seed: int
    compiling: Compiling | None = None

    def train(self, train: Inputs, valid: Inputs, share: Share) -> Tuned | None:
        """None when the loss leaves the finite numbers.

        Where the source has a team and this is not one of it, the team trains.
        """
        import torch

        backbone = self.source.copy()
        net = network(backbone, self.objective.outputs, self.seed)
        team = getattr(self.source, "team", None)
        if team is not None and share.ranks == 1:
            return self._by(team, backbone, net, valid, share.pieces)
        groups = self.recipe.prepared(net, self.rate)
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        optimizer = make_optimizer(self.recipe, groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(factor, self.recipe))
        targets = self.objective.targets(train.split)
        model: Any = share.wrap(net)
        train_mode(model)
        if self.compiling is not None and share.ranks == 1:
            model = self._compiled(net, train, share, self.compiling)
        correct, saved, losses = torch.zeros((), device=backbone.device), 0, FiniteLosses()
        for step, rows in enumerate(self._batches(len(targets))):
            optimizer.zero_grad(set_to_none=True)
            loss, right, bytes_ = self._gradient(model, train, rows, targets, share, step == 0)
            saved = max(saved, bytes_)
            if losses.lost(share.total(loss)):
                return None
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            correct += share.total(right)
            if self.source.progress is not None:
                self.source.progress(f"train at {self.rate:g}", step + 1, self.recipe.steps)
        if not losses.all:
            return None
        needed = training_bytes(net, optimizer, saved)
        optimizer.zero_grad(set_to_none=True)
        self.recipe.finished(net)
        scores = score(net, valid, self.objective)
        if not bool(torch.isfinite(scores).all()):
            return None
        loss_on_valid = self.objective.valid_loss(scores, valid.split)
        seen = self.recipe.steps * min(self.recipe.batch_size, len(targets))
        facts = {
            **self.objective.facts(float(correct), seen),
            "steps": float(self.recipe.steps),
            "trainable_params": float(trained),
        }
        if self.compiling is None:  # what a compiler keeps is another matter
            facts["train_memory_bytes"] = needed
        if share.pieces > 1:
            facts["gradient_pieces"] = float(share.pieces)
        return Tuned(backbone, net, self.rate, self.objective, loss_on_valid, scores, facts)

    def _compiled(self, net: Any, train: Inputs, share: Share, compiling: Compiling) -> Any:
        """`net` compiled for the sizes that a step's rows are cut into."""
        rows = list(range(min(self.recipe.batch_size, len(train.split))))
        widths = {len(piece) for piece in share.split(rows)}
        batches = [train.batch(rows[:width]) for width in widths]
        texts = train.backbone.input_spec.modality == "text"
        return training(net, net, batches, train.backbone.autocast, texts, compiling)

    def _gradient(
        self,
        model: Any,
        train: Inputs,
        rows: list[int],
        targets: torch.Tensor,
        share: Share,
        counts: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Adds the gradient of this share of `rows`; its part of the loss, its hits, and where it
        `counts` them the bytes that autograd kept of the largest piece."""  # fmt: skip
        import torch

        total, right = torch.zeros(2, device=train.backbone.device).unbind()
        counts, most = counts and self.compiling is None, 0
        for piece, exchange in share.passes(model, rows):
            with exchange:
                batch = train.batch(piece)
                watched: Any = saved_for_backward(model) if counts else nullcontext({})
                with train.backbone.autocast(), watched as saved:
                    outputs = model(batch)
                most = max(most, sum(saved.values()))
                target = sent(targets[piece], outputs.device)
                loss = self.objective.loss(outputs.float(), target) * share.weight(piece, rows)
                loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
            right = right + self.objective.hits(outputs, target)
        return total, right, most

    def _by(
        self, team: Team, backbone: Any, net: torch.nn.Module, valid: Inputs, pieces: int
    ) -> Tuned | None:
        """What `team` trained, in this process's own network."""
        found = team.train(self.rate, pieces)
        if found is None:
            return None
        net.load_state_dict(found["state"])
        scores = found["valid_scores"]
        loss = self.objective.valid_loss(scores, valid.split)
        return Tuned(backbone, net, self.rate, self.objective, loss, scores, found["facts"])

    def _batches(self, n: int) -> Iterator[list[int]]:
        """`steps` batches: a new permutation each epoch; a short last batch is left out."""
        import torch

        drawn = torch.Generator().manual_seed(self.seed)
        size = min(self.recipe.batch_size, n)
        waiting: list[int] = []
        for _ in range(self.recipe.steps):
            if len(waiting) < size:
                waiting = torch.randperm(n, generator=drawn).tolist()
            yield waiting[:size]
            waiting = waiting[size:]


def train_mode(net: torch.nn.Module) -> None:
    """Train mode, but for modules whose parameters are all frozen: their statistics stay."""
    net.train()
    for module in net.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def score(
    net: torch.nn.Module, inputs: Inputs, objective: Objective, batch_size: int = 64
) -> torch.Tensor:
    """What the task judges of `inputs` (N, ...), in eval mode, on the CPU."""
    import torch

    net.eval()
    parts = []
    judged = Halving(lambda batch: objective.said(net(batch).float()))
    with torch.no_grad(), inputs.backbone.autocast():
        for start in range(0, len(inputs.split), batch_size):
            rows = list(range(start, min(start + batch_size, len(inputs.split))))
            parts.append(judged(inputs.batch(rows))[0])
    return torch.cat(parts).cpu()
