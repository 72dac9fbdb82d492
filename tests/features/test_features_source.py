"""The feature cache: keyed by all that matters, never trusted blindly, never fatal."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import datasets, models
from zoobench.errors import NotFinite
from zoobench.features.cache import FeatureCache
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.models.weights import state_digest
from zoobench.schema import Ref
from zoobench.tasks.classification import Labels, labels_of


def backbone(options: str = "", name: str = "gabor") -> Any:
    return models.load(models.resolve(f"synthetic/{name}{options}"), seed=0)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return datasets.load(datasets.resolve("synthetic/stripes?train=24&valid=8&test=8"))


def source(tmp_path: Path, options: str = "", **view: Any) -> Features:
    return Features(
        backbone(options),
        View("synthetic/gabor", **{"batch_size": 8, **view}),
        FeatureCache(tmp_path),
    )


def test_a_second_source_reads_what_the_first_computed(tmp_path: Path, splits: Splits) -> None:
    first, second = source(tmp_path), source(tmp_path)
    computed = first.features(splits.train)
    read = second.features(splits.train)
    assert torch.equal(computed, read)
    assert first.computed
    assert not second.computed
    assert second.seconds[splits.train.fingerprint] == first.seconds[splits.train.fingerprint] > 0


def test_features_do_not_depend_on_the_batch_size(tmp_path: Path, splits: Splits) -> None:
    one = source(tmp_path / "a", batch_size=1).features(splits.train)
    many = source(tmp_path / "b", batch_size=24).features(splits.train)
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)


def test_texts_come_back_in_their_own_order(tmp_path: Path) -> None:
    texts = datasets.load(datasets.resolve("synthetic/phrases?train=16")).train
    bag = backbone(name="bag")
    found = Features(bag, View("bag", batch_size=4), FeatureCache(tmp_path)).features(texts)
    for i in range(len(texts)):
        alone = bag.embed(bag.collate([bag.prepare(texts.read(i))]))
        torch.testing.assert_close(found[i : i + 1], alone.detach())


def ingredients(tmp_path: Path, splits: Splits) -> dict[str, str]:
    plain = source(tmp_path)
    relabelled = dataclasses.replace(
        splits.train, targets=Labels(labels_of(splits.train)[::-1].copy())
    )
    pooled = source(tmp_path)
    pooled.pooling = "max"
    upgraded = source(tmp_path)
    upgraded.provenance = {"libraries": {"timm": "99"}}
    renamed = Features(backbone(), View("other/name"))
    reread = dataclasses.replace(splits.train, reader="synthetic 2")
    return {
        "plain": plain.key(splits.train),
        "split": plain.key(splits.valid),
        "labels": plain.key(relabelled),
        "reader": plain.key(reread),
        "weights": source(tmp_path, "?weights=random").key(splits.train),
        "normalisation": source(tmp_path, "?mean=0.4").key(splits.train),
        "precision": source(tmp_path, precision="bf16").key(splits.train),
        "pooling": pooled.key(splits.train),
        "library": upgraded.key(splits.train),
        "model": renamed.key(splits.train),
    }


def test_the_key_flips_with_each_ingredient(tmp_path: Path, splits: Splits) -> None:
    keys = ingredients(tmp_path, splits)
    assert len(set(keys.values())) == len(keys), keys
    assert ingredients(tmp_path, splits) == keys


MANIFESTS = {
    "cut": "{",
    "empty": "",
    "a list": "[]",
    "null": "null",
    "a number": "1",
    "deep": "[" * 20_000 + "]" * 20_000,
    "deep object": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "unsealed": '{"shape": [24, 32], "sha256": "0"}',
    "sealed by nobody": '{"shape": [24, 32], "sealed": null}',
    "zeros": "\x00" * 50,
    "a lone surrogate": '{"a": "\\ud800", "sealed": "x"}',
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_damaged_manifest_is_computed_again(tmp_path: Path, splits: Splits, case: str) -> None:
    good = source(tmp_path).features(splits.train)
    manifest = next(tmp_path.glob("*.json"))
    manifest.write_text(MANIFESTS[case], encoding="utf-8")
    again = source(tmp_path)
    assert torch.equal(again.features(splits.train), good)
    assert again.computed


def test_each_entry_of_a_manifest_is_under_its_seal(tmp_path: Path, splits: Splits) -> None:
    source(tmp_path).features(splits.train)
    manifest = next(tmp_path.glob("*.json"))
    written = json.loads(manifest.read_text())
    for name in written:
        manifest.write_text(json.dumps({**written, name: "another"}))
        assert FeatureCache(tmp_path).get(manifest.stem) is None
        source(tmp_path).features(splits.train)


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest", "gone"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, splits: Splits, damage: str) -> None:
    good = source(tmp_path).features(splits.train)
    data, manifest = next(tmp_path.glob("*.f4")), next(tmp_path.glob("*.json"))
    blob = bytearray(data.read_bytes())
    if damage == "flip":
        blob[100] ^= 1
        data.write_bytes(blob)
    elif damage == "cut":
        data.write_bytes(blob[:-4])
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        data.unlink()
    again = source(tmp_path)
    assert torch.equal(again.features(splits.train), good)
    assert again.computed
    assert not source(tmp_path).computed
    assert json.loads(manifest.read_text())["shape"] == [24, 32]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit_bytes=3000)
    block = np.ones((10, 25), dtype=np.float32)  # 1000 bytes
    import os

    for age, key in enumerate(["a", "b", "c"]):
        cache.put(key, block, {"seconds": 1.0})
        os.utime(tmp_path / f"{key}.json", (age, age))
    assert cache.get("a") is not None  # touched: b is the oldest now
    cache.put("d", block, {"seconds": 1.0})
    assert cache.get("b") is None
    assert {p.stem for p in tmp_path.glob("*.f4")} == {"a", "c", "d"}


def test_what_another_user_wrote_is_read_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    cache = FeatureCache(tmp_path, limit_bytes=3000)
    cache.put("a", np.ones((10, 25), dtype=np.float32), {"seconds": 1.0})

    def refused(*given: Any, **named: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)  # the system's answer for another user's file
    assert cache.get("a") is not None
    monkeypatch.setattr(Path, "read_bytes", refused)
    assert cache.get("a") is None
    monkeypatch.undo()
    assert cache.get("a") is not None


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, splits: Splits) -> None:
    (tmp_path / "file").write_text("")
    blocked = source(tmp_path / "file" / "cache")
    assert blocked.features(splits.valid).shape == (8, 32)


def _hammer(root: str, key: str, value: float) -> None:
    cache = FeatureCache(Path(root))
    block = np.full((50, 50), value, dtype=np.float32)
    for _ in range(40):
        cache.put(key, block, {"seconds": 0.0})
        held = cache.get(key)
        # Another process may have replaced half of the pair: then there is nothing, never a mix.
        assert held is None or float(np.ptp(held[0])) == 0.0


def test_two_processes_never_read_a_mixture(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_hammer, args=(str(tmp_path), "k", v)) for v in (1.0, 2.0)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]


def test_a_feature_that_is_not_a_number_is_named(tmp_path: Path, splits: Splits) -> None:
    with pytest.raises(NotFinite, match="8 of 8 valid examples"):
        source(tmp_path, "?fault=nan").features(splits.valid)
    assert not list(tmp_path.glob("*.json"))


def test_a_copy_is_trained_apart(tmp_path: Path) -> None:
    first = source(tmp_path)
    before = state_digest(first.module)
    own = first.copy()
    with torch.no_grad():
        next(own.module.parameters()).zero_()
    assert state_digest(first.module) == before != state_digest(own.module)
    assert Ref.parse("synthetic/gabor").id == "synthetic/gabor"


def test_a_split_is_assembled_from_its_parts(tmp_path: Path, splits: Splits) -> None:
    rows = np.random.default_rng(0).permutation(len(splits.train)).astype(np.intp)
    parts = [splits.train.subset(rows[:7]), splits.train.subset(rows[7:])]
    direct = source(tmp_path / "a").features(splits.train)
    own = source(tmp_path / "b")
    own.assemble(splits.train, parts)
    computed = list(own.computed)
    torch.testing.assert_close(own.features(splits.train), direct, rtol=1e-5, atol=1e-6)
    assert own.computed == computed, "nothing is extracted twice"
    spent = [own.seconds[part.fingerprint] for part in parts]
    assert own.seconds[splits.train.fingerprint] == pytest.approx(sum(spent))
