"""Membership inference on one trained model (PROTOCOL section 8): who was in its train set?

Members are what it was trained on; non-members are of `test`, at most as many, chosen by a hash of
their units. References are trained on random halves of both together, whole units (a speaker, a
document) at a time and class by class, so that none of them depends on who is a member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench.interfaces import Adapted, Raw, Split, Splits
from zoobench.metrics import measured
from zoobench.schema import Measurement
from zoobench.statistics import intervals
from zoobench.statistics.bootstrap import Floats, Units, resampled, seed_of, unit_count
from zoobench.tasks.classification import Labels, labels_of
from zoobench.tasks.curves import roc_auc

if TYPE_CHECKING:
    import torch

SHADOWS = 64
FALSE_ALARMS = 0.01
ENOUGH = 1000
"""Non-members from which on a rate of FALSE_ALARMS can be told."""
MEMBER, OUTSIDE, POPULATION = 1, 0, -1
"""Roles. The population is what RMIA compares with: it is not audited."""


@dataclass(frozen=True)
class AuditPool:
    """N examples of several `splits`, as one: `at` (N,) is where each stands in all of them behind
    one another, and `role` (N,) what it is there for."""

    splits: tuple[Split, ...]
    at: NDArray[np.intp]
    role: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.concatenate([labels_of(one) for one in self.splits])[self.at]

    @property
    def units(self) -> Units:
        return np.concatenate([one.units for one in self.splits])[self.at]

    def take(self, rows: NDArray[np.intp]) -> AuditPool:
        return AuditPool(self.splits, self.at[rows], self.role[rows])

    def of(self, read: Callable[[Split], torch.Tensor]) -> torch.Tensor:
        """(N, ...) what `read` gives of each split's examples."""
        import torch

        return torch.cat([read(one) for one in self.splits])[torch.from_numpy(self.at)]

    def log_probs(self, adapted: Adapted) -> torch.Tensor:
        """(N, C) under what was adapted, in eval mode as it predicts."""
        found: torch.Tensor = self.of(adapted.predict)
        return found

    def part(self, rows: NDArray[np.bool_]) -> Split:
        """Those examples as a split."""
        chosen = self.at[rows]
        ids = [name for one in self.splits for name in one.ids]
        labels = Labels(self.labels[rows])
        read = _Several(self.splits, chosen)
        return Split("part", tuple(ids[i] for i in chosen), labels, read, self.splits[0].reader)


@dataclass(frozen=True)
class _Several:
    """A `read` over several splits, one behind the other."""

    splits: tuple[Split, ...]
    at: NDArray[np.intp]

    def __call__(self, i: int) -> Raw:
        ends = np.cumsum([len(one) for one in self.splits])
        which = int(np.searchsorted(ends, self.at[i], side="right"))
        return self.splits[which].read(int(self.at[i] - ends[which] + len(self.splits[which])))


def pool_of(
    splits: Splits, members: Sequence[Split], population: Sequence[Split] = ()
) -> AuditPool:
    """The audited examples, and those that are only compared with."""
    parts = (*members, splits.test, *population)
    roles = [MEMBER] * len(members) + [OUTSIDE] + [POPULATION] * len(population)
    role = np.repeat(np.array(roles, dtype=np.int64), [len(part) for part in parts])
    outside = np.flatnonzero(role == OUTSIDE)
    order = np.argsort(splits.test.units, kind="stable")
    spare = outside[order[int((role == MEMBER).sum()) :]]
    at = np.setdiff1d(np.arange(len(role)), spare)
    return AuditPool(parts, at, role[at])


