"""Which compressed variant of a model to take for some data: tried, chosen on valid, judged once.

    1. the original and its variants are adapted to `train` and judged on `valid`;
    2. of those within the limits one is picked by the gate: non-inferior by the margin;
    3. the original and the pick alone are judged on `test`, once, and the gate speaks again.

Both stages are runs like any other, below OUT: stopped and begun again, they go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoobench import datasets, methods, models, store
from zoobench.compare.gates import Gates
from zoobench.compare.variant_verdicts import VariantRow, VariantTable
from zoobench.compare.variants import judge_variants
from zoobench.datasets import judged
from zoobench.datasets.shift import is_shifted
from zoobench.errors import UserError, unknown
from zoobench.files import file_name
from zoobench.models import variants
from zoobench.ranking.outcomes import open_book
from zoobench.ranking.rank import rank
from zoobench.runs import session, suite
from zoobench.schema import STATUSES, Ref
from zoobench.workers.events import Event, Finished

CHOICE, TEST = "choice", "test"
"""Folders of the two stages' runs."""
COSTS = ("weights_bytes", "latency_ms_p50")
"""What a variant is made for: it must gain in one of them."""
PROBES = ("linear-probe", "ridge", "fine-tune")
"""The method where none is named: the first of them that serves the task."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class CompressRequest:
    """`margin` is in points of the task's primary metric, percent of an error in the target's unit;
    limits are in bytes and milliseconds, None for none; `budget` in seconds, and `cost_seconds` how
    long each model is timed."""

    model: Ref
    data: Ref
    out: Path
    method: str = ""
    margin: float = 1.0
    max_bytes: float | None = None
    max_latency_ms: float | None = None
    variants: tuple[str, ...] = ()
    budget: float = 600.0
    device: str = "auto"
    cost_seconds: float = 3.0


@dataclass(frozen=True)
class Compression:
    """What was found.

    `choice` is the table of `valid`, `refused` says why rows of it may not be taken, `pick` is the
    one that was (None: none may be). `test` is the table of the test set, where the pick stands
    under its original, and `judged_in` the run that it is from.
    """

    request: CompressRequest
    method: str
    choice: VariantTable
    refused: dict[str, str]
    untried: tuple[str, ...]
    pick: VariantRow | None = None
    test: VariantTable | None = None
    judged_in: Path | None = None

    @property
    def judged(self) -> VariantRow | None:
        """The pick as it was judged on test."""
        return self.test.rows[-1] if self.test is not None else None

    @property
    def outcome(self) -> str:
        """The gate's word on test: same, improved, regressed, inconclusive; "" without a pick."""
        row = self.judged
        if row is None:
            return ""
        return row.finding.outcome if row.finding is not None else row.status


def checked(request: CompressRequest) -> CompressRequest:
    """`request` with the method and the variants that it does not name. Raises UserError."""
    if variants.name_of(request.model):
        raise UserError(f"{request.model.short} is a variant: name the model that it is made of")
    if request.model.option("weights") == "random":
        raise UserError(f"{request.model.short}: random weights have no quality to lose")
    if judged.on_valid(request.data) or is_shifted(request.data):
        raise UserError(
            f"--data: {request.data.short}: compress chooses on valid and judges on test, both as "
            "they are: leave the option out"
        )
    task = datasets.card(request.data).task
    served = [name for name in methods.names() if task in methods.served(name)]
    known = [name for name in served if methods.heads(name, task)]
    method = request.method or next((name for name in PROBES if name in known), "")
    if not method:
        raise UserError(f"{request.data.short} asks {task}, of which no method makes variants")
    if method not in known:
        raise unknown("--method", "method", method, known, f"that makes variants for {task}")
    for name in request.variants:
        if name not in variants.VARIANTS:
            raise unknown("--variant", "variant", name, variants.VARIANTS)
    card, reads = models.card(request.model), datasets.card(request.data).modality
    if card.modality != reads:
        raise UserError(
            f"{request.model.short} reads {card.modality}, {request.data.short} holds {reads}"
        )
    wanted = request.variants or tuple(variants.VARIANTS)
    reasons = {name: variants.unsuited(card, name) for name in wanted}
    left = tuple(name for name in wanted if not reasons[name])
    if not left:
        raise UserError("; ".join(reasons.values()))
    return dataclasses.replace(request, method=method, variants=left)


