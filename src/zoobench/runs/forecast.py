"""How long cells will take, roughly and at once: no weights, no network, no torch.

Operations counted in advance (results/costs) x examples x what the method does with
each. The guess orders the groups of a run, shares a suite out over shards, and gives
`zoobench plan` its time; there a run's own records correct the scale. It depends on the
suite alone, so that every machine makes the same shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from zoobench import datasets, methods, models, pretraining
from zoobench.costs.known import network
from zoobench.datasets import control
from zoobench.datasets.options import first_classes
from zoobench.datasets.shift import clean, is_shifted
from zoobench.errors import UnknownName
from zoobench.files import expanded
from zoobench.methods.audit import GRADIENTS
from zoobench.models import pretrained_here_
from zoobench.models.sound import SECONDS
from zoobench.models.weights import PRETRAINED_HERE
from zoobench.pretraining.samples import MOST
from zoobench.schema import PRETRAIN, Cell, Modality, Record, Ref

RATE = 5e10
"""Operations a second of one CPU core, as nominal as a number can be."""

LOAD_SECONDS = 1.5
"""Loading a model in a process of its own, nominally; once a model."""

TIMED_SECONDS, TIMED_STEPS, MOST_TIMED = 2.0, 100, 10.0
"""Measuring the costs of a model with its own weights: seconds for any, forward passes of one
example, and the budget of costs/measured.py that ends it."""

UNKNOWN_MACS: dict[Modality, float] = {"image": 4.1e9, "text": 11e9, "audio": 70e9}
"""A ResNet-50, a BERT-base at 128 tokens, a wav2vec 2.0 base at 10 s: the middle of a zoo."""

WINDOWED = ("ast", "clap", "whisper")
"""Families of sound that compute on a whole window, however little of it a clip fills."""

MACS_A_BYTE: dict[Modality, float] = {"image": 40.0, "text": 25.0, "audio": 175.0}
"""Of a file of weights on disk: what the same networks take of each byte of theirs."""

SMALL_MACS = 3e6
"""A small encoder of ours."""

UNKNOWN_SIZE = 5000
"""Examples of a split that no card knows of: a folder, a table."""

SHORT_TEXTS = {
    "packaged/language-id": 9.0, "packaged/word-polarity": 8.0, "packaged/word-valence": 8.0,
}  # fmt: skip
"""Characters of the packaged sets whose texts are single words and names."""

CHARACTERS_A_TOKEN = 4.0
"""Of English prose; single rare words have fewer."""

LONGEST = 512
"""Tokens that an encoder of texts usually reads."""

HEAD_SECONDS = {"linear-probe": 1e-3, "ridge": 3e-4, "knn": 1e-4, "raw-input": 1e-3}
"""Of a method on features, an example; any other: `OTHER_HEAD_SECONDS`."""

OTHER_HEAD_SECONDS = 2e-4

SHADOWS_SECONDS = 1.5e-2
"""Of the shadow probes, an example: about fifteen of the probe itself."""

EXPLAINED, TILE, PATH, STEPS = 16, 16, 32, 16
"""As in methods/explain.py and solvers/explanation.py, which load torch."""

TEXT_PARTS = 20
"""Words of a text that is explained."""

STEPS_SECONDS = {
    "detection": {"linear-probe": 1e-3, "raw-input": 1e-3},
    "speech-recognition": {"linear-probe": 4.5e-3, "raw-input": 1.5e-3},
}  # fmt: skip
"""Of a probe that is trained in steps, as many whatever the data: an example of a batch, at one
rate. Of speech one of five seconds, whose linear probe is trained on three layers."""

DETECTOR_MACS = {"faster-rcnn": 24e9, "retinanet": 18e9, "fcos": 16.5e9}
"""Of a detector that is trained on a backbone's maps, a frame of 320 x 320 pixels: most of it."""


def seconds(cells: Sequence[Cell]) -> list[float]:
    """Nominal seconds of each cell, in order: the first to need features pays for them."""
    known: set[tuple[object, ...]] = set()
    return [_cell_seconds(cell, known) for cell in cells]


def rate(spent: float, ended: Sequence[float], left: Sequence[float]) -> float:
    """Seconds a nominal second of the cells that are `left`, where those that have `ended` took
    `spent`; both in nominal seconds, one a cell.

    What a quick cell takes is mostly starting, and says little of long ones: as many seconds as
    the mean cell that is left is longer than the mean one that ended are taken to be nominal.
    """
    longer = max(0.0, sum(left) / len(left) - sum(ended) / len(ended)) if left else 0.0
    return (spent + longer) / (sum(ended) + longer)


def scale(cells: Sequence[Cell], done: Mapping[str, Record]) -> float | None:
    """The `rate` of this machine, from the ok records; None without any."""
    spent, ended, left = 0.0, [], []
    for cell, guess in zip(cells, seconds(cells), strict=True):
        record = done.get(cell.key)
        if record is not None and record.status == "ok":
            ended.append(guess)
            spent += record.seconds
        elif record is None:
            left.append(guess)
    return rate(spent, ended, left) if sum(ended) else None


