"""Audio encoders of transformers' folders: what they are fed, and whose features they give."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tinysound import KINDS, tiny_sound
from zoobench import models
from zoobench.audio import Clip
from zoobench.errors import CellError, UserError
from zoobench.interfaces import InputSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
LENGTHS = (300, 5000, 9600, 20_000, 5000)
"""Samples: less than a frame is made of, two that are equal, and more than the shortest window."""


def noise(samples: int, rate: int = 16_000, seed: int = 0) -> Clip:
    drawn = np.random.default_rng((seed, samples)).normal(0, 0.1, samples)
    return Clip(drawn.astype(np.float32), rate)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = folder, tiny_sound(kind, folder)
    return made


@pytest.fixture(scope="module")
def loaded(folders: dict[str, tuple[Path, Any]]) -> dict[str, Any]:
    return {kind: models.load(named(kind, folder)) for kind, (folder, _) in folders.items()}


def named(kind: str, folder: Path, more: str = "") -> Any:
    return models.resolve(f"hf/tiny/{kind}?weights={folder}{more}")


@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_the_batch(kind: str, loaded: dict[str, Any]) -> None:
    backbone = loaded[kind]
    prepared = [backbone.prepare(noise(n)) for n in LENGTHS]
    with torch.no_grad():
        together = backbone.embed(backbone.collate(prepared))
        alone = torch.cat([backbone.embed(backbone.collate([one])) for one in prepared])
    assert together.shape == (len(LENGTHS), backbone.feature_dim)
    assert torch.allclose(together, alone, atol=2e-6)
    assert torch.allclose(together[1], together[4], atol=2e-6), "clips of one length and content"
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def reference(kind: str, module: Any, folder: Path, clip: Clip) -> Any:
    """(D,) by the library alone: the clip by itself through its extractor and its network, the mean
    over the frames that hold sound."""
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    fed = extractor(clip.samples, sampling_rate=clip.rate, return_tensors="pt")
    if kind == "clap":
        return module.audio_model(fed["input_features"]).pooler_output[0]
    if kind == "whisper":
        states = module.encoder(fed["input_features"]).last_hidden_state[0]
        return states[: -(-len(clip.samples) // 320)].mean(0)
    if kind == "ast":
        return module(fed["input_values"]).pooler_output[0]
    return module(fed["input_values"]).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_librarys_own(
    kind: str, folders: dict[str, tuple[Path, Any]], loaded: dict[str, Any]
) -> None:
    folder, module = folders[kind]
    clip = noise(9600)
    with torch.no_grad():
        mine = loaded[kind].embed(loaded[kind].collate([loaded[kind].prepare(clip)]))[0]
        assert torch.allclose(mine, reference(kind, module, folder, clip), atol=2e-6)


@pytest.mark.parametrize(
    "absent", ["masked_spec_embed", "encoder.layers.0.attention.k_proj.weight"]
)
def test_what_stands_for_hidden_frames_may_be_absent_and_nothing_else(
    absent: str, folders: dict[str, tuple[Path, Any]], loaded: dict[str, Any], tmp_path: Path
) -> None:
    kind = next(kind for kind in KINDS if kind.startswith("wav2vec2"))
    folder = shutil.copytree(folders[kind][0], tmp_path / "published")
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if k != absent}, folder / "model.safetensors")
    assert absent in state
    if absent != "masked_spec_embed":
        with pytest.raises(CellError, match=absent):
            models.load(named(kind, folder))
        return
    backbone = models.load(named(kind, folder))
    assert "untrained_keys" not in backbone.provenance
    batch = backbone.collate([backbone.prepare(noise(5000))])
    with torch.no_grad():
        assert torch.equal(backbone.embed(batch), loaded[kind].embed(batch))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "clap"])
def test_frames_are_read_by_layer_and_counted(kind: str, loaded: dict[str, Any]) -> None:
    backbone = loaded[kind]
    reader = backbone.frame_reader()
    prepared = [backbone.prepare(noise(n)) for n in LENGTHS]
    batch = backbone.collate(prepared)
    counts = reader.frames(batch["lengths"])
    assert reader.depths == (2, 3)
    with torch.no_grad():
        states = reader.read(backbone.module, batch, (1, 2, 3))
        for i, one in enumerate(prepared):
            alone = reader.read(backbone.module, backbone.collate([one]), (1, 2, 3))
            own = int(counts[i])
            assert 1 <= own <= states[0].shape[1]
            for layer, other in zip(states, alone, strict=True):
                assert torch.allclose(layer[i, :own], other[0, :own], atol=5e-6)
    seconds = counts[3] / reader.rate
    assert abs(float(seconds) - LENGTHS[3] / 16_000) < 3 / reader.rate
    apart = [(one - other).abs().max() for one, other in itertools.pairwise(states)]
    assert min(map(float, apart)) > 1e-3


def test_a_clip_has_no_frames_where_the_network_gives_one_vector(loaded: dict[str, Any]) -> None:
    with pytest.raises(CellError, match="no frames"):
        loaded["clap"].frame_reader()


def test_the_middle_of_a_long_clip_is_read_at_the_networks_rate(
    folders: dict[str, tuple[Path, Any]],
) -> None:
    backbone: Any = models.load(named("hubert", folders["hubert"][0], "&seconds=0.5"))
    assert backbone.input_spec.length == 8000
    assert backbone.input_spec.rate == 16_000
    clip = noise(30_000)
    prepared = backbone.prepare(clip)
    assert prepared["length"] == 8000
    assert np.allclose(prepared["values"].numpy(), clip.samples[11_000:19_000])
    slow = noise(5000, rate=8000)
    assert backbone.prepare(slow)["length"] == 8000
    assert np.allclose(backbone.prepare(slow)["values"].numpy(), slow.at(16_000)[1000:9000])


def test_the_rate_belongs_to_the_weights(folders: dict[str, tuple[Path, Any]]) -> None:
    with pytest.raises(UserError, match=r"unknown option 'rate'.*Known: .*seconds, weights"):
        named("hubert", folders["hubert"][0], "&rate=8000")
    spec = InputSpec("audio", length=8000, rate=16_000)
    assert spec.digest != InputSpec("audio", length=8000, rate=8000).digest


def test_training_hides_nothing_by_chance(loaded: dict[str, Any]) -> None:
    """SpecAugment draws from a generator that no seed of ours governs."""
    backbone = loaded["wav2vec2-group"]
    batch = backbone.collate([backbone.prepare(noise(9600))])
    for layer in backbone.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
        if isinstance(getattr(layer, "dropout", None), float):
            layer.dropout = 0.0
    try:
        backbone.module.train()
        first, second = backbone.embed(batch), backbone.embed(batch)
    finally:
        backbone.module.eval()
    assert torch.equal(first, second)
    assert backbone.module.config.mask_time_prob > 0


def test_random_weights_are_others_and_a_checkpoint_of_old_names_is_read(
    folders: dict[str, tuple[Path, Any]], tmp_path: Path, loaded: dict[str, Any]
) -> None:
    """Published files call the two parts of a normalised weight weight_g and weight_v, and hold a
    head."""
    folder, _ = folders["hubert"]
    batch = loaded["hubert"].collate([loaded["hubert"].prepare(noise(9600))])
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    state = load_file(folder / "model.safetensors")
    new = "parametrizations.weight.original"
    old = {
        f"hubert.{k}".replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): v
        for k, v in state.items()
    }
    assert sum("weight_g" in name for name in old) == 1
    save_file({**old, "lm_head.weight": torch.zeros(4, 16)}, tmp_path / "model.safetensors")
    again: Any = models.load(named("hubert", tmp_path))
    ref = models.resolve(f"hf/tiny/hubert?weights=random&configuration={folder}")
    drawn: Any = models.load(ref, seed=1)
    with torch.no_grad():
        assert torch.equal(again.embed(batch), loaded["hubert"].embed(batch))
        assert not torch.allclose(drawn.embed(batch), loaded["hubert"].embed(batch), atol=1e-3)
    assert again.provenance["dropped_keys"] == ["lm_head.weight"]


def changed(folder: Path, target: Path, name: str, **entries: Any) -> Path:
    """A copy of `folder`, in whose file `name` stand other `entries`."""
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    body = json.loads((folder / name).read_text())
    (target / name).write_text(json.dumps({**body, **entries}))
    return target


@pytest.mark.parametrize(
    ("kind", "entries", "says"),
    [
        ("whisper", {"n_fft": 10**9}, "its extractor's n_fft is not a number of 1 to 16384"),
        ("whisper", {"feature_size": "8"}, "its extractor's feature_size is not a number"),
        ("hubert", {"sampling_rate": 0}, "its extractor's sampling_rate is not a number of 1000"),
        ("hubert", {"sampling_rate": 1e12}, "its extractor's sampling_rate is not a number"),
        ("clap", {"max_length_s": 10**6}, "its extractor's max_length_s is not a number"),
        ("hubert", {"feature_extractor_type": "Nothing"}, "transformers cannot load it"),
        ("hubert", {"feature_extractor_type": "ViTImageProcessor"}, "cannot be loaded"),
    ],
)
def test_a_strangers_extractor_is_refused_by_name(
    kind: str,
    entries: dict[str, Any],
    says: str,
    folders: dict[str, tuple[Path, Any]],
    tmp_path: Path,
) -> None:
    folder = changed(folders[kind][0], tmp_path, "preprocessor_config.json", **entries)
    with pytest.raises(CellError, match=says):
        models.load(named(kind, folder))


def test_what_a_network_cannot_do_is_said(
    folders: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    for kind, more, says in (
        ("whisper", "&seconds=3", "seconds = 3 is above its window of 2"),
        ("whisper", "&pool=cls", "no pool = 'cls'; known: mean"),
        ("clap", "&pool=mean", "no pool = 'mean'; known: pooler"),
    ):
        with pytest.raises(CellError, match=says):
            models.load(named(kind, folders[kind][0], more))
    with pytest.raises(UserError, match=r"not a number of seconds of 0\.01 to 3600"):
        named("hubert", folders["hubert"][0], "&seconds=0")
    with pytest.raises(UserError, match="seconds = 40 is above its window of 30"):
        models.resolve("packaged/whisper-tiny-en?seconds=40")
    bare = tmp_path / "bare"
    bare.mkdir()
    folder = changed(folders["hubert"][0], bare, "config.json")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CellError, match="holds no feature extractor"):
        models.load(named("hubert", folder))
