"""torch.compile as an option: the same numbers, its own time, and never a lost cell."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from cells import cell, write_suite
from devices import DEVICES
from zoobench import datasets, machine, models
from zoobench.cli.main import main
from zoobench.compare.match import Pair, identity
from zoobench.compare.times import differing_times
from zoobench.costs.counted import static_costs
from zoobench.costs.measured import measured_costs, training_costs
from zoobench.errors import UserError
from zoobench.features import compiled
from zoobench.features.cache import FeatureCache
from zoobench.features.compiled import Compiled, Compiling, rows_of
from zoobench.features.extraction import lay_out
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.machine import Place
from zoobench.models.weights import state_digest
from zoobench.ranking.comparability import comparability, cost_key
from zoobench.runs import planning, session, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Record, Ref
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _own_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing and autograd as in every compilation, without the minutes of code generation."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")


@pytest.fixture
def inductor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real compiler, where this machine has what it needs."""
    if shutil.which("g++") is not None:
        monkeypatch.setattr(compiled, "BACKEND", "inductor")
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


def pictures() -> Splits:
    return datasets.load(Ref.parse("synthetic/stripes@1?classes=3&train=30&valid=9&test=12"))


def source(
    name: str, quick: bool, cache: FeatureCache | None = None, rows: int = 0, device: str = "cpu"
) -> Features:
    view = View(f"synthetic/{name}", device, batch_size=rows, compile=quick)
    backbone = models.load(Ref.parse(f"synthetic/{name}@1"))
    lay_out(backbone, device)
    return Features(backbone, view, cache)


def graphs() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def run(
    quick: bool, method: str = "knn", cache: str = "", device: str = "cpu", **params: Any
) -> Record:
    return Bench(Settings(device, 1, cache, measure_costs=False, compile=quick)).run(
        cell(dataset="synthetic/stripes@1?classes=3&train=30&valid=9&test=12",
             method=method, **params)
    ).record  # fmt: skip


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no such kernel\nand more")


