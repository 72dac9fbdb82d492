"""`[[pretrain]]` in a suite: mistakes are found early, and a run uses what it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cells import settings
from pretraining_cells import STRIPES, pretrain_suite, read
from zoobench.errors import UserError
from zoobench.models import pretrained_here_, resolve, small
from zoobench.models.weights import seen, state_digest
from zoobench.pretraining.cell import recipe_of
from zoobench.ranking.rank import rank
from zoobench.runs import planning, session
from zoobench.runs.pins import pinned
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import PRETRAIN, Cell, Ref
from zoobench.store import load
from zoobench.workers.runner import groups, run_group


def failing(text: str, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(text, folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": "maskd"}, ["pretrain[0]: objective", "'maskd'", "Did you mean 'masked'"]),
        (
            {"architecture": "small-cnov"},
            ["pretrain[0]: architecture", "Did you mean 'small-conv'"],
        ),
        ({"architecture": "hf/a/b"}, ["source of architectures", "timm, torchvision"]),
        ({"architecture": "small-bert"}, ["small-bert reads text", "holds image"]),
        ({"objective": "masked-lm"}, ["masked-lm is for text", "Known for it: supervised"]),
        ({"dataset": "synthetic/strips"}, ["pretrain[0]", "Did you mean 'synthetic/stripes'"]),
        ({"steps": 0}, ["pretrain[0].steps", "greater than or equal to 1"]),
        ({"batch": 1}, ["pretrain[0].batch"]),
        ({"rates": [0.0]}, ["pretrain[0]", "rates must be above 0"]),
        ({"rates": []}, ["pretrain[0].rates"]),
        ({"stepps": 3}, ["pretrain[0]", "unknown key 'stepps'", "Did you mean 'steps'"]),
        ({"name": "../../etc"}, ["pretrain[0].name"]),
        (
            {"samples_model": "synthetic/gabor"},
            ["pretrain[0]: samples_model: masked generates no pictures; vae does"],
        ),
        (
            {"objective": "vae", "samples_model": "synthetic/gabo"},
            ["pretrain[0]: samples_model", "Did you mean 'synthetic/gabor'"],
        ),
        (
            {"objective": "vae", "samples_model": "packaged/minilm-l6-v2"},
            ["samples_model: packaged/minilm-l6-v2 reads text, and samples are pictures"],
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_found_when_the_suite_is_read(
    tmp_path: Path, change: dict[str, object], says: list[str]
) -> None:
    row = {"name": "a", "objective": "masked", "dataset": STRIPES, **change}
    body = "\n".join(f"{key} = {json.dumps(value)}" for key, value in row.items())
    text = f'name = "x"\ndatasets = ["{STRIPES}"]\nmethods = ["knn"]\n[[pretrain]]\n{body}\n'
    said = failing(text, tmp_path)
    for part in says:
        assert part in said


def test_a_name_is_given_once_and_without_any_model_there_is_no_suite(tmp_path: Path) -> None:
    twice = pretrain_suite("masked", "masked")
    assert "pretrain[1]: a second 'masked'" in failing(twice, tmp_path)
    assert "models: at least 1" in failing(pretrain_suite(), tmp_path)
    texts = pretrain_suite("masked").replace(STRIPES, "synthetic/phrases")
    assert "masked is for image" in failing(texts, tmp_path)


def test_an_encoder_is_made_before_the_cells_of_its_seed(tmp_path: Path) -> None:
    spec = read(pretrain_suite("masked", "random", rest="shots = [2]\ndraws = 3"), tmp_path)
    cells = [c for c in planning.plan(spec) if c.model.source == pretrained_here_.SOURCE]
    names = {cell.model.name for cell in cells}
    assert names == {"masked", "random", "small-conv"}  # the last is the control, random weights
    for name in ("masked", "random"):
        mine = [cell for cell in cells if cell.model.name == name]
        made = [cell.seed for cell in mine if cell.method == PRETRAIN]
        assert made == [0, 1, 2], "a draw of examples has an encoder of its own"
        assert all(cell.method == PRETRAIN for cell in mine[: len(made)])
        assert {cell.seed for cell in mine} == set(made)


def test_the_name_of_what_is_made_flips_with_each_part_of_its_recipe(tmp_path: Path) -> None:
    def made(text: str) -> str:
        return read(text, tmp_path).models[0].revision

    base = made(pretrain_suite("masked"))
    assert base == made(pretrain_suite("masked", rest="draws = 9"))
    changed = [
        pretrain_suite("masked", steps=9), pretrain_suite("masked", batch=9),
        pretrain_suite("masked", rates=[1e-3]), pretrain_suite("masked", architecture="small-vit"),
        pretrain_suite("masked").replace("train=48", "train=49"),
        pretrain_suite("masked").replace('"fp32"', '"bf16"'),
        pretrain_suite("masked").replace('objective = "masked"', 'objective = "vae"'),
    ]  # fmt: skip
    assert len({base, *map(made, changed)}) == 1 + len(changed)


def test_what_judges_samples_is_in_the_key_and_makes_no_other_encoder(tmp_path: Path) -> None:
    def planned(**row: str) -> tuple[Cell, str]:
        spec = read(pretrain_suite("vae", **row), tmp_path)
        assert read(to_toml(spec), tmp_path) == spec
        return next(c for c in planning.plan(spec) if c.method == PRETRAIN), spec.identity

    (bare, one), (judged, other) = planned(), planned(samples_model="synthetic/gabor")
    assert judged.model == bare.model
    assert judged.key != bare.key
    assert one != other
    assert recipe_of(judged) == recipe_of(bare)


def test_a_model_of_this_machine_alone_judges_no_samples(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    says = failing(
        pretrain_suite("vae", samples_model=f"timm/resnet18?weights={weights}"), tmp_path
    )
    assert "samples_model: timm/resnet18" in says
    assert "is of this machine alone" in says


def test_what_judges_samples_stays_at_the_commit_that_a_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def means(commit: str) -> None:
        monkeypatch.setattr("zoobench.hub.pin", lambda *_: commit)

    spec = read(pretrain_suite("vae", samples_model="timm/resnet18.a1_in1k"), tmp_path)
    means("a" * 40)
    began = pinned(spec, tmp_path / "run")
    judge = began.pretrain[0].samples_model
    assert judge is not None
    assert judge.revision == "a" * 40
    assert began.identity == spec.identity
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "suite.toml").write_text(to_toml(began))
    means("b" * 40)  # the hub has moved on
    assert pinned(spec, tmp_path / "run") == began


def test_a_resolved_suite_is_written_and_read_as_the_same(tmp_path: Path) -> None:
    spec = read(pretrain_suite("masked", "vae", rest="all_data = true\nshots = [1]"), tmp_path)
    (tmp_path / "again").mkdir()
    again = read(to_toml(spec), tmp_path / "again")
    assert again == spec
    assert again.identity == spec.identity
    other = read(pretrain_suite("masked", "vae", rest="shots = [1]"), tmp_path)
    assert other.identity != spec.identity


def test_with_all_data_both_the_shots_and_the_whole_are_asked(tmp_path: Path) -> None:
    rest = "shots = [1, 2]\ndraws = 2\n"
    for more, asked in (("", [1, 2]), ("all_data = true", [1, 2, None])):
        cells = planning.plan(read(pretrain_suite("random", rest=rest + more), tmp_path))
        for source in (pretrained_here_.SOURCE, "control"):
            mine = (c for c in cells if c.model.source == source and c.method != PRETRAIN)
            drawn = (c.shots for c in mine if c.model.option("weights") != "random")
            assert list(dict.fromkeys(sorted(drawn, key=lambda k: k or 99))) == asked


def test_only_keeps_what_makes_the_encoders_of_the_cells_that_are_left(tmp_path: Path) -> None:
    cells = planning.plan(read(pretrain_suite("masked", "vae"), tmp_path))
    kept = session.select(cells, (("method", "knn"), ("model", "*/masked")))
    assert {cell.method for cell in kept} == {PRETRAIN, "knn"}
    assert {cell.model.name for cell in kept} == {"masked"}


def test_what_it_was_pretrained_on_is_seen_in_whatever_part(tmp_path: Path) -> None:
    model = read(pretrain_suite("masked"), tmp_path).models[0]
    assert seen(model, Ref.parse("synthetic/stripes@1?corruption=fog&severity=3"))
    assert not seen(model, Ref.parse("synthetic/tones@1"))
    assert not seen(read(pretrain_suite("random"), tmp_path).models[0], Ref.parse(STRIPES))
    assert not seen(Ref.parse("timm/resnet18"), Ref.parse(STRIPES))


def test_a_run_pretrains_uses_marks_and_keeps_what_it_made(tmp_path: Path) -> None:
    text = pretrain_suite("autoencoder", rest="controls = false")
    text = text.replace('methods = ["knn"]', 'methods = ["knn", "linear-probe"]')
    spec = read(text, tmp_path)
    out = tmp_path / "out"
    plan = session.execute(spec, session.RunOptions(out), lambda plan, event: None)
    assert {record.status for record in plan.records} == {"ok"}
    made = [r for r in plan.records if r.cell.method == PRETRAIN]
    assert [record.cell.seed for record in made] == [0, 1]
    for record in made:
        assert record.value("examples_seen") == 64
        curve = next(m for m in record.measurements if m.metric == "pretraining_valid_accuracy")
        assert [point["examples"] for point in curve.detail["curve"]] == [0, 8, 16, 32, 64]
        assert record.get("psnr") is not None
        assert record.provenance["pretraining"]["objective"] == "autoencoder"
    probes = [r for r in plan.records if r.cell.method != PRETRAIN]
    assert all("seen-in-pretraining" in record.flags for record in probes)
    states = {r.cell.seed: r.provenance["model"]["state"] for r in probes}
    assert states == {r.cell.seed: r.provenance["pretraining"]["state"] for r in made}
    assert len(set(states.values())) == 2

    # Nothing is left to do, and the same suite in another directory trains nothing anew.
    again = session.execute(spec, session.RunOptions(out), lambda plan, event: None)
    assert [r.started for r in again.records] == [r.started for r in plan.records]
    ranking = rank([load(out)])
    assert {section.method for section in ranking.sections} == {"knn", "linear-probe"}
    rows = [row for section in ranking.sections for row in section.rows]
    assert all("seen-in-pretraining" in [flag.name for flag in row.flags] for row in rows)
    folder = out / "pretrained" / "autoencoder" / "seed-0"
    assert {f.name for f in folder.iterdir()} >= {"model.safetensors", "card.json"}

    # A later run takes the folder for a model of its own, whose data it still names.
    ref = resolve(f"pretrained-here/mine?path={folder}")
    assert seen(ref, Ref.parse(STRIPES))
    local = read(
        f'name = "later"\nmodels = ["{ref}"]\ndatasets = ["{STRIPES}"]\nmethods = ["knn"]\n'
        'precision = "fp32"\ncontrols = false\n[limits]\ncost_seconds = 0\n',
        tmp_path,
    )
    later = session.execute(local, session.RunOptions(tmp_path / "later"), lambda plan, event: None)
    (record,) = later.records
    assert record.status == "ok", record.error
    assert record.provenance["model"]["state"] == states[0]
    assert "seen-in-pretraining" in record.flags
    first = next(r for r in probes if r.cell.seed == 0 and r.cell.method == "knn")
    assert record.value("accuracy") == first.value("accuracy")
    assert str(folder) not in (tmp_path / "later" / "records.jsonl").read_text()


def test_what_was_pretrained_is_fine_tuned_shifted_and_held_against_its_own_beginning(
    tmp_path: Path,
) -> None:
    """A head is judged on spoilt copies of its test set, and on another set, untouched."""
    tuned = '{ name = "fine-tune", steps = 4, rates = [1e-3] }'
    scratch = tuned.replace("fine-tune", "from-scratch")
    text = pretrain_suite(
        "supervised", methods=f'["knn", {tuned}, {scratch}]', rest="controls = false"
    ).replace("seeds = [0, 1]", "seeds = [0]")
    spoilt = f"{STRIPES}&corrupt=gaussian_noise&severity=3"
    other = f'{{ id = "{STRIPES}", test_from = "{STRIPES}&noise=120" }}'
    shifted = f'datasets = ["{STRIPES}", "{spoilt}", {other}]'
    text = text.replace(f'datasets = ["{STRIPES}"]', shifted)
    plan = session.execute(
        read(text, tmp_path), session.RunOptions(tmp_path / "out"), lambda plan, event: None
    )
    assert {(r.cell.method, r.status) for r in plan.records} == {
        (name, "ok") for name in (PRETRAIN, "knn", "fine-tune", "from-scratch")
    }
    by = {r.cell.method: r for r in plan.records if r.cell.dataset.text.endswith("valid=24")}
    tuned_from, begun_from = (
        by[name].provenance["model"]["state"] for name in ("fine-tune", "from-scratch")
    )
    assert tuned_from == by[PRETRAIN].provenance["pretraining"]["state"]
    # from-scratch is its control: the weights that its pretraining began with.
    assert begun_from == state_digest(small.backbone("small-conv", 0, {}).module)
    shifts = rank([load(tmp_path / "out")]).shifts
    knn = {one.kind for one in shifts if one.method == "knn" and one.model == by["knn"].cell.model}
    assert "gaussian_noise" in knn
    assert any(kind.startswith("to ") for kind in knn)
    assert all("seen-in-pretraining" in r.flags for r in plan.records if r.cell.method == "knn")


def test_where_pretraining_failed_the_cells_after_it_say_so(tmp_path: Path) -> None:
    spec = read(pretrain_suite("masked", rates=[1e30], rest="controls = false"), tmp_path)
    cells = planning.plan(spec)
    found = [one.record for group in groups(cells) for one in run_group(group, settings())]
    records = {record.key: record for record in found}
    by: dict[bool, set[str]] = {True: set(), False: set()}
    for cell in cells:
        by[cell.method == PRETRAIN].add(records[cell.key].status)
    assert by == {True: {"nan"}, False: {"missing-weights"}}
    said = next(r.error for r in records.values() if r.cell.method != PRETRAIN)
    assert said is not None
    assert "its pretraining has failed" in said["message"]
    assert "--retry-failed" in said["message"]


@pytest.mark.parametrize(
    ("objective", "dataset", "architecture", "says"),
    [
        ("masked-lm", STRIPES.replace("stripes", "phrases"), "", "pseudo_bits_per_byte"),
        ("denoising", STRIPES, "timm/test_resnet?input_size=32", "psnr"),
    ],
)
def test_texts_and_architectures_of_libraries_are_pretrained_alike(
    tmp_path: Path, objective: str, dataset: str, architecture: str, says: str
) -> None:
    how: dict[str, Any] = {"steps": 3, "rates": [1e-3]}
    how |= {"architecture": architecture} if architecture else {}
    text = pretrain_suite(objective, rest="controls = false", **how).replace(STRIPES, dataset)
    cells = [cell for cell in planning.plan(read(text, tmp_path)) if cell.seed == 0]
    found = [one.record for group in groups(cells) for one in run_group(group, settings())]
    assert [(r.cell.method, r.status) for r in found] == [(PRETRAIN, "ok"), ("knn", "ok")]
    assert found[0].get(says) is not None
    assert (found[0].value("pretraining_macs") or 0) > 0
    state = found[0].provenance["pretraining"]["state"]
    assert found[1].provenance["model"]["state"] == state


def test_a_folder_that_holds_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no readable card"):
        resolve(f"pretrained-here/x?path={tmp_path}")
    (tmp_path / "card.json").write_text('{"objective": "masked"}')
    with pytest.raises(UserError, match="is none of a checkpoint"):
        resolve(f"pretrained-here/x?path={tmp_path}")
    with pytest.raises(UserError, match="say path=FOLDER"):
        resolve("pretrained-here/x")
    with pytest.raises(UserError, match="Did you mean 'path'"):
        resolve("pretrained-here/x?pth=1")


def test_cells_name_a_key_of_their_own(tmp_path: Path) -> None:
    cells: list[Cell] = planning.plan(read(pretrain_suite("masked", "vae"), tmp_path))
    assert len({cell.key for cell in cells}) == len(cells)
