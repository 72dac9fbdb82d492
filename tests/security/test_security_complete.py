"""Folders of complete detectors that name code, or settings that fit nothing: refused in a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hostile import Canary
from zoobench import models
from zoobench.errors import CellError

CONFIG, PICTURES = "config.json", "preprocessor_config.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("yolos")
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=[64, 64], patch_size=16, num_detection_tokens=8, id2label={0: "a", 1: "b"},
    )  # fmt: skip
    transformers.YolosForObjectDetection(config).save_pretrained(folder)
    transformers.YolosImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (CONFIG, {"auto_map": {"AutoModel": "code.X"}}),
        (CONFIG, {"backbone": "me/other"}),
        (CONFIG, {"backbone_config": {"backbone": "../other"}}),
        (CONFIG, {"trust_remote_code": True}),
        (CONFIG, {"attn_implementation": "me/kernel"}),
        (CONFIG, {"model_type": "bert"}),
        (CONFIG, {"model_type": "../../detr"}),
        (CONFIG, {"id2label": {str(i): "x" for i in range(9)}}),
        (CONFIG, {"id2label": {"0": "a"}}),
        (CONFIG, {"id2label": ["a", "b"]}),
        (CONFIG, {"id2label": {"x": "a", "y": "b"}}),
        (CONFIG, {"hidden_size": -1}),
        (CONFIG, {"hidden_size": "16"}),
        (CONFIG, {"num_detection_tokens": 0}),
        (CONFIG, {"patch_size": 0}),
        (PICTURES, {"auto_map": {"AutoImageProcessor": "code.X"}}),
        (PICTURES, {"image_processor_type": "os.system"}),
        (PICTURES, {"image_std": [0, 0]}),
        (PICTURES, {"size": {"height": -5, "width": 5}}),
        (PICTURES, {"size": "large"}),
    ],
)
def test_a_folder_that_is_no_detector_is_refused_in_a_word(
    name: str, fields: dict[str, Any], whole: Path, inside: Path, canary: Canary
) -> None:
    folder = Path(shutil.copytree(whole, inside / "m"))
    (folder / "code.py").write_text(canary.python)
    body = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps({**body, **fields}), "utf-8")
    with pytest.raises(CellError) as refused:
        models.load(models.resolve(f"detector/mine?weights={folder}"))
    assert str(refused.value)
    assert "\x1b" not in str(refused.value)


class Opens:
    """What opens a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("held", ["code", "text", "nothing", "others"])
def test_a_file_for_a_detector_of_torchvisions_is_read_as_tensors_alone(
    held: str, inside: Path, canary: Canary
) -> None:
    path = inside / "w.pth"
    if held == "code":
        torch.save({"head": Opens(canary.path)}, path)
    elif held == "others":
        torch.save({"conv.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(b"not weights" if held == "text" else b"")
    with pytest.raises(CellError):
        models.load(models.resolve(f"detector/ssdlite320_mobilenet_v3_large?weights={path}"))


def test_labels_with_markup_leave_no_cell(
    whole: Path, inside: Path, zoobench: Callable[..., Any]
) -> None:
    folder = Path(shutil.copytree(whole, inside / "m"))
    evil = "\x1b[31mred <script>alert(1)</script> [bold]"
    body = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**body, "id2label": {"0": evil, "1": "b"}}), "utf-8")
    Path("s.toml").write_text(
        f'name = "t"\nprecision = "fp32"\ncontrols = false\n'
        f'models = ["detector/mine?weights={folder}"]\n'
        'datasets = ["synthetic/stripes?task=detection&train=4&valid=3&test=3"]\n'
        'methods = ["as-is"]\n[limits]\ncost_seconds = 0\n'
    )
    said = zoobench("run", "s.toml", "--out", "out")
    assert said.code == 3
    assert "knows none of the classes" in said.out + said.err
    assert "\x1b[31m" not in said.out + said.err
