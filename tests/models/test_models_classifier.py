"""Complete classifiers: whose scores they give, what their labels are, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tinyclassifiers import SOUNDS, tiny_classifier
from tinymodels import byte_tokenizer, tiny_timm, write_files
from tinysound import tiny_sound
from zoobench import models
from zoobench.audio import Clip
from zoobench.errors import CellError, Unsupported, UserError
from zoobench.models.complete import CompleteModel

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
KINDS = ("text", "image", *SOUNDS)
LABELS = ("cat", "dog, hound", "cow")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (path, tiny_classifier(kind, path, LABELS)) for kind, path in folders.items()}


def named(folder: Path, more: str = "") -> Any:
    return models.resolve(f"classifier/mine?weights={folder}{more}")


def noise(samples: int) -> Clip:
    drawn = np.random.default_rng(samples).normal(0, 0.1, samples)
    return Clip(drawn.astype(np.float32), 16_000)


def examples(kind: str) -> list[Any]:
    if kind == "text":
        return ["the cat sat on the mat", "a dog", "good dogs"]
    if kind == "image":
        rng = np.random.default_rng(0)
        sizes = [(40, 30), (32, 32), (20, 60)]
        return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]
    return [noise(many) for many in (300, 9600, 20_000, 9600)]


def reference(module: Any, folder: Path, kind: str, raw: Any) -> Any:
    """(K,) by the library alone, of one example by itself."""
    import transformers

    if kind == "text":
        inputs = transformers.AutoTokenizer.from_pretrained(folder)(raw, return_tensors="pt")
        return module(**inputs).logits[0]
    if kind == "image":
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        return module(**processor(images=raw, return_tensors="pt")).logits[0]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    fed = extractor(raw.samples, sampling_rate=raw.rate, return_tensors="pt")
    return module(fed[module.main_input_name]).logits[0]


@pytest.mark.parametrize("kind", KINDS)
def test_its_features_are_the_librarys_own_scores(
    kind: str, made: dict[str, tuple[Path, Any]]
) -> None:
    folder, module = made[kind]
    ref = named(folder)
    reads = kind if kind in ("text", "image") else "audio"
    assert ref.option("modality") == reads
    assert models.card(ref).modality == reads
    assert models.card(ref).answers == ("classification",)
    backbone: Any = models.load(ref)
    assert CompleteModel in type(backbone).__mro__
    assert (backbone.task, backbone.labels) == ("classification", LABELS)
    assert not backbone.multilabel
    raws = examples(kind)
    with torch.no_grad():
        together = backbone.embed(backbone.collate([backbone.prepare(one) for one in raws]))
        # Too short for the first frame: the library itself refuses it.
        for row, raw in list(zip(together, raws, strict=True))[reads == "audio" :]:
            assert torch.allclose(row, reference(module, folder, kind, raw), atol=2e-6)
    assert together.shape == (len(raws), len(LABELS))
    assert float((together[1] - together[0]).abs().max()) > 2e-5


def test_any_number_of_labels_may_be_right_where_the_configuration_says_so(tmp_path: Path) -> None:
    tiny_classifier("ast", tmp_path, LABELS, problem_type="multi_label_classification")
    backbone: Any = models.load(named(tmp_path))
    assert backbone.multilabel


@pytest.mark.parametrize("pad", [None, 7])
def test_a_decoder_reads_a_texts_last_token_whatever_its_pad_token(
    pad: int | None, tmp_path: Path
) -> None:
    import transformers

    tokenizer = byte_tokenizer(300)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=32,
        id2label=dict(enumerate(LABELS)), bos_token_id=0, eos_token_id=0, pad_token_id=pad,
    )  # fmt: skip
    module = transformers.GPT2ForSequenceClassification(config).eval()
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    backbone: Any = models.load(named(tmp_path))
    texts = ["A good day", "the", tokenizer.decode([40, 0])]  # 0 is a token like others here
    with torch.no_grad():
        both = backbone.embed(backbone.collate([backbone.prepare(one) for one in texts]))
        for row, text in zip(both, texts, strict=True):
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            assert torch.allclose(row, module(input_ids=ids).logits[0], atol=2e-6)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("classifier/nothing", r"unknown model 'classifier/nothing'.*classifier/USER/NAME"),
        ("classifier/a/b", r"say what it reads, as in classifier/a/b\?modality=text"),
        ("classifier/a/b?modality=smell", "unknown modality 'smell'"),
        ("classifier/a/b?modality=image&pool=cls", "unknown value 'cls'"),
        ("classifier/packaged/minilm-l6-v2", "classifier/packaged/efficientnet-lite0"),
        ("classifier/packaged/efficientnet-lite0@9", "unknown revision"),
        ("classifier/packaged/efficientnet-lite0?pool=max", "its own pooling, and no other"),
        ("classifier/timm/resnet18?weights=mine.pth", "does not say what its classes are called"),
        ("classifier/timm/resnet_18", r"Did you mean 'timm/resnet"),
        ("classifier/torchvision/resnet18@V9", "unknown weights 'V9'"),
    ],
)
def test_mistakes_of_a_name_are_said_before_anything_is_loaded(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        models.resolve(name, "here")


def test_a_catalogued_model_of_the_hub_need_not_say_what_it_reads() -> None:
    ref = models.resolve("classifier/MIT/ast-finetuned-audioset-10-10-0.4593")
    assert ref.options == ()
    card = models.card(ref)
    assert (card.source, card.modality, card.license) == ("classifier", "audio", "BSD-3-Clause")
    assert models.fetchable(ref)


def changed(folder: Path, target: Path, **entries: Any) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    body = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**body, **entries}))
    return target


def test_what_has_no_head_for_classes_is_refused_in_words(
    made: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    numbers = tmp_path / "a"
    tiny_classifier("text", numbers, ["stars"])
    with pytest.raises(Unsupported, match="one number, and no class"):
        models.load(named(numbers))
    gaps, bare = tmp_path / "b", tmp_path / "c"
    for folder in (gaps, bare):
        folder.mkdir()
    changed(made["text"][0], gaps, id2label={"0": "a", "2": "b", "3": "c"})
    with pytest.raises(CellError, match="its 3 labels are numbered 0, 2, 3"):
        models.load(named(gaps))
    state = load_file(changed(made["image"][0], bare) / "model.safetensors")
    kept = {name: one for name, one in state.items() if not name.startswith("classifier")}
    save_file(kept, bare / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match=r"classifier\.bias"):
        models.load(named(bare))
    clap = tmp_path / "d"
    tiny_sound("clap", clap)
    with pytest.raises(Unsupported, match="has no classifier for a clap"):
        models.load(named(clap))


def test_libraries_networks_keep_their_classifier(tmp_path: Path) -> None:
    import torchvision.models as zoo

    vit: Any = models.load(models.resolve("classifier/timm/test_vit?weights=random"), 0)
    assert vit.feature_dim == len(vit.labels) == 1000
    assert vit.labels[0].startswith("tench")
    own: Any = models.load(
        models.resolve("classifier/torchvision/mobilenet_v3_small?weights=random&input_size=64")
    )
    enum = zoo.get_model_weights("mobilenet_v3_small").DEFAULT
    assert list(own.labels) == enum.meta["categories"]
    folder = write_files(tiny_timm(), tmp_path)
    name = f"classifier/timm/me/tiny?weights=random&configuration={folder}"
    with pytest.raises(CellError, match="nobody says what its 5 classes are called"):
        models.load(models.resolve(name))


def test_a_packaged_network_gives_its_classifiers_scores() -> None:
    whole: Any = models.load(models.resolve("classifier/packaged/efficientnet-lite0"))
    features: Any = models.load(models.resolve("packaged/efficientnet-lite0"))
    raw = examples("image")[0]
    with torch.no_grad():
        batch = whole.collate([whole.prepare(raw)])
        scores = features.source_head(features.embed(batch))
        assert torch.allclose(whole.embed(batch), scores, atol=1e-5)
    assert whole.labels[285].startswith("Egyptian cat")
    assert whole.provenance["weights_sha256"] == features.provenance["weights_sha256"]
    card = models.card("classifier/packaged/efficientnet-lite0")
    assert card.answers == ("classification",)
    assert card in models.list_cards("classifier/*")