def divided(pool: AuditPool, count: int) -> tuple[AuditPool, NDArray[np.bool_]]:
    """The pool without classes of which a part holds none, and its (count, N) parts: random halves
    of the units, each beside its complement, of each class a half of its units.

    They depend on the units alone: every model is audited by the same ones.
    """
    distinct, first, owner = np.unique(pool.units, return_index=True, return_inverse=True)
    labels = pool.labels
    rng = np.random.default_rng(seed_of("membership", *distinct.tolist()))
    found = []
    for _ in range(count // 2):
        order = rng.permutation(len(distinct))
        order = order[np.argsort(labels[first][order], kind="stable")]
        chosen = np.zeros(len(distinct), dtype=bool)
        chosen[order[int(rng.integers(2)) :: 2]] = True
        found += [chosen[owner], ~chosen[owner]]
    parts = np.stack(found)
    lacking = [c for c in np.unique(labels) if not parts[:, labels == c].any(axis=1).all()]
    kept = np.flatnonzero(~np.isin(labels, lacking))
    return pool.take(kept), parts[:, kept]


def auditable(pool: AuditPool) -> bool:
    """Whether there are members, others, and two classes."""
    return len(np.unique(pool.labels)) > 1 and {MEMBER, OUTSIDE} <= set(pool.role.tolist())


@dataclass(frozen=True)
class Attack:
    """`scores` (N,) of the examples of `pool`, and their `loss` with its sign turned: both are high
    for members."""

    pool: AuditPool
    scores: Floats
    loss: Floats
    detail: Mapping[str, Any]


def on_probe(
    adapted: Adapted, backbone: Any, splits: Splits, members: Sequence[Split]
) -> Attack | None:
    """LiRA with SHADOWS probes at the lambda that was chosen: online, since half of the shadows
    have seen each example. None where there is nothing to tell apart."""
    import torch

    from zoobench.solvers.membership import lira
    from zoobench.solvers.shadows import margins_of, shadow_probes

    pool, parts = divided(pool_of(splits, members), SHADOWS)
    if not auditable(pool):
        return None
    present, local = np.unique(pool.labels, return_inverse=True)
    device, masks = backbone.device, torch.from_numpy(parts)
    shadows = shadow_probes(
        pool.of(backbone.features).to(device), torch.from_numpy(local).to(device), len(present),
        masks.to(device), float(adapted.chosen["lambda"]),
    )  # fmt: skip
    target = margins_of(pool.log_probs(adapted).t(), torch.from_numpy(pool.labels))
    scores = lira(target, shadows.margins.cpu(), masks)
    detail = {"attack": "LiRA, online", "shadows": SHADOWS}
    detail["converged"] = int(shadows.converged.sum())
    return Attack(pool, scores.numpy(), target.numpy(), detail)


def on_training(
    adapted: Adapted, splits: Splits, train: Callable[[Split, int], Adapted]
) -> Attack | None:
    """RMIA with two references: each has seen the half of the examples that the other has not.
    `train` trains one on a split, by the recipe that was chosen and a seed of the number's.

    `valid` is the population that ratios are compared with, half of it seen by each reference as
    well. None where there is nothing to tell apart.
    """
    import torch

    from zoobench.solvers.membership import rmia

    pool, parts = divided(pool_of(splits, [splits.train], [splits.valid]), 2)
    if not auditable(pool) or not (pool.role == POPULATION).any():
        return None
    labels = torch.from_numpy(pool.labels)[:, None]

    def of_truth(model: Adapted) -> torch.Tensor:
        return pool.log_probs(model).gather(1, labels)[:, 0].double()

    references = [of_truth(train(pool.part(rows), number)) for number, rows in enumerate(parts)]
    target, others = of_truth(adapted), torch.from_numpy(pool.role == POPULATION)
    scores = rmia(target, torch.stack(references), others)
    audited = pool.take(np.flatnonzero(pool.role != POPULATION))
    detail = {"attack": "RMIA", "references": len(references)}
    return Attack(audited, scores.numpy(), target[~others].numpy(), detail)


def numbers(attack: Attack | None) -> tuple[Measurement, ...]:
    """AUC of the attack and of the loss threshold, and the attack's true positives where there are
    enough others; with intervals over units."""
    if attack is None:
        return ()
    scores, detail, units = attack.scores, attack.detail, attack.pool.units
    member = attack.pool.role == MEMBER
    counts = {"members": int(member.sum()), "non_members": int((~member).sum())}
    said = {**detail, "of": "this one trained model", **counts}
    found = [
        ("membership_auc", said, partial(roc_auc, scores, member)),
        (
            "membership_loss_auc",
            {**said, "attack": "loss threshold"},
            partial(roc_auc, attack.loss, member),
        ),
    ]
    if counts["non_members"] >= ENOUGH:
        rate = partial(true_positives, scores, member)
        found.append(("membership_tpr_at_1pct_fpr", said, rate))
    out = []
    for name, about, statistic in found:
        value = float(statistic(np.ones((1, len(scores))))[0])
        draws = np.concatenate([statistic(weights) for weights in resampled(units)])
        draws = draws[np.isfinite(draws)]
        low, high = intervals.of_draws(value, draws, unit_count(units), bounds=(0.0, 1.0))
        out.append(measured(name, value, n=len(scores), low=low, high=high, detail=about))
    return tuple(out)


def true_positives(scores: Floats, member: NDArray[np.bool_], weights: Floats) -> Floats:
    """(B,) share of the members above the lowest threshold that at most FALSE_ALARMS of the others
    exceed; equal scores stay together. NaN where either kind is lacking."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = [
            np.cumsum(weights[:, order] * kind[order], axis=1)[:, last] / (weights @ kind)[:, None]
            for kind in (member, ~member)
        ]
    allowed = np.where(rates[1] <= FALSE_ALARMS + 1e-12, rates[0], 0.0)
    return np.where(np.isfinite(rates[1][:, -1]), allowed.max(axis=1), np.nan)
