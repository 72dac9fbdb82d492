"""A saved folder is a model like any other: `saved/NAME?path=FOLDER`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from savedfolders import NEEDS, change, describe, noise, of_backbone
from tinymodels import tiny_bert, tiny_timm, write_files
from tinysound import CLIPS, KINDS, tiny_sound
from zoobench import models
from zoobench.costs.counted import static_costs
from zoobench.costs.profile import profile
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models import variants

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    made = write_files(tiny_timm(), tmp_path / "made")
    return of_backbone(f"timm/me/made?weights={made}", tmp_path / "saved")


def examples(backbone: Any) -> list[Any]:
    if backbone.input_spec.modality == "audio":
        return [*CLIPS]
    if backbone.input_spec.modality == "text":
        return ["The cat sat", "", "a dog, good and bad mats " * 9]
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (h, 50, 3), dtype=np.uint8)) for h in (30, 90)]


def features(backbone: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = backbone.embed(
            backbone.collate([backbone.prepare(one) for one in examples(backbone)])
        )
    return found


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("timm/me/made?weights=TIMM", ""),
        ("timm/me/made?weights=TIMM&pool=max", "bf16"),
        ("timm/me/made?weights=TIMM", "int8-static"),
        ("torchvision/squeezenet1_1?weights=random&input_size=64", ""),
        ("hf/made?weights=TEXT&pool=weightedmean", ""),
        ("hf/made?weights=TEXT&length=9", "int8-weight"),
        ("hf/made?weights=TEXT", "fp16"),
        *((f"hf/made?weights={kind}", "") for kind in KINDS),
        ("hf/made?weights=ast&pool=mean", "int8-weight"),
        ("hf/made?weights=hubert&seconds=0.7", "bf16"),
    ],
)
def test_its_features_are_those_that_were_saved(
    name: str, variant: str, tmp_path: Path, index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(variant, ()):
        pytest.importorskip(package)
    monkeypatch.setenv("ZOOBENCH_CACHE", str(index_folder))
    made = {"TIMM": tiny_timm(), "TEXT": tiny_bert(sentence_transformers=True)}
    given = name.partition("weights=")[2].partition("&")[0]
    if given in KINDS:
        tiny_sound(given, tmp_path / "made")
        name = name.replace(f"={given}", f"={tmp_path / 'made'}")
    elif given in made:
        name = name.replace(given, str(write_files(made[given], tmp_path / "made")))
    folder = of_backbone(name, tmp_path / "saved", variant)
    original: Any = models.load(models.resolve(name))
    macs = next(one.value for one in static_costs(original) if one.metric == "macs")
    if variant:
        original = variants.made(original, variant, noise(original))
    ref = models.resolve(f"saved/mine?path={folder}")
    found: Any = models.load(ref)
    assert models.card(ref).modality == found.input_spec.modality
    assert found.feature_dim == original.feature_dim
    expected = features(original)
    torch.testing.assert_close(
        features(found), expected, rtol=0, atol=1e-6 * float(expected.abs().max())
    )
    assert found.blueprint.settings == json.loads(json.dumps(original.blueprint.settings))
    known = {one.metric: one.value for one in static_costs(found)}
    assert known["macs"] == macs
    assert "weights_bytes" in known


def test_word_vectors_are_averaged(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('["good", "bad"]', encoding="utf-8")
    rows = torch.tensor([[1.0, 2.0, 3.0], [5.0, 6.0, 9.0], [0.0, 0.0, 0.0]])
    save_file({"weight": rows}, tmp_path / "model.safetensors")
    head = {"weight": torch.ones(2, 3).double(), "bias": torch.zeros(2).double()}
    save_file(head, tmp_path / "head.safetensors")
    body = describe("words", {"length": 8}, ["yes", "no"])
    (tmp_path / "predict.json").write_text(json.dumps(body), encoding="utf-8")
    found: Any = models.load(models.resolve(f"saved/{tmp_path}"))
    batch = found.collate([found.prepare(text) for text in ("Good, so bad", "bad", "else")])
    expected = torch.tensor([[3.0, 4.0, 6.0], [5.0, 6.0, 9.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(found.embed(batch), expected)


def test_its_name_is_its_content(resnet: Path, tmp_path: Path) -> None:
    change(resnet, license="MIT")
    ref = models.resolve(f"saved/{resnet}")
    assert models.card(ref).license == "MIT"
    assert ref == models.resolve(f"saved/saved?path={resnet}&weights=pretrained")
    assert ref.short == "saved/saved?modality=image"
    assert str(tmp_path) not in str(ref.private)
    assert models.available(ref)[0]
    (resnet / "README.md").write_text("of no account", encoding="utf-8")
    assert models.resolve(ref) == ref
    change(resnet, classes=["no", "yes"])
    assert models.resolve(f"saved/{resnet}").revision != ref.revision
    with pytest.raises(UserError, match="its content is not that of"):
        models.resolve(ref)
    with pytest.raises(MissingWeights, match="has changed since"):
        models.load(ref)
    gone = ref.private
    assert (models.card(gone).modality, models.card(gone).license) == ("image", "unknown")
    assert not models.available(gone)[0]


def test_a_saved_model_is_made_smaller(resnet: Path) -> None:
    ref = models.resolve(f"saved/{resnet}?variant=bf16")
    smaller: Any = models.load(ref)
    whole: Any = models.load(variants.original(ref))
    assert {p.dtype for p in smaller.module.parameters()} == {torch.bfloat16}
    cosine = torch.nn.functional.cosine_similarity(features(smaller), features(whole))
    assert float(cosine.min()) > 0.99


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("saved/none?path=/nowhere", "/nowhere: no such folder"),
        ("saved/none?path=EMPTY", "holds no predict.json"),
        ("saved/mine?path=SAVED&pool=max", "unknown option 'pool'"),
        ("saved/mine?path=SAVED&modality=text", "reads image, not text"),
        ("saved/mine@0123?path=SAVED", "not that of saved/mine@0123"),
    ],
)
def test_what_is_no_saved_model_is_said(name: str, said: str, resnet: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    name = name.replace("SAVED", str(resnet)).replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=f"suite: models.*{said}|{said}"):
        models.resolve(name, "suite: models[0]")


def test_its_costs_are_counted_with_its_own_weights(resnet: Path) -> None:
    body = profile(f"saved/{resnet}")
    backbone: Any = models.load(models.resolve(f"saved/{resnet}"))
    assert body["params"] == sum(p.numel() for p in backbone.module.parameters())
    assert body["macs"] > 0


def test_there_are_no_random_weights_of_it(resnet: Path) -> None:
    ref = models.resolve(f"saved/{resnet}")
    with pytest.raises(Unsupported, match="no random weights"):
        models.load(ref.with_options(weights="random"))


def test_a_file_that_leads_elsewhere_is_not_read(resnet: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("{}", encoding="utf-8")
    (resnet / "config.json").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="lies outside of the folder"):
        models.resolve(f"saved/{resnet}")


@pytest.mark.parametrize("name", ["saved/saved", "saved/saved/", "saved/../in/saved", "saved/."])
def test_a_folder_is_found_again_from_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_files(tiny_timm(), tmp_path / "made")
    (tmp_path / "in").mkdir()
    folder = of_backbone(f"timm/me/made?weights={made}", tmp_path / "in" / "saved")
    monkeypatch.chdir(folder if name.endswith(".") else folder.parent)
    ref = models.resolve(name)
    monkeypatch.chdir(tmp_path)
    assert (ref.name, ref.option("path")) == ("saved", str(folder))
    assert models.resolve(ref) == models.resolve(ref.text) == ref
