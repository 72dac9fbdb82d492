"""Every mistake in a suite file is found before any work, and says where, what, nearest, known."""

from __future__ import annotations

from pathlib import Path

import pytest

from cells import write_suite
from zoobench.errors import UserError
from zoobench.runs import planning, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Cell

GABOR = "synthetic/gabor"


def failing(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        suite.read(str(path))
    return str(caught.value)


def test_every_message_says_where_what_and_nearest(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    write_suite(file, methods=['{ name = "knn", kk = [3] }'])
    assert failing(file) == (
        f"{file}: methods[0]: unknown parameter 'kk' for knn. "
        "Did you mean 'k'? Known: k, temperature."
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": ["synthetic/gabro"]}, ["models[0]", "synthetic/gabro", "Did you mean", GABOR]),
        ({"models": ["syntetic/gabor"]}, ["models[0]", "source", "Did you mean 'synthetic'"]),
        ({"models": ["gabor"]}, ["models[0]", "source/name"]),
        ({"models": [f"{GABOR}?mea=0.5"]}, ["models[0]", "'mea'", "Did you mean 'mean'"]),
        ({"datasets": ["synthetic/strips"]}, ["datasets[0]", "Did you mean 'synthetic/stripes'"]),
        ({"datasets": ["synthetic/stripes?clases=3"]}, ["datasets[0]", "Did you mean 'classes'"]),
        ({"methods": ["nkn"]}, ["methods[0]", "unknown method 'nkn'", "Did you mean 'knn'"]),
        ({"methods": ['{ name = "knn", k = "many" }']}, ["methods[0]", "knn", "k"]),
        ({"methods": ['{ name = "knn", only = { modl = "x" } }']}, ["Did you mean 'model'"]),
        ({"methods": ["{ k = [1] }"]}, ["methods[0]", "needs a `name`"]),
        ({"models": ["{ input_size = 3 }"]}, ["models[0]", "needs an `id`"]),
        ({"controls": '["chanse"]'}, ["controls", "Did you mean 'chance'"]),
        ({"models": []}, ["models", "at least 1"]),
        ({"rest": "seeeds = [1]"}, ["unknown key 'seeeds'", "Did you mean 'seeds'"]),
        ({"rest": 'seeds = ["a"]'}, ["seeds[0]"]),
        ({"rest": "[limits]\ncell_seconds = 0"}, ["limits.cell_seconds"]),
        ({"rest": 'precision = "int3"'}, ["precision"]),
        ({"rest": "[limits]\ncell_seconds = inf"}, ["limits.cell_seconds", "finite"]),
        ({"rest": "[limits]\ncell_seconds = true"}, ["limits.cell_seconds", "number"]),
        (
            {"methods": ["{ name = 'ridge', decades = inf }"]},
            ["methods[0]: ridge.decades: ", "inf"],
        ),
        (
            {"methods": ["{ name = 'fine-tune', rates = [1e-3, nan] }"]},
            ["rates: expected a finite"],
        ),
        ({"datasets": ["{ id = 'synthetic/stripes', noise = nan }"]}, ["datasets[0]: noise: "]),
        ({"datasets": ["packaged/digits?max_train=-5"]}, ["datasets[0]", "max_train", "above 0"]),
        ({"models": ["timm/resnet18?input_size=1000000000"]}, ["models[0]", "of 8 to 8192"]),
        ({"models": [f"timm/resnet18?input_size={'9' * 30}"]}, ["models[0]", "of 8 to 8192"]),
        ({"models": ["packaged/minilm-l6-v2?length=1000000000"]}, ["models[0]", "of 3 to 1048576"]),
        ({"models": ["synthetic/bag"]}, ["models[0]", "reads text", "datasets are image"]),
        ({"rest": "= 3"}, ["not valid TOML"]),
    ],
)
def test_mistakes(tmp_path: Path, change: dict[str, object], says: list[str]) -> None:
    file = write_suite(tmp_path / "s.toml", **change)  # type: ignore[arg-type]
    message = failing(file)
    assert message.startswith(str(file))
    for part in says:
        assert part in message


def test_a_suite_that_is_not_there() -> None:
    assert "no such suite file" in failing(Path("nowhere/s.toml"))
    with pytest.raises(UserError, match="Did you mean 'smoke'"):
        suite.read("smok")


def test_a_missing_label_column_is_found_while_reading(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,lable\n" + "\n".join(f"t{i},{i % 2}" for i in range(40)))
    table = '{ id = "table/t", path = "t.csv", text = "text", label = "label" }'
    file = write_suite(tmp_path / "s.toml", models=["synthetic/bag"], datasets=[table])
    message = failing(file)
    assert "datasets[0]" in message
    assert "Did you mean 'lable'" in message


@pytest.mark.parametrize("name", suite.BUILTIN)
def test_built_in_suites_resolve_and_survive_their_toml(name: str, tmp_path: Path) -> None:
    spec = suite.read(name)
    again = tmp_path / "suite.toml"
    again.write_text(to_toml(spec), encoding="utf-8")
    other = suite.read(str(again))
    assert other == spec
    assert other.identity == spec.identity


def plan(tmp_path: Path, **change: object) -> list[Cell]:
    return planning.plan(suite.read(str(write_suite(tmp_path / "s.toml", **change))))  # type: ignore[arg-type]


def test_the_plan_pairs_models_with_their_modality(tmp_path: Path) -> None:
    cells = plan(
        tmp_path,
        models=[GABOR, "synthetic/bag"],
        datasets=["synthetic/stripes", "synthetic/phrases"],
    )
    pairs = {(c.model.id, c.dataset.id) for c in cells}
    assert pairs == {(GABOR, "synthetic/stripes"), ("synthetic/bag", "synthetic/phrases")}


def test_controls_come_with_every_suite(tmp_path: Path) -> None:
    cells = plan(tmp_path, controls="true", methods=["knn", "linear-probe"])
    found = {(c.model.id, c.method) for c in cells}
    assert {("control/chance", "chance"), ("control/majority", "majority")} <= found
    assert ("control/raw-input", "raw-input") in found
    random = [c for c in cells if "weights=random" in c.model.text]
    assert [c.method for c in random] == ["linear-probe"]


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    (only,) = plan(tmp_path)
    assert only.params["temperature"] == 0.07
    assert only.versions["precision"] == "auto"  # the policy, whatever it comes to
    assert plan(tmp_path, methods=['{ name = "knn", temperature = 0.07 }'])[0].key == only.key
    assert plan(tmp_path, methods=['{ name = "knn", temperature = 0.08 }'])[0].key != only.key


def test_only_what_draws_is_run_with_every_seed(tmp_path: Path) -> None:
    cells = plan(
        tmp_path, methods=["knn", "fine-tune"], controls='["random-weights"]', rest="seeds = [0, 1]"
    )
    seeds = sorted((c.method, "random" in c.model.text, c.seed) for c in cells)
    assert seeds == [
        ("fine-tune", False, 0),
        ("fine-tune", False, 1),
        ("knn", False, 0),
        ("knn", True, 0),
        ("knn", True, 1),
    ]


def test_few_shot_cells_have_five_draws_each(tmp_path: Path) -> None:
    cells = plan(tmp_path, rest="shots = [1, 5]")
    assert sorted((c.shots, c.seed) for c in cells) == [(k, d) for k in (1, 5) for d in range(5)]


def test_a_method_can_be_meant_for_some_models(tmp_path: Path) -> None:
    cells = plan(
        tmp_path,
        models=[GABOR, f"{GABOR}?mean=0.4"],
        methods=["knn", '{ name = "ridge", only = { model = "*mean*" } }'],
    )
    assert [c.model.text for c in cells if c.method == "ridge"] == [f"{GABOR}@1?mean=0.4"]


def test_paths_are_relative_to_the_suite_and_not_part_of_the_key(tmp_path: Path) -> None:
    keys = []
    for place in ("a", "b"):
        folder = tmp_path / place
        folder.mkdir()
        rows = "\n".join(f"word{i},{i % 2}" for i in range(60))
        (folder / "t.csv").write_text(f"text,label\n{rows}\n")
        table = '{ id = "table/t", path = "t.csv", text = "text", label = "label" }'
        write_suite(folder / "s.toml", models=["synthetic/bag"], datasets=[table])
        keys.append(planning.plan(suite.read(str(folder / "s.toml")))[0].key)
    assert keys[0] == keys[1]
    (tmp_path / "b" / "t.csv").write_text(f"text,label\n{rows}\nmore,0\n")
    assert planning.plan(suite.read(str(tmp_path / "b" / "s.toml")))[0].key != keys[0]


def test_a_local_checkpoints_content_is_in_the_key(tmp_path: Path) -> None:
    from zoobench.models.weights import weights_digest
    from zoobench.schema import Ref

    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    ref = Ref.parse(f"timm/resnet18?weights={file}")
    first = weights_digest(ref)
    file.write_bytes(b"two!")
    assert weights_digest(ref) != first != ""
    assert weights_digest(Ref.parse("timm/resnet18?weights=random")) == ""
