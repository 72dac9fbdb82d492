"""Names, cards and the index: found fast, without importing what they describe."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from zoobench import models
from zoobench.errors import UserError
from zoobench.models import index, timm_cards


def test_the_index_lists_all_of_timm_and_torchvision_without_importing_them() -> None:
    models.list_cards()  # built once, if it is not here yet
    code = (
        "import sys\nfrom zoobench import models\n"
        "names = [f'{c.source}/{c.name}' for c in models.list_cards('VIT*')]\n"
        "assert 'timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k' in names\n"
        "assert 'torchvision/vit_b_16' in names\n"
        "ref = models.resolve('timm/resnet50')\n"
        "models.available(ref), models.card(ref), models.pin(ref.with_options(weights='random'))\n"
        "heavy = {'torch', 'timm', 'torchvision', 'transformers', 'huggingface_hub'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    index._read.cache_clear()
    assert len(models.list_cards("resnet*")) > 100


def test_a_damaged_or_old_index_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOBENCH_CACHE", str(tmp_path))
    path = tmp_path / "models.json"
    built: list[int] = []
    body = {
        "version": index.VERSION,
        "sources": {name: {"library": version(name), "cards": []} for name in index.INDEXED},
    }

    def build() -> dict[str, object]:
        built.append(1)
        return body

    monkeypatch.setattr(index, "_build", build)
    for text in ("", "{", "[]", json.dumps({**body, "version": 0}), '{"version": 1}'):
        path.write_text(text)
        index._read.cache_clear()
        assert index.cards("timm") == ()
        assert json.loads(path.read_text()) == body
    assert len(built) == 5
    index._read.cache_clear()
    assert index.cards("timm") == ()
    assert len(built) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["models.json"]
    index._read.cache_clear()
    index.by_name.cache_clear()


def test_a_bare_architecture_means_its_default_weights() -> None:
    import timm

    for name in ("resnet50", "vit_base_patch16_224", "efficientnet_b0"):
        tag = timm.get_pretrained_cfg(name).tag
        assert models.resolve(f"timm/{name}").name == f"{name}.{tag}"


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("tf_efficientnet_lite0", "efficientnet-lite"),
        ("efficientnet_b0", "efficientnet"),
        ("efficientnetv2_s", "efficientnetv2"),
        ("efficientnet_v2_s", "efficientnetv2"),
        ("resnet50d", "resnet"),
        ("wide_resnet50_2", "resnet"),
        ("res2net50_26w_4s", "res2net"),
        ("resnetv2_50x1_bit", "resnetv2"),
        ("vit_base_patch16_224", "vit"),
        ("swinv2_tiny_window8_256", "swinv2"),
        ("mobilenetv3_large_100", "mobilenetv3"),
        ("convnextv2_atto", "convnextv2"),
        ("deit3_small_patch16_224", "deit"),
        ("vgg16_bn", "vgg"),
    ],
)
def test_families(architecture: str, family: str) -> None:
    assert index.family(architecture) == family


def test_tags_say_what_the_weights_saw() -> None:
    assert timm_cards.pretrained_on("augreg_in21k_ft_in1k") == "ImageNet-21k, ImageNet-1k"
    assert timm_cards.pretrained_on("a1_in1k") == "ImageNet-1k"
    assert timm_cards.pretrained_on("openai") == "unknown"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm/resnt50", "Did you mean 'timm/resnet50'"),
        ("timm/resnet50?wieghts=random", "unknown option 'wieghts'.*Did you mean 'weights'"),
        ("timm/resnet50?pool=avgg", "unknown value 'avgg'. Did you mean 'avg'"),
        ("timm/resnet50?input_size=1.5", "not a whole number"),
        ("timm/resnet50?std=0", "must be above 0"),
        ("timm/resnet50?mean=1,2", "three with commas"),
        ("timm/vit_base_patch16_18x2_224", "no pretrained weights in timm; use weights=random"),
        ("torchvision/resnet5", "Did you mean 'torchvision/resnet50'"),
        ("torchvision/resnet50@V9", "Known: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision/resnet50?pool=max", "Known: penultimate"),
        ("hf/bert-base-uncasd", "Did you mean 'google-bert/bert-base-uncased'"),
        ("hf/u/x", r"hf/u/x\?modality=text"),
        ("hf/u/x?modality=video", "unknown modality 'video'"),
        ("hf/facebook/dinov2-small?length=9", "unknown option 'length'"),
        ("packged/x", "unknown model source 'packged'. Did you mean 'packaged'"),
        ("resnet18", "source/name"),
    ],
)
def test_mistakes_say_where_what_nearest_and_known(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        models.resolve(name, "suite.toml: models[3]")


def test_availability_follows_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    net, conv, bert = map(
        models.resolve, ("timm/resnet18.a1_in1k", "torchvision/resnet18", "hf/bert-base-uncased")
    )
    assert not any(models.available(ref)[0] for ref in (net, conv, bert))
    commit = "a" * 40
    files = {"timm--resnet18.a1_in1k": [], "google-bert--bert-base-uncased": ["vocab.txt"]}
    for repo, more in files.items():
        base = tmp_path / "hf" / "hub" / f"models--{repo}"
        (base / "refs").mkdir(parents=True)
        (base / "refs" / "main").write_text(commit)
        folder = base / "snapshots" / commit
        folder.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", *more):
            (folder / name).touch()
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18-f37072fd.pth").touch()
    assert all(models.available(ref)[0] for ref in (net, conv, bert))
    assert models.pin(net).revision == commit
    (vocabulary,) = tmp_path.rglob("vocab.txt")
    vocabulary.unlink()
    assert not models.available(bert)[0]
    assert models.available(net.with_options(weights="random")) == (True, "random weights")


def test_a_pattern_that_begins_with_a_source_means_that_source_alone() -> None:
    sources = {card.source for card in models.list_cards("packaged/*")}
    assert sources == {"packaged"}, "and not classifier/packaged/..."
    assert {card.source for card in models.list_cards("openai/*")} >= {"hf"}
