"""Folders and repositories of models that name code, or files of another place: never followed."""

from __future__ import annotations

import ast
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoobench
from hostile import Canary
from tinymodels import tiny_bert, write_files
from zoobench import models
from zoobench.errors import CellError, MissingWeights, Unsupported, ZoobenchError

SOURCES = Path(zoobench.__file__).parent
CLOSED = {
    "from_pretrained": ("trust_remote_code", False),
    "from_config": ("trust_remote_code", False),
    "torch.load": ("weights_only", True),
}
"""Calls that run code of what they load unless they are told not to -> what they are told."""


def calls() -> list[tuple[str, ast.Call]]:
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.relative_to(SOURCES)}:{node.lineno}", node))
    return found


def name_of(call: ast.Call) -> str:
    """ "torch.load" of torch.load(...), else the method's own name."""
    text = ast.unparse(call.func)
    return text if text in CLOSED else text.rpartition(".")[2]


def test_every_call_that_could_run_code_is_told_not_to() -> None:
    seen = set()
    for where, call in calls():
        name = name_of(call)
        if name in CLOSED:
            seen.add(name)
            keyword, value = CLOSED[name]
            told = [k.value for k in call.keywords if k.arg == keyword]
            said = f"{where}: {name} without {keyword}={value}"
            assert told, said
            assert ast.literal_eval(told[0]) is value, said
    assert seen >= {"from_pretrained", "from_config", "torch.load"}


def test_nothing_reads_a_pickle_or_the_web_by_another_door() -> None:
    forbidden: tuple[str, ...] = (
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "torch.hub.load",
        "torch.jit.load",
    )
    forbidden += ("load_state_dict_from_url", "load_checkpoint", "np.lib.format.read_array")
    for where, call in calls():
        text = ast.unparse(call.func)
        assert not {text, text.rpartition(".")[2]} & set(forbidden), where


@pytest.fixture
def bert(inside: Path) -> Path:
    return write_files(tiny_bert(), inside / "m")


def load(folder: Path, modality: str = "text") -> Any:
    return models.load(models.resolve(f"hf/me/x?weights={folder}&modality={modality}"))


def change(path: Path, **fields: Any) -> None:
    body = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**body, **fields}), "utf-8")


CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (CONFIG, {"auto_map": {"AutoConfig": "code.X"}}, "code of its own"),
        (CONFIG, {"auto_map": {"AutoModel": "code.X"}}, "code of its own"),
        (CONFIG, {"auto_map": {"AutoModel": "me/other--code.X"}}, "code of its own"),
        (CONFIG, {"auto_map": ["code.X", None]}, "code of its own"),
        (CONFIG, {"model_type": "strange", "auto_map": {"AutoConfig": "c.X"}}, "code of its own"),
        (CONFIG, {"vision_config": {"auto_map": {"AutoModel": "code.X"}}}, "code of its own"),
        (CONFIG, {"trust_remote_code": True}, "code of its own"),
        (CONFIG, {"vision_config": {"trust_remote_code": True}}, "code of its own"),
        (CONFIG, {"attn_implementation": "me/kernel"}, "kernel"),
        (CONFIG, {"_attn_implementation": "me/kernel@v1:layer"}, "kernel"),
        (CONFIG, {"_attn_implementation_internal": "me/kernel"}, "kernel"),
        (CONFIG, {"attn_implementation": {"text_config": "me/kernel"}}, "kernel"),
        (CONFIG, {"text_config": {"attn_implementation": "me/kernel"}}, "kernel"),
        (CONFIG, {"kernel_config": {"x": "me/kernel"}}, "kernels"),
        (CONFIG, {"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        (CONFIG, {"transformers_weights": "../m2/model.safetensors"}, "another file"),
        (CONFIG, {"use_pretrained_backbone": True, "backbone": "me/x"}, "from elsewhere"),
        (CONFIG, {"model_type": "timm_wrapper"}, "timm/user/name"),
        (CONFIG, {"model_type": "timm_backbone", "backbone": "resnet18"}, "timm/user/name"),
        (CONFIG, {"configuration_files": ["../config.4.0.0.json"]}, "outside"),
        (CONFIG, {"model_type": "nobody-knows-it"}, "cannot load"),
        (CONFIG, {"hidden_size": -4}, "cannot load"),
        (CONFIG, {"hidden_size": "32"}, "cannot load"),
        (TOKENIZER, {"auto_map": {"AutoTokenizer": ["code.X", None]}}, "code of its own"),
        (TOKENIZER, {"auto_map": ["code.X", None]}, "code of its own"),
        (TOKENIZER, {"fast_tokenizer_files": ["/tmp/tokenizer.4.0.0.json"]}, "outside"),
        (TOKENIZER, {"vocab_file": "../canary/vocab.txt"}, None),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "code.X"}}, "code of its own"),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "c.X"}}, "its own"),
        ("adapter_config.json", {"base_model_name_or_path": "me/base"}, "an adapter"),
    ],
)  # fmt: skip
def test_a_configuration_that_names_code_or_another_place_is_refused(
    name: str, fields: dict[str, Any], said: str | None, bert: Path, canary: Canary
) -> None:
    for module in ("code", "configuration", "modeling"):
        (bert / f"{module}.py").write_text(canary.python + "\nclass X: ...\n")
    change(bert / name, **fields)
    if said is None:  # a name of a file that is not there does no harm
        assert load(bert).feature_dim == 32
        return
    with pytest.raises(Unsupported, match=said) as caught:
        load(bert)
    assert "Traceback" not in str(caught.value)


