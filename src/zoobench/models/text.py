"""A transformers folder as a text encoder: tokenizer, pooling, normalisation.

The pooling is the folder's own when it was made by sentence-transformers (see
`sentence`), else the mean over tokens, which probes better than the first token of
an encoder that was only pretrained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import CellError, MissingWeights, Unsupported, ZoobenchError, one_line
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints, folders, sentence, tokens
from zoobench.models.backbones import Blueprint, TextBackbone, finish, seeded

if TYPE_CHECKING:
    import torch

    from zoobench.schema import Ref
    from zoobench.views import TokenReader

TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Any of these makes a tokenizer, alone or with files beside it."""
LONGEST = 512
"""Most tokens read by default, even of encoders that could read more: attention is quadratic."""
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")
"""Model types whose first position is 2, so that two of their positions hold no token."""


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
    how = sentence.recipe(folder)
    how = replace(how, pool=str(ref.option("pool", how.pool)))
    prefix = str(ref.option("prefix", prefix or how.prompt))
    tokenizer = tokenizer_of(folder, how.lower_case)
    with seeded(seed):
        module, notes = encoder(folder, ref)
        kind = type(module).__name__
        module, dense = sentence.with_layers(module, how, ref.option("weights") == "random")
    if dense:
        notes = {**notes, "dense_sha256": [checkpoints.sha256_file(path) for path in dense]}
    backbone = encoder_of(ref, tokenizer, module, kind, how, prefix)
    return finish(backbone, {**provenance, **notes}, ("transformers", "tokenizers"))


def encoder_of(
    ref: Ref, tokenizer: Any, module: Any, kind: str, how: sentence.PoolingRecipe, prefix: str = ""
) -> TextBackbone:
    """A backbone, not yet finished, of a module of transformers and its tokenizer. `kind` is the
    class of the encoder in it. Raises Unsupported where `ref` asks for more tokens than it reads.
    """
    config = module.config
    if getattr(config, "use_cache", False):
        config.use_cache = False  # a decoder would keep keys and values for a next token
    length = length_of(ref, tokenizer, config, how.length)
    told: dict[str, Any] = {"prefix": prefix, "tokenizer": tokenizer_digest(tokenizer)}
    if how.lower_case:
        told["lower_case"] = True
    settings = {
        "class": kind,
        "pool": how.pool,
        "layers": [layer.activation if layer else "normalize" for layer in how.layers],
        "length": length,
        "prefix": prefix,
    }
    return TextBackbone(
        module=module,
        input_spec=InputSpec(modality="text", length=length, extra=tuple(told.items())),
        pooling=how.pooling,
        tokenize=partial(tokenized, tokenizer, length, prefix, padding(tokenizer, config)),
        forward=partial(sentence.pooled, how),
        pad_id=padding(tokenizer, config),
        blueprint=Blueprint(
            "transformers-text", settings, partial(_write, tokenizer), partial(sentence.parts, how)
        ),
        reads_tokens=partial(_token_reader, tokenizer, length, config, how),
        rules=tokenizer_rules(tokenizer),
    )


def _token_reader(
    tokenizer: Any, length: int, config: Any, how: sentence.PoolingRecipe
) -> TokenReader:
    layers, pad = int(config.num_hidden_layers), padding(tokenizer, config)
    return tokens.reader_of(tokenizer, length, layers, partial(sentence.states, how), pad)


def _write(tokenizer: Any, folder: Path, module: Any) -> None:
    """What `load_folder` reads of a folder, but for weights and sentence-transformers' own."""
    tokenizer.save_pretrained(folder)
    module.config.save_pretrained(folder)


