"""A transformers folder as a text encoder: tokenizer, pooling, normalisation.

The pooling is the folder's own when it was made by sentence-transformers
(`modules.json`), else the mean over tokens, which probes better than the
first token of an encoder that was only pretrained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints
from zoobench.models.backbones import TextBackbone, finish, pool_tokens, seeded

if TYPE_CHECKING:
    import torch

    from zoobench.schema import Ref

POOLS = ("mean", "cls", "max")
LONGEST = 512
"""Most tokens read by default, even of encoders that could read more: attention is quadratic."""
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")
"""Model types whose first position is 2, so that two of their positions hold no token."""


@dataclass(frozen=True)
class PoolingRecipe:
    """How a folder turns token states into one vector, and how many tokens it reads."""

    pool: str = "mean"
    normalise: bool = False
    length: int | None = None
    note: str = ""

    @property
    def pooling(self) -> str:
        return self.pool + ("+l2" if self.normalise else "") + (f" ({self.note})" * bool(self.note))


def recipe(folder: Path) -> PoolingRecipe:
    """What sentence-transformers' files in `folder` say, or the default where there are none."""
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list):
        return PoolingRecipe()
    pool, normalise, note = "mean", False, ""
    for module in modules:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pool = _pool_mode(_json(folder / str(module.get("path", "")) / "config.json"))
        normalise = normalise or kind == "Normalize"
        if kind not in ("Transformer", "Pooling", "Normalize"):
            note = f"before its {kind} layer"
            break
    settings = _json(folder / "sentence_bert_config.json")
    length = settings.get("max_seq_length") if isinstance(settings, dict) else None
    return PoolingRecipe(pool, normalise, length, note)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise MissingWeights(f"{path} cannot be read: {error}") from error


def _pool_mode(config: Any) -> str:
    config = config if isinstance(config, dict) else {}
    modes = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
    }
    on = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
    named = config.get("pooling_mode")
    chosen = [modes.get(k, k) for k in on] or ([named] if isinstance(named, str) else ["mean"])
    if len(chosen) != 1 or chosen[0] not in POOLS:
        raise Unsupported(f"pooling {chosen} of sentence-transformers is not one of {POOLS}")
    return str(chosen[0])


def load_folder(
    folder: Path,
    ref: Ref,
    seed: int,
    provenance: Mapping[str, Any],
    prefix: str = "",
) -> TextBackbone:
    """The encoder in `folder`, or one of its shape with random or other weights.

    `prefix` is put before every text (some encoders were trained with one). Raises
    MissingWeights, Unsupported.
    """
    prefix = str(ref.option("prefix", prefix))
    how = recipe(folder)
    pool = str(ref.option("pool", how.pool))
    tokenizer = _tokenizer(folder)
    with seeded(seed):
        module, notes = encoder(folder, ref)
    length = int(ref.option("length", 0)) or _length(how.length, tokenizer, module.config)
    how = PoolingRecipe(pool, how.normalise, length, how.note)
    spec = InputSpec(
        modality="text",
        length=length,
        extra=(("prefix", prefix), ("tokenizer", _tokenizer_digest(tokenizer))),
    )
    backbone = TextBackbone(
        module=module,
        input_spec=spec,
        pooling=how.pooling,
        tokenize=partial(_tokenized, tokenizer, length, prefix),
        forward=partial(_pooled, pool, how.normalise),
        pad_id=int(tokenizer.pad_token_id or 0),
    )
    return finish(backbone, {**provenance, **notes}, ("transformers", "tokenizers"))


def encoder(
    folder: Path, ref: Ref, towers: Mapping[str, str] | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The bare module in float32, and notes for the provenance.

    `towers` are the classes of models' image parts, by model type, where those are wanted.
    """
    import transformers

    weights = str(ref.option("weights", "pretrained"))
    with transformers_errors(f"{ref.short} in {folder}"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if getattr(config, "is_encoder_decoder", False):
            raise Unsupported(f"{ref.short}: an encoder-decoder ({config.model_type}) is not read")
        tower = towers.get(config.model_type) if towers else None
        auto = getattr(transformers, tower) if tower else transformers.AutoModel
        if weights == "pretrained":
            return _pretrained(auto, folder, ref)
        config = getattr(config, "vision_config", config) if towers else config
        module = auto(config) if tower else auto.from_config(config)
    module = module.float()
    return module, {} if weights == "random" else _load_file(module, Path(weights), ref)


def _load_file(module: torch.nn.Module, path: Path, ref: Ref) -> dict[str, Any]:
    """Fit the local checkpoint `path` into a transformers module; notes for the provenance."""
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    state = checkpoints.unwrap(
        checkpoints.read(path), module.state_dict(), (*checkpoints.PREFIXES, prefix)
    )
    dropped = checkpoints.fit(module, state, f"{path} into {ref.short}", HEADS)
    return {"dropped_keys": list(dropped)} if dropped else {}


HEADS = ("pooler", "classifier", "cls", "lm_head", "score", "qa_outputs", "predictions", "head")
"""Modules on top of an encoder: features do not pass through them (the pooler only if asked)."""


def _pretrained(auto: Any, folder: Path, ref: Ref) -> tuple[torch.nn.Module, dict[str, Any]]:
    """`auto.from_pretrained` of a local folder, refusing one that fills weights in at random."""
    import torch

    with quiet():
        module, info = auto.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    fatal = [k for k in missing if not k.startswith("pooler.")]
    shapes = [str(item) for item in info["mismatched_keys"]]
    if fatal or shapes:
        wrong = checkpoints.misfit_text(fatal, sorted(info["unexpected_keys"]), shapes)
        raise Unsupported(f"{ref.short}: the weights do not fit the model: {wrong}")
    notes: dict[str, Any] = {}
    if info["unexpected_keys"]:
        notes["dropped_keys"] = sorted(info["unexpected_keys"])
    if missing:
        notes["untrained_keys"] = missing
    return module, notes


@contextlib.contextmanager
def transformers_errors(what: str) -> Iterator[None]:
    """Turns what transformers raises for a bad folder into CellErrors that name `what`."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, EOFError) as error:
        raise MissingWeights(f"{what}: {error}") from error
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise Unsupported(f"{what}: transformers cannot load it: {error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers while it loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with transformers_errors(f"the tokenizer in {folder}"), quiet():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _tokenizer_digest(tokenizer: Any) -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    body = f"{type(tokenizer).__name__} {vocabulary}"
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:16]


def _length(own: int | None, tokenizer: Any, config: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    if positions > 0 and config.model_type in OFFSET_POSITIONS:
        positions -= 2
    limits = [int(tokenizer.model_max_length), positions, int(own or LONGEST)]
    return min(limit for limit in limits if limit > 0)


def _tokenized(tokenizer: Any, length: int, prefix: str, text: str) -> list[int]:
    """At most `length` token ids, with the encoder's own special tokens."""
    ids = tokenizer(prefix + text, truncation=True, max_length=length, padding=False)["input_ids"]
    # A tokenizer without special tokens gives nothing for the empty text.
    return list(ids) or [int(tokenizer.unk_token_id or tokenizer.pad_token_id or 0)]


def _pooled(
    pool: str, normalise: bool, module: torch.nn.Module, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """(N, D): pooled last hidden states, to unit length if `normalise`."""
    from torch.nn.functional import normalize

    hidden = module(**batch).last_hidden_state
    pooled = pool_tokens(hidden, batch["attention_mask"], pool)
    return normalize(pooled, dim=-1) if normalise else pooled
