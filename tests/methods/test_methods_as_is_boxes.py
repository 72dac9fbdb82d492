"""Complete detectors of torchvision and transformers with random weights, through all of it, and
beside what their own library says of the same picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cells import settings
from zoobench import datasets, methods, models
from zoobench.errors import NotFinite, Unsupported, UserError
from zoobench.features.source import Features, View
from zoobench.interfaces import Splits
from zoobench.models import detector_
from zoobench.models.detector_ import DETECTORS
from zoobench.runs import planning, suite
from zoobench.schema import Ref
from zoobench.tasks.detection import boxes_of, outcomes_of
from zoobench.workers.runner import Bench

NAMES = ("unicorn", "aeroplane", "person")
LABELS = {0: "person", 1: "N/A", 2: "airplane", 3: "zebra"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of unlike sizes with boxes in COCO's JSON, whose ids are neither 0 nor dense."""
    root = tmp_path_factory.mktemp("scenes")
    for part, n in (("train", 6), ("valid", 3), ("test", 4)):
        (root / part).mkdir()
        images, boxes = [], []
        for i in range(n):
            rng = np.random.default_rng([len(part), i])
            height, width = 40 + 3 * i, 60
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
                root / part / f"{i}.png"
            )
            images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
            boxes.append({
                "id": i, "image_id": i, "category_id": 3 + 7 * (i % 3), "bbox": [5, 6, 20 + i, 25],
                "area": (20 + i) * 25, "iscrowd": 0,
            })  # fmt: skip
        categories = [{"id": 3 + 7 * c, "name": name} for c, name in enumerate(NAMES)]
        (root / part / "_annotations.coco.json").write_text(
            json.dumps({"images": images, "annotations": boxes, "categories": categories})
        )
    return root


@pytest.fixture(scope="module")
def data(scenes: Path) -> Splits:
    return datasets.load(datasets.resolve(f"folder/scenes?path={scenes}&task=detection"))


def folder_of(path: Path, kind: str) -> Path:
    """A tiny detector of transformers with random weights, as `save_pretrained` writes it."""
    import transformers

    torch.manual_seed(0)
    if kind == "yolos":
        config: Any = transformers.YolosConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=[64, 64], patch_size=16, num_detection_tokens=8, id2label=LABELS,
        )  # fmt: skip
        model: Any = transformers.YolosForObjectDetection(config)
        processor: Any = transformers.YolosImageProcessor(size={"height": 64, "width": 64})
    else:
        backbone = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        if kind == "detr":
            backbone.out_features = ["stage4"]
            config = transformers.DetrConfig(
                use_timm_backbone=False, backbone=None, use_pretrained_backbone=False,
                backbone_config=backbone, d_model=16, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
                decoder_ffn_dim=16, num_queries=8, id2label=LABELS,
            )  # fmt: skip
            model = transformers.DetrForObjectDetection(config)
            processor = transformers.DetrImageProcessor(
                size={"height": 64, "width": 64}, do_pad=False
            )
        else:
            config = transformers.RTDetrConfig(
                backbone_config=backbone, encoder_hidden_dim=16, d_model=16, num_queries=8,
                encoder_in_channels=[8, 16, 16], decoder_in_channels=[16] * 3, encoder_layers=1,
                decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_denoising=0,
                encoder_attention_heads=2, decoder_attention_heads=2, decoder_n_points=2,
                id2label=LABELS,
            )  # fmt: skip
            model = transformers.RTDetrForObjectDetection(config)
            processor = transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def source_of(name: str) -> Features:
    return Features(models.load(models.resolve(name), seed=0), View("x"))


def suite_of(path: Path, scenes: Path, model: str, method: str = "as-is") -> suite.Suite:
    path.write_text(
        f'name = "t"\nprecision = "fp32"\nmodels = ["{model}"]\n'
        f'datasets = [{{ id = "folder/scenes", path = "{scenes}", task = "detection" }}]\n'
        f'methods = ["{method}"]\n[limits]\ncost_seconds = 0\n'
    )
    return suite.read(str(path))


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "rt-detr"])
def test_a_complete_detector_runs_through_the_whole_path(
    name: str, scenes: Path, tmp_path: Path
) -> None:
    ours = "320" in name
    model = f"detector/{name}?weights=random&input_size=64"
    if not ours:
        model = f"detector/mine?weights={folder_of(tmp_path / 'model', name)}"
    cells = planning.plan(suite_of(tmp_path / "s.toml", scenes, model))
    assert [c.method for c in cells] == ["majority", "raw-input", "oracle", "as-is"]
    record = Bench(settings()).run(cells[-1]).record
    assert record.status == "ok", record.error
    assert record.value("classes_known") == 2
    assert "classes-unknown" in record.flags
    assert record.get("ap") is not None
    assert record.value("params")
    counted = record.get("macs")
    assert counted is not None
    assert counted.detail.get("depends_on_data", False) == ours, "NMS leaves as many as there are"


