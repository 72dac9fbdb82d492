"""The shortlist and the suites for people who are online name what their libraries know."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from zoobench import models
from zoobench.costs.known import counted
from zoobench.models.priors import prior_of
from zoobench.models.shortlist import AUDIO, IMAGE, SHORTLIST, TEXT, Kind, Listed
from zoobench.ranking.recommend import license_fits
from zoobench.schema import Ref

ROWS = [*IMAGE, *TEXT, *AUDIO]
SUITES = Path(__file__).parents[2] / "benchmarks"

# Of an encoder of transformers: its kind, and what its configuration has that is not the default.
SMALL = {"hidden_size": 384, "intermediate_size": 1536}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "BAAI/bge-small-en-v1.5": ("bert", SMALL),
    "intfloat/e5-small-v2": ("bert", SMALL),
    "sentence-transformers/all-MiniLM-L12-v2": ("bert", SMALL),
    "distilbert/distilbert-base-uncased": ("distilbert", {}),
    "sentence-transformers/all-mpnet-base-v2": (
        "mpnet", {"vocab_size": 30527, "max_position_embeddings": 514},
    ),
    "sentence-transformers/paraphrase-MiniLM-L3-v2": ("bert", {**SMALL, "num_hidden_layers": 3}),
    "Snowflake/snowflake-arctic-embed-xs": ("bert", {**SMALL, "num_hidden_layers": 6}),
    "thenlper/gte-small": ("bert", SMALL),
    "google-bert/bert-base-uncased": ("bert", {}),
    "BAAI/bge-base-en-v1.5": ("bert", {}),
    "intfloat/e5-base-v2": ("bert", {}),
    "intfloat/multilingual-e5-small": ("bert", {**SMALL, "vocab_size": 250037}),
    "FacebookAI/roberta-base": (
        "roberta", {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
    "microsoft/deberta-v3-small": (
        "deberta-v2",
        {
            "vocab_size": 128100, "hidden_size": 768, "num_hidden_layers": 6,
            "num_attention_heads": 12, "intermediate_size": 3072, "type_vocab_size": 0,
            "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
            "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False,
        },
    ),
    "answerdotai/ModernBERT-base": ("modernbert", {}),
}  # fmt: skip


# Of what hears: the class of what its repository holds, and what is not that class's default.
WHISPER = {"vocab_size": 51865}
EARS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai/whisper-tiny": ("WhisperForConditionalGeneration", WHISPER),
    "openai/whisper-base": (
        "WhisperForConditionalGeneration",
        {
            **WHISPER, "d_model": 512, "encoder_layers": 6, "decoder_layers": 6,
            "encoder_attention_heads": 8, "decoder_attention_heads": 8,
            "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
        },
    ),
    "MIT/ast-finetuned-audioset-10-10-0.4593": ("ASTForAudioClassification", {"num_labels": 527}),
    "ntu-spml/distilhubert": ("HubertModel", {"num_hidden_layers": 2}),
    "facebook/hubert-base-ls960": ("HubertModel", {}),
    "facebook/wav2vec2-base-960h": ("Wav2Vec2ForCTC", {}),
    "facebook/wav2vec2-base": ("Wav2Vec2ForPreTraining", {}),
    "laion/clap-htsat-unfused": ("ClapModel", {}),
    "microsoft/wavlm-base": ("WavLMModel", {}),
}  # fmt: skip


def short(row: Listed) -> str:
    return Ref.parse(row.name).name


def test_it_is_as_wide_as_it_says() -> None:
    assert len(IMAGE) >= 30
    assert len(TEXT) >= 15
    assert {row.kind for row in ROWS} == set(get_args(Kind))
    assert len({row.name for row in ROWS}) == len(ROWS)
    for rows in SHORTLIST.values():
        quick = [row for row in rows if row.quick]
        assert 5 <= len(quick) <= 8
        assert list(rows[: len(quick)]) == quick, "they are fetched first"
        assert len({row.kind for row in quick}) > 1
        assert sum(row.bytes for row in quick) < 1.5e9
        permissive = [license_fits(row.license, "permissive") for row in rows]
        assert permissive == sorted(permissive, reverse=True), "permissive licences first"
    assert sum(row.bytes for row in IMAGE) <= 5e9, "all of it is within the default of a download"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_resolves_to_a_card_of_its_licence_and_pretrained_weights(row: Listed) -> None:
    ref = models.resolve(row.name)
    card = models.card(ref)
    assert str(ref) == row.name, "in its exact form, as the advisor takes it"
    assert card.license == row.license
    assert models.fetchable(ref)
    assert row in SHORTLIST[card.modality]
    if card.source == "timm":
        assert dict(card.extra)["hub"] == f"timm/{card.name}"
    same = counted(card)
    if same is not None:
        assert row.params == pytest.approx(same.params, rel=0.002), "its own head, own buffers"
    prior = prior_of(card)
    if prior is not None and prior.params:
        assert row.params == pytest.approx(prior.params, rel=0.01)


def test_names_are_in_the_libraries_own_lists() -> None:
    """Those of the shortlist and of the suites; transformers lists kinds of models, no weights."""
    import timm
    import torchvision.models
    from transformers import CONFIG_MAPPING

    wanted = [row.name for row in ROWS]
    for name in ("vision", "text"):
        wanted += tomllib.loads((SUITES / f"{name}.toml").read_text("utf-8"))["models"]
    known = set(timm.list_pretrained())
    for name in wanted:
        ref = models.resolve(name)
        if ref.source == "timm":
            assert ref.name in known, name
        elif ref.source == "torchvision":
            assert ref.name in torchvision.models.list_models(), name
        elif ref.source == "hf":
            assert ref.name in {card.name for card in models.list_cards("hf/*")}, name
    for kind, _ in ENCODERS.values():
        assert kind in CONFIG_MAPPING
        package = f"transformers.models.{kind.replace('-', '_')}"
        assert importlib.util.find_spec(package) is not None
    assert {short(row) for row in TEXT} == set(ENCODERS)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "mpnet", "roberta", "deberta-v2"])
def test_encoders_have_the_parameters_that_are_written(kind: str) -> None:
    """Built with no memory behind them; of each kind one, ModernBERT's being slow."""
    import torch
    from transformers import AutoConfig, AutoModel

    row = next(row for row in TEXT if ENCODERS[short(row)][0] == kind)
    defaults = {"num_attention_heads": 12} if kind != "distilbert" else {}
    config = AutoConfig.for_model(kind, **{**defaults, **ENCODERS[short(row)][1]})
    with torch.device("meta"):
        module = AutoModel.from_config(config)
    assert sum(one.numel() for one in module.parameters()) == row.params


@pytest.mark.parametrize("name", EARS)
def test_what_hears_has_the_parameters_that_are_written(name: str) -> None:
    import torch
    import transformers

    kind, settings = EARS[name]
    row = next(row for row in AUDIO if short(row) == name)
    made = getattr(transformers, kind)
    with torch.device("meta"):
        module = made(made.config_class(**settings))
    assert sum(one.numel() for one in module.parameters()) == row.params


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch16_224.augreg_in21k", "vit_base_patch32_clip_224.laion2b",
     "tiny_vit_5m_224.dist_in22k", "vit_small_patch16_dinov3.lvd1689m"],
)  # fmt: skip
def test_image_models_with_other_heads_have_the_parameters_that_are_written(name: str) -> None:
    import timm
    import torch

    row = next(row for row in IMAGE if short(row) == name)
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    assert sum(one.numel() for one in module.parameters()) == row.params
