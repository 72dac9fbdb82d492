"""Networks of open_clip, beside what its own code makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.errors import Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.models import open_clip_, two_towers

open_clip = pytest.importorskip("open_clip")
from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402

SIDE = 32
TEMPLATES = ["a photo of {}.", "{}", "art of {}"]
CONFIGURATION = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["matrix", "bias"])
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny architecture, of CLIP's kind or with SigLIP's bias and pooling inside."""
    body: dict[str, Any] = json.loads(json.dumps(CONFIGURATION))
    if request.param == "bias":
        body["init_logit_bias"] = -10
        body["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2}
    folder = tmp_path_factory.mktemp("configs")
    (folder / f"tiny-{request.param}.json").write_text(json.dumps(body))
    open_clip.add_model_config(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip_, "architectures", lambda: open_clip.list_models())
        yield f"tiny-{request.param}"


def test_zero_shot_is_its_own_loop(name: str, tmp_path: Path) -> None:
    """`as-is`, from pictures to log-probabilities; random weights, of which nothing is expected."""
    torch.manual_seed(0)
    theirs = open_clip.create_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    splits = datasets.load(datasets.resolve("synthetic/stripes?train=20&valid=20&test=30"))
    ref = models.resolve(f"open-clip/{name}?weights={tmp_path / 'w.pt'}")
    backbone: Any = models.load(ref)
    method: Any = methods.build("as-is", {"templates": TEMPLATES}, task="classification")
    source = Features(backbone, View(ref.text))
    ours = method.adapt(source, splits.sealed(), 0).predict(splits.test).scores
    process = image_transform_v2(
        PreprocessCfg(**open_clip.get_model_preprocess_cfg(theirs)), is_train=False
    )
    with torch.no_grad():
        batch = torch.stack([process(splits.test.read(i)) for i in range(30)])
        classes = open_clip.build_zero_shot_classifier(
            theirs, open_clip.get_tokenizer(name), splits.classes, TEMPLATES
        )
        logits = theirs.logit_scale.exp() * theirs.encode_image(batch, normalize=True) @ classes
        if theirs.logit_bias is not None:
            logits = logits + theirs.logit_bias
    np.testing.assert_allclose(ours, logits.log_softmax(1).numpy(), atol=1e-5)
    assert backbone.feature_dim == (48 if name == "tiny-matrix" else 24)
    assert backbone.provenance["file"] == "w.pt"
    assert models.card(ref).zero_shot


def test_long_texts_are_cut_and_read_alike_in_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = models.load(models.resolve(f"open-clip/{name}?weights=random")).text_tower()  # type: ignore[attr-defined]
    texts = ["a cat", "stripes", "a rather long name " * 40]
    whole = tower.embed(texts)
    monkeypatch.setattr(two_towers, "TOGETHER", 2)
    torch.testing.assert_close(tower.embed(texts), whole, rtol=1e-5, atol=1e-6)


def test_random_weights_are_drawn_by_the_seed(name: str) -> None:
    ref = models.resolve(f"open-clip/{name}?weights=random")
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        one, again, other = (models.load(ref, seed).embed(pixels) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_names_tags_and_options_are_checked(tmp_path: Path) -> None:
    assert str(models.resolve("open-clip/ViT-B-32")) == "open-clip/ViT-B-32@laion2b_s34b_b79k"
    card = models.card(models.resolve("open-clip/ViT-B-32"))
    assert (card.license, card.pretrained_on) == ("MIT", "LAION-2B")
    with pytest.raises(UserError, match=r"unknown model 'open-clip/ViT-B32'.*Did you mean"):
        models.resolve("open-clip/ViT-B32")
    with pytest.raises(UserError, match=r"say the tag of its weights, open-clip/ViT-g-14@TAG"):
        models.resolve("open-clip/ViT-g-14")
    with pytest.raises(UserError, match="unknown option 'crop_pct'"):
        models.resolve("open-clip/ViT-B-32?crop_pct=1")
    with pytest.raises(UserError, match="unknown weights 'laion' of open-clip/RN50"):
        models.load(models.resolve("open-clip/RN50@laion"))
    (tmp_path / "w.pt").write_bytes(b"no checkpoint")
    with pytest.raises(Unsupported, match=r"w\.pt is damaged"):
        models.load(models.resolve(f"open-clip/RN50?weights={tmp_path / 'w.pt'}"))
    assert set(open_clip_.CATALOGUE) <= set(open_clip_.architectures())
    for arch, (tag, _) in open_clip_.CATALOGUE.items():
        assert tag in open_clip.list_pretrained_tags_by_model(arch), arch
