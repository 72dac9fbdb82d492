"""A sweep asks a literal list of architectures, goes on where it was, and survives a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile import Said
from zoobench import models
from zoobench.costs import known
from zoobench.errors import UnknownName, UserError
from zoobench.report.usability import swept_row
from zoobench.schema import Ref
from zoobench.usability import PROBES, ProbeResult, encoders, families, sweep
from zoobench.usability.check import Prober, answered
from zoobench.usability.subject import Subject
from zoobench.workers.settings import Settings

PROBES_ASKED = ("loads", "deterministic", "stateless")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models whose probes were asked; each answers at once."""
    noted: list[str] = []

    def here(worker: Any, ref: Ref, probes: Any) -> Iterator[ProbeResult]:
        noted.append(ref.name)
        yield from (ProbeResult("yes", "as planted, with a comma", 0.125) for _ in probes)

    monkeypatch.setattr(sweep, "_answers", here)
    monkeypatch.setattr(sweep, "_ref", lambda source, name, folder: Ref(source, name))
    return noted


def test_the_list_is_of_architectures_that_exist() -> None:
    sizes = {source: len(set(names)) for source, names in families.SWEPT.items()}
    assert (sizes["timm"], sizes["torchvision"]) == (100, 20)
    for source in ("timm", "torchvision"):
        assert all(known.network(source, name) for name in families.SWEPT[source])
    order = sweep.names("timm")
    macs = [row.macs for name in order if (row := known.network("timm", name))]
    assert macs == sorted(macs)
    assert set(sweep.SWEPT_PROBES) <= set(PROBES)


def test_a_sweep_goes_on_with_the_next_model(tmp_path: Path, asked: list[str]) -> None:
    out = tmp_path / "deep" / "timm.csv"
    going = sweep.sweep("timm", "resnet18,lcnet_100,resnet34", out)
    first = next(going)
    del going
    assert [row["model"] for row in first] == ["timm/lcnet_100"] * len(sweep.SWEPT_PROBES)
    assert first[1] == {
        "model": "timm/lcnet_100", "probe": "deterministic", "answer": "yes", "value": "0.125",
        "why": "as planted, with a comma", "versions": first[1]["versions"],
    }  # fmt: skip
    assert first[0]["value"] == "", "seconds of a sweep are no measurement"
    assert first[1]["versions"].startswith("zoobench ")
    seen: list[tuple[int, int, str]] = []
    rows = list(sweep.sweep("timm", "resnet18,lcnet_100,resnet34", out, lambda *a: seen.append(a)))
    assert seen == [(1, 3, "timm/lcnet_100"), (2, 3, "timm/resnet18"), (3, 3, "timm/resnet34")]
    assert [name.partition(".")[0] for name in asked] == ["lcnet_100", "resnet18", "resnet34"]
    assert sweep.read(out) == {one[0]["model"]: one for one in rows}


@pytest.mark.parametrize(
    "text",
    [
        "model,probe\n",
        ",".join(sweep.COLUMNS) + "\na,b,perhaps,,,\n",
        ",".join(sweep.COLUMNS) + "\na,b,yes\n",
    ],
)
def test_a_foreign_table_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=r"t\.csv"):
        next(sweep.sweep("timm", "resnet18", tmp_path / "t.csv"))
    assert (tmp_path / "t.csv").read_text() == text


def test_names_are_helped(tmp_path: Path, zoobench: Callable[..., Said]) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'resnet18'"):
        sweep.names("timm", "resnet188")
    wrong = zoobench("check", "--source", "tim")
    assert (wrong.code, "Did you mean 'timm'" in wrong.error) == (2, True)


def test_the_command_names_its_file(
    tmp_path: Path, asked: list[str], zoobench: Callable[..., Said]
) -> None:
    out = tmp_path / "t.csv"
    said = zoobench("check", "--source", "torchvision", "--pattern", "resnet*", "--out", out)
    assert said.out.endswith("t.csv: 2 architectures\n")
    assert len(sweep.read(out)) == 2


