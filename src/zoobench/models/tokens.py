"""Words of a text through a network that reads pieces of them, in windows of bounded length.

A word is read by its first piece (PROTOCOL section 2, Token classification). Texts longer than a
window are read in windows that overlap by half, and each word in the one where the least context
on either side is the most: no word is dropped. T pieces of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zoobench.errors import NotFinite, Unsupported
from zoobench.views import TokenReader

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    States = Callable[
        [torch.nn.Module, Mapping[str, torch.Tensor], Sequence[int]], Sequence[torch.Tensor]
    ]

TRIAL = ("some", "words", "of", "a", "text")
"""What shows how words have to be given, to become what the text that they make becomes."""


@dataclass(frozen=True)
class Window:
    """A part of a text: its `ids` (T,), special tokens included, and the words that are read in it,
    each as (number of the word in the text, place of its first piece in `ids`)."""

    ids: tuple[int, ...]
    words: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)


def windows(pieces: Sequence[Sequence[int]], reader: TokenReader) -> list[Window]:
    """The windows of one text, whose words have these `pieces`; none of a text without words."""
    room = reader.length - len(reader.before) - len(reader.after)
    if room < 1:
        raise Unsupported(f"a window of {reader.length} tokens has no room beside its special ones")
    ids = [one for word in pieces for one in word]
    starts = _starts(len(ids), room)
    last = len(starts) - 1
    read: list[list[tuple[int, int]]] = [[] for _ in starts]
    place = 0
    for number, word in enumerate(pieces):
        near = place // _step(room)
        those = {min(last, max(0, k)) for k in (near - 2, near - 1, near, last)}
        context = {k: _context(place, starts[k], room, len(ids)) for k in sorted(those)}
        best = max(context, key=lambda k: context[k])
        read[best].append((number, len(reader.before) + place - starts[best]))
        place += len(word)
    return [
        Window((*reader.before, *ids[start : start + room], *reader.after), tuple(words))
        for start, words in zip(starts, read, strict=True)
        if words
    ]


def _starts(n: int, room: int) -> list[int]:
    """Where windows of `room` begin: each half a window after the last, and one at the end."""
    return [0] if n <= room else [*range(0, n - room, _step(room)), n - room]


def _step(room: int) -> int:
    return max(1, room // 2)


def _context(place: int, start: int, room: int, n: int) -> int:
    """Pieces on the poorer side of `place` in the window at `start`; -1 where it is not in it. What
    is not cut off there is no lack: the text has no more."""
    end = min(start + room, n)
    if not start <= place < end:
        return -1
    before = place - start if start else n
    after = end - 1 - place if end < n else n
    return min(before, after)


def collate(some: Sequence[Window], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each (B, T) int64, T the longest of the batch."""
    import torch

    width = max(len(one) for one in some)
    ids = torch.full((len(some), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(some), width), dtype=torch.int64)
    for i, one in enumerate(some):
        ids[i, : len(one)] = torch.tensor(one.ids, dtype=torch.int64)
        mask[i, : len(one)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def reader_of(
    tokenizer: Any, length: int, layers: int, read: States, pad_id: int = 0
) -> TokenReader:
    """The TokenReader of a tokenizer of transformers. Raises Unsupported where it is none of the
    library `tokenizers`: only those say which word a piece is of."""
    backend = backend_of(tokenizer)
    unknown = tokenizer.unk_token_id
    spare = int(unknown if unknown is not None else pad_id)
    before, after = special(backend)
    return TokenReader(
        partial(_pieces, backend, _joint(backend), spare), before, after, length, layers, read,
        pad_id, "token_type_ids" in tokenizer.model_input_names, backend,
    )  # fmt: skip


def backend_of(tokenizer: Any) -> Any:
    """A copy of the tokenizer of `tokenizers` inside of one of transformers, which neither cuts nor
    fills texts. Raises Unsupported where there is none."""
    from tokenizers import Tokenizer

    own = getattr(tokenizer, "backend_tokenizer", None)
    if own is None:
        raise Unsupported(
            f"a {type(tokenizer).__name__} does not say which word a piece is of: it needs a "
            "tokenizer.json"
        )
    backend = Tokenizer.from_str(own.to_str())  # another one: the first cuts texts in its own calls
    backend.no_truncation()
    backend.no_padding()
    return backend


def special(backend: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the tokenizer puts before and after a text."""
    plain = backend.encode(" ".join(TRIAL), add_special_tokens=False).ids
    whole = backend.encode(" ".join(TRIAL)).ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    raise Unsupported("its tokenizer changes a text that it puts special tokens around")


def _joint(backend: Any) -> str:
    """What is put before all words but the first, so that they become the pieces that they are in a
    text: tokenizers that keep the blank need it, others drop it."""
    plain = backend.encode(" ".join(TRIAL), add_special_tokens=False).ids
    for joint in ("", " "):
        words = [TRIAL[0], *(joint + word for word in TRIAL[1:])]
        if backend.encode(words, is_pretokenized=True, add_special_tokens=False).ids == plain:
            return joint
    return " "


def _pieces(backend: Any, joint: str, spare: int, words: Sequence[str]) -> list[list[int]]:
    """The ids of each word's pieces by the tokenizer's own numbers of words; `spare` for a word
    that has none. Half of a surrogate pair reads as '?'."""
    found: list[list[int]] = [[] for _ in words]
    if not words:
        return found
    plain = [word.encode("utf-8", "replace").decode("utf-8") for word in words]
    given = [plain[0], *(joint + word for word in plain[1:])]
    said = backend.encode(given, is_pretokenized=True, add_special_tokens=False)
    for one, number in zip(said.ids, said.word_ids, strict=True):
        if number is not None:
            found[number].append(one)
    return [ids or [spare] for ids in found]


def likeliest(scores: torch.Tensor, dim: int) -> torch.Tensor:
    """The number of the greatest score along `dim`. Raises NotFinite where a score is NaN, which
    is neither greater nor less than another."""
    if bool(scores.isnan().any()):
        raise NotFinite("its scores of words are no number")
    return scores.argmax(dim=dim)


def state_width(reader: TokenReader, module: torch.nn.Module) -> int:
    """D of the states after the last layer of `module`, as a window of one word shows it."""
    import torch

    device = next(module.parameters()).device
    one = collate(windows(reader.pieces(["a"]), reader), reader.pad_id)
    with torch.no_grad():
        (states,) = reader.read(
            module, {name: held.to(device) for name, held in one.items()}, [reader.layers]
        )
    return int(states.shape[2])


def likeliest_labels(
    reader: TokenReader,
    texts: Sequence[Sequence[str]],
    score: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    together: int,
) -> list[NDArray[np.int64]]:
    """For each text (W,) the number of each word's likeliest label, by what `score` makes of a
    batch of windows: (B, T, K). Windows of like lengths are read together. Raises NotFinite."""
    import numpy as np

    pieces = [reader.pieces(words) for words in texts]
    out = [np.zeros(len(words), dtype=np.int64) for words in pieces]
    cut = [(i, window) for i, words in enumerate(pieces) for window in windows(words, reader)]
    cut.sort(key=lambda one: len(one[1]))
    for start in range(0, len(cut), together):
        some = cut[start : start + together]
        best = likeliest(score(collate([window for _, window in some], reader.pad_id)), 2)
        for (i, window), row in zip(some, best.cpu().numpy(), strict=True):
            for word, place in window.words:
                out[i][word] = row[place]
    return out