def shorter(cells: Sequence[Cell], seconds: Sequence[float]) -> str:
    """Where most of the time goes, and which options would save it; `seconds` is one a cell."""
    models: dict[str, float] = {}
    data: dict[str, float] = {}
    for cell, each in zip(cells, seconds, strict=True):
        models[cell.model.id] = models.get(cell.model.id, 0.0) + each
        data[cell.dataset.id] = data.get(cell.dataset.id, 0.0) + each
    model, dataset = max(models, key=models.__getitem__), max(data, key=data.__getitem__)
    total = sum(seconds)
    return (
        f"Shorter by: --only model=GLOB ({model} takes {models[model] / total:.0%} of the time), "
        f"max_train ({dataset} takes {data[dataset] / total:.0%}), more --workers, or --shard on "
        "more machines"
    )


def longest_first(groups: Iterable[Sequence[Cell]]) -> list[Sequence[Cell]]:
    """Groups by falling cost, so that the workers end together; equal ones as they stand."""
    return sorted(groups, key=lambda group: -sum(seconds(group)))


def shares(groups: Sequence[Sequence[Cell]], n: int) -> list[list[Cell]]:
    """`n` shares of about equal cost, whole groups each (Graham 1969: longest first, least loaded).

    At least one group a share is the caller's to check.
    """
    found: list[list[Cell]] = [[] for _ in range(n)]
    load = [0.0] * n
    for group in longest_first(groups):
        least = load.index(min(load))
        found[least] += group
        load[least] += sum(seconds(group))
    return found


def _cell_seconds(cell: Cell, known: set[tuple[object, ...]]) -> float:
    if cell.method == PRETRAIN:
        return LOAD_SECONDS + _pretraining(cell)
    train, valid, test, forward, needs = _facts(cell.model, cell.dataset, cell.method)
    if cell.shots is not None:
        train, valid = (min(n, cell.shots * _classes(cell.dataset)) for n in (train, valid))
    spent = 0.0
    if needs != "nothing" and (cell.model,) not in known:
        known.add((cell.model,))
        spent += LOAD_SECONDS + _timing(cell.model)
    spent += _audits(cell, train + valid + test, forward, needs)
    if needs == "module":
        forward += _detector(cell.params)
        return spent + _training(cell.params, valid, test) * forward / RATE
    if needs == "features":
        # A few-shot draw has train and valid examples of its own; test is shared.
        # A control's part of the data is part of what its whole has computed.
        drawn = (cell.model, cell.dataset, cell.shots, cell.seed if cell.shots else None)
        parts = {drawn, (cell.model, control.whole(cell.dataset), None, None)}
        fresh = 0 if parts & known else train + valid
        tests = {(cell.model, cell.dataset), (cell.model, control.whole(cell.dataset))}
        fresh += 0 if tests & known else test
        known |= {drawn, (cell.model, cell.dataset)}
        spent += fresh * forward / RATE
    head = HEAD_SECONDS.get(cell.method, OTHER_HEAD_SECONDS)
    step = STEPS_SECONDS.get(datasets.card(cell.dataset).task, {}).get(cell.method, 0.0)
    if step:  # a control of boxes has the probe's own budget
        step *= _seen(cell.params, 16) * len(cell.params.get("rates", (1e-3, 3e-3, 1e-2)))
    return spent + step + head * (train + valid + test)


def _timing(model: Ref) -> float:
    """Seconds of measuring its costs; random weights have those of the model itself."""
    if model.source == "control" or model.option("weights") == "random":
        return 0.0
    return min(TIMED_SECONDS + TIMED_STEPS * 2 * macs(model) / RATE, MOST_TIMED)


