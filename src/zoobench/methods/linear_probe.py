"""Multinomial logistic regression on frozen features (PROTOCOL section 2, `linear-probe`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoobench.interfaces import Adapted, SealedSplits, Splits
from zoobench.machine import placed
from zoobench.methods.audit import off
from zoobench.methods.head import AffineHead, Fitted, HeadFit
from zoobench.schema import Measurement
from zoobench.tasks.classification import labels_of

if TYPE_CHECKING:
    from zoobench.solvers.logistic import LogisticPath


@dataclass(frozen=True)
class LambdaPath:
    """Abstract: a probe along a path of `lambdas` penalties over `decades`."""

    lambdas: int = 45
    decades: float = 11.0
    refit: bool = True

    version: ClassVar[int] = 1
    needs: ClassVar[str] = "features"

    def __post_init__(self) -> None:
        if self.lambdas < 1 or not self.decades > 0:
            raise ValueError("linear-probe needs at least 1 lambda and more than 0 decades")


@dataclass(frozen=True)
class LinearProbe(LambdaPath):
    """A path of `lambdas` penalties over `decades`, chosen on `valid` by NLL, then refit on
    train + valid at the chosen lambda.

    Flags: `not-converged` where the certificate of the refit, or of the chosen point, is
    above a relative gap of 1e-4; `lambda-on-edge` where the choice lies on the grid's edge
    after it was extended; `grid-extended` where it had to be. Without `refit` the fit on
    train alone is kept: a few-shot cell must not learn from the examples it chooses by.
    `membership` asks beside whether one can tell who was in train, and
    `explain` what its answers rest on (docs/trust.md).
    """

    membership: bool = off()
    explain: Literal[False, True, "integrated-gradients"] = off()

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    view: ClassVar[str] = "embed"

    def adapt(self, backbone: Any, splits: SealedSplits, seed: int) -> Adapted:
        """`backbone` is a FeatureSource; `seed` changes nothing."""
        import torch

        from zoobench.solvers.classes import relabel
        from zoobench.solvers.logistic import COPIES, PathOptions, logistic_path

        device = backbone.device
        parts = [backbone.features(one) for one in (splits.train, splits.valid)]
        train, valid = placed(parts, device, COPIES)
        classes = len(splits.classes)
        labels = torch.from_numpy(labels_of(splits.train)).to(device)
        present, local = torch.unique(labels, return_inverse=True)
        valid_labels = torch.from_numpy(labels_of(splits.valid)).to(device)
        local_valid = relabel(valid_labels, present, classes)
        options = PathOptions(lambdas=self.lambdas, decades=self.decades)
        path = logistic_path(train, local, valid, local_valid, len(present), options)

        solved = path.refit.head if self.refit else path.fit.head
        on_train = HeadFit(backbone, path.fit.head.log_probs, present, classes, train.shape[1])
        final = dataclasses.replace(on_train, score=solved.log_probs)
        accuracy = (solved.said(train) == local).double().mean().item()
        facts = {"train_accuracy": accuracy, **facts_of(path)}
        facts["trainable_params"] = final.trainable_params
        chosen, held = {"lambda": path.fit.lam}, on_train.log_probs(splits.valid)

        def head() -> AffineHead:
            return AffineHead.of(*solved.unscaled()).among(present, classes)

        return Fitted(final.log_probs, held, chosen, facts, flags_of(path), head)

    def audit(
        self, adapted: Adapted, backbone: Any, splits: Splits, seed: int
    ) -> tuple[Measurement, ...]:
        """What its options ask for, when `test` has been read."""
        from zoobench.methods import explain, membership

        found: tuple[Measurement, ...] = ()
        if self.membership:
            members = [splits.train, splits.valid] if self.refit else [splits.train]
            found += membership.numbers(membership.on_probe(adapted, backbone, splits, members))
        if self.explain:
            found += explain.explained(adapted, backbone, splits, self.explain)
        return found


def facts_of(path: LogisticPath) -> dict[str, float]:
    """What a record carries of a path."""
    point = path.points[path.chosen]
    return {
        "valid_nll": point.valid_nll,
        "valid_accuracy": point.valid_accuracy,
        "iterations": float(sum(p.evaluations for p in path.points) + path.refit.evaluations),
        "path_points": float(len(path.points)),
        "grid_extended": float(path.extended),
        "objective": path.refit.certificate.objective,
        "relative_gradient_norm": path.refit.certificate.relative_gradient_norm,
        "relative_gap": path.refit.certificate.relative_gap,
        "valid_relative_gap": path.fit.certificate.relative_gap,
    }


def flags_of(path: LogisticPath) -> tuple[str, ...]:
    """What a reader must know of how a path ended."""
    said = {
        "not-converged": not (path.fit.converged and path.refit.converged),
        "lambda-on-edge": path.on_edge,
        "grid-extended": path.extended > 0,
    }
    return tuple(flag for flag, holds in said.items() if holds)
