"""A suite file, checked and resolved: TOML -> Suite -> cells.

Every mistake of the user is found here, before anything is downloaded or
computed: unknown names, keys and parameters, unusable folders and tables.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from zoobench import datasets, methods, models
from zoobench.errors import UserError, check_finite, unknown
from zoobench.files import read_toml
from zoobench.quantities import SIZE, TIME
from zoobench.refs import SCALARS
from zoobench.runs import pretraining, suite_checks
from zoobench.runs.pretraining import Pretraining, PretrainRow
from zoobench.schema import Ref, Value, digest

CONTROLS = ("chance", "majority", "mean", "raw-input", "oracle", "random-weights")
"""PROTOCOL section 2; on in every suite unless switched off, each where it serves the task."""

BUILTIN = (
    "smoke", "smoke-dense", "smoke-words", "demo", "vision", "dense", "text", "words", "shift",
    "trust", "gpu", "smoke-sound", "sound", "zero-shot", "pretraining",
)  # fmt: skip

Precision = Literal["auto", "fp32", "bf16"]


MOST_DRAWS = 10_000
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every library takes: numpy refuses more, and less than 0."""
Shots = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, BeforeValidator(TIME.in_files())]
Gigabytes = Annotated[float, BeforeValidator(SIZE.in_files("gb"))]


class SuiteLimits(BaseModel):
    """Per cell: seconds before it is stopped, and gigabytes of memory of its worker.

    Plain numbers, or text with a unit: "1h", "16GB".

    `silent_seconds`: how long a worker may show no sign of life; `cost_seconds`: how long to
    measure each model's latency, throughput and memory, 0 for not at all (docs/engines.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    cell_seconds: Seconds = Field(default=3600, gt=0)
    memory_gb: Gigabytes | None = Field(default=None, gt=0)
    silent_seconds: Seconds = Field(default=120, gt=0)
    cost_seconds: Seconds = Field(default=3, ge=0)


class SuiteFile(BaseModel):
    """The shape of a suite file. `models`, `datasets` and `methods` take names or tables."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    models: list[str | dict[str, Any]] = []
    pretrain: list[PretrainRow] = []
    datasets: list[str | dict[str, Any]] = Field(min_length=1)
    methods: list[str | dict[str, Any]] = Field(min_length=1)
    controls: bool | list[str] = True
    seeds: list[Seed] | None = Field(default=None, min_length=1)
    shots: list[Shots] = Field(default=[])
    draws: int = Field(default=5, ge=1, le=MOST_DRAWS)
    all_data: bool = False
    precision: Precision = "auto"
    compile: bool = False
    limits: SuiteLimits = SuiteLimits()
    identity: str = ""
    pins: dict[str, str] = {}


@dataclass(frozen=True)
class MethodSpec:
    """A method of a suite, its parameters complete, and the cells it is meant for.

    `only` has globs of model, dataset and task; `heads` are those that variants of models are
    given, all that the method has where it is empty.
    """

    name: str
    params: Mapping[str, Any]
    only: Mapping[str, str] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    def asks(self, task: str) -> bool:
        return fnmatch.fnmatchcase(task, self.only.get("task", "*"))

    def wants(self, model: Ref, dataset: Ref) -> bool:
        return (
            self.asks(datasets.card(dataset).task)
            and matches(model, self.only.get("model", "*"))
            and matches(dataset, self.only.get("dataset", "*"))
        )


@dataclass(frozen=True)
class Suite:
    """What to run, with every name resolved. `shots` empty means all of the data, which with
    `all_data` are asked beside them; the models that
    `pretrain` makes stand among `models`, behind those that are named."""

    name: str
    description: str
    models: tuple[Ref, ...]
    datasets: tuple[Ref, ...]
    methods: tuple[MethodSpec, ...]
    controls: tuple[str, ...] = CONTROLS
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = ()
    draws: int = 5
    precision: Precision = "auto"
    compile: bool = False
    limits: SuiteLimits = field(default_factory=SuiteLimits)
    pretrain: tuple[Pretraining, ...] = ()
    all_data: bool = False

    @property
    def identity(self) -> str:
        """Hash of what is asked. Limits and hub revisions that were pinned later are not in it."""
        # These came later: a suite that asks for classes is the one that it was.
        controls = tuple(name for name in self.controls if name not in ("mean", "oracle"))
        judges = [one.samples_model and str(one.samples_model.at("")) for one in self.pretrain]
        return digest(
            {
                "name": self.name,
                "models": [str(ref.located.at("")) for ref in self.models],
                "datasets": [
                    str(ref.located.at("") if datasets.on_hub(ref) else ref.located)
                    for ref in self.datasets
                ],
                "methods": [
                    [m.name, dict(m.params), dict(m.only), *([m.heads] if m.heads else [])]
                    for m in self.methods
                ],
                "rest": [controls, self.seeds, self.shots, self.draws, self.precision],
                **({"compile": True} if self.compile else {}),
                **({"all_data": True} if self.all_data else {}),
                **({"pretrain": [one.model for one in self.pretrain]} if self.pretrain else {}),
                **({"samples": judges} if any(judges) else {}),
            }
        )