@pytest.mark.rare
@pytest.mark.usefixtures("inductor")
def test_compiled_cells_answer_as_plain_ones_and_their_times_stand_apart() -> None:
    plain, quick = run(False), run(True)
    assert (plain.status, quick.status) == ("ok", "ok"), quick.error
    assert "compile-failed" not in quick.flags
    spent, took = quick.value("compile_seconds"), quick.value("extract_seconds")
    assert spent is not None
    assert took is not None
    assert spent > 10 * took > 0  # seconds of compiling against milliseconds of one convolution
    assert plain.value("compile_seconds") is None
    assert quick.value("accuracy") == plain.value("accuracy")
    # One question, one protocol, another machine so to speak.
    assert quick.key == plain.key
    assert comparability(quick) == comparability(plain)
    assert cost_key(quick) == (*cost_key(plain), "compiled")
    pair = Pair(identity(plain.cell), plain, quick)
    old, new = plain.get("extract_seconds"), quick.get("extract_seconds")
    assert old is not None
    assert new is not None
    assert differing_times(pair, old, new) == ["compiled unknown -> true"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.usefixtures("inductor")
def test_compiled_features_are_the_plain_ones(device: str) -> None:
    splits = pictures()
    plain, quick = (source("gabor", c, rows=8 * c, device=device) for c in (False, True))
    before = state_digest(quick.module)
    for split in (splits.train, splits.valid, splits.test):
        expected = plain.features(split)
        assert float((quick.features(split) - expected).abs().max()) < TOLERANCE
    assert not quick.compiling.failed
    assert quick.compiled._ready == {(8, 3, 24, 24)}  # 30 and 9 are no multiples of 8
    # The module is the plain one still: its names, its weights, its count.
    assert state_digest(quick.module) == before == plain.weights
    assert list(quick.module.state_dict()) == ["filters.weight"]
    macs = {m.metric: m.value for m in static_costs(quick.backbone)}
    assert macs == {m.metric: m.value for m in static_costs(plain.backbone)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.usefixtures("inductor")
def test_compiled_training_is_the_plain_one(device: str) -> None:
    recipe: dict[str, Any] = {"steps": 5, "batch_size": 8, "rates": (3e-3,)}
    plain, quick = (run(c, "fine-tune", device=device, **recipe) for c in (False, True))
    assert (plain.status, quick.status) == ("ok", "ok"), quick.error
    assert "compile-failed" not in quick.flags
    nll, spent = quick.value("nll"), quick.value("compile_seconds")
    assert nll == pytest.approx(plain.value("nll"), abs=TOLERANCE)
    trained, total = quick.value("train_seconds"), quick.value("total_seconds")
    assert spent is not None
    assert trained is not None
    assert total is not None
    assert trained < spent < total
    assert quick.environment["compiled"] is True
    assert "compiled" not in plain.environment


def test_texts_of_all_lengths_are_compiled_once() -> None:
    splits = datasets.load(Ref.parse("synthetic/phrases@1?train=40"))
    words = dataclasses.replace(splits.train, read=Lengths(splits.train.read))
    quick = source("bag", True, rows=5)  # five texts of five words come, among others
    first = graphs()
    found = quick.features(words)
    assert graphs() == first + 1
    torch.testing.assert_close(found, source("bag", False).features(words))


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Text i, two to eight words long."""

    read: Any

    def __call__(self, i: int) -> str:
        return " ".join(self.read(i).split()[: 2 + i % 7])


def test_warming_up_leaves_training_as_it_was() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5),
        torch.nn.Flatten(), torch.nn.LazyLinear(2),
    )  # fmt: skip
    batch = torch.randn(4, 3, 6, 6)
    net(batch)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    compiling = Compiling()
    off = torch.autocast("cpu", enabled=False)
    quick = compiled.training(net, net, [batch], lambda: off, False, compiling)
    assert not compiling.failed
    assert quick is not net
    assert compiling.seconds > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("method", ["knn", "fine-tune"])
def test_a_network_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str
) -> None:
    params: dict[str, Any] = {"steps": 2, "rates": (1e-3,)} if method == "fine-tune" else {}
    plain = run(False, method, **params)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    record = run(True, method, str(tmp_path / "features"), **params)
    assert record.status == "ok"
    assert "compile-failed" in record.flags
    assert "compiled" not in record.environment  # its times are those of any plain run
    assert record.value("nll") == plain.value("nll")


def test_features_of_a_failed_compilation_are_kept_as_plain_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split = pictures().test
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    quick = source("gabor", True, FeatureCache(tmp_path))
    asked = quick.key(split)
    features = quick.features(split)
    assert quick.compiling.failed == "RuntimeError: no such kernel"
    plain = source("gabor", False, FeatureCache(tmp_path))
    assert torch.equal(plain.features(split), features)
    assert not plain.computed  # found in the cache
    assert asked != plain.key(split) == quick.key(split)


def test_a_compilation_that_answers_otherwise_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = source("gabor", False).backbone.embed
    monkeypatch.setattr(compiled, "compiled", lambda run, dynamic: lambda b: run(b) * 1.01)
    quick = Compiled(plain, False)
    batch = torch.randn(4, 3, 24, 24)
    assert torch.equal(quick(batch), plain(batch))
    assert "differ by 1.0e-02" in quick.compiling.failed


def test_a_compiler_that_fails_later_is_no_lost_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def made(run: Any, *_: Any, **__: Any) -> Any:
        calls: list[int] = []

        def call(batch: Any) -> torch.Tensor:
            calls.append(rows_of(batch))
            if len(calls) > 2:  # the warm-up and the first batch go well
                raise TorchDynamoException("a guard too many")
            return run(batch)  # type: ignore[no-any-return]

        return call

    monkeypatch.setattr(torch, "compile", made)
    trials: dict[str, dict[str, Any]] = {"knn": {}, "fine-tune": {"steps": 4, "rates": (1e-3,)}}
    for method, params in trials.items():
        record = run(True, method, **params)
        assert record.status == "ok", record.error
        assert "compile-failed" in record.flags
        assert record.value("nll") == run(False, method, **params).value("nll")


def test_cached_features_tell_what_compiling_cost(tmp_path: Path) -> None:
    first, second = (run(True, cache=str(tmp_path / "features")) for _ in range(2))
    spent = first.value("compile_seconds")
    assert spent is not None
    assert second.value("compile_seconds") == spent > 0
    again = second.get("extract_seconds")
    assert again is not None
    assert again.detail["cached"]


def test_memory_that_ends_while_compiling_is_no_failure_of_the_compiler() -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("a small card")

    compiling = Compiling()
    with pytest.raises(torch.OutOfMemoryError):
        compiling.tries(full)
    assert not compiling.failed


def test_costs_of_the_compiled_network_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = source("gabor", False).backbone
    inference, step = Compiling(), Compiling()
    found = measured_costs(backbone, Place(), 0.0, compiling=inference)
    found += training_costs(backbone, Place(), 2, 0.0, compiling=step)
    assert (inference.failed, step.failed) == ("", "")
    assert min(inference.seconds, step.seconds) > 0
    timed = [m for m in found if m.metric in ("latency_ms_p50", "throughput", "train_step_ms")]
    assert len(timed) == 3
    assert all(m.detail["compiled"] for m in timed)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    inference = Compiling()
    found = measured_costs(backbone, Place(), 0.0, compiling=inference)
    assert inference.failed
    assert all("compiled" not in m.detail for m in found)


def test_a_suite_says_compile(tmp_path: Path) -> None:
    said = suite.read(str(write_suite(tmp_path / "a.toml", rest="compile = true")))
    plain = suite.read(str(write_suite(tmp_path / "b.toml")))
    assert said.compile
    assert not plain.compile
    assert said.identity != plain.identity  # one run directory holds one kind of times
    assert [c.key for c in planning.plan(said)] == [c.key for c in planning.plan(plain)]
    (tmp_path / "c.toml").write_text(to_toml(said))
    assert suite.read(str(tmp_path / "c.toml")) == said
    assert "compile" not in to_toml(plain)


def test_a_machine_without_a_compiler_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = suite.read(str(write_suite(tmp_path / "a.toml", rest="compile = true")))
    monkeypatch.setenv("CXX", "nonesuch-c++ -O2")
    options = session.RunOptions(tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match=r"C\+\+ compiler.*no nonesuch-c\+\+ here.*apt install g"):
        session.execute(spec, options, lambda plan, event: None)
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="Install one"):
        machine.check_compiler("cpu", "here")
    two = dataclasses.replace(options, ranks=2)
    with pytest.raises(UserError, match="--ranks"):
        session.execute(spec, two, lambda plan, event: None)


def test_profile_compiles_only_what_it_measures() -> None:
    done = CliRunner().invoke(main, ["profile", "timm/resnet18", "--compile"])
    assert done.exit_code == 2
    assert "--measure" in done.output