@pytest.mark.parametrize("kind", ["yolos", "detr", "rt-detr"])
def test_what_transformers_says_is_what_is_judged(kind: str, data: Splits, tmp_path: Path) -> None:
    import transformers

    folder = folder_of(tmp_path / "model", kind)
    fitted = methods.build("as-is", {}).adapt(
        source_of(f"detector/mine?weights={folder}"), data.sealed(), 0
    )
    theirs: Any = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    ours = {"person": 2, "airplane": 1}
    said = fitted.predict(data.test)
    assert sum(len(one.scores) for one in said)
    for i, one in enumerate(said):
        picture = data.test.read(i)
        with torch.no_grad():
            output = theirs(**processor(images=picture, return_tensors="pt"))
        (true,) = processor.post_process_object_detection(
            output, threshold=0.001, target_sizes=[picture.size[::-1]]
        )
        kept = [k for k, c in enumerate(true["labels"].tolist()) if LABELS[c] in ours]
        kept.sort(key=lambda k: -float(true["scores"][k]))
        assert [ours[LABELS[int(true["labels"][k])]] for k in kept] == one.labels.tolist()
        expected = true["boxes"][kept].double().numpy().clip(0, [*picture.size, *picture.size])
        np.testing.assert_allclose(one.boxes, expected, atol=1e-3)
        np.testing.assert_allclose(one.scores, true["scores"][kept], atol=1e-5)
    outcomes_of(said, boxes_of(data.test))


def test_a_file_of_torchvisions_gives_what_torchvisions_own_builder_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their builder freezes norms where it is given weights, and counts on the file's values."""
    import torchvision.models as zoo
    from torchvision.models import WeightsEnum
    from torchvision.transforms.functional import to_tensor

    name = "ssdlite320_mobilenet_v3_large"
    torch.manual_seed(0)
    state = zoo.get_model(name, weights=None, weights_backbone=None, num_classes=91).state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        if "classification_head" in key and key.endswith("1.weight"):
            value *= 8
    torch.save(state, tmp_path / "own.pth")
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: state)
    theirs = zoo.get_model(name, weights="COCO_V1", score_thresh=0.001, detections_per_img=100)
    model: Any = models.load(models.resolve(f"detector/{name}?weights={tmp_path / 'own.pth'}"))
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    with torch.inference_mode():
        boxes, scores, labels = model.answer(picture)
        (own,) = theirs.eval()([to_tensor(picture)])
    assert len(scores) > 20
    order = own["scores"].argsort(descending=True, stable=True)
    torch.testing.assert_close(scores, own["scores"][order])
    torch.testing.assert_close(boxes, own["boxes"][order])
    assert torch.equal(labels, own["labels"][order])