def matches(ref: Ref, pattern: str) -> bool:
    """Whether a glob matches source/name (options and all), or the name alone; case aside."""
    folded = pattern.casefold()
    texts = (ref.short, ref.id, ref.name)
    return any(fnmatch.fnmatchcase(text.casefold(), folded) for text in texts)


def builtin_path(name: str) -> Path:
    """Where a built-in suite lies: inside the installed package, or benchmarks/ of a checkout."""
    packed = Path(__file__).parents[1] / "suites" / f"{name}.toml"
    return packed if packed.exists() else Path(__file__).parents[3] / "benchmarks" / f"{name}.toml"


def locate(name: str) -> Path:
    """The file of a built-in suite's name or of a path. Raises UserError."""
    if name in BUILTIN:
        return builtin_path(name)
    path = Path(name)
    if path.is_dir() and (path / "suite.toml").exists():
        return path / "suite.toml"
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name:
        raise UserError(f"{name}: no such suite file. Built-in suites: {', '.join(BUILTIN)}.")
    raise unknown("", "suite", name, BUILTIN)


def read(name: str) -> Suite:
    """Resolve a suite file or the name of a built-in suite. Raises UserError."""
    path = locate(name)
    where = name if name not in BUILTIN else f"benchmarks/{name}.toml"
    return resolve(parse(read_toml(path, where), where), where, path.parent)


def parse(body: Mapping[str, Any], where: str) -> SuiteFile:
    """Check the shape of a suite's TOML. Raises UserError naming the key."""
    for key in body:
        if key not in SuiteFile.model_fields:
            raise unknown(where, "key", key, SuiteFile.model_fields.keys() - {"identity", "pins"})
    if not body.get("models") and not body.get("pretrain"):
        raise UserError(f"{where}: models: at least 1 is needed, or a [[pretrain]] that makes one")
    try:
        file = SuiteFile.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden" and first["loc"][0] == "pretrain":
            key, known = str(first["loc"][2]), PretrainRow.model_fields
            raise unknown(f"{where}: {_path(first['loc'][:2])}", "key", key, known) from None
        raise UserError(f"{where}: {_path(first['loc'])}: {first['msg']}") from None
    return file


def _path(location: Sequence[int | str]) -> str:
    """("models", 0, "id") -> "models[0].id"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def resolve(file: SuiteFile, where: str, folder: Path) -> Suite:
    """Look every name up. Relative paths are relative to the suite's own `folder`."""
    model_refs = [
        models.resolve(_ref(entry, f"{where}: models[{i}]", folder), f"{where}: models[{i}]")
        for i, entry in enumerate(file.models)
    ]
    dataset_refs = [
        datasets.resolve(_ref(entry, f"{where}: datasets[{i}]", folder), f"{where}: datasets[{i}]")
        for i, entry in enumerate(file.datasets)
    ]
    made = _pretrained(file, where, folder)
    model_refs += [one.model for one in made]
    asked = list(dict.fromkeys(datasets.card(ref).task for ref in dataset_refs))
    by_entry = [
        _methods(entry, asked, f"{where}: methods[{i}]") for i, entry in enumerate(file.methods)
    ]
    specs = [spec for entry in by_entry for spec in entry]
    suite = Suite(
        name=file.name,
        description=file.description,
        models=tuple(_pinned(ref, file.pins) for ref in dict.fromkeys(model_refs)),
        datasets=tuple(_pinned(ref, file.pins) for ref in dict.fromkeys(dataset_refs)),
        methods=tuple(specs),
        controls=_controls(file.controls, where),
        seeds=tuple(dict.fromkeys(file.seeds or _seeds(specs, asked))),
        shots=tuple(dict.fromkeys(file.shots)),
        draws=file.draws,
        precision=file.precision,
        compile=file.compile,
        limits=file.limits,
        pretrain=made,
        all_data=file.all_data,
    )
    suite_checks.check(suite, [entry[0].name for entry in by_entry], where)
    return suite


def _pretrained(file: SuiteFile, where: str, folder: Path) -> tuple[Pretraining, ...]:
    """The rows `[[pretrain]]`, with their data looked up."""
    pretraining.check_names(file.pretrain, where)
    made = []
    for i, row in enumerate(file.pretrain):
        at = f"{where}: pretrain[{i}]"
        dataset = datasets.resolve(_ref(row.dataset, at, folder), at)
        pinned = _pinned(dataset, file.pins)
        made.append(pretraining.resolve_row(row, pinned, file.precision, at))
    return tuple(made)


