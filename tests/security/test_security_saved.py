"""Saved folders that somebody else made: data, whatever is in them, and refused in a line."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hostile import Canary, Said
from savedfolders import change, describe, of_backbone
from tinymodels import tiny_bert, tiny_timm, write_files
from tinysound import tiny_sound
from zoobench.errors import Unsupported
from zoobench.export.saved import open_saved
from zoobench.models import onnx_session
from zoobench.models.saved.description import script_path

Command = Callable[..., Said]


@pytest.fixture
def words(inside: Path) -> Path:
    """Word vectors of two words and a head of two classes: the least that can predict."""
    folder = inside / "saved"
    folder.mkdir()
    (folder / "words.json").write_text('["good", "bad"]', encoding="utf-8")
    save_file({"weight": torch.eye(3)[:, :2].contiguous()}, folder / "model.safetensors")
    head = {"weight": torch.eye(2).double(), "bias": torch.zeros(2).double()}
    save_file(head, folder / "head.safetensors")
    body = describe("words", {"length": 8}, ["yes", "no"])
    (folder / "predict.json").write_text(json.dumps(body), encoding="utf-8")
    (folder / "predict.py").write_text("raise SystemExit('run')", encoding="utf-8")
    (inside / "said.txt").write_text("good\nbad\n", encoding="utf-8")
    return folder


@pytest.fixture
def resnet(inside: Path) -> Path:
    made = write_files(tiny_timm(), inside / "made")
    return of_backbone(f"timm/me/made?weights={made}", inside / "saved")


@pytest.fixture
def bert(inside: Path) -> Path:
    made = write_files(tiny_bert(), inside / "made")
    return of_backbone(f"hf/made?weights={made}&modality=text", inside / "saved")


def refused(zoobench: Command, folder: Path) -> str:
    """The line that `predict` ends with, and it ends so from Python too."""
    file = folder.parent / "said.txt"
    file.write_text("good\n", encoding="utf-8")
    said = zoobench("predict", folder, file)
    assert said.code == 2, said
    assert "\x1b" not in said.out + said.err
    return said.error


def test_a_folder_that_is_as_it_was_written_predicts(words: Path, zoobench: Command) -> None:
    said = zoobench("predict", words, words.parent / "said.txt", "--json")
    assert said.code == 0
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [one["class"] for one in answers] == ["yes", "no"]


SOUND: list[tuple[dict[str, Any], str]] = [
    ({"model__part": "__class__"}, "part"),
    ({"model__fed": "code"}, "fed"),
    ({"model__pool": "cls"}, "unknown pool 'cls'"),
    ({"model__length": 2**40}, "length"),
    ({"model__rate": 0}, "rate"),
    ({"model__class": "AutoConfig"}, "no model class 'AutoConfig'"),
    ({"model__class": "WhisperModel"}, "saved"),
]


@pytest.mark.parametrize(("fields", "said"), SOUND, ids=lambda one: str(one)[:40])
def test_a_folder_of_sound_that_says_anything_else(
    fields: dict[str, Any], said: str, inside: Path, zoobench: Command
) -> None:
    tiny_sound("hubert", inside / "made")
    folder = of_backbone(f"hf/made?weights={inside / 'made'}", inside / "saved")
    change(folder, **fields)
    assert said in refused(zoobench, folder)


def test_tables_of_an_extractor_without_bound(inside: Path, zoobench: Command) -> None:
    tiny_sound("whisper", inside / "made")
    folder = of_backbone(f"hf/made?weights={inside / 'made'}", inside / "saved")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_fft": 10**9}))
    assert "n_fft is not a number of 1 to 16384" in refused(zoobench, folder)


class Evil:
    def __init__(self, canary: Canary) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return exec, (self.canary.python,)


@pytest.mark.parametrize("name", ["model.safetensors", "head.safetensors"])
@pytest.mark.parametrize("made", ["pickle", "torch", "empty", "cut", "link", "absent", "folder"])
def test_weights_that_are_none(
    name: str, made: str, words: Path, canary: Canary, zoobench: Command
) -> None:
    path = words / name
    whole = path.read_bytes()
    path.unlink()
    if made == "pickle":
        path.write_bytes(pickle.dumps(Evil(canary)))
    elif made == "torch":
        torch.save({"weight": Evil(canary)}, path)
    elif made == "link":
        (words.parent / "theirs").write_bytes(whole)
        path.symlink_to(words.parent / "theirs")
    elif made == "folder":
        path.mkdir()
    elif made != "absent":
        path.write_bytes(whole[: len(whole) // 2] if made == "cut" else b"")
    assert "saved" in refused(zoobench, words)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"format": 2}, "format"),
    ({"format": "1"}, "format"),
    ({"library": "pickle"}, "library"),
    ({"library": "../../evil"}, "library"),
    ({"library": "timm"}, "model"),
    ({"task": "code"}, "task"),
    ({"task": "regression"}, "regression with 2 classes"),
    ({"classes": []}, "0 classes"),
    ({"classes": ["a", 1]}, "classes"),
    ({"classes": ["a", "b", "c"]}, "classes"),
    ({"classes": {"a": 1}}, "classes"),
    ({"model": []}, "model"),
    ({"model": {}}, "length"),
    ({"model__length": 0}, "length"),
    ({"model__length": 10**9}, "length"),
    ({"model__length": "8"}, "length"),
    ({"model__script": "evil.py"}, "script"),
    ({"script": "evil.py"}, "script"),
    ({"expected": None}, "expected"),
    ({"expected": {"metric": "\x1b[31m"}}, "metric"),
]


@pytest.mark.parametrize(("fields", "said"), BAD, ids=lambda one: str(one)[:40])
def test_a_description_that_says_anything_else(
    fields: dict[str, Any], said: str, words: Path, zoobench: Command
) -> None:
    change(words, **fields)
    assert said in refused(zoobench, words)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": NaN}', b"[" * 100_000, b'"\x1b[31m"'],
    ids=lambda one: str(one[:12]),
)
def test_a_description_that_is_no_table(content: bytes, words: Path, zoobench: Command) -> None:
    (words / "predict.json").write_bytes(content)
    refused(zoobench, words)


@pytest.mark.parametrize("name", ["predict.json", "words.json"])
@pytest.mark.parametrize("made", ["absent", "pipe", "link", "ring"])
def test_a_part_that_is_no_file(name: str, made: str, words: Path, zoobench: Command) -> None:
    path = words / name
    whole = path.read_bytes()
    path.unlink()
    if made == "pipe":
        os.mkfifo(path)
    elif made == "link":
        (words.parent / name).write_bytes(whole)
        path.symlink_to(words.parent / name)
    elif made == "ring":
        path.symlink_to(path)
    refused(zoobench, words)


@pytest.mark.parametrize("made", ["nan", "shape", "names", "integers"])
def test_a_head_that_does_not_fit(made: str, words: Path, zoobench: Command) -> None:
    weight, bias = torch.eye(2).double(), torch.zeros(2).double()
    heads = {
        "nan": {"weight": weight * float("nan"), "bias": bias},
        "shape": {"weight": torch.ones(2, 7).double(), "bias": bias},
        "names": {"w": weight, "bias": bias},
        "integers": {"weight": torch.eye(2).long(), "bias": bias},
    }
    save_file(heads[made], words / "head.safetensors")
    refused(zoobench, words)


NAMES = ["\x1b[31mred", "a\nb", "| --- |", "<script>", "::error::", "\u202eevil", "=cmd()", "\x07"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_class_is_called_anything(name: str, words: Path, zoobench: Command) -> None:
    change(words, classes=[name, "no"])
    file = words.parent / "said.txt"
    said = zoobench("predict", words, file)
    assert said.code == 0
    assert len(said.out.splitlines()) == 2
    assert not set("\x1b\x07\u202e") & set(said.out)
    said = zoobench("predict", words, file, "--json")
    assert json.loads(said.out.splitlines()[0])["class"] == name
    assert said.out.isascii()


def test_the_folders_own_script_is_not_run(words: Path, canary: Canary, zoobench: Command) -> None:
    (words / "predict.py").write_text(canary.python, encoding="utf-8")
    (words / "torch.py").write_text(canary.python, encoding="utf-8")
    assert zoobench("predict", words, words.parent / "said.txt").code == 0


TIMM: list[dict[str, Any]] = [
    {"model__architecture": "hf-hub:evil/model"},
    {"model__architecture": "local-dir:/tmp"},
    {"model__architecture": "no_such_net"},
    {"model__pretrained_cfg__url": "http://127.0.0.1/evil.pth"},
    {"model__pretrained_cfg__file": "/etc/passwd"},
    {"model__pretrained_cfg__custom_load": True},
    {"model__model_args": {"checkpoint_path": "/etc/passwd"}},
    {"model__model_args": {"pretrained": True}},
    {"model__model_args": {"cache_dir": "/tmp"}},
    {"model__model_args": {"block_fn": "os.system"}},
    {"model__model_args": {"width": 10**12}},
    {"model__pool": ["evil"]},
    {"model__pool": ["avg", "avg"]},
    {"model__transform__interpolation": "os.system"},
    {"model__transform__input_size": [3, 10**6, 10**6]},
    {"model__transform__crop_pct": 0},
    {"model__transform__mean": []},
    {"model__transform__is_training": True},
]


def test_what_timm_is_told(resnet: Path, zoobench: Command) -> None:
    whole = (resnet / "predict.json").read_text("utf-8")
    assert open_saved(resnet).classes == ["yes", "no"]
    for fields in TIMM:
        change(resnet, **fields)
        assert "predict.json" in refused(zoobench, resnet), fields
        (resnet / "predict.json").write_text(whole, encoding="utf-8")
    state = {"conv1.0.weight": torch.zeros(3)}
    save_file(state, resnet / "model.safetensors")
    assert "saved" in refused(zoobench, resnet)


TRANSFORMERS: list[tuple[str, dict[str, Any]]] = [
    ("predict.json", {"model__class": "Trainer"}),
    ("predict.json", {"model__class": "os"}),
    ("predict.json", {"model__class": "utils.hub.cached_file"}),
    ("predict.json", {"model__class": "GPT2Model"}),
    ("predict.json", {"model__layers": ["Softmax"]}),
    ("predict.json", {"model__layers": ["Tanh"]}),
    ("predict.json", {"model__pool": "evil"}),
    ("config.json", {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}),
    ("config.json", {"model_type": "no_such_type"}),
    ("config.json", {"transformers_weights": "elsewhere.safetensors"}),
    ("config.json", {"hidden_size": 10**9}),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
    ("tokenizer_config.json", {"vocab_file": "../../outside.txt"}),
    ("tokenizer.json", {"model": {"type": "evil"}}),
]


def test_what_transformers_is_told(bert: Path, zoobench: Command, canary: Canary) -> None:
    (bert / "evil.py").write_text(canary.python, encoding="utf-8")
    assert open_saved(bert).classes == ["yes", "no"]
    for name, fields in TRANSFORMERS:
        whole = (bert / name).read_bytes()
        if name == "predict.json":
            change(bert, **fields)
        else:
            body = {**json.loads(whole), **fields}
            (bert / name).write_text(json.dumps(body), encoding="utf-8")
        if "vocab_file" not in fields:  # not there, and the tokenizer does not need it
            assert "saved" in refused(zoobench, bert), fields
        (bert / name).write_bytes(whole)
    (bert / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}')
    assert "adapter" in refused(zoobench, bert)


@pytest.mark.parametrize("given", ["folder", "absent", "pipe", "picture"])
def test_files_that_are_no_texts(given: str, words: Path, zoobench: Command) -> None:
    path = words.parent / "given"
    if given == "folder":
        path.mkdir()
    elif given == "pipe":
        os.mkfifo(path)
    elif given == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    said = zoobench("predict", words, words.parent / "said.txt", path)
    assert said.code == (3 if given in ("pipe", "picture") else 2), said
    if said.code == 3:  # the others are answered
        assert len(said.out.splitlines()) == 3


def test_what_is_saved_names_its_own_scripts() -> None:
    assert script_path("words").is_file()


def elsewhere(location: str) -> Any:
    """A constant that lies in another file, if any is named."""
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(torch.eye(3).numpy(), "weights")
    if location:
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
    return weights


def graph(location: str = "", nested: bool = False) -> Any:
    """From pixels to features by one product, whose weights may lie in another file."""
    onnx = pytest.importorskip("onnx")
    made, weights = onnx.helper, elsewhere(location)
    node = made.make_node("MatMul", ["pixels", "weights"], ["features"])
    value = made.make_tensor_value_info
    ends = [value("pixels", 1, ["b", 3])], [value("features", 1, ["b", 3])]
    inner = made.make_graph([node], "g", *ends, [weights])
    if nested:
        both = {"then_branch": inner, "else_branch": inner}
        node = made.make_node("If", ["pixels"], ["features"], **both)
        inner = made.make_graph([node], "g", *ends)
    return made.make_model(inner)


@pytest.mark.parametrize("place", ["constant", "nested", "bytes", "link", "absent", "none"])
def test_an_onnx_file_that_leads_elsewhere_or_is_none(
    place: str, resnet: Path, zoobench: Command
) -> None:
    pytest.importorskip("onnxscript")
    (resnet.parent / "theirs").write_bytes(torch.eye(3).numpy().tobytes())
    change(resnet, variant="int8-static")
    path = resnet / "model.onnx"
    if place == "none":
        path.write_bytes(graph().SerializeToString())  # of vectors, where pictures are due
    elif place in ("constant", "nested"):
        path.write_bytes(graph("../theirs", place == "nested").SerializeToString())
    elif place == "bytes":
        path.write_bytes(b"\x80\x04evil")
    elif place == "link":
        path.symlink_to(resnet.parent / "theirs")
    said = refused(zoobench, resnet)
    expected = {"constant": "weights inside", "nested": "weights inside", "link": "outside"}
    assert expected.get(place, "saved") in said


@pytest.mark.parametrize("place", ["branch", "list", "sparse", "sparse list", "function"])
def test_a_constant_that_lies_elsewhere_is_found_wherever_it_stands(
    place: str, tmp_path: Path
) -> None:
    """A branch that computes nothing gives its constants; an attribute holds more than one."""
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    model, there = graph(), elsewhere("../theirs")
    node = model.graph.node[0]
    given = node.attribute.add(name="value")
    if place == "branch":
        given.g.CopyFrom(onnx.helper.make_graph([], "g", [], [], [there]))
    elif place == "list":
        given.tensors.append(there)
    elif place == "sparse":
        given.sparse_tensor.values.CopyFrom(there)
    elif place == "sparse list":
        given.sparse_tensors.add().values.CopyFrom(there)
    else:
        model.functions.add(name="f").node.append(node)
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match="weights inside"):
        onnx_session.check(file)
    file.write_bytes(graph().SerializeToString())
    onnx_session.check(file)


@pytest.mark.parametrize("made", ["nobody's", "unreadable", "folder", "null"])
def test_a_name_that_leads_nowhere(made: str, words: Path, zoobench: Command) -> None:
    name = {"nobody's": "~nobody-here/x", "null": "x%00y"}.get(made, str(words))
    if made == "folder":
        (words / "__pycache__").mkdir()
    elif made == "unreadable":
        (words / "words.json").unlink()
        (words / "words.json").symlink_to("words.json")
    for command in ("check", "profile"):
        said = zoobench(command, f"saved/x?path={name}")
        assert said.code == 2, said
        assert "Traceback" not in said.err


@pytest.mark.parametrize("variant", ["int8", "../bf16", 7, None])
def test_a_variant_that_is_none(variant: Any, words: Path, zoobench: Command) -> None:
    change(words, variant=variant)
    assert "variant" in refused(zoobench, words)


def test_int8_weights_that_do_not_fit(resnet: Path, zoobench: Command) -> None:
    pytest.importorskip("torchao")
    change(resnet, variant="int8-weight")
    state = {"conv1.weight.qdata": torch.zeros(2, 2, dtype=torch.int8)}
    save_file(state, resnet / "model.safetensors")
    assert "saved" in refused(zoobench, resnet)