def encoder(
    folder: Path, ref: Ref, towers: Mapping[str, str] | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The bare module in float32, and notes for the provenance.

    `towers` are the classes of models' image parts, by model type, where those are wanted.
    """
    import transformers

    weights = str(ref.option("weights", "pretrained"))
    with transformers_errors(f"{ref.short} in {folder}"):
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if getattr(config, "is_encoder_decoder", False):
            raise Unsupported(f"{ref.short}: an encoder-decoder ({config.model_type}) is not read")
        tower = towers.get(config.model_type) if towers else None
        inner = getattr(config, "vision_config", config) if towers else config
        kind = getattr(transformers, tower) if tower else _class_of(config, ref)
        read = getattr(kind, "main_input_name", "")
        if not towers and read != "input_ids":
            raise Unsupported(f"{ref.short}: a {config.model_type} reads {read}, not texts")
        if weights == "pretrained":
            return pretrained(kind, inner if tower else config, folder, ref)
        module = (
            kind(inner)
            if tower
            else transformers.AutoModel.from_config(inner, trust_remote_code=False)
        )
    module = module.float()
    return module, {} if weights == "random" else load_file(module, Path(weights), ref)


def load_file(module: torch.nn.Module, path: Path, ref: Ref) -> dict[str, Any]:
    """Fit the local checkpoint `path` into a transformers module; notes for the provenance."""
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    # Of a text encoder the option `prefix` is what is put before texts.
    texts = getattr(module, "main_input_name", "") == "input_ids"
    whole = checkpoints.read(path, "" if texts else str(ref.option("prefix", "")))
    state = checkpoints.unwrap(whole, module.state_dict(), (*checkpoints.PREFIXES, prefix))
    dropped = checkpoints.fit(module, state, f"{path} into {ref.short}", HEADS)
    dropped = (*checkpoints.left_out(whole, state), *dropped)
    return {"dropped_keys": list(dropped)} if dropped else {}


HEADS = ("pooler", "classifier", "cls", "lm_head", "score", "qa_outputs", "predictions", "head")
"""Modules on top of an encoder: features do not pass through them (the pooler only if asked)."""


def _class_of(config: Any, ref: Ref) -> Any:
    """The class of transformers that `config` belongs to. Raises Unsupported where none does."""
    import transformers

    found = transformers.MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise Unsupported(f"{ref.short}: transformers has no encoder for a {config.model_type}")
    return named_class(found, config)


def named_class(found: Any, config: Any) -> Any:
    """Of the classes that a table of transformers has for `config`, one or several, the one that it
    names itself, else the first."""
    classes = found if isinstance(found, (list, tuple)) else (found,)
    named = getattr(config, "architectures", None) or ()
    return next((kind for kind in classes if kind.__name__ in named), classes[0])


HIDDEN_FRAMES = "masked_spec_embed"
"""What wav2vec 2.0 puts for frames that its pretraining hides: no other use reads it, and published
checkpoints lack it."""


def pretrained(
    kind: Any, config: Any, folder: Path, ref: Ref
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A `kind` with the weights in `folder`, refusing one that fills weights in at random.

    The tensors are read here and handed over: the library, left alone with the folder,
    follows its files to other places.
    """
    import torch

    state = folders.tensors(folders.weight_files(folder))
    with quiet():
        module, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    missing = sorted(k for k in info["missing_keys"] if not k.endswith(HIDDEN_FRAMES))
    fatal = [k for k in missing if not k.startswith("pooler.")]
    shapes = [
        f"{key}: {tuple(there)} in the file, {tuple(here)} in the model"
        for key, there, here in sorted(info["mismatched_keys"], key=str)
    ]
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
    except (ZoobenchError, MemoryError):
        raise
    except (OSError, SafetensorError, EOFError) as error:
        raise MissingWeights(f"{what}: {error}") from error
    except Exception as error:  # whatever a library makes of a file that it was not made for
        raise Unsupported(f"{what}: transformers cannot load it: {one_line(error)}") from error


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


def tokenizer_of(folder: Path, lower_case: bool = False) -> Any:
    """The folder's own tokenizer, which lowers texts first if the recipe says so.

    Raises MissingWeights where the folder has none: transformers would make one up, for which
    all words are the same.
    """
    from transformers import AutoTokenizer

    present = {path.name for path in folder.iterdir() if path.is_file()}
    absent = f"{folder} holds no tokenizer"
    try:
        with transformers_errors(f"the tokenizer in {folder}"), quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except CellError as error:
        if "vocab.json" in present and not present & {"merges.txt", "tokenizer.json"}:
            raise MissingWeights(f"{absent}: vocab.json alone, without merges.txt") from error
        if present & set(TOKENIZERS):
            raise
        raise MissingWeights(f"{absent}: none of {', '.join(TOKENIZERS)} ({error})") from error
    named = dict(tokenizer.vocab_files_names)
    needed = {named[k] for k in ("vocab_file", "merges_file") if k in named}
    needed = needed or {"tokenizer.json" if named else "tokenizer_config.json"}
    if "tokenizer.json" not in present and not needed <= present:
        files = " and ".join(sorted(needed - {"tokenizer.json"})) or "tokenizer.json"
        raise MissingWeights(
            f"{absent}: a {type(tokenizer).__name__} is made of tokenizer.json, or of {files}"
        )
    if lower_case:
        _lower(tokenizer, folder)
    return tokenizer


def _lower(tokenizer: Any, folder: Path) -> None:
    """Let `tokenizer` lower a text before anything else, as sentence-transformers does."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise Unsupported(f"{folder}: do_lower_case with a {type(tokenizer).__name__}")
    own = [backend.normalizer] if backend.normalizer is not None else []
    backend.normalizer = Sequence([Lowercase(), *own])


def tokenizer_digest(tokenizer: Any) -> str:
    """Of its kind and vocabulary: what a record says of it, whatever the library's version."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    body = f"{type(tokenizer).__name__} {vocabulary}"
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:16]