def compress(request: CompressRequest, say: Say = lambda line: None) -> Compression:
    """Try, choose and judge. Raises UserError where the original itself cannot be judged."""
    request = checked(request)
    asked = judged.plain(request.data).with_options(**{judged.OPTION: "valid"})
    named = [request.model.with_options(variant=name) for name in request.variants]
    spec = _suite(request, CHOICE, asked, named, methods.HEADS)
    with contextlib.suppress(_BudgetEnded):
        _run(spec, request.out / CHOICE, request.device, _Watch(say, request.budget))
    choice = _table(request, request.out / CHOICE)
    original = choice.rows[0]
    if original.status != "ok":
        raise UserError(f"{request.model.short}: {original.status}: {original.why}")
    refused = {row.name: why for row in choice.rows[1:] if (why := refusal(row, request))}
    admitted = [row for row in choice.rows[1:] if row.name not in refused]
    tried = {row.variant for row in choice.rows}
    untried = tuple(name for name in request.variants if name not in tried)
    found = Compression(request, request.method, choice, refused, untried)
    if not admitted:
        return found
    pick = min(admitted, key=lambda row: _order(row, request))
    say(f"{pick.name}: judged on test, once")
    # Records leave out where a model's files lie.
    picked = request.model.with_options(variant=pick.variant)
    final = _suite(request, TEST, request.data, [picked], (pick.head,))
    # What another choice picked before lies in a folder of its own.
    where = request.out / TEST / file_name(pick.name)
    _run(final, where, request.device, lambda plan, event: None)
    return dataclasses.replace(found, pick=pick, test=_table(request, where), judged_in=where)


class _BudgetEnded(Exception):
    """No time is left to begin another variant."""


@dataclass(frozen=True)
class _Watch:
    """Says what has been tried; raises _BudgetEnded once the original and the time are over."""

    say: Say
    budget: float
    began: float = field(default_factory=time.monotonic)

    def __call__(self, plan: session.Plan, event: Event) -> None:
        if not isinstance(event, Finished):
            return
        record, spent = event.result.record, time.monotonic() - self.began
        name = variants.name_of(record.cell.model) or "original"
        head = f", head {record.cell.params['head']}" if "head" in record.cell.params else ""
        why = "" if record.status == "ok" else f": {(record.error or {}).get('message', '')}"
        self.say(f"[{spent:.0f} s of {self.budget:.0f} s] {name}{head}: {record.status}{why}")
        of_original = any(variants.name_of(cell.model) == "" for cell in plan.todo)
        if spent > self.budget and plan.todo and not of_original:
            raise _BudgetEnded


def _suite(
    request: CompressRequest, stage: str, data: Ref, named: Sequence[Ref], heads: tuple[str, ...]
) -> suite.Suite:
    task = datasets.card(data).task
    params = methods.params_of(methods.build(request.method, {}, task=task))
    spec = suite.MethodSpec(request.method, params, heads=heads)
    trains = methods.seeded(request.method, task)
    return suite.Suite(
        f"compress-{stage}", "written by compress", (request.model, *named), (data,), (spec,), (),
        seeds=tuple(range(3 if trains else 1)), precision="fp32",
        limits=suite.SuiteLimits(cost_seconds=request.cost_seconds),
    )  # fmt: skip


def _run(
    spec: suite.Suite, out: Path, device: str, watch: Callable[[session.Plan, Event], None]
) -> None:
    """What is not there yet, the original first; what failed by chance is tried again."""
    retry = tuple(status for status in STATUSES if status not in ("ok", "unsupported"))
    session.execute(spec, session.RunOptions(out, device, retry=retry), watch)


def _table(request: CompressRequest, out: Path) -> VariantTable:
    runs = [store.load(out)]
    gates = Gates(margin=request.margin, min_drop=min(Gates().min_drop, request.margin))
    tables = judge_variants(rank(runs), open_book(runs), gates).tables
    if not tables:
        raise UserError(
            f"the budget of {request.budget:g} s ended before a variant was tried; the original is "
            f"kept in {out}: the same command with a larger --budget goes on"
        )
    return tables[0]


def refusal(row: VariantRow, request: CompressRequest) -> str:
    """Why a row of the choice may not be taken; "" where it may."""
    if row.status != "ok":
        return f"{row.status}: {row.why}"
    limits = (
        ("weights_bytes", request.max_bytes, "larger than the limit"),
        ("latency_ms_p50", request.max_latency_ms, "slower than the limit"),
    )
    for name, most, why in limits:
        if most is not None and row.costs.get(name, float("inf")) > most:
            return why if name in row.costs else f"its {name} is not known"
    finding = row.finding
    if finding is None or finding.change is None:
        return "its quality could not be compared"
    if finding.outcome == "regressed":
        return f"regressed on valid: {finding.why}"
    if finding.outcome == "inconclusive" and finding.change < -(finding.margin or 0.0):
        return f"lost more than the margin on valid: {finding.why}"
    gains = [row.ratios[name] < 1 for name in COSTS if name in row.ratios]
    return "" if not gains or any(gains) else "no smaller and no faster than the original"


def _order(row: VariantRow, request: CompressRequest) -> tuple[bool, float, float, float]:
    """What was proven before what was not; then the fewest bytes, or the least time where only that
    was bounded; of equals the better one on valid."""
    assert row.finding is not None
    proven = row.finding.outcome in ("same", "improved")
    size = row.costs.get("weights_bytes", float("inf"))
    took = row.costs.get("latency_ms_p50", float("inf"))
    timed = request.max_latency_ms is not None and request.max_bytes is None
    first, second = (took, size) if timed else (size, took)
    return not proven, first, -(row.finding.change or 0.0), second
