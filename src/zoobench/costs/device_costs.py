"""The measured half of `zoobench profile`: one model in a process of its own (PROTOCOL section 4).

A fresh process makes three numbers honest: the first load, the memory (nothing else has
filled the heap), and the threads.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoobench.costs import fresh_process
from zoobench.errors import one_line
from zoobench.features.compiled import Compiling
from zoobench.machine import Place
from zoobench.metrics import measured
from zoobench.schema import Measurement, Ref

if TYPE_CHECKING:
    from zoobench.interfaces import Backbone

WARM_LOADS = 3
LONGEST = 1800.0
"""Seconds after which the process is given up."""


def device_costs(
    ref: Ref,
    place: Place,
    train_batch: int = 8,
    seconds: float = 10.0,
    compile: bool = False,  # noqa: A002  torch's own word
) -> dict[str, Any]:
    """Latency, throughput, load times, peak memory, training step, energy: ready for JSON.

    `seconds` bounds the search for the best batch; `train_batch` is the training step's.
    Weights that are not on this machine are drawn at random, which changes no time but the
    load's: that is then absent. A training step that fails has its reason in
    `train_error`. With `compile` all but the loads are of the compiled network, what compiling
    cost is `compile_seconds`, and `compile_error` says why that failed. Raises UserError where
    the name is unknown or the process fails.
    """
    from zoobench import models

    ref = models.resolve(ref)
    if not models.available(ref)[0]:
        ref = ref.with_options(weights="random")
    arguments = {
        "ref": str(ref),
        **dataclasses.asdict(place),
        "train_batch": train_batch,
        "seconds": seconds,
        "compile": compile,
    }
    body: dict[str, Any] = fresh_process.call(
        "zoobench.costs.device_costs:costs", arguments, LONGEST
    )
    return body


def costs(
    ref: str,
    device: str,
    precision: str,
    train_batch: int,
    seconds: float,
    compile: bool = False,  # noqa: A002
) -> dict[str, Any]:
    """In the fresh process: `measurements` as dictionaries, `device_name`, `weights`."""
    from zoobench import models
    from zoobench.costs.measured import measured_costs, training_costs
    from zoobench.costs.stopwatch import resident
    from zoobench.machine import device_name

    place, name = Place(device, precision), Ref.parse(ref)
    random = name.option("weights") == "random"
    loads = load_seconds(lambda: models.load(name))
    before = resident()  # the libraries stay, the loaded models are gone
    backbone = models.load(name)
    inference, trains = (Compiling() if compile else None for _ in range(2))
    found = measured_costs(backbone, place, seconds, before, inference)
    if not random:
        found += loads
    body: dict[str, Any] = {"device_name": device_name(device), **dataclasses.asdict(place)}
    body["weights"] = "random" if random else "pretrained"
    try:
        found += training_costs(backbone, place, train_batch, compiling=trains)
    except Exception as error:  # noqa: BLE001 - a training step is more than some models allow
        body["train_error"] = f"batch {train_batch}: {one_line(error)}"
    if inference is not None and trains is not None:
        spent = {"inference": inference.seconds, "training_step": trains.seconds}
        found += (measured("compile_seconds", sum(spent.values()), detail=spent),)
        if inference.failed or trains.failed:
            body["compile_error"] = inference.failed or f"training step: {trains.failed}"
    body["measurements"] = [dataclasses.asdict(one) for one in found]
    return body


def load_seconds(load: Callable[[], Backbone]) -> tuple[Measurement, ...]:
    """load_seconds_cold and load_seconds: the first call of `load`, the median of the next.

    Cold means this process's first load: imports, the file's first reading and whatever
    else comes once. The system's own file cache may hold the weights already.
    """
    taken = []
    for _ in range(1 + WARM_LOADS):
        started = time.perf_counter()
        load()
        taken.append(time.perf_counter() - started)
    samples = {"samples_s": [round(t, 4) for t in taken[1:]]}
    warm = statistics.median(taken[1:])
    return (
        measured("load_seconds_cold", taken[0], n=1),
        measured("load_seconds", warm, n=WARM_LOADS, detail=samples),
    )
