"""A saved folder predicts what was judged, without zoobench, by any library and method."""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

import tinyonnx
from savedfolders import NEEDS, change
from tinymodels import tiny_bert, tiny_timm, write_files
from tinysound import tiny_sound
from zoobench import datasets, models, store
from zoobench.cli.main import main
from zoobench.errors import StoreError, UserError
from zoobench.export import cells
from zoobench.export.save import Saved, save
from zoobench.export.saved import open_saved
from zoobench.interfaces import Split
from zoobench.methods.head import AffineHead
from zoobench.models import saved
from zoobench.models.weights import FROZEN
from zoobench.runs import planning, suite
from zoobench.runs.suite_toml import to_toml
from zoobench.schema import Cell, Outcomes, Record, Ref
from zoobench.store import Run, Store
from zoobench.workers.runner import Bench
from zoobench.workers.settings import Settings

pytestmark = pytest.mark.xdist_group("saved")  # one table of saved models serves them all

KINDS_OF_INPUT = ("text", "picture", "recording")
CLASSES = ("red fox", "green | tree", "blue <b>")
TUNE = {"name": "fine-tune", "steps": 3, "batch_size": 8, "rates": [1e-3]}


def pictures(root: Path) -> Path:
    """Three classes of noisy pictures, in the forms that a folder of a stranger holds."""
    rng = np.random.default_rng(0)
    for number in range(75):
        name = CLASSES[number % 3]
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 200, (36, 48, 3), dtype=np.uint8)
        pixels[..., number % 3] += 30
        pixels[:12, :24] = 20 * (number % 3)
        image = Image.fromarray(pixels)
        if number % 5 == 0:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(folder / f"{number}.png")
        elif number % 5 == 1:
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(folder / f"{number}.jpg", exif=exif)
        else:
            form = ("RGB", "L", "P")[number // 3 % 3]
            image.convert(form).save(folder / f"{number}.png")
    return root


def texts(path: Path, numbers: bool = False) -> Path:
    """Short texts of the tiny tokenizer's words; two classes, or a number."""
    rng = np.random.default_rng(1)
    words = ["the", "a", "cat", "dog", "sat", "on", "mat", "good", "bad"]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for _ in range(80):
            drawn = rng.choice(words, rng.integers(2, 12))
            good = int((drawn == "good").sum()) - int((drawn == "bad").sum())
            label: Any = good + 100 + float(rng.normal()) / 9 if numbers else "np"[good > 0]
            rows.writerow([" ".join(drawn), label])
    return path


def judged(out: Path, models: list[str], data: list[str], methods: list[Any]) -> Run:
    """A run of these, in this process."""
    body = {
        "name": "made", "models": models, "datasets": data, "methods": methods,
        "controls": False, "limits": {"cost_seconds": 0}, "seeds": [0],
    }  # fmt: skip
    spec = suite.resolve(suite.parse(body, "made"), "made", Path())
    bench = Bench(Settings(cache=str(out.parent / "cache" / "features"), measure_costs=False))
    with Store(out, to_toml(spec), spec.identity) as kept:
        for cell in planning.plan(spec):
            result = bench.run(cell)
            assert result.record.status == "ok", result.record.error
            kept.append(result.record, result.outcomes)
    return store.load(out)


def recordings(root: Path) -> Path:
    """Tones of two pitches in noise, at another rate than the networks' and in two channels."""
    import soundfile

    rng = np.random.default_rng(2)
    for number in range(40):
        folder = root / ("low", "high")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        grid = np.arange(int(rng.integers(1600, 6400))) / 8000
        tone = np.sin(2 * np.pi * (250, 1000)[number % 2] * grid)
        sides = tone[:, None] * [0.2, 0.3] + rng.normal(0, 0.02, (len(grid), 2))
        soundfile.write(folder / f"{number}.flac", sides, 8000)
    return root


@dataclass(frozen=True)
class Case:
    """A folder that was saved, its run, the test split, and what the record kept of that."""

    run: Run
    saved: Saved
    test: Split
    kept: Outcomes

    def inputs(self, folder: Path) -> list[str]:
        """The test examples as files: pictures as they lie, texts as the lines of one file."""
        if isinstance(self.test.read(0), str):
            path = folder / "lines.txt"
            lines = [self.test.read(i) for i in range(len(self.test))]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return [str(path)]
        return [path_of(self.test.read, i) for i in range(len(self.test))]


def path_of(read: Any, i: int) -> str:
    while not hasattr(read, "paths"):
        read, i = read.read, int(read.rows[i])
    return str(read.paths[i])


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Every library, saved: probes and fine-tunes, classes and numbers."""
    root = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOOBENCH_CACHE", str(root / "cache"))
        return dict(made(root))


@pytest.fixture
def features(cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache that the cases were made with."""
    root = next(iter(cases.values())).run.path.parent
    monkeypatch.setenv("ZOOBENCH_CACHE", str(root / "cache"))


def made(root: Path) -> list[tuple[str, Case]]:
    from torchvision.models import squeezenet1_1

    folder = f"folder/pics?path={pictures(root / 'pics')}"
    table = f"table/said?path={texts(root / 'said.csv')}&text=text&label=label"
    rated = (
        f"table/rated?path={texts(root / 'rated.csv', True)}&text=text&label=label&task=regression"
    )
    resnet = write_files(tiny_timm(), root / "resnet")
    bert = write_files(tiny_bert(sentence_transformers=True), root / "bert")
    tones = f"folder/tones?path={recordings(root / 'tones')}"
    for kind in ("hubert", "whisper"):
        tiny_sound(kind, root / kind)
    vit = tiny_vit(root / "vit")
    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), root / "squeeze.safetensors")
    wanted: list[tuple[str, str, Any]] = [
        ("packaged/efficientnet-lite0?input_size=32", folder, "linear-probe"),
        (f"timm/me/resnet?weights={resnet}&pool=max", folder, "ridge"),
        (f"timm/me/resnet?weights={resnet}", folder, TUNE),
        (f"torchvision/squeezenet1_1?weights={root}/squeeze.safetensors&input_size=64", folder,
         "linear-probe"),
        (f"hf/vit?weights={vit}&input_size=24", folder, TUNE),
        (f"hf/bert?weights={bert}", table, TUNE),
        (f"hf/bert?weights={bert}&pool=weightedmean", table, "linear-probe"),
        (f"hf/bert?weights={bert}", rated, TUNE),
        ("packaged/glove-6b-50d", rated, "ridge"),
        (f"hf/hubert?weights={root / 'hubert'}&seconds=0.5", tones, "linear-probe"),
        (f"hf/whisper?weights={root / 'whisper'}", tones, TUNE),
        (f"timm/me/resnet?weights={resnet}&variant=bf16", folder, "ridge"),
        (f"timm/me/resnet?weights={resnet}&variant=int8-static", folder, "linear-probe"),
        (f"hf/vit?weights={vit}&input_size=24&variant=int8-weight", folder, TUNE),
        (f"hf/bert?weights={bert}&variant=int8-dynamic", table, "linear-probe"),
    ]  # fmt: skip
    if all(map(find_spec, NEEDS["onnx"])):
        free, one = (root / f"{name}.onnx" for name in ("free", "one"))
        tinyonnx.file(free, {"license": "MIT"})
        tinyonnx.file(one, layout="nhwc", batch=1)  # one picture at a time, as converters write
        wanted += [
            (f"onnx/free?path={free}", folder, "linear-probe"),
            (f"onnx/one?path={one}&tap=positive&pool=max&channels=bgr", folder, "ridge"),
        ]
    found = []
    for number, (model, data, method) in enumerate(wanted):
        variant = model.partition("variant=")[2]
        if not all(map(find_spec, NEEDS.get(variant, ()))):
            continue
        run = judged(root / f"run{number}", [model], [data], [method])
        record = next(r for r in run.records if r.cell.params.get("head") in (None, "carried"))
        saved = save(run, record, root / f"saved{number}")
        kept = run.outcomes(saved.record)
        assert kept is not None
        splits = datasets.load(datasets.resolve(data))
        assert splits.fingerprints == saved.record.provenance["splits"]
        case = Case(run, saved, splits.test, kept)
        name = f"{model.partition('?')[0]} {record.cell.method} {variant}".rstrip()
        found.append((name, case))
    return found