def _pinned(ref: Ref, pins: Mapping[str, str]) -> Ref:
    return ref.at(pins[ref.id]) if ref.id in pins else ref


def _ref(entry: str | dict[str, Any], where: str, folder: Path) -> Ref:
    """A Ref from its text, or from a table with `id` and options."""
    if isinstance(entry, str):
        text, options = entry, {}
    else:
        options = dict(entry)
        text = options.pop("id", "")
        if not isinstance(text, str) or not text:
            raise UserError(f'{where}: a table needs an `id` such as "timm/resnet18"')
    try:
        named = Ref.parse(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    ref = named.with_options(**{k: _value(v, k, where) for k, v in options.items()})
    paths = {k: _absolute(v, folder, f"{where}: {k}") for k, v in ref.options if _is_path(k, v)}
    return ref.with_options(**paths)


def _is_path(option: str, value: Value) -> bool:
    return option in ("path", "configuration") or (
        option == "weights" and value not in ("random", "pretrained")
    )


def _absolute(value: Value, folder: Path, where: str) -> str:
    """Raises UserError for what is no path: of a home that is nobody's, with a null, too long."""
    # Path.resolve raises for a ring of links, of which the dataset says in words what it is.
    try:
        return os.path.realpath(folder / Path(str(value)).expanduser())
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {error}") from error


def _value(value: Any, option: str, where: str) -> Value:
    if isinstance(value, (list, tuple)) and all(isinstance(one, SCALARS) for one in value):
        check_finite(f"{where}: {option}", value)
        return tuple(value)
    if isinstance(value, Path):  # of a suite that was written in Python
        return str(value)
    if isinstance(value, SCALARS):
        check_finite(f"{where}: {option}", value)
        return value
    raise UserError(f"{where}: {option}: expected text, a number or a list, got {value!r}")


def _methods(
    entry: str | dict[str, Any], asked: Sequence[str], where: str
) -> tuple[MethodSpec, ...]:
    """One method, or one for each of the tasks `asked` where its classes differ: their parameters
    do, too."""
    heads: Any = ()
    if isinstance(entry, str):
        name, params, only = entry, {}, {}
    else:
        params = dict(entry)
        name, only = params.pop("name", ""), params.pop("only", {})
        heads = params.pop("heads", ())
        if not isinstance(name, str) or not name:
            raise UserError(f'{where}: a table needs a `name` such as "linear-probe"')
    if not isinstance(only, dict) or any(not isinstance(v, str) for v in only.values()):
        raise UserError(f'{where}: only: expected a table such as {{ model = "*lite0" }}')
    for key in only:
        if key not in ("model", "dataset", "task"):
            raise unknown(where, "key", key, ("model", "dataset", "task"), "of only")
    if not isinstance(heads, (list, tuple)):
        raise UserError(f'{where}: heads: expected a list such as ["carried"]')
    for head in heads:
        if head not in methods.HEADS:
            raise unknown(f"{where}: heads", "head", str(head), methods.HEADS)
    wanted = MethodSpec(name, params, only)
    tasks = [t for t in asked if t in methods.served(name, where) and wanted.asks(t)] or [""]
    classes = {methods.method_class(name, where, task) for task in tasks}
    had = {head for task in tasks for head in methods.heads(name, task)}
    if heads and not had & set(heads):
        gives = f"the head {', '.join(sorted(had))} alone" if had else "no head"
        raise UserError(f"{where}: heads: {name} has {gives} for variants, not {', '.join(heads)}")
    return tuple(
        MethodSpec(
            name,
            methods.params_of(methods.build(name, params, where, task)),
            {**only, "task": task} if len(classes) > 1 else only,
            tuple(heads),
        )
        for task in (tasks if len(classes) > 1 else tasks[:1])
    )


def _controls(chosen: bool | list[str], where: str) -> tuple[str, ...]:
    if isinstance(chosen, bool):
        return CONTROLS if chosen else ()
    for name in chosen:
        if name not in CONTROLS:
            raise unknown(f"{where}: controls", "control", name, CONTROLS)
    return tuple(chosen)


def _seeds(specs: Sequence[MethodSpec], asked: Sequence[str]) -> Sequence[int]:
    """Where the suite says none: three where a method trains, since of one run nobody can say what
    was luck; one where nothing is drawn."""
    trains = any(
        methods.seeded(spec.name, task)
        for spec in specs
        for task in asked
        if spec.asks(task) and task in methods.served(spec.name)
    )
    return range(3) if trains else (0,)
