"""Classes told by their names, beside a loop over transformers' own CLIP and SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinypairs import KINDS, tiny_pair
from zoobench import datasets, methods, models, tasks
from zoobench.errors import Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.methods.zero_shot import TEMPLATES, renamed, spoken
from zoobench.tasks.classification import Templated, labels_of
from zoobench.tasks.evaluate import evaluate

OWN = ("a photo of a {} .", "the picture of {}", "{} stripes")


@pytest.fixture(scope="module")
def stripes() -> Splits:
    return datasets.load(datasets.resolve("synthetic/stripes?test=30&train=20&valid=20"))


def source_of(name: str) -> Features:
    return Features(models.load(models.resolve(name)), View(name))


def said(source: Any, splits: Splits, **params: Any) -> Any:
    method: Any = methods.build("as-is", params, task="classification")
    return method.adapt(source, splits.sealed(), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_a_loop_over_the_whole_network_says(
    kind: str, tmp_path: Path, stripes: Splits
) -> None:
    import transformers

    whole = tiny_pair(kind, tmp_path)
    source = source_of(f"hf/pair?weights={tmp_path}")
    adapted = said(source, stripes, templates=OWN)
    found: Templated = adapted.predict(stripes.test)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    filled = {"padding": "max_length"} if kind == "siglip" else {}

    def unit(x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = x / x.norm(dim=-1, keepdim=True)
        return scaled

    with torch.inference_mode():
        classes = []
        for name in stripes.classes:
            texts = []
            for template in OWN:
                ids = tokenizer(template.format(name), return_tensors="pt", max_length=12,
                                truncation=True, **filled)["input_ids"]  # fmt: skip
                texts.append(unit(whole.get_text_features(input_ids=ids).pooler_output[0]))
            classes.append(torch.stack(texts))
        by_template = torch.stack(classes)  # (C, T, E)
        pixels = source.collate([source.prepare(stripes.test.read(i)) for i in range(30)])
        pictures = unit(whole.get_image_features(pixel_values=pixels).pooler_output)
        logits = pictures @ unit(by_template.mean(1)).T * whole.logit_scale.exp()
        alone = torch.einsum("ne,cte->ntc", pictures, by_template).argmax(2)
    expected = logits.log_softmax(1)
    assert np.allclose(found.scores, expected.numpy(), atol=1e-5)
    assert np.array_equal(np.stack(list(found.alone), 1), alone.numpy())
    task = tasks.task("classification")
    kept = task.judge(found, stripes.test, (adapted.valid_scores, stripes.valid))
    numbers = {m.metric: m for m in evaluate(task, kept.of(stripes.test.units), stripes)}
    right = (alone.numpy() == labels_of(stripes.test)[:, None]).mean(0)
    assert numbers["single_template_accuracy"].value == pytest.approx(right[0])
    assert numbers["least_template_accuracy"].value == pytest.approx(right.min())
    greatest = numbers["greatest_template_accuracy"]
    assert greatest.value == pytest.approx(right.max())
    assert greatest.low is not None
    assert greatest.high is not None
    assert greatest.low < greatest.value < greatest.high
    recall = numbers["balanced_accuracy"].detail["recall"]
    assert numbers["balanced_accuracy"].value == pytest.approx(np.mean(list(recall.values())))
    assert adapted.chosen["templates"] == list(OWN)


def test_names_are_said_as_words() -> None:
    assert spoken("001.Black_footed_Albatross") == "Black footed Albatross"
    assert spoken("AnnualCrop") == "Annual Crop"
    assert spoken("7") == "7"
    assert spoken("3_d_printer") == "3 d printer"
    assert spoken("__") == "__"
    assert renamed(["0", "a_b"], ["0=zero"]) == ["zero", "a b"]
    with pytest.raises(UserError, match="'x' is none of '0', 'a_b'"):
        renamed(["0", "a_b"], ["x=zero"])


def test_templates_are_checked_before_anything_is_run() -> None:
    for templates in TEMPLATES.values():
        assert all(text.count("{}") == 1 for text in templates)
    for wrong in (("generla",), ("a {} and {}",), ("a cat", "a {}"), ()):
        with pytest.raises(UserError, match="template"):
            methods.build("as-is", {"templates": wrong}, "s.toml", "classification")
    with pytest.raises(UserError, match="CLASS=WORDS"):
        methods.build("as-is", {"names": ["zero"]}, "s.toml", "classification")


def test_a_backbone_that_reads_no_texts_is_unsupported(stripes: Splits) -> None:
    source = source_of("packaged/efficientnet-lite0?weights=random&input_size=32")
    with pytest.raises(Unsupported, match="as-is needs a head"):
        said(source, stripes)