def tiny_vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def same(said: list[dict[str, Any]], case: Case) -> None:
    """The answers are the record's, by class and probability, or by number."""
    arrays = case.kept.arrays
    assert len(said) == case.kept.n
    if "value" in said[0]:
        values = np.array([one["value"] for one in said])
        np.testing.assert_allclose(values, arrays["predicted"], rtol=1e-4, atol=1e-4)
        return
    classes = json.loads((case.saved.folder / "predict.json").read_text("utf-8"))["classes"]
    sure = np.array([one["probability"] for one in said])
    np.testing.assert_allclose(sure, arrays["confidence"], atol=1e-4)
    named = np.array([classes.index(one["class"]) for one in said])
    level = np.abs(sure - 1 / len(classes)) < 1e-4  # nothing was learned: all are level
    assert (level | (named == arrays["predicted"])).all()


def test_the_scripts_say_what_was_judged_where_there_is_no_zoobench(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    """One process for all of them, since each would import torch anew."""
    code = """
import contextlib, io, json, runpy, sys
sys.modules["zoobench"] = None
asked, more = json.load(sys.stdin)
sys.path += more
for folder, files in asked:
    sys.argv = [folder + "/predict.py", *files]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(sys.argv[0], run_name="__main__")
    print(json.dumps([json.loads(line) for line in out.getvalue().splitlines()]))
"""
    asked = []
    for number, case in enumerate(cases.values()):
        (tmp_path / str(number)).mkdir()
        asked.append([str(case.saved.folder), case.inputs(tmp_path / str(number))])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=json.dumps([asked, sys.path]),
        capture_output=True, text=True,
        timeout=200, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(cases)
    for line, case in zip(lines, cases.values(), strict=True):
        same(json.loads(line), case)


def test_zoobench_says_the_same(cases: dict[str, Case]) -> None:
    for case in cases.values():
        model = open_saved(case.saved.folder)
        same(model.answers([case.test.read(i) for i in range(len(case.test))]), case)


def test_all_libraries_are_tried(cases: dict[str, Case]) -> None:
    tried = {open_saved(case.saved.folder).description.library for case in cases.values()}
    scripts = (Path(saved.__file__).parent / "scripts").glob("predict_*.py")
    wanted = {path.stem for path in scripts}
    if not all(map(find_spec, NEEDS["onnx"])):
        wanted.remove("predict_onnx")
    assert {f"predict_{one.replace('-', '_')}" for one in tried} == wanted


def test_the_card_says_what_a_stranger_needs(cases: dict[str, Case]) -> None:
    case = cases["packaged/efficientnet-lite0 linear-probe"]
    card = (case.saved.folder / "README.md").read_text("utf-8")
    accuracy = case.saved.record.get("accuracy")
    assert accuracy is not None
    assert (
        f"| accuracy | {accuracy.value:.4g} | {accuracy.low:.4g} to {accuracy.high:.4g} |" in card
    )
    for part in ("Apache-2.0", "efficientnet-lite0", "ImageNet-1k", "5793442", "crop_pct", "green"):
        assert part in card
    assert "<b>" not in card
    assert "green | tree" not in card
    assert str(case.run.path.parent) not in card
    assert str(case.run.path.parent) not in (case.saved.folder / "predict.json").read_text("utf-8")


def test_the_card_of_a_variant_says_what_it_is(cases: dict[str, Case]) -> None:
    folder = cases["timm/me/resnet ridge bf16"].saved.folder
    card = (folder / "README.md").read_text("utf-8")
    row = "bf16; 100% of the parameters, 100% of the MACs; head fitted on the original's features"
    assert row in card
    assert "| compressed |" in card
    published = cases["timm/me/resnet ridge"].saved.folder / "README.md"
    assert "| compressed |" not in published.read_text("utf-8")


@dataclass(frozen=True)
class Altered(Run):
    """A run whose kept predictions are `change`d."""

    change: Callable[[Outcomes], Outcomes] = lambda kept: kept

    def outcomes(self, record: Record) -> Outcomes | None:
        kept = super().outcomes(record)
        assert kept is not None
        return self.change(kept)


def moved(name: str, by: float) -> Callable[[Outcomes], Outcomes]:
    def change(kept: Outcomes) -> Outcomes:
        arrays = {**kept.arrays, name: kept.arrays[name].copy()}
        arrays[name][0] += type(arrays[name][0])(by)
        return Outcomes(kept.n, arrays)

    return change


@pytest.mark.parametrize(
    ("name", "by", "said"),
    [("confidence", 0.01, "of 1 of"), ("predicted", 1, "of 1 of"), ("label", 1, "test answers")],
)
def test_another_model_than_the_one_that_was_judged_is_refused(
    name: str, by: float, said: str, cases: dict[str, Case], tmp_path: Path, features: None
) -> None:
    case = cases["timm/me/resnet ridge"]
    run = Altered(case.run.path, case.run.records, case.run.suite, moved(name, by))
    with pytest.raises(UserError, match=said):
        save(run, case.saved.record, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("part", "said"), [("model", "the weights"), ("splits", "the data")])
def test_other_weights_and_other_data_are_refused(
    part: str, said: str, cases: dict[str, Case], tmp_path: Path, features: None
) -> None:
    case = cases["timm/me/resnet ridge"]
    told = dict(case.saved.record.provenance)
    told[part] = {**told[part], "state": "0", "test": "0"}
    record = dataclasses.replace(case.saved.record, provenance=told)
    with pytest.raises(UserError, match=said):
        save(case.run, record, tmp_path / "new")


def test_files_that_say_something_else_are_not_left(
    cases: dict[str, Case], tmp_path: Path, features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases["timm/me/resnet ridge"]
    monkeypatch.setattr(
        AffineHead, "among", lambda head, *_: AffineHead(head.weight * 9, head.bias)
    )
    with pytest.raises(UserError, match="do not say"):
        save(case.run, case.saved.record, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(
    cases: dict[str, Case], tmp_path: Path, features: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    case = cases["timm/me/resnet ridge"]
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StoreError, match="No space left"):
        save(case.run, case.saved.record, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_part_of_the_data_is_found_again_and_other_data_is_not(
    cases: dict[str, Case], features: None
) -> None:
    case = cases["timm/me/resnet ridge"]
    cell = case.saved.record.cell
    assert cell.dataset.option("path") is None
    part = dataclasses.replace(cell, dataset=cell.dataset.with_options(max_train=9))
    found = cells.located(case.run, part)
    assert found.dataset.option("path") == str(case.run.path.parent / "pics")
    assert found.dataset.option("max_train") == 9
    assert found.key == part.key
    other = dataclasses.replace(cell, dataset=cell.dataset.at("0123456789abcdef"))
    with pytest.raises(UserError, match="what lies there now"):
        cells.located(case.run, other)
    with pytest.raises(UserError, match=r"no suite\.toml"):
        cells.located(dataclasses.replace(case.run, suite={}), cell)


@pytest.mark.parametrize(
    "name",
    ["timm/me/resnet fine-tune", "timm/me/resnet ridge bf16", "onnx/free linear-probe",
     "onnx/one ridge"],
)  # fmt: skip
def test_what_was_saved_is_judged_and_saved_again(
    name: str, cases: dict[str, Case], tmp_path: Path, features: None
) -> None:
    """Ridge on the features of a fine-tune, and on those that a probe had before."""
    if frozen := name.startswith("onnx/"):
        pytest.importorskip("onnxruntime")
    case = cases[name]
    data = f"folder/pics?path={case.run.path.parent / 'pics'}"
    mine = Path(shutil.copytree(case.saved.folder, tmp_path / "mine"))
    change(mine, license="MIT")
    run = judged(tmp_path / "run", [f"saved/{mine}"], [data], ["ridge"])
    [record] = run.records
    for twin in case.run.records:
        if twin.cell.params.get("head") == "anew":
            assert record.value("accuracy") == twin.value("accuracy")
    assert dict(models.card(models.resolve(f"saved/{mine}")).extra).get(FROZEN, False) == frozen
    again = save(run, record, tmp_path / "again")
    said = open_saved(tmp_path / "again").description
    assert said.variant == open_saved(case.saved.folder).description.variant
    assert again.compared == len(case.test)
    file = said.weights
    assert (tmp_path / "again" / file).read_bytes() == (case.saved.folder / file).read_bytes()
    kept = (tmp_path / "run" / "records.jsonl").read_text("utf-8")
    assert str(tmp_path) not in kept
    assert again.license == said.license == "MIT"


def test_a_model_that_only_zoobench_makes_is_refused(tmp_path: Path) -> None:
    data = "synthetic/stripes?train=12&valid=4&test=4"
    run = judged(tmp_path / "run", ["synthetic/gabor"], [data], ["linear-probe"])
    with pytest.raises(UserError, match="no script makes such a model without zoobench"):
        save(run, run.records[0], tmp_path / "new")


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_dense_model_is_refused_before_anything_is_trained(task: str, tmp_path: Path) -> None:
    versions = {"protocol": 1, "task": f"{task}@1", "method": 1}
    model, data = Ref.parse("timm/net@1"), Ref.parse("folder/scenes@1")
    record = Record(Cell(model, data, "linear-probe", versions=versions), "ok")
    with pytest.raises(UserError, match=f"no model of {task} is saved, only of classification"):
        save(Run(tmp_path, (record,), {}), record, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_absent_class_is_never_said() -> None:
    head = AffineHead.of(torch.ones(2, 3), torch.tensor([1.0, 2.0])).among(torch.tensor([0, 2]), 4)
    scores = torch.ones(1, 3).double() @ head.weight.T + head.bias
    torch.testing.assert_close(
        scores.softmax(1), torch.tensor([[1.0, 0, np.e, 0]]).double() / (1 + np.e)
    )


def test_the_scripts_share_their_common_part_word_for_word() -> None:
    """Each stands alone, so a mend in one of them is needed in all."""
    parts: dict[str, set[str]] = {}
    for path in (Path(saved.__file__).parent / "scripts").glob("predict_*.py"):
        told = path.read_text("utf-8")
        kind = next(one for one in KINDS_OF_INPUT if f"{one}s to their scores" in told)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                key = node.name if node.name in ("answer", "fill") else f"{kind} {node.name}"
                parts.setdefault(key, set()).add(ast.unparse(node))
    sounds = {f"recording {name}" for name in ("load", "parts", "features", "recording", "main")}
    own = {"picture parts", "text load", "text parts", "text dense_layers", *sounds}
    pictures = {f"picture {name}" for name in ("load", "session", "run", "main", "picture")}
    assert parts.keys() == own | pictures | {"answer", "fill", "text main"}
    assert all(len(written) == 1 for name, written in parts.items() if name not in own)


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_commands_save_and_predict(
    cases: dict[str, Case], tmp_path: Path, features: None
) -> None:
    case = cases["timm/me/resnet ridge"]
    done = command(
        "save", case.run.path, "--model", "*resnet*", "--out", tmp_path / "new", "--json"
    )
    assert done.exit_code == 0, done.output
    body = json.loads(done.stdout)
    assert body["compared"] == len(case.test)
    assert body["bytes"] == sum(path.stat().st_size for path in (tmp_path / "new").iterdir())
    files = case.inputs(tmp_path)
    done = command("predict", tmp_path / "new", *files, "--json")
    assert done.exit_code == 0, done.output
    same([json.loads(line) for line in done.stdout.splitlines()], case)
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(files[0]).read_bytes()[:40])
    done = command("predict", tmp_path / "new", files[0], broken, files[1])
    assert done.exit_code == 3
    first, error, last = done.stdout.splitlines()
    assert "not a picture" in error
    assert files[0] in first
    assert files[1] in last
    done = command("save", case.run.path, "--out", tmp_path / "new")
    assert done.exit_code == 2
    assert "is not empty; nothing was written" in done.stderr


def test_the_command_hears_recordings(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["hf/hubert linear-probe"]
    files = case.inputs(tmp_path)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    done = command("predict", case.saved.folder, *files[:2], broken)
    assert done.exit_code == 3
    first, second, error = done.stdout.splitlines()
    assert files[0] in first
    assert files[1] in second
    assert "not a recording that can be decoded" in error
    card = (case.saved.folder / "README.md").read_text("utf-8")
    assert "one JSON object a recording" in card
    assert "rate 16000" in card


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["save", "nowhere", "--out", "new"], "no records.jsonl here"),
        (["save", "nowhere"], "Missing option '--out'"),
        (["save", "nowhere", "--out", "/dev/null"], "is there and no folder"),
        (["predict", "nowhere", "a.png"], "a.png: no such file"),
        (["predict", "nowhere", __file__], "nowhere: no such folder"),
        (["predict", ".", __file__], "holds no predict.json"),
        (["predict", "nowhere"], "Missing argument 'FILES...'"),
        (["predict", "nowhere", "."], "is a folder; name its files"),
    ],
)
def test_mistakes_are_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