def tokenizer_rules(tokenizer: Any) -> str:
    """A digest of all that makes tokens of a text, for keys of features: of a tokenizer of
    `tokenizers` its normaliser, merges and special tokens too, but not how it cuts and fills texts,
    which its calls leave in it. "" of another kind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return ""
    whole = _said({**json.loads(backend.to_str()), "truncation": None, "padding": None})
    named = sorted(tokenizer.special_tokens_map.items())
    body = f"{named} {json.dumps(whole, sort_keys=True)}"
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:16]


def _said(value: Any) -> Any:
    """A tokenizer's settings without what is off, as a later version of `tokenizers` writes down
    what an earlier one did not know, and with a pair that is merged as one text, as both may be."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if one is not None and one is not False}
        pairs = kept.get("merges", ())
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
        rest = {name: _said(one) for name, one in kept.items() if name != "merges"}
        return {**rest, "merges": merges} if merges else rest
    return [_said(one) for one in value] if isinstance(value, list) else value


def positions(config: Mapping[str, Any]) -> int:
    """Most tokens that a configuration's encoder has positions for; 0 where it does not say."""
    most = config.get("max_position_embeddings", config.get("n_positions"))  # as GPT-2 says it
    if not isinstance(most, int) or most <= 0:
        return 0
    return max(0, most - 2) if config.get("model_type") in OFFSET_POSITIONS else most


def length_of(ref: Ref, tokenizer: Any, config: Any, own: int | None = None) -> int:
    """Most tokens of an input: what `ref` asks for, or what tokenizer and model can read, of at
    most `own` (LONGEST by default). Raises Unsupported where more is asked for than that."""
    most = positions(config.to_dict())
    limits = [int(tokenizer.model_max_length), most, int(own or LONGEST)]
    length = int(ref.option("length", 0)) or min(limit for limit in limits if limit > 0)
    if most and length > most:
        raise Unsupported(f"{ref.short}: length = {length} is above its {most} positions")
    return length


def padding(tokenizer: Any, config: Any) -> int:
    """The id that fills the rows of a batch, to which no attention is paid: the tokenizer's own
    where it has one that the model knows, else 0."""
    own = tokenizer.pad_token_id
    known = own is not None and own < getattr(config, "vocab_size", 0)
    return int(own) if known else 0


def tokenized(
    tokenizer: Any, length: int, prefix: str, pad: int, texts: Sequence[str]
) -> list[list[int]]:
    """At most `length` token ids of each text, with the encoder's own special tokens."""
    given = [prefix + text for text in texts]
    found = tokenizer(given, truncation=True, max_length=length, padding=False)["input_ids"]
    # A tokenizer without special tokens gives nothing for the empty text.
    return [list(ids) or [int(tokenizer.unk_token_id or pad)] for ids in found]
