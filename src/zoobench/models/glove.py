"""Static word vectors as a text encoder: the mean of a text's words (GloVe, Pennington 2014)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import MissingWeights, Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import checkpoints
from zoobench.models.backbones import Blueprint, TextBackbone, finish, seeded
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import torch

    from zoobench.schema import Ref

LENGTH = 512
WORD = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|(?:(?!n't\b)\w)+(?:[-.](?:(?!n't\b)\w)+)*")
"""Words as the vectors' own tokenizer (Penn Treebank) cuts them: do|n't, dog|'s, well-known."""


def words(text: str) -> list[str]:
    """Lower-case words of `text`, punctuation left out."""
    return WORD.findall(text.lower().replace("\u2019", "'"))


def _word_ids(rows: Mapping[str, int], length: int, text: str) -> list[int]:
    """Row numbers of the text's known words; a compound that is unknown is taken apart."""
    found: list[int] = []
    for word in words(text):
        parts = [word] if word in rows else re.split(r"[-._]", word)
        found.extend(rows[part] for part in parts if part in rows)
    return found[:length]


def _all_word_ids(rows: Mapping[str, int], length: int, texts: Sequence[str]) -> list[list[int]]:
    return [_word_ids(rows, length, text) for text in texts]


def _row_of(rows: Mapping[str, int], unknown: int, word: str) -> list[int]:
    """The row of a word as it is written, or else of the first known word in it."""
    lowered = word.lower()
    if lowered in rows:
        return [rows[lowered]]
    return _word_ids(rows, 1, word) or [unknown]


def _vectors(
    module: Any, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> list[torch.Tensor]:
    """(N, T, D) the vector of each word; zeros where there is none."""
    import torch

    found = torch.nn.functional.embedding(batch["input_ids"], module.weight)
    known = batch["input_ids"] != module.padding_idx
    return [found * known.unsqueeze(-1)] * len(wanted)


def _token_reader(rows: Mapping[str, int], length: int) -> TokenReader:
    def pieces(words: Sequence[str]) -> list[list[int]]:
        return [_row_of(rows, len(rows), word) for word in words]

    return TokenReader(pieces, (), (), length, 1, _vectors, pad_id=len(rows))


def _bag_mean(module: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, D) mean vector of each text's words; zeros where it has none."""
    vectors: torch.Tensor = module(batch["input_ids"])
    return vectors


def load(
    vectors: Path, vocabulary: Path, ref: Ref, seed: int, provenance: Mapping[str, Any]
) -> TextBackbone:
    """`vectors` is an .npy (V, D) float32, `vocabulary` a Parquet of V words in its order."""
    import torch

    table = _vocabulary(vocabulary)
    array = _array(vectors, len(table))
    weights = str(ref.option("weights", "pretrained"))
    # One row more than there are words: the padding, which the mean leaves out.
    with seeded(seed):
        module = torch.nn.EmbeddingBag(
            len(table) + 1, array.shape[1], mode="mean", padding_idx=len(table)
        )
    notes: dict[str, Any] = {}
    if weights == "pretrained":
        with torch.no_grad():
            module.weight[:-1] = torch.from_numpy(array)
    elif weights != "random":
        dropped = checkpoints.fit(module, checkpoints.read(Path(weights)), f"{weights} into {ref}")
        notes = {"dropped_keys": list(dropped)} if dropped else {}
    backbone = _backbone(module, table, int(ref.option("length", LENGTH)))
    return finish(backbone, {**provenance, **notes}, ())


def of_vectors(vectors: torch.Tensor, table: list[str], length: int) -> TextBackbone:
    """Of (V + 1, D) vectors of V words and the padding, not yet finished. Raises Unsupported where
    there are not so many."""
    import torch

    if not isinstance(table, list) or tuple(vectors.shape[:-1]) != (len(table) + 1,):
        raise Unsupported(f"{tuple(vectors.shape)} vectors are not of its words and the padding")
    rows, dim = vectors.shape
    module = torch.nn.EmbeddingBag(rows, dim, mode="mean", padding_idx=len(table))
    module.load_state_dict({"weight": vectors})
    return _backbone(module.to(vectors.dtype), table, length)


def _backbone(module: torch.nn.Module, table: list[str], length: int) -> TextBackbone:
    rows = {word: i for i, word in enumerate(table)}
    lexicon = hashlib.sha256("\n".join(table).encode()).hexdigest()[:16]
    spec = InputSpec(modality="text", length=length, extra=(("words", lexicon),))
    tokenize = partial(_all_word_ids, rows, length)
    backbone = TextBackbone(module, spec, "mean of words", tokenize, _bag_mean, pad_id=len(table))
    backbone.reads_tokens = partial(_token_reader, rows, length)
    backbone.blueprint = Blueprint("words", {"length": length}, partial(_write, table))
    return backbone


def _write(table: list[str], folder: Path, module: Any) -> None:
    (folder / "words.json").write_text(json.dumps(table), encoding="ascii")


def _vocabulary(path: Path) -> list[str]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise errors.missing_extra("pyarrow", "demo", "reading the GloVe vocabulary") from error
    return [str(word) for word in pyarrow.parquet.read_table(path).column("index").to_pylist()]


def _array(path: Path, count: int) -> Any:
    import numpy as np

    array = np.load(path, allow_pickle=False)
    if array.shape[0] != count or array.dtype != np.float32:
        raise MissingWeights(f"{path} holds {array.shape} {array.dtype}, not ({count}, D) float32")
    return array
