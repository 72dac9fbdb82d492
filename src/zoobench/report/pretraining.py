"""What a run says of the encoders that it pretrained, as tables that every output shows alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zoobench.metrics import difference, fraction
from zoobench.quantities import duration
from zoobench.ranking.nouns import Bought, Lead, MadeEncoder
from zoobench.ranking.pretrained import FLOOR, OVER, SAMPLED
from zoobench.report.line_charts import ChartPoint, LineChart
from zoobench.report.parts import TransferTable
from zoobench.report.text import dataset_labels, labels, row_score, si, with_interval
from zoobench.schema import Ref

SEEN = "seen in pretraining"
TITLES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "bits_per_dim": "bits/dim",
    "masked_lm_loss": "MLM",
    "pseudo_bits_per_byte": "pseudo bits/byte",
}
SAMPLE_TITLES = {
    "kid": "KID", "fid": "FID", "sample_precision": "precision (%)", "sample_recall": "recall (%)",
}  # fmt: skip


def pretraining_tables(
    made: Sequence[MadeEncoder], gains: Sequence[Bought]
) -> list[TransferTable]:  # fmt: skip
    """The tables that there is something for."""
    tables = [costs(made), learned(made)] if made else []
    tables += [sampled(drawn)] if (drawn := [one for one in made if "kid" in one.numbers]) else []
    tables += [beaten(gains)] if gains else []
    return tables + [table for over in OVER if (table := at_each(gains, over))]


def costs(made: Sequence[MadeEncoder]) -> TransferTable:
    """What each training took, and what its objective says of test examples."""
    names = labels(one.model for one in made)
    energy = any("pretraining_joules" in one.numbers for one in made)
    own = [name for name in TITLES if any(name in one.numbers for one in made)]
    rows = tuple(
        (
            names[one.model],
            one.objective,
            ", ".join(f"{rate:g}" for rate in one.rates),
            si(one.numbers["examples_seen"][0]),
            si(one.numbers["pretraining_macs"][0]),
            *(_number(one, name) for name in own),
            duration(one.numbers["pretraining_seconds"][0]),
            *([_joules(one)] if energy else []),
            f"{one.numbers['train_memory_bytes'][0] / 1e6:.3g} MB",
        )
        for one in made
    )
    about = (
        "One training at one rate; seconds are of all rates. Rates are chosen by kNN on valid, one "
        "a seed. All saw as many examples; their multiply-accumulates (MACs) differ."
    )
    if own:
        about += " What was rebuilt is judged on test, with 95% intervals over pictures and seeds."
    return TransferTable(
        "pretrained",
        "How the encoders were pretrained",
        about,
        ("model", "objective", "rate", "examples", "MACs", *(TITLES[name] for name in own),
         "seconds", *(["energy"] if energy else []), "memory"),
        rows,
        spare=("objective", "seconds", "energy", "memory"),
    )  # fmt: skip


def _number(one: MadeEncoder, name: str) -> str:
    return with_interval(name, *one.numbers[name]) if name in one.numbers else ""


def _joules(one: MadeEncoder) -> str:
    known = one.numbers.get("pretraining_joules")
    return "" if known is None else f"{si(known[0])} J"


def sampled(made: Sequence[MadeEncoder]) -> TransferTable:
    """What was generated beside real pictures, and the floor of each number, a line each."""
    names = labels(one.model for one in made)
    known = [name for name in SAMPLED if any(name in one.numbers for one in made)]
    rows = [
        (who, *(_number(one, name + end) for name in known))
        for one in made
        for who, end in ((names[one.model], ""), (f"{names[one.model]}: real, the floor", FLOOR))
    ]
    judges = ", ".join(dict.fromkeys(one.judge for one in made))
    about = (
        f"In the features of {judges}, beside real pictures of test. The floor is what as many "
        "real pictures of train have. KID is 0 on average where nothing tells two sets apart, and "
        "may be below 0; 95% intervals are over pictures, of samples over seeds too. "
    )
    told = [names[one.model] for one in made if (one.numbers["kid"][1] or 0) > 0]
    about += f"Told from real pictures: {', '.join(told) or 'none'}."
    if "fid" not in known:
        about += " There are too few pictures for FID, which needs ten a feature."
    return TransferTable(
        "samples", "Generated pictures beside real ones", about,
        ("model", *(SAMPLE_TITLES[name] for name in known)), tuple(rows),
    )  # fmt: skip


def learned(made: Sequence[MadeEncoder]) -> TransferTable:
    """kNN on valid along the training, and at equal MACs."""
    names = labels(one.model for one in made)
    points = sorted({point[0] for one in made for point in one.curve})
    spent = [one.curve[-1][1] for one in made if one.curve[-1][1] > 0]
    rows = []
    for one in made:
        known = {point[0]: point for point in one.curve}
        cells = [_range(known[at]) if at in known else "" for at in points]
        rows.append(
            (names[one.model], *cells, "" if one.equal is None else f"{100 * one.equal:.1f}")
        )
    budget = f"at {si(min(spent))} MACs" if spent else "at equal MACs"
    return TransferTable(
        "learned",
        "Quality against examples seen",
        "Accuracy (%) of kNN on valid after so many examples, at the chosen rate: the mean over "
        "seeds, and where they differ the least and the greatest. The last column compares at "
        "equal MACs, those of the cheapest training, between the points in proportion.",
        ("model", *(f"{si(at) or '0'}" for at in points), budget),
        tuple(rows),
        charts=tuple(
            LineChart(
                f"kNN on valid against {what}", what, "accuracy (%), least to greatest seed",
                tuple(
                    ChartPoint(names[one.model], point[i], *(100 * v for v in point[2:]))
                    for one in sorted(made, key=lambda one: (not one.curve[-1][1], one.model))
                    for point in one.curve
                ),
            )
            for i, what in enumerate(("examples seen", "MACs of the training"))
        ),
    )  # fmt: skip


def _range(point: tuple[float, float, float, float, float]) -> str:
    mean, low, high = (f"{100 * value:.1f}" for value in point[2:])
    return mean if low == high else f"{mean} ({low}-{high})"


def beaten(gains: Sequence[Bought]) -> TransferTable:
    """Every model, method and dataset against both controls, on all of the data."""
    names, on = labels(one.model for one in gains), dataset_labels(one.dataset for one in gains)
    whole = [one for one in gains if None in one.leads]
    by = {(one.model, one.dataset, one.method, one.over): one for one in whole}
    rows = []
    for model, dataset, method in dict.fromkeys((g.model, g.dataset, g.method) for g in whole):
        both = [by.get((model, dataset, method, over)) for over in OVER]
        one = next(g for g in both if g is not None)
        score = "" if one.score is None else row_score(one.metric, one.score)
        leads = [lead_text(g.metric, g.leads[None]) if g else "" for g in both]
        verdict = ", ".join(f"beats {g.over}" for g in both if g is not None and g.beats)
        rows.append((names[model], method, _on(one, on[dataset]), score, *leads, verdict or "-"))
    return TransferTable(
        "beaten",
        "Does pretraining beat random features and raw input?",
        said(whole, names, on),
        ("model", "method", "on", "score", *(f"over {over} [95%]" for over in OVER), "verdict"),
        tuple(rows),
        ("method", "on"),
        ("verdict",),
    )


def said(whole: Sequence[Bought], names: Mapping[Ref, str], on: Mapping[Ref, str]) -> str:
    """The verdicts in words, and what they are by."""
    text = (
        "On all of the data, against the same encoder untrained and a probe of raw input, on the "
        "same test examples; intervals are over these and the seeds. A lead counts where it is "
        "above 0 by Holm's correction over the models and datasets of a method."
    )
    for over in OVER:
        for method in dict.fromkeys(one.method for one in whole):
            mine = [one for one in whole if (one.over, one.method) == (over, method)]
            if mine:
                text += f" Beats {over} by {method}: {_who(mine, True, names, on) or 'nothing'}"
                rest = _who(mine, False, names, on)
                text += f"; not shown to: {rest}." if rest else "."
    return text


def _who(
    mine: Sequence[Bought], beats: bool, names: Mapping[Ref, str], on: Mapping[Ref, str]
) -> str:  # fmt: skip
    """The models of whom that holds, and on which data."""
    found: dict[str, list[str]] = {}
    for one in mine:
        if bool(one.beats) == beats:
            found.setdefault(names[one.model], []).append(on[one.dataset])
    return ", ".join(f"{name} (on {' and '.join(data)})" for name, data in found.items())


def at_each(gains: Sequence[Bought], over: str) -> TransferTable | None:
    """The leads at each number of labels; None where a run has one number of them alone."""
    mine = [one for one in gains if one.over == over]
    ks = sorted({k for one in mine for k in one.leads if k is not None})
    if not ks:
        return None
    names, on = labels(one.model for one in mine), dataset_labels(one.dataset for one in mine)
    columns: list[int | None] = [*ks, *([None] if any(None in one.leads for one in mine) else [])]
    rows = tuple(
        (
            names[one.model],
            one.method,
            _on(one, on[one.dataset]),
            *(lead_text(one.metric, one.leads[k]) if k in one.leads else "" for k in columns),
        )
        for one in mine
    )
    return TransferTable(
        "bought-" + over.replace(" ", "-"),
        f"What pretraining bought over {over}",
        f"The score with k labels a class minus that of {over}, of a fraction in points, with 95% "
        "intervals over test examples, draws of labels and encoders; not corrected for their "
        "number.",
        ("model", "method", "on", *("all" if k is None else f"k={k}" for k in columns)),
        rows,
        ("method", "on"),
        charts=tuple(_bought_charts(mine, over, columns)),
    )


def _bought_charts(
    mine: Sequence[Bought], over: str, columns: Sequence[int | None]
) -> Iterator[LineChart]:
    """A chart a method and dataset: the leads of each model at each number of labels."""
    names, on = labels(one.model for one in mine), dataset_labels(one.dataset for one in mine)
    ticks = {k: "all" if k is None else str(k) for k in columns}
    for method, dataset in dict.fromkeys((one.method, one.dataset) for one in mine):
        some = [one for one in mine if (one.method, one.dataset) == (method, dataset)]
        some.sort(key=lambda one: one.model)  # so that a model has one colour in all charts
        scale = 100 if fraction(some[0].metric) else 1
        points = tuple(
            ChartPoint(names[one.model], ticks[k], *_scaled(one.leads[k], scale))
            for one in some
            for k in columns
            if k in one.leads
        )
        unit = "points" if scale == 100 else some[0].metric
        yield LineChart(
            f"{method} on {_on(some[0], on[dataset])}", "labels a class",
            f"lead over {over}, {unit}, 95%", points, tuple(ticks.values()), zero=True,
        )  # fmt: skip


def _scaled(lead: Lead, scale: int) -> tuple[float, float | None, float | None]:
    low, high = (None if end is None else scale * end for end in (lead.low, lead.high))
    return scale * lead.value, low, high


def _on(one: Bought, name: str) -> str:
    return f"{name} ({SEEN})" if one.seen else name


def lead_text(metric: str, lead: Lead) -> str:
    """A lead with its interval, such as +1.2 [0.4, 2.0]; a fraction's in points."""
    values = [v for v in (lead.value, lead.low, lead.high) if v is not None]
    shown = [difference(metric, value).removesuffix(" points") for value in values]
    sign = "+" if lead.value > 0 else ""
    return sign + shown[0] + (f" [{shown[1]}, {shown[2]}]" if shown[1:] else "")
