"""The half of CLIP and SigLIP that reads texts, beside what transformers makes of both halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tinypairs import KINDS, tiny_pair
from zoobench import models
from zoobench.errors import Unsupported
from zoobench.models.backbones import ImageBackbone
from zoobench.schema import Ref

TEXTS = (
    "a photo of a cat .",
    "red",
    "the blue square of the green dog . a picture",
    "",
    "owl \ud800",
)


def loaded(folder: Path, options: str = "") -> ImageBackbone:
    ref = models.resolve(f"hf/pair?weights={folder}{options}")
    found = models.load(ref)
    assert isinstance(found, ImageBackbone)
    return found


def pictures(count: int = 5) -> list[Image.Image]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 40, 32, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in drawn]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_whole_network(kind: str, tmp_path: Path) -> None:
    import transformers

    whole = tiny_pair(kind, tmp_path)
    backbone = loaded(tmp_path)
    tower = backbone.text_tower()
    values = backbone.collate([backbone.prepare(one) for one in pictures()])
    with torch.inference_mode():
        seen = tower.project(backbone.embed(values))
        read = tower.embed(TEXTS)
    seen, read = (x / x.norm(dim=1, keepdim=True) for x in (seen, read))
    ours = seen @ read.T * tower.scale + tower.bias
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for k, text in enumerate(TEXTS):  # one by one: no padding but what the family wants
        plain = text.encode("utf-8", "replace").decode()
        filled = {"padding": "max_length"} if kind == "siglip" else {}
        ids = tokenizer(plain, truncation=True, max_length=12, return_tensors="pt", **filled)
        with torch.inference_mode():
            theirs = whole(input_ids=ids["input_ids"], pixel_values=values).logits_per_image
        assert torch.allclose(ours[:, k], theirs[:, 0], atol=1e-5), text


def test_its_card_says_that_it_answers_and_other_backbones_do_not(tmp_path: Path) -> None:
    tiny_pair("clip", tmp_path)
    ref = models.resolve(f"hf/pair?weights={tmp_path}")
    assert models.card(ref).zero_shot == ("classification", "retrieval")
    assert models.card(Ref("packaged", "efficientnet-lite0")).zero_shot == ()
    lite0: Any = models.load(models.resolve("packaged/efficientnet-lite0?weights=random"))
    with pytest.raises(Unsupported, match="reads no texts"):
        lite0.text_tower()


def test_random_weights_are_both_halves(tmp_path: Path) -> None:
    tiny_pair("clip", tmp_path)
    drawn = loaded(tmp_path, "").text_tower().embed(TEXTS[:2])
    ref = models.resolve(f"hf/pair?weights=random&configuration={tmp_path}")
    one, again, other = (models.load(ref, seed) for seed in (1, 1, 2))
    first, second, third = (m.text_tower().embed(TEXTS[:2]) for m in (one, again, other))  # type: ignore[attr-defined]
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)
    assert not torch.allclose(first, drawn)


def test_another_pooling_has_no_place_for_texts(tmp_path: Path) -> None:
    tiny_pair("clip", tmp_path)
    with pytest.raises(Unsupported, match="reads no texts"):
        loaded(tmp_path, "&pool=mean").text_tower()
