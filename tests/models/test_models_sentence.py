"""Recipes of sentence-transformers: done as the library does them, or refused by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tinymodels import tiny_bert, write_files
from zoobench import models
from zoobench.errors import CellError, MissingWeights, Unsupported

KIND = "sentence_transformers.models."
TEXTS = ["The cat sat on the mat", "a GOOD dog", "", "bad bad bad " * 12, "Sitting cats"]
TANH = "torch.nn.modules.activation.Tanh"

Files = dict[str, bytes]


def dense(outputs: int, inputs: int = 32, activation: str = TANH, bias: bool = True) -> Files:
    """The files of one Dense layer, with random weights."""
    generator = torch.Generator().manual_seed(outputs)
    state = {"linear.weight": torch.randn(outputs, inputs, generator=generator) / 4}
    if bias:
        state["linear.bias"] = torch.randn(outputs, generator=generator)
    config = {"in_features": inputs, "out_features": outputs, "bias": bias}
    body = {**config, "activation_function": activation}
    return {"config.json": json.dumps(body).encode(), "model.safetensors": save(state)}


@dataclass
class Recipe:
    """What is written into a folder: modules after the Transformer, and the settings."""

    pooling: dict[str, Any] = field(default_factory=lambda: {"pooling_mode": "mean"})
    layers: list[tuple[str, Files]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        files = tiny_bert()
        if self.settings.get("do_lower_case"):  # a cased tokenizer, for which lowering matters
            tokenizer = json.loads(files["tokenizer.json"])
            tokenizer["normalizer"] = None
            files["tokenizer.json"] = json.dumps(tokenizer).encode()
        named = [("", "Transformer"), ("1_Pooling", "Pooling")]
        named += [(f"{n}_{kind}", kind) for n, (kind, _) in enumerate(self.layers, start=2)]
        modules = [
            {"idx": n, "name": str(n), "path": path, "type": KIND + kind}
            for n, (path, kind) in enumerate(named)
        ]
        pooling = {"word_embedding_dimension": 32, **self.pooling}
        bodies: dict[str, Any] = {"modules.json": modules, "1_Pooling/config.json": pooling}
        bodies["sentence_bert_config.json"] = {"max_seq_length": 12, **self.settings}
        if self.prompts:
            bodies["config_sentence_transformers.json"] = self.prompts
        files |= {name: json.dumps(body).encode() for name, body in bodies.items()}
        for n, (kind, parts) in enumerate(self.layers, start=2):
            files |= {f"{n}_{kind}/{name}": body for name, body in parts.items()}
            (folder / f"{n}_{kind}").mkdir(parents=True)
        return write_files(files, folder)


def legacy(mode: str) -> dict[str, bool]:
    return {"pooling_mode_mean_tokens": False, f"pooling_mode_{mode}": True}


L2: tuple[str, Files] = ("Normalize", {})
RECIPES = {
    "mean": Recipe(),
    "legacy cls, l2": Recipe(legacy("cls_token"), [L2]),
    "max": Recipe({"pooling_mode": "max"}),
    "root of the length": Recipe(legacy("mean_sqrt_len_tokens")),
    "weighted mean": Recipe({"pooling_mode": "weightedmean"}, [L2]),
    "last token": Recipe(legacy("lasttoken")),
    "lower case": Recipe(settings={"do_lower_case": True}),
    "default prompt": Recipe(
        prompts={"prompts": {"query": "the good cat ", "x": "bad "}, "default_prompt_name": "query"}
    ),
    "no default prompt": Recipe(prompts={"prompts": {"x": "bad "}, "default_prompt_name": None}),
    "dense": Recipe(layers=[("Dense", dense(8))]),
    "two denses, l2": Recipe(
        {"pooling_mode": "cls"},
        [
            ("Dense", dense(16, activation="torch.nn.modules.linear.Identity", bias=False)),
            ("Dense", dense(8, 16, "torch.nn.modules.activation.GELU")),
            L2,
        ],
    ),
    "everything": Recipe(
        legacy("weightedmean_tokens"),
        [("Dense", dense(24)), L2],
        {"do_lower_case": True, "max_seq_length": 7},
        {"prompts": {"p": "The MAT "}, "default_prompt_name": "p"},
    ),
}


def load(folder: Path, more: str = "") -> Any:
    return models.load(models.resolve(f"hf/me/x?weights={folder}{more}"), 1)


def embed(backbone: Any, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = backbone.embed(
            backbone.collate([backbone.prepare(text) for text in texts])
        )
    return features


@pytest.mark.parametrize("name", RECIPES)
def test_features_are_those_of_the_librarys_own_encode(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = RECIPES[name].write(tmp_path / "m")
    with warnings.catch_warnings(action="ignore"):
        oracle = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        theirs = oracle.encode(TEXTS, show_progress_bar=False)
    ours = embed(load(folder), TEXTS).numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_random_weights_are_random_in_every_layer(tmp_path: Path) -> None:
    folder = Recipe(layers=[("Dense", dense(8))]).write(tmp_path / "m")
    own, drawn = (
        load(folder),
        models.load(models.resolve(f"hf/me/x?weights=random&configuration={folder}"), 3),
    )
    assert own.pooling == drawn.pooling == "mean+dense"
    assert own.feature_dim == drawn.feature_dim == 8
    assert own.provenance["dense_sha256"]
    same = [
        key
        for key, value in own.module.state_dict().items()
        if "weight" in key and "Norm" not in key
        and torch.equal(value, drawn.module.state_dict()[key])
    ]  # fmt: skip
    assert same == []


def test_the_option_stands_above_the_folders_prompt(tmp_path: Path) -> None:
    folder = RECIPES["default prompt"].write(tmp_path / "m")
    assert dict(load(folder).input_spec.extra)["prefix"] == "the good cat "
    assert dict(load(folder, "&prefix=bad").input_spec.extra)["prefix"] == "bad"


def change(name: str, **fields: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / name
        body = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(json.dumps({**body, **fields}), "utf-8")

    return edit


def modules(*kinds: str, **first: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = ["", "1_Pooling", "2_Dense", "3", "4"]
        body = [{"path": p, "type": kind} for p, kind in zip(path, kinds, strict=False)]
        body[0] |= first
        (folder / "modules.json").write_text(json.dumps(body), "utf-8")

    return edit


T, P, D = (f"{KIND}{kind}" for kind in ("Transformer", "Pooling", "Dense"))
BERT, POOL, DENSE = "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/config.json"
ST = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (lambda f: (f / POOL).unlink(), MissingWeights, "1_Pooling/config.json"),
        (lambda f: (f / DENSE).unlink(), MissingWeights, "2_Dense/config.json"),
        (lambda f: (f / "2_Dense/model.safetensors").unlink(), MissingWeights, "no weights"),
        (lambda f: (f / POOL).write_text("{"), MissingWeights, "cannot be read"),
        (lambda f: (f / POOL).write_text("[]"), MissingWeights, "not a table"),
        (lambda f: (f / "modules.json").write_text("{}"), MissingWeights, "not a list"),
        (change(POOL, pooling_mode="median"), Unsupported, "median"),
        (change(POOL, pooling_mode=["cls", "max"]), Unsupported, "cls and max"),
        (change(POOL, pooling_mode=[]), Unsupported, "none is none of"),
        (change(BERT, max_seq_length="long"), Unsupported, "max_seq_length"),
        (change(BERT, tokenizer_name_or_path="x/y"), Unsupported, "tokenizer_name_or_path"),
        (change(BERT, model_args={"attn_implementation": "x"}), Unsupported, "model_args"),
        (change(BERT, transformer_task="fill-mask"), Unsupported, "transformer_task"),
        (change(ST, model_type="SparseEncoder"), Unsupported, "SparseEncoder"),
        (change(ST, default_prompt_name="q", prompts={}), MissingWeights, "no prompt 'q'"),
        (change(DENSE, use_residual=True), Unsupported, "beside the path"),
        (change(DENSE, module_input_name="token_embeddings"), Unsupported, "beside the path"),
        (change(DENSE, activation_function="os.system"), Unsupported, "os.system"),
        (change(DENSE, activation_function="torch.hub.load"), Unsupported, "torch.hub.load"),
        (change(DENSE, activation_function="torch.nn.Module"), Unsupported, "torch.nn.Module"),
        (change(DENSE, out_features=2**40), Unsupported, "no size"),
        (change(DENSE, out_features=9), Unsupported, "mis-shaped"),
        (change(DENSE, bias=False), Unsupported, "unexpected"),
        (modules(T, P, KIND + "CNN"), Unsupported, "Transformer, Pooling, CNN"),
        (modules(T, KIND + "WeightedLayerPooling", P), Unsupported, "WeightedLayerPooling"),
        (modules(T), Unsupported, "not a recipe"),
        (modules(T, P, "mine.modules.Dense"), Unsupported, "code of its own"),
        (modules("mine.Transformer", P), Unsupported, "code of its own"),
        (modules(T, P, D, path="0_Transformer"), Unsupported, "another folder"),
    ],
)  # fmt: skip
def test_what_is_not_followed_is_refused_by_name(
    edit: Callable[[Path], None], kind: type[CellError], said: str, tmp_path: Path
) -> None:
    folder = Recipe(layers=[("Dense", dense(8))]).write(tmp_path / "m")
    edit(folder)
    with pytest.raises(kind, match=said):
        load(folder)


def test_a_prompt_that_is_left_out_of_the_pooling_is_refused(tmp_path: Path) -> None:
    folder = RECIPES["default prompt"].write(tmp_path / "m")
    change(POOL, include_prompt=False)(folder)
    with pytest.raises(Unsupported, match="include_prompt"):
        load(folder)