def _audits(cell: Cell, examples: int, forward: float, needs: str) -> float:
    """Of the options `explain` and `membership`, by PROTOCOL section 8; of a few shots and of
    shifted copies nothing is asked."""
    if cell.shots is not None or is_shifted(cell.dataset):
        return 0.0
    spent = 0.0
    if how := cell.params.get("explain"):
        picture = models.card(cell.model).modality == "image"
        parts = (_side(cell.model, 224) // TILE) ** 2 if picture else TEXT_PARTS
        maps = 3 * PATH if how == GRADIENTS and picture else parts + 1
        spent += EXPLAINED * (2 * maps + 4 * 2 * (min(STEPS, parts) + 1)) * forward / RATE
    if cell.params.get("membership"):
        references = 2 * (3 * _seen(cell.params, 64) + examples) * forward / RATE
        spent += references if needs == "module" else SHADOWS_SECONDS * examples
    return spent


def _seen(params: Mapping[str, Any], batch_size: int) -> float:
    """Examples of all batches of one training of `params`."""
    return float(params.get("steps", 500)) * float(params.get("batch_size", batch_size))


def _training(params: Mapping[str, Any], valid: int, test: int) -> float:
    """Forward passes that a training of `params` is worth: a backward counts as two."""
    runs = len(params.get("rates", ())) or 1
    return runs * (3 * _seen(params, 64) + valid) + test


def _pretraining(cell: Cell) -> float:
    """Of all rates; the layers beside the encoder cost about as much as it does."""
    objective = pretraining.objective(str(cell.params["objective"]))
    seen = float(cell.params["steps"]) * float(cell.params["batch"])
    runs = len(cell.params["rates"]) * objective.views
    samples = cell.params.get(pretraining.SAMPLES_MODEL)
    judging = 3 * MOST * 2 * macs(Ref.parse(str(samples))) / RATE if samples else 0.0
    return runs * 2 * 3 * seen * 2 * macs(cell.model) / RATE + judging


def _detector(params: Mapping[str, Any]) -> float:
    """Operations of a new detector's forward pass; 0 for what trains none."""
    macs = DETECTOR_MACS.get(str(params.get("head")), 0.0)
    return 2 * macs * (float(params.get("size", 0)) / 320) ** 2


@lru_cache(maxsize=4096)
def _facts(model: Ref, dataset: Ref, method: str) -> tuple[int, int, int, float, str]:
    """(train, valid, test) sizes, operations of one forward pass, and what the method needs."""
    sizes = _sizes(dataset)
    if methods.untouched(method):
        sizes[0] = 0  # it learns nothing
    needs = methods.method_class(method).needs
    forward = 0.0 if needs == "nothing" else 2 * macs(model) * _length(model, dataset)
    return sizes[0], sizes[1], sizes[2], forward, needs


def _sizes(ref: Ref) -> list[int]:
    """Examples of train, valid and test: as many as resolving it found, else its card's; a share of
    train where there is no official split."""
    whole = control.whole(clean(ref))
    most = control.bounds() if control.on_part(ref) else (2**62,) * 3
    sizes: tuple[int, ...] | None = control.sizes(whole, datasets.card(ref))
    if sizes is None:
        guessed = (UNKNOWN_SIZE, UNKNOWN_SIZE // 10, UNKNOWN_SIZE // 5)
        asked = (whole.option(f"max_{name}", 2**62) for name in ("train", "valid", "test"))
        sizes = tuple(min(n, int(bound)) for n, bound in zip(guessed, asked, strict=True))
    return [min(n, bound) for n, bound in zip(sizes, most, strict=True)]


def _length(model: Ref, dataset: Ref) -> float:
    """Tokens of a text over those that `macs` counts: batches are no longer than their texts."""
    row = network(model.source, model.name.partition(".")[0])
    whole = control.whole(clean(dataset))
    characters = control.characters(whole) or SHORT_TEXTS.get(f"{whole.source}/{whole.name}")
    if row is None or len(row.shape) != 2 or not characters:
        return 1.0
    counted = int(model.option("length", row.shape[-1]))
    longest = counted if model.option("length") else LONGEST
    return min(characters / CHARACTERS_A_TOKEN + 2, longest) / counted


@lru_cache(maxsize=1024)
def _classes(dataset: Ref) -> int:
    return first_classes(dataset) or datasets.card(dataset).classes or 10


def _side(ref: Ref, counted: int) -> int:
    """Pixels of a picture's side: as asked for, else the weights' own, else as `counted`."""
    if side := ref.option("input_size"):
        return int(side)
    try:
        return int(dict(models.card(ref).extra).get("input_size", counted))
    except UnknownName:  # weights of another version of their library
        return counted


@lru_cache(maxsize=4096)
def macs(ref: Ref) -> float:
    """Multiply-accumulates of one forward pass at the size that `ref` asks for, or its weights do.

    From the tables where they hold the network, else a middling network's. A table has a
    network at one size: another is taken in proportion to its pixels, which are a
    convolution's positions and a transformer's tokens (whose attention grows faster; it is
    the smaller part).
    """
    if ref.source == "synthetic":
        return 1e6
    if ref.source == PRETRAINED_HERE:
        made_of = pretrained_here_.architecture(ref)
        return SMALL_MACS if "/" not in made_of else macs(Ref.parse(made_of))
    name = ref.name.partition(".")[0]
    # A complete model that ships in a package is mostly the backbone of the same name.
    row = network(ref.source, name) or network("packaged", name)
    if row is None:
        return (_of_file(ref) or UNKNOWN_MACS[models.card(ref).modality]) * _heard(ref)
    if not row.macs:
        return 1.0
    length, shape = ref.option("length"), row.shape
    if len(shape) == 4:
        return row.macs * (_side(ref, shape[-1]) / shape[-1]) ** 2
    if length and len(shape) == 2:
        return row.macs * int(length) / shape[-1]
    return row.macs


def _heard(ref: Ref) -> float:
    """What is read of a clip as a share of SECONDS; 1 of what is no sound, and where a network
    computes on a whole window."""
    if models.card(ref).family in WINDOWED:
        return 1.0
    return float(ref.option("seconds", SECONDS)) / SECONDS


def _of_file(ref: Ref) -> float:
    """Operations that the size of a local file, or of a folder's largest, lets guess; else 0."""
    if (given := ref.option("path")) is None:
        return 0.0
    path = expanded(str(given))
    files = path.rglob("*") if path.is_dir() else [path]
    largest = max((file.stat().st_size for file in files if file.is_file()), default=0)
    return largest * MACS_A_BYTE[models.card(ref).modality]
