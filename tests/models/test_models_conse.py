"""A network of pictures and texts made of a classifier and an encoder of texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoobench import datasets, methods, models
from zoobench.errors import UserError
from zoobench.features.source import Features, View
from zoobench.models.conse_ import TOP, _project
from zoobench.tasks.retrieval import Embedded, captions_of, ranks


def test_a_picture_is_made_of_its_likeliest_classes() -> None:
    torch.manual_seed(0)
    head, names = torch.nn.Linear(6, 30), torch.randn(30, 4)
    features = torch.randn(5, 6)
    found = _project(head, names, features)
    for row, made in zip(features, found, strict=True):
        chances = head(row).softmax(0).detach()
        best = chances.argsort(descending=True)[:TOP].tolist()
        mixed = sum(float(chances[k]) * names[k] for k in best)
        assert torch.allclose(made, torch.as_tensor(mixed), atol=1e-6)


def test_its_name_is_checked() -> None:
    assert models.resolve("conse/lite0-minilm?weights=pretrained").text == "conse/lite0-minilm@1"
    for wrong in ("conse/lite1-minilm", "conse/lite0-minilm?pool=max", "conse/lite0-minilm@2",
                  "conse/lite0-minilm?weights=a.pt"):  # fmt: skip
        with pytest.raises(UserError):
            models.resolve(wrong)


@pytest.mark.rare
def test_it_finds_captions_of_photographs_and_drawn_weights_do_not() -> None:
    data = datasets.resolve("packaged/stamp-captions?max_test=100")
    there, why = datasets.available(data)
    if not there:
        pytest.skip(why)
    splits = datasets.load(data)
    assert len(splits.test) == 100

    def found(name: str) -> float:
        """R@10, both ways."""
        source = Features(models.load(models.resolve(name)), View(name))
        method: Any = methods.build("as-is", {}, task="retrieval")
        said: Embedded = method.adapt(source, splits.sealed(), 0).predict(splits.test)
        to_text, to_image = ranks(said, captions_of(splits.test).owner)
        return float(((to_text <= 10).mean() + (to_image <= 10).mean()) / 2)

    drawn = found("conse/lite0-minilm?weights=random")
    assert drawn < 0.2, "10 of 100"
    assert found("conse/lite0-minilm") > 2 * drawn + 0.1
