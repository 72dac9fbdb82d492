"""Complete segmenters of torchvision and transformers with random weights, through all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cells import settings
from zoobench import datasets, methods, models
from zoobench.errors import CellError, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.methods.as_is import UNKNOWN, mapping
from zoobench.models.segmenter_ import SEGMENTERS
from zoobench.runs import planning, suite
from zoobench.schema import Ref
from zoobench.tasks.segmentation import IGNORED, masks_of
from zoobench.workers.runner import Bench

NAMES = ("background", "airplane", "cat", "unicorn")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    (root / "classes.txt").write_text("\n".join(NAMES))
    for name in ("images", "masks"):
        (root / name).mkdir()
    for i in range(12):
        rng = np.random.default_rng(i)
        size = (40 + i, 50)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, dtype=np.uint8)
        mask[: 20 + i] = 1 + i % 3
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    return root


def folder_of(path: Path, kind: str) -> Path:
    """A tiny segmenter of transformers with random weights, as `save_pretrained` writes it."""
    import transformers

    labels = {0: "wall, interior", 1: "plane", 2: "Airplane", 3: "cat"}
    torch.manual_seed(0)
    if kind == "semantic":
        config: Any = transformers.SegformerConfig(
            num_encoder_blocks=4, depths=[1] * 4, hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16, id2label=labels,
        )  # fmt: skip
        model: Any = transformers.SegformerForSemanticSegmentation(config)
        processor: Any = transformers.SegformerImageProcessor(size={"height": 64, "width": 64})
    else:
        swin = transformers.SwinConfig(
            embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )  # fmt: skip
        config = transformers.Mask2FormerConfig(
            backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32,
            encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
            dim_feedforward=32, num_queries=5, id2label=labels,
        )  # fmt: skip
        model = transformers.Mask2FormerForUniversalSegmentation(config)
        processor = transformers.Mask2FormerImageProcessor(size={"height": 64, "width": 64})
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_labels_are_matched_by_name_and_never_by_number() -> None:
    theirs = ("__background__", "Aeroplane", "dining table", "tabby, cat", "TV-monitor", "dog")
    ours = ("dog", "bg", "diningtable", "airplane", "television", "cat")
    assert mapping(theirs, ours) == [1, 3, 2, UNKNOWN, 4, 0]
    assert mapping(theirs, ours, ["tabby, cat=cat"])[3] == 5
    assert mapping(("a", "b"), ("A", "a b")) == [0, UNKNOWN]
    for wrong, says in [("cow=cat", "'cow' is none of"), ("dog=cow", "'cow' is none of")]:
        with pytest.raises(UserError, match=says):
            mapping(theirs, ours, [wrong])
    with pytest.raises(UserError, match="THEIRS=CLASS"):
        methods.build("as-is", {"labels": ["cow"]})


@pytest.mark.parametrize(
    "names",
    [
        ["-1", "0", "1"], ["C", "C++", "C#"], [":)", ":("], ["1.5", "15"], ["US", "us", "Us"],
        ["crane, bird", "crane, machine"], ["", " ", "a"], ["कि", "की", "क"], ["pos", "positive"],
        ["cardigan", "Cardigan, Cardigan Welsh corgi", "sweater"], ["1,5", "1", "15", "1.5"],
    ],
)  # fmt: skip
def test_names_mean_themselves(names: list[str]) -> None:
    for ways in (names, names[::-1]):
        assert mapping(ways, ways) == list(range(len(names)))
        assert mapping([*ways, "else"], ways)[-1] == UNKNOWN
    for k in range(len(names)):  # nor does it take one away that the data has not
        found = mapping(names, names[:k] + names[k + 1 :])
        assert found[:k] + found[k + 1 :] == list(range(len(names) - 1))


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        (["US", "us"], ["us", "US"], [1, 0]),
        (["Us"], ["us", "US"], [UNKNOWN]),  # which of them is open
        (["crane"], ["crane, bird", "crane, machine"], [UNKNOWN]),
        (["C++", "C"], ["C", "Java"], [UNKNOWN, 0]),
        (["C++", "c#"], ["C", "C#"], [UNKNOWN, 1]),
        (["b-c", "B C"], ["B C", "a"], [UNKNOWN, 0]),
        (["cardigan", "Cardigan, Cardigan Welsh corgi"], ["Cardigan"], [0, UNKNOWN]),
        (["dog, husky", "dog, poodle"], ["Dog"], [0, 0]),  # several labels of one class
        (["1.5", "-1", ":)", "1,500"], ["15", "1", ":(", ")"], [UNKNOWN] * 4),
        (["7, seven", "-1"], ["7", " -1 "], [0, 1]),
        (["human", "automobile"], ["person", "people", "car"], [UNKNOWN, 2]),
        (["_", "cafe\u0301"], ["-", "café"], [UNKNOWN, 1]),
        (["का"], ["की"], [UNKNOWN]),
    ],
)
def test_a_name_that_may_mean_several_means_none(
    theirs: list[str], ours: list[str], found: list[int]
) -> None:
    assert mapping(theirs, ours) == found


def suite_of(path: Path, scenes: Path, model: str, method: str = "as-is") -> suite.Suite:
    path.write_text(
        f'name = "t"\nprecision = "fp32"\nmodels = ["{model}"]\n'
        f'datasets = [{{ id = "folder/scenes", path = "{scenes}", task = "segmentation" }}]\n'
        f'methods = ["{method}"]\n[limits]\ncost_seconds = 0\n'
    )
    return suite.read(str(path))


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "semantic", "universal"]
)
def test_a_complete_model_runs_through_the_whole_path(
    name: str, scenes: Path, tmp_path: Path
) -> None:
    ours = name not in ("semantic", "universal")
    model = f"segmenter/{name}?weights=random&input_size=64"
    if not ours:
        model = f"segmenter/mine?weights={folder_of(tmp_path / 'model', name)}"
    spec = suite_of(tmp_path / "s.toml", scenes, model)
    cells = planning.plan(spec)
    assert [c.method for c in cells] == ["majority", "raw-input", "oracle", "as-is"]
    result = Bench(settings()).run(cells[-1])
    record = result.record
    assert record.status == "ok", record.error
    assert record.value("classes_known") == (3 if ours else 2)
    assert "classes-unknown" in record.flags
    whole = record.get("miou")
    assert whole is not None
    unknown = record.chosen["unknown_classes"]
    assert unknown
    assert all(whole.detail["iou"].get(name, 0.0) == 0.0 for name in unknown)
    rest = [value for name, value in whole.detail["iou"].items() if name not in unknown]
    assert record.value("miou_known") == pytest.approx(sum(rest) / len(rest))
    assert record.value("params")
    assert record.value("macs")
    again = Bench(settings()).run(cells[-1])
    assert again.record.value("miou") == record.value("miou")


def test_what_transformers_says_is_what_is_judged(scenes: Path, tmp_path: Path) -> None:
    import transformers

    folder = folder_of(tmp_path / "model", "semantic")
    ref = models.resolve(f"segmenter/mine?weights={folder}")
    model: Any = models.load(ref)
    data = datasets.load(datasets.resolve(f"folder/scenes?path={scenes}&task=segmentation"))
    source = Features(model, View(str(ref)))
    fitted = methods.build("as-is", {}).adapt(source, data.sealed(), 0)
    theirs: Any = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    processor: Any = transformers.SegformerImageProcessor.from_pretrained(folder)
    table = np.array([IGNORED, IGNORED, 1, 2])
    for i, mask in enumerate(fitted.predict(data.test)):
        picture = data.test.read(i)
        with torch.no_grad():
            logits = theirs(**processor(images=picture, return_tensors="pt")).logits
        whole = torch.nn.functional.interpolate(logits, picture.size[::-1], mode="bilinear")
        assert np.array_equal(mask, table[whole[0].argmax(dim=0).numpy()])
        assert mask.shape == masks_of(data.test).sizes[i]


def test_what_does_not_fit_together_is_said_before_or_in_a_word(
    scenes: Path, tmp_path: Path
) -> None:
    lraspp = "segmenter/lraspp_mobilenet_v3_large?weights=random&input_size=64"
    spec = suite_of(tmp_path / "s.toml", scenes, lraspp, "linear-probe")
    assert "is a complete model: as-is judges it" in planning.left_out(spec)[0]
    spec = suite_of(tmp_path / "s.toml", scenes, "synthetic/gabor")
    assert "synthetic/gabor is a backbone" in planning.left_out(spec)[0]
    data = datasets.load(
        datasets.resolve("synthetic/stripes?task=segmentation&train=4&valid=2&test=2")
    )
    source = Features(models.load(models.resolve(lraspp)), View("x"))
    with pytest.raises(Unsupported, match="knows none of the classes class0, class1"):
        methods.build("as-is", {}).adapt(source, data.sealed(), 0)
    gabor = Features(models.load(models.resolve("synthetic/gabor")), View("x"))
    with pytest.raises(Unsupported, match="no complete model for segmentation"):
        methods.build("as-is", {}).adapt(gabor, data.sealed(), 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("segmenter/fcn_resnet5", "Did you mean 'segmenter/fcn_resnet50'"),
        ("segmenter/fcn_resnet50@V9", "COCO_WITH_VOC_LABELS_V1"),
        ("segmenter/fcn_resnet50?weights=nowhere.pth", "no file or folder"),
        ("segmenter/fcn_resnet50?size=3", "option 'size'"),
    ],
)
def test_names_that_are_wrong(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        models.resolve(name)


def test_a_folder_of_another_model_is_no_segmenter(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(CellError):
        models.load(models.resolve(f"segmenter/mine?weights={tmp_path}"))


def test_every_card_is_torchvisions_own() -> None:
    import torchvision.models as zoo

    assert sorted(SEGMENTERS.named) == sorted(zoo.list_models(module=zoo.segmentation))
    for card in SEGMENTERS.cards():
        weights = zoo.get_model_weights(card.name).DEFAULT
        assert card.weights == weights.url
        assert card.revision == weights.name
        assert models.card(Ref("segmenter", card.name)).extra
