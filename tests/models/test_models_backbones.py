"""What a finished backbone promises: features that are a function of the input, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tinymodels import tiny_bert, write_files
from zoobench import models
from zoobench.errors import CellError, Unsupported, UserError
from zoobench.interfaces import InputSpec
from zoobench.models import timm_
from zoobench.models.backbones import ImageBackbone, TextBackbone, finish
from zoobench.schema import Ref
from zoobench.workers.provenance import failed

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


def to_tensor(picture: Any) -> torch.Tensor:
    from torchvision.transforms import functional

    tensor: torch.Tensor = functional.to_tensor(picture)
    return tensor


def pictures(forward: Callable[[Any, torch.Tensor], torch.Tensor]) -> ImageBackbone:
    spec = InputSpec(modality="image", size=(3, 8, 8))
    backbone = ImageBackbone(torch.nn.Identity(), spec, "none", to_tensor, forward)
    return finish(backbone, {}, ())


FAULTS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "a random mask": lambda _, x: (x * (torch.rand_like(x) < 0.25)).mean(2).flatten(1),
    "dropout": lambda _, x: torch.nn.functional.dropout(x.flatten(1), 0.1, training=True),
    "a drawn vector": lambda _, x: x.flatten(1) + torch.randn(1, 192),
    "the batch's own statistics": lambda _, x: x.flatten(1) - x.flatten(1).mean(0),
    "the place in the batch": lambda _, x: x.flatten(1) + torch.arange(len(x)).unsqueeze(1),
    "the last example": lambda _, x: x.flatten(1) + x[-1].flatten(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_features_of_more_than_the_input_are_refused(fault: str) -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(Unsupported, match="not deterministic"):
        pictures(FAULTS[fault])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_features_of_the_input_alone_are_taken() -> None:
    assert pictures(lambda _, x: x.flatten(1)).feature_dim == 192
    assert pictures(lambda _, x: 0 * x.flatten(1)).feature_dim == 192


def test_padding_that_leaks_into_features_is_refused() -> None:
    def mean(_: Any, batch: Any) -> torch.Tensor:
        ids: torch.Tensor = batch["input_ids"].float().unsqueeze(-1)
        return ids.mean(1)

    def words(some: Sequence[str]) -> list[list[int]]:
        return [[5] * len(text.split()) for text in some]

    spec = InputSpec(modality="text", length=8)
    texts = TextBackbone(torch.nn.Identity(), spec, "mean", words, mean)
    with pytest.raises(Unsupported, match="what else is in its batch"):
        finish(texts, {}, ())


def folder_of(kind: str, folder: Path) -> Path:
    """A small image model of transformers, with its processor."""
    import transformers as t

    text = {**SMALL, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 3}
    square = {"height": 32, "width": 32}
    tower = {"image_size": 32, "patch_size": 8, **SMALL}
    module: Any
    processor: Any = t.ViTImageProcessor(size=square)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "siglip2":
            tower = {"patch_size": 8, "num_patches": 16, **SMALL}
            module = t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=tower))
            processor = t.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        elif kind == "blip":
            module = t.BlipModel(t.BlipConfig(text_config=text, vision_config=tower))
            processor = t.BlipImageProcessor(size=square)
        elif kind == "gray":
            module = t.ViTModel(t.ViTConfig(num_channels=1, **tower))
        else:
            module = t.ViTMAEModel(t.ViTMAEConfig(**tower))
    module.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("siglip2", "not a picture of 3 channels"),
        ("gray", "pictures of 1 channels"),
        ("blip", "transformers cannot load it: AttributeError"),
    ],
)
def test_image_models_of_another_shape_are_refused(kind: str, said: str, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path)
    with pytest.raises(Unsupported, match=said) as caught:
        models.load(models.resolve(f"hf/me/x?weights={folder}&modality=image"))
    assert "\n" not in str(caught.value)


def test_vit_mae_is_read_without_its_mask(tmp_path: Path) -> None:
    folder = folder_of("mae", tmp_path)
    backbone = models.load(models.resolve(f"hf/me/x?weights={folder}&modality=image"))
    config: Any = backbone.module.config
    assert config.mask_ratio == 0
    batch = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone.embed(batch), backbone.embed(batch.flip(0)).flip(0))


def test_a_length_above_the_positions_is_refused_when_the_suite_is_read(tmp_path: Path) -> None:
    folder = write_files(tiny_bert(), tmp_path)
    for name, most in (("packaged/minilm-l6-v2", 512), (f"hf/b?weights={folder}", 24)):
        joint = "&" if "?" in name else "?"
        with pytest.raises(UserError, match=rf"m\[0\]: .*length = {most + 1} is above its {most} "):
            models.resolve(f"{name}{joint}length={most + 1}", "m[0]")
        assert models.resolve(f"{name}{joint}length={most}").option("length") == most
    loose = Ref.parse(f"hf/b?weights={folder}&length=25&modality=text")
    with pytest.raises(Unsupported, match="length = 25 is above its 24 positions"):
        models.load(loose)


@pytest.mark.parametrize("raised", [IndexError, AttributeError, ValueError, RuntimeError, KeyError])
def test_what_a_library_raises_is_unsupported_in_a_sentence(
    raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(ref: Ref, seed: int) -> Any:
        raise raised("first line\nsecond line")

    monkeypatch.setattr(timm_, "load", load)
    with pytest.raises(
        Unsupported, match=rf"cannot be loaded \({raised.__name__}: .*first"
    ) as caught:
        models.load(Ref.parse("timm/test_resnet"))
    assert "\n" not in str(caught.value)


def test_the_traceback_of_a_library_stays_in_the_record() -> None:
    from cells import cell

    try:
        try:
            raise IndexError("tuple index out of range")
        except IndexError as error:
            raise Unsupported("it cannot be loaded") from error
    except CellError as error:
        record = failed(cell(), error)
    assert record.status == "unsupported"
    assert record.error is not None
    assert record.error["message"] == "it cannot be loaded"
    assert "IndexError: tuple index out of range" in record.error["detail"]
    assert "detail" not in (failed(cell(), Unsupported("so")).error or {})


def test_memory_that_ends_while_loading_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(ref: Ref, seed: int) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")

    monkeypatch.setattr(timm_, "load", load)
    with pytest.raises(RuntimeError, match="can't allocate"):
        models.load(Ref.parse("timm/test_resnet"))