@pytest.mark.parametrize("name", sorted(detector_.TORCHVISION))
def test_norms_are_as_the_weights_were_trained_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In torchvision's builder, of the shapes alone."""
    import torchvision.models as zoo
    from torchvision.models import WeightsEnum
    from torchvision.ops import FrozenBatchNorm2d

    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *args, **kwargs: {})
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *args, **kwargs: None)
    with torch.device("meta"):
        theirs = zoo.get_model(name, weights="COCO_V1")
        plain: Any = zoo.get_model(name, weights=None, weights_backbone=None)
    norms = [m for m in theirs.modules() if isinstance(m, FrozenBatchNorm2d)]
    ours = [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if norms:
        own = 0.0 if name in detector_.UNSHIFTED else ours[0].eps
        assert {m.eps for m in norms} == {own}
        assert len(norms) == len(ours)
    else:
        assert name not in detector_.UNSHIFTED
    heads = getattr(plain, "roi_heads", plain)
    assert {"score_thresh", "detections_per_img"} <= set(vars(heads))
    assert plain.transform.min_size[-1] == detector_._side(name)


def test_every_card_is_torchvisions_own() -> None:
    import torchvision.models as zoo

    assert sorted(DETECTORS.named) == sorted(zoo.list_models(module=zoo.detection))
    for card in DETECTORS.cards():
        weights = zoo.get_model_weights(card.name)[card.revision]
        assert card.weights == weights.url
        assert models.card(Ref("detector", card.name)).extra


class Said:
    """A complete model whose answers are given."""

    task = "detection"
    labels: tuple[str, ...] = ("__background__", "person", "N/A", "zebra")

    def __init__(self, *said: Any) -> None:
        self.said = tuple(torch.tensor(one) for one in said)
        self.module = torch.nn.Linear(1, 1)
        self.precision = "fp32"

    def autocast(self, precision: str) -> Any:
        return torch.autocast("cpu", enabled=False)

    def answer(self, picture: Image.Image) -> Any:
        return self.said


def test_boxes_are_cut_to_the_picture_and_other_labels_left_out(data: Splits) -> None:
    boxes = [[-5.0, -5, 999, 999], [1, 2, 3, 4], [70, 80, 90, 95], [5, 5, 9, 9]]
    model = Said(boxes, [0.5, 0.9, 0.8, 0.7], [1, 3, 1, 7])
    first = methods.build("as-is", {}).adapt(model, data.sealed(), 0).predict(data.test)[0]
    assert first.boxes.tolist() == [[0, 0, 60, 40]]
    assert first.labels.tolist() == [2]
    named = methods.build("as-is", {"labels": ["zebra=unicorn"]})
    fitted = named.adapt(model, data.sealed(), 0)
    assert fitted.facts["classes_known"] == 2
    assert fitted.predict(data.test)[0].labels.tolist() == [2, 0]
    nothing = Said(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
    said = methods.build("as-is", {}).adapt(nothing, data.sealed(), 0).predict(data.test)
    assert [len(one.scores) for one in said] == [0] * 4
    outcomes_of(said, boxes_of(data.test))
    wrong = Said([[1, 2, float("nan"), 9]], [0.5], [1])
    said = methods.build("as-is", {}).adapt(wrong, data.sealed(), 0).predict(data.test)
    with pytest.raises(NotFinite):
        outcomes_of(said, boxes_of(data.test))


def test_what_does_not_fit_together_is_said(scenes: Path, data: Splits, tmp_path: Path) -> None:
    ssd = "detector/ssdlite320_mobilenet_v3_large?weights=random&input_size=64"
    spec = suite_of(tmp_path / "s.toml", scenes, ssd, "linear-probe")
    assert "is a complete model: as-is judges it" in planning.left_out(spec)[0]
    lraspp = "segmenter/lraspp_mobilenet_v3_large?weights=random&input_size=64"
    spec = suite_of(tmp_path / "s.toml", scenes, lraspp)
    assert (
        "answers segmentation, folder/scenes?task=detection asks detection"
        in planning.left_out(spec)[0]
    )
    model = Said([], [], [])
    model.labels = ("cow",)
    with pytest.raises(Unsupported, match="knows none of the classes unicorn"):
        methods.build("as-is", {}).adapt(model, data.sealed(), 0)
    with pytest.raises(Unsupported, match="no complete model for detection"):
        methods.build("as-is", {}).adapt(source_of("synthetic/gabor"), data.sealed(), 0)
    with pytest.raises(UserError, match="Did you mean 'detector/ssd300_vgg16'"):
        models.resolve("detector/ssd300_vgg")
    with pytest.raises(UserError, match="COCO_V1"):
        models.resolve("detector/ssd300_vgg16@V9")


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn"])
def test_boxes_are_float32_whatever_the_convolutions_are(name: str) -> None:
    """Bfloat16 has eight bits: between 256 and 512 pixels it knows every second one."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    if name == "fasterrcnn":
        body: Any = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 8, 8))
        body.out_channels = 32
        anchors = AnchorGenerator(((32,),), ((1.0,),))
        module: Any = FasterRCNN(
            body, 3, 64, 64, rpn_anchor_generator=anchors, box_score_thresh=0.0,
            rpn_post_nms_top_n_test=20,
        ).eval()  # fmt: skip
        detector_.coordinates_exact(module)
    else:
        module = source_of(f"detector/{name}?weights=random&input_size=64").module
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (said,) = module([torch.rand(3, 333, 401)])
    assert len(said["boxes"])
    assert said["boxes"].dtype == torch.float32
    rounded = said["boxes"].bfloat16().float()
    assert not torch.equal(rounded, said["boxes"])


def test_a_detector_on_a_backbone_of_timms_is_read_as_the_hub_has_it(tmp_path: Path) -> None:
    """Its file holds the backbone's weights too, so that nothing is taken from elsewhere."""
    import transformers

    config = transformers.DetrConfig(
        use_timm_backbone=True, use_pretrained_backbone=False, backbone="resnet10t", d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=8, id2label=LABELS,
    )  # fmt: skip
    theirs = transformers.DetrForObjectDetection(config)
    theirs.save_pretrained(tmp_path)
    transformers.DetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    body = json.loads(path.read_text("utf-8"))
    for fields in (
        {}, {"backbone_config": None, "backbone": "resnet10t", "use_pretrained_backbone": True}
    ):  # fmt: skip
        path.write_text(json.dumps({**body, **fields}), "utf-8")
        model: Any = models.load(models.resolve(f"detector/mine?weights={tmp_path}"))
        own = theirs.state_dict()
        assert all(torch.equal(value, own[k]) for k, value in model.module.state_dict().items())


@pytest.mark.parametrize("source", ["detector", "segmenter"])
def test_weights_that_are_not_there_are_the_mistake_not_the_name(source: str) -> None:
    with pytest.raises(UserError, match=r"option 'weights': no file or folder .*nowhere"):
        models.resolve(f"{source}/mine?weights=nowhere")
