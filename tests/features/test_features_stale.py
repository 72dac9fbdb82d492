"""No stale features: whatever changes what a model computes changes the key, or is noticed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hubstub import folder_files
from tinymodels import tiny_bert, write_files
from tinysound import tiny_sound
from zoobench import datasets, models
from zoobench.features import fingerprint
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.interfaces import Split
from zoobench.schema import Ref

Path_ = tuple[str | int, ...]


def tiny_vit() -> dict[str, bytes]:
    """A transformers folder: a ViT of two layers of width 32, and its processor's flags."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True,
        "do_normalize": True, "size": {"height": 32, "width": 32}, "resample": 2,
        "rescale_factor": 1 / 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(name)
        Path(name, "preprocessor_config.json").write_text(json.dumps(processor))
        return folder_files(Path(name))


def tiny_ast() -> dict[str, bytes]:
    """A transformers folder: an AST of three layers of width 16, and its extractor's flags."""
    with tempfile.TemporaryDirectory() as name:
        tiny_sound("ast", Path(name))
        return folder_files(Path(name))


MODELS = {
    "text": lambda: tiny_bert(sentence_transformers=True), "image": tiny_vit, "audio": tiny_ast,
}  # fmt: skip
DATA = {
    "text": "synthetic/phrases?train=24", "image": "synthetic/stripes?train=24",
    "audio": "synthetic/tones?train=8",
}  # fmt: skip


def source(folder: Path, cache: Path, blind: bool = False) -> Features:
    backbone = models.load(models.resolve(Ref("hf", "tiny").with_options(weights=str(folder))))
    if blind:  # of the files themselves, so that the loaded model alone must tell
        backbone.provenance = {**backbone.provenance, "settings": ""}  # type: ignore[misc]
    return Features(backbone, View("tiny"), FeatureCache(cache))


def leaves(body: Any, at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    if isinstance(body, dict):
        for name, value in body.items():
            if name not in ("vocab", "added_tokens", "post_processor"):
                yield from leaves(value, (*at, name))
    elif isinstance(body, list):
        for i, value in enumerate(body[:3]):
            yield from leaves(value, (*at, i))
    else:
        yield at, body


def others(value: Any) -> list[Any]:
    """What the field might say instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value]
    if isinstance(value, float):
        return [2 * value + 0.1]
    named = {"gelu": "relu", "mean": "cls", "Lowercase": "NFD", "Whitespace": "WhitespaceSplit"}
    return [named[value]] if value in named else [True] if value is None else []


def changed(body: Any, at: Path_, value: Any) -> Any:
    copied = json.loads(json.dumps(body))
    inner = copied
    for part in at[:-1]:
        inner = inner[part]
    inner[at[-1]] = value
    return copied


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.filterwarnings("ignore")
def test_every_field_of_every_file_changes_the_key_or_nothing(kind: str, tmp_path: Path) -> None:
    files = MODELS[kind]()
    split = datasets.load(datasets.resolve(DATA[kind])).train
    base = source(write_files(files, tmp_path / "base"), tmp_path / "cache", blind=True)
    key, features = base.key(split), base.features(split)
    tried, told, equal = 0, 0, 0
    for name in sorted(n for n in files if n.endswith(".json")):
        body = json.loads(files[name])
        for at, value in leaves(body):
            for other in others(value)[: 1 if kind == "audio" else None]:  # its loads take longest
                new = {**files, name: json.dumps(changed(body, at, other)).encode()}
                folder = write_files(new, tmp_path / f"{tried}")
                tried += 1
                try:
                    changed_source = source(folder, tmp_path / f"c{tried}", blind=True)
                    if changed_source.key(split) != key:
                        told += 1
                        continue
                    found = changed_source.features(split)
                except Exception:  # noqa: BLE001  such a model does not load
                    continue
                assert torch.equal(found, features), (name, at, other)
                equal += 1
    least = 15 if kind == "audio" else 20
    assert tried > least
    assert told > 8
    assert told + equal > least, (tried, told, equal)


def test_files_that_the_loaded_model_does_not_show_are_in_the_key(tmp_path: Path) -> None:
    files = tiny_bert()
    split = datasets.load(datasets.resolve(DATA["text"])).train
    old = source(write_files(files, tmp_path / "a"), tmp_path / "cache")
    new = source(write_files({**files, "extra.json": b"{}"}, tmp_path / "b"), tmp_path / "cache")
    assert old.key(split) != new.key(split)


@pytest.mark.parametrize("fault", ["activation", "casing", "normalisation", "loudness"])
def test_a_fault_that_the_key_overlooks_is_noticed(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gelu for relu, lower-casing off, do_normalize off: cached features gave .860 for .830, .642
    for .382 and .440 for .665. Here the key is blind for all of it."""
    monkeypatch.setattr(Features, "conduct", "")
    kind = {"normalisation": "image", "loudness": "audio"}.get(fault, "text")
    files = MODELS[kind]()
    split: Split = datasets.load(datasets.resolve(DATA[kind])).train
    sound = source(write_files(files, tmp_path / "a"), tmp_path / "cache", blind=True)
    before = sound.features(split)
    file, at, value = {
        "activation": ("config.json", ("hidden_act",), "relu"),
        "casing": ("tokenizer.json", ("normalizer",), None),
        "normalisation": ("preprocessor_config.json", ("do_normalize",), False),
        "loudness": ("preprocessor_config.json", ("do_normalize",), False),
    }[fault]
    body = changed(json.loads(files[file]), at, value)
    faulty_files = {**files, file: json.dumps(body).encode()}
    faulty = source(write_files(faulty_files, tmp_path / "b"), tmp_path / "cache", blind=True)
    faulty.input_spec = sound.input_spec  # of which the key has a digest, as of the weights
    if kind == "text":
        faulty.backbone.rules = sound.backbone.rules  # type: ignore[attr-defined]
    after = faulty.features(split)
    assert faulty.key(split) == sound.key(split)
    assert faulty.computed == [faulty.key(split)]
    if fault != "casing":  # the phrases are of small letters
        assert not torch.allclose(after, before, atol=1e-3)
    again = source(tmp_path / "b", tmp_path / "cache", blind=True)
    again.input_spec = sound.input_spec
    if kind == "text":
        again.backbone.rules = sound.backbone.rules  # type: ignore[attr-defined]
    again.features(split)
    assert not again.computed


def test_revisions_of_a_repository_are_told_apart(tmp_path: Path) -> None:
    """Another tokenizer file of equal weights, which neither the network nor the batch shows."""
    split = datasets.load(datasets.resolve(DATA["text"])).train
    folder = write_files(tiny_bert(), tmp_path / "a")
    old, new = source(folder, tmp_path / "cache", blind=True), source(folder, tmp_path, blind=True)
    for one, revision in ((old, "1" * 40), (new, "2" * 40)):
        one.provenance = {**one.provenance, "revision": revision}
    assert old.key(split) != new.key(split)


def test_a_model_that_refuses_the_fixed_batch_is_no_failed_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Features) -> Any:
        raise ValueError("four pictures are too many")

    monkeypatch.setattr(fingerprint, "fingerprint", refused)
    split = datasets.load(datasets.resolve(DATA["text"])).train
    folder = write_files(tiny_bert(), tmp_path / "a")
    first, again = (source(folder, tmp_path / "cache") for _ in range(2))
    assert torch.equal(first.features(split), again.features(split))
    assert not again.computed
    assert again.fingerprint() == {"probe_batch": "ValueError: four pictures are too many"}
