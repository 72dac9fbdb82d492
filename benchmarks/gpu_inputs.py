"""What bench_gpu.py reads: pictures, JPEG files, texts, and an encoder of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def pixels(count: int, side: int = 224) -> Any:
    """(N, H, W, 3) uint8 of smooth colours."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, side // 8, axis=1), side // 8, axis=2)


def jpegs(folder: Path, count: int) -> tuple[str, ...]:
    """Paths of JPEG files of 500 x 375, ImageNet's usual size."""
    from PIL import Image

    paths = []
    for i, one in enumerate(pixels(count, 64)):
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(one).resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1])
    return tuple(paths)


@dataclass(frozen=True)
class Cached:
    """Pictures in memory, as a reader."""

    held: Any

    def __call__(self, i: int) -> Any:
        from PIL import Image

        return Image.fromarray(self.held[i])


def split_of(read: Any, count: int, turn: int = 0) -> Any:
    """Examples of four classes; another turn has other labels."""
    from zoobench.interfaces import Split
    from zoobench.tasks.classification import Labels

    labels = Labels((np.arange(count, dtype=np.int64) + turn) % 4)
    return Split("train", tuple(map(str, range(count))), labels, read)


WORDS = ("the", "cat", "sat", "on", "a", "mat", "while", "others", "slept", "soundly")


def sentences(count: int) -> tuple[str, ...]:
    """Texts that fill the tokens that a network reads here."""
    rng = np.random.default_rng(0)
    return tuple(" ".join(rng.choice(WORDS, 40)) for _ in range(count))


def text_encoder(folder: Path, quick: bool) -> Path:
    """A folder of transformers' with an encoder of MiniLM's size, six layers of width 384, and a
    tokenizer of the words that are read here."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    known = {word: i for i, word in enumerate((*special.values(), *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    size = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    whole = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    config = BertConfig(
        vocab_size=len(known) if quick else 30_522, num_attention_heads=2 if quick else 12,
        max_position_embeddings=64, **(size if quick else whole),
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **special
    ).save_pretrained(folder)
    return folder


def splits_of(text: bool, count: int) -> Any:
    from zoobench.interfaces import Splits

    if text:
        from zoobench.datasets.readers import Texts

        read: Any = Texts(sentences(count))
    else:
        read = Cached(pixels(count))
    train = split_of(read, count, 0)
    valid = split_of(read, 8, 1)
    return Splits(train, valid, valid, ("a", "b", "c", "d"), "text" if text else "image")