def test_a_crash_is_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In real processes: the next probe loads the model anew."""
    monkeypatch.setitem(families.SWEPT, "synthetic", ("gabor",))
    monkeypatch.setattr(sweep, "Prober", Crashing)
    monkeypatch.setattr(sweep, "PRELOAD", ())
    (rows,) = sweep.sweep("synthetic", "*", tmp_path / "t.csv", probes=PROBES_ASKED)
    assert [row["answer"] for row in rows] == ["yes", "no", "yes"]
    assert "its process ended: " in rows[1]["why"]


class Crashing(Prober):
    def __call__(self, request: tuple[str, str]) -> ProbeResult:
        if request[0] == "deterministic":
            os._exit(3)
        return super().__call__(request)


def test_each_probe_loads_the_model_anew() -> None:
    """This one keeps a bias that it computed once, and without gradients under `no_grad`."""
    prober = Prober(Settings())
    for probe in ("deterministic", "differentiable", "other-sizes", "stateless"):
        assert prober((probe, "planted/caches@1")).answer == "yes"


@pytest.mark.parametrize("kind", ["xmod", "modernbert", "segformer"])
def test_an_encoder_is_built_from_its_configuration(kind: str, tmp_path: Path) -> None:
    subject = Subject(models.resolve(encoders.built(kind, tmp_path)))
    assert answered("deterministic", subject).answer == "yes"
    features = subject.features(subject.batch())
    assert features.abs().max() > 0
    assert (features[0] - features[1]).norm() > 1e-3 * features[0].norm()


def test_an_encoder_of_no_list_is_helped(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'bert'"):
        encoders.built("bertt", tmp_path)


def test_the_tables_hold_whole_models_of_the_list() -> None:
    found = sweep.swept()
    for model, rows in found.items():
        source, _, name = model.partition("/")
        assert name in families.SWEPT[source]
        assert tuple(row["probe"] for row in rows) == sweep.SWEPT_PROBES
    assert {model.partition("/")[0] for model in found} == families.SWEPT.keys()
    assert sweep.swept("RESNET18").keys() == sweep.swept("*/resnet18").keys()


def test_the_tables_say_what_the_networks_are() -> None:
    """Parameters and int8's share of them, counted from torchvision's own networks."""
    import torchvision

    for name, head in (("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3")):
        network = torchvision.models.get_model(name, weights=None)
        sizes = {n: p.numel() for n, p in network.named_parameters() if not n.startswith(head)}
        linear = sum(s for n, s in sizes.items() if n.startswith("classifier") and "weight" in n)
        (rows,) = sweep.swept(f"torchvision/{name}").values()
        why = {row["probe"]: row["why"] for row in rows}
        total = sum(sizes.values())
        assert why["loads"] == f"{total:,} parameters"
        assert why["quantises"] == f"linear layers hold {linear / total:.0%} of its parameters"


def test_the_list_shows_the_columns_that_matter(zoobench: Callable[..., Said]) -> None:
    piped = zoobench("list", "models", "--usability", "torchvision/vit_b_32").out
    assert piped == "torchvision/vit_b_32\tyes\tno\tyes\t1.15 GB\tyes\tyes\tno\tyes\n"
    told: Any = json.loads(zoobench("list", "models", "*/vit_b_32", "--usability", "--json").out)
    assert told["model"] == "torchvision/vit_b_32"
    answers = {row["probe"]: row for row in told["usability"]}
    assert tuple(answers) == sweep.SWEPT_PROBES
    assert answers["loads"]["value"] is None
    assert answers["exports-onnx"]["value"] < 1e-5
    assert "Wrong image height" in answers["other-sizes"]["why"]
    assert "Nothing matches" in zoobench("list", "models", "--usability", "nowhere/*").err
    assert zoobench("list", "models", "--usability", "--offline").code == 2


@pytest.mark.parametrize(
    ("change", "same", "onnx"),
    [
        ({}, "yes", "yes"),
        ({"stateless": "no", "order-invariant": "no"}, "no: stateless, order-invariant", "yes"),
        ({"stateless": "unknown", "exports-onnx": "unknown"}, "?", "?"),
    ],
)
def test_a_row_names_what_is_not_the_same(change: dict[str, str], same: str, onnx: str) -> None:
    rows = [
        {"probe": name, "answer": change.get(name, "yes"), "value": ""}
        for name in sweep.SWEPT_PROBES
    ]
    row = swept_row("timm/net", rows)
    assert (row["same"], row["onnx"], row["train 8"]) == (same, onnx, "yes")