def test_a_file_of_somebody_else_is_no_vocabulary(bert: Path, outside: Path) -> None:
    change(bert / TOKENIZER, vocab_file=str(outside / "secret.txt"))
    with pytest.raises(Unsupported, match="vocab_file: it names a file outside"):
        load(bert)


@pytest.mark.parametrize("answer", ["y\n" * 9, "", None])
@pytest.mark.parametrize("command", ["similarity", "profile"])
def test_nobody_is_asked_whether_code_may_run(
    command: str,
    answer: str | None,
    bert: Path,
    canary: Canary,
    zoobench: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (bert / "code.py").write_text(canary.python + "\nclass X: ...\n")
    change(bert / CONFIG, model_type="strange", auto_map={"AutoConfig": "code.X"})
    if answer is not None:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    name = f"hf/me/x?weights={bert}"
    data = ["packaged/word-polarity"] * 2 if command == "similarity" else []
    said = zoobench(command, name, *data)
    assert said.code in (2, 3)
    assert "code of its own, which is never run" in said.err
    assert "y/N" not in said.out + said.err


def shards(folder: Path, names: dict[str, str] | None = None) -> dict[str, str]:
    """Split the weights of `folder` in two; `names` stand in the index instead of theirs."""
    whole = folder / "model.safetensors"
    state = load_file(whole)
    whole.unlink()
    keys = sorted(state)
    index: dict[str, str] = {}
    for number, part in enumerate((keys[::2], keys[1::2]), start=1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, folder / name, {"format": "pt"})
        index |= dict.fromkeys(part, (names or {}).get(name, name))
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


def test_shards_give_what_the_whole_gives_and_are_all_in_the_digest(inside: Path) -> None:
    whole = load(write_files(tiny_bert(), inside / "whole"))
    parts = write_files(tiny_bert(), inside / "parts")
    shards(parts)
    sharded = load(parts)
    own = sharded.module.state_dict()
    assert all(torch.equal(own[k], v) for k, v in whole.module.state_dict().items())
    before = sharded.provenance["weights_sha256"]
    for number in (1, 2):
        path = parts / f"model-0000{number}-of-00002.safetensors"
        state = load_file(path)
        key = next(iter(state))
        save_file({**state, key: state[key] + 1}, path, {"format": "pt"})
        after = load(parts).provenance["weights_sha256"]
        assert after != before
        before = after


FIRST = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize("place", ["../w.safetensors", "{}/w.safetensors", "a/../../w.safetensors"])
@pytest.mark.parametrize("there", [True, False])
def test_a_shard_outside_of_the_folder_is_not_read(
    place: str, there: bool, bert: Path, inside: Path
) -> None:
    if there:
        (inside / "w.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    shards(bert, {FIRST: place.format(inside)})
    with pytest.raises(Unsupported, match="outside of the folder"):
        load(bert)


@pytest.mark.parametrize("name", ["model.safetensors", FIRST, "pytorch_model.bin"])
def test_a_link_out_of_the_folder_is_not_read(name: str, bert: Path, inside: Path) -> None:
    away = inside / "away"
    if name == FIRST:
        shards(bert)
        (bert / name).rename(away)
    else:
        (bert / "model.safetensors").rename(away)
    (bert / name).symlink_to(away)
    with pytest.raises(Unsupported, match="outside of the folder"):
        load(bert)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "names no shards"),
        ('{"weight_map": {}}', "names no shards"),
        ('{"weight_map": {"a": "x.pth"}}', "was due"),
        ('{"weight_map": {"a": "nowhere.safetensors"}}', "holds no file"),
        ('{"weight_map": {"a": "."}}', "was due"),
        ('{"weight_map": {"a": null}}', "was due"),
    ],
)
def test_a_bad_index_is_said_to_be_bad(content: str, said: str, bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    (bert / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CellError, match=said):
        load(bert)


class Evil:
    def __init__(self, canary: Canary) -> None:
        self.command = canary.shell

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("where", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_a_pickle_in_a_folder_is_not_run(where: str, bert: Path, canary: Canary) -> None:
    (bert / "model.safetensors").unlink()
    torch.save({"embeddings.x": Evil(canary)}, bert / where)
    index = {"weight_map": {"embeddings.x": where}}
    if "-of-" in where:
        (bert / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CellError, match="plain tensors"):
        load(bert)


TOKENIZERS: tuple[str, ...] = (
    "BertConfig",
    "RobertaConfig",
    "XLMRobertaConfig",
    "AlbertConfig",
    "T5Config",
)
TOKENIZERS += ("DebertaV2Config", "MPNetConfig", "ModernBertConfig", "DistilBertConfig")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_is_never_made_up(name: str, inside: Path) -> None:
    import transformers

    getattr(transformers, name)(vocab_size=64).save_pretrained(inside / "m")
    state = load_file(write_files(tiny_bert(), inside / "b") / "model.safetensors")
    save_file(state, inside / "m" / "model.safetensors")
    with pytest.raises(MissingWeights, match="holds no tokenizer"):
        load(inside / "m")


@pytest.mark.parametrize(
    ("part", "modality", "said"),
    [
        ("model.safetensors", "text", "no weights"),
        ("tokenizer.json", "text", "no tokenizer"),
        ("preprocessor_config.json", "image", "no image processor"),
    ],
)
def test_a_part_that_is_not_there_is_named(part: str, modality: str, said: str, bert: Path) -> None:
    (bert / part).unlink(missing_ok=True)
    with pytest.raises(MissingWeights, match=said):
        load(bert, modality)


def test_half_a_vocabulary_is_named(inside: Path) -> None:
    import transformers

    folder = inside / "m"
    transformers.RobertaConfig(vocab_size=64).save_pretrained(folder)
    (folder / "vocab.json").write_text('{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4}')
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ZoobenchError, match=r"merges\.txt"):
        load(folder)


def test_weights_that_would_be_filled_in_at_random_are_refused(bert: Path) -> None:
    state = load_file(bert / "model.safetensors")
    kept = {k: v for k, v in state.items() if "layer.1.attention" not in k}
    save_file(kept, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match="missing"):
        load(bert)


def test_a_model_of_sounds_is_no_encoder_of_texts(bert: Path) -> None:
    change(bert / CONFIG, model_type="wav2vec2")
    with pytest.raises(Unsupported, match="reads input_values, not texts"):
        load(bert)
