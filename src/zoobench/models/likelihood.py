"""What a language model says of texts: bits of each token, whatever is read beside it in a batch.

N texts, T tokens of one, L tokens of a window, V of the vocabulary, B windows of a batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.errors import Unsupported
from zoobench.models import tokens
from zoobench.statistics.bootstrap import Floats
from zoobench.tasks.language_modelling import size_of

if TYPE_CHECKING:
    import torch

UNKNOWN = 8.0
"""Bits of each byte that stands behind an unknown token, which does not say what they are."""
ROOM = 2**28
"""Bytes of logits of one batch: 32 windows of 128 tokens of 16,000."""
MOST_WINDOWS = 64
APART = 1e-4
"""Relative distance of logits above which they differ by more than the order of their sums."""
ALIKE = {
    "case": ("The End", "the end"),
    "accents": ("café", "cafe"),
    "forms of letters": ("ﬁne", "fine"),
    "blanks": ("one  two", "one two"),
    "line breaks": ("one\ntwo", "one two"),
}
"""What a tokenizer may forget: two texts that are the same to it then."""


@dataclass(frozen=True)
class Pieces:
    """A text in tokens: their `ids` (T,), the character that each `ends` before (T,), and how many
    bytes stand behind unknown ones (T,), 0 behind all others."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    unknown: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Coder:
    """How a model's tokenizer writes texts. `start` is the token before a text, None where the
    tokenizer has none; `before` and `after` stand around a window of a masked model, whose token
    for a gap is `mask`. `length` is the most tokens of a window, those included; `pad` fills rows.
    """

    backend: Any = field(repr=False)
    unknown: int | None
    start: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    mask: int | None
    length: int
    pad: int = 0

    @classmethod
    def of(cls, tokenizer: Any, length: int, pad: int = 0) -> Coder:
        """Of a tokenizer of transformers. Raises Unsupported where it is none of `tokenizers`."""
        backend = tokens.backend_of(tokenizer)
        before, after = tokens.special(backend)
        backend.encode_special_tokens = True  # a text's own "<s>" is text
        start = next(
            (n for n in (tokenizer.bos_token_id, tokenizer.eos_token_id) if n is not None), None
        )
        return cls(
            backend, tokenizer.unk_token_id, start, before, after, tokenizer.mask_token_id, length,
            pad,
        )  # fmt: skip

    def encode(self, text: str) -> Pieces:
        """`text` without special tokens. Half of a surrogate pair reads as '?'."""
        plain = text.encode("utf-8", "replace").decode("utf-8")
        said = self.backend.encode(plain, add_special_tokens=False)
        unknown = tuple(
            size_of(plain[start:end]) if one == self.unknown else 0
            for one, (start, end) in zip(said.ids, said.offsets, strict=True)
        )
        return Pieces(tuple(said.ids), tuple(end for _, end in said.offsets), unknown)

    def forgets(self) -> tuple[str, ...]:
        """What of a text its tokens do not say: names of ALIKE."""
        pairs = {name: [self.encode(text) for text in pair] for name, pair in ALIKE.items()}
        return tuple(
            name
            for name, (one, other) in pairs.items()
            # What is unknown is spelt out, and not forgotten.
            if one.ids == other.ids and not sum(one.unknown)
        )


@dataclass(frozen=True)
class Scored:
    """A window that is read, and what of it counts: `ids` (L,) of text `text`, at whose places
    `at` (S,) of the output stand the probabilities of the tokens numbered `tokens` (S,)."""

    text: int
    ids: tuple[int, ...]
    at: range
    tokens: range


def windows(text: int, ids: Sequence[int], coder: Coder, first: int = 0) -> Iterator[Scored]:
    """Windows of a causal model over a text's `ids`, half a window apart, which score each token
    from `first` on once, in the first window that it is in.

    The start token stands before each of them. Where there is none, a window's first token has
    nothing before it: the text's first is scored by nobody, the others' by the window before.
    """
    start = () if coder.start is None else (coder.start,)
    room, shift = coder.length - len(start), 1 - len(start)
    scored = max(first, shift)
    for begin in range(0, len(ids), max(1, coder.length // 2)):
        end = min(begin + room, len(ids))
        if end > scored:
            of = range(scored, end)
            at = range(scored - begin - shift, end - begin - shift)
            yield Scored(text, (*start, *ids[begin:end]), at, of)
            scored = end
        if end == len(ids):
            return


def causal_bits(
    module: torch.nn.Module,
    coder: Coder,
    texts: Sequence[Pieces],
    firsts: Sequence[int] | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> list[Floats]:
    """Bits (T,) float64 of each token of each text, -log2 p(token | those before it in its window).

    A token before which nothing stands costs log2 V bits: any of the vocabulary is as good. An
    unknown token costs UNKNOWN bits more for each byte of its text. Of text i only what follows
    token `firsts[i]` is computed, and what is not is 0.
    """
    vocabulary = _vocabulary(module)
    found = [np.zeros(len(text)) for text in texts]
    todo: list[Scored] = []
    for i, text in enumerate(texts):
        first = firsts[i] if firsts is not None else 0
        todo += windows(i, text.ids, coder, first)
        if first == 0 and len(text) and coder.start is None:
            found[i][0] = math.log2(vocabulary)
    for window, bits in _read(module, coder, todo, texts, report):
        found[window.text][window.tokens.start : window.tokens.stop] = bits
    for bits, text in zip(found, texts, strict=True):
        bits += UNKNOWN * np.asarray(text.unknown)
    return found


def sees_ahead(module: torch.nn.Module, coder: Coder) -> bool:
    """Whether what is said after a token changes with a token that comes later: no causal model,
    whose bits would be those of a text that it has read already."""
    import torch

    module.eval()
    ids = [*coder.encode(" ".join(tokens.TRIAL)).ids, 1, 2, 3][: coder.length - 1]
    texts = torch.tensor([[*ids, 1], [*ids, 2]], device=next(module.parameters()).device)
    with torch.inference_mode():
        one, other = module(input_ids=texts, attention_mask=torch.ones_like(texts)).logits[:, :-1]
    return bool((one - other).norm() > APART * one.norm())


def masked_bits(
    module: torch.nn.Module,
    coder: Coder,
    texts: Sequence[Pieces],
    most: int,
    report: Callable[[float], None] = lambda share: None,
) -> Floats:
    """(N,) bits of each text's pseudo-likelihood: of each token, -log2 p(token | all others in its
    window) where it is masked alone (Salazar et al. 2020, arXiv:1910.14659, equation 1).

    A window has the token in its middle, as far as the text goes. Of a text with more than `most`
    tokens so many are taken, by a hash of its ids, and their sum scaled up to all of them. An
    unknown token costs UNKNOWN bits more for each byte of its text. Raises Unsupported where the
    tokenizer has no token for a gap.
    """
    if coder.mask is None:
        raise Unsupported("its tokenizer has no mask token")
    found = np.zeros(len(texts))
    room = coder.length - len(coder.before) - len(coder.after)
    todo: list[Scored] = []
    for i, text in enumerate(texts):
        for place in _chosen(text.ids, most):
            begin = max(0, min(place - room // 2, len(text) - room))
            inside = list(text.ids[begin : begin + room])
            inside[place - begin] = coder.mask
            at = len(coder.before) + place - begin
            ids = (*coder.before, *inside, *coder.after)
            todo.append(Scored(i, ids, range(at, at + 1), range(place, place + 1)))
    for window, bits in _read(module, coder, todo, texts, report):
        found[window.text] += bits[0]
    for i, text in enumerate(texts):
        found[i] *= len(text) / max(1, min(most, len(text)))
        found[i] += UNKNOWN * sum(text.unknown)
    return found


def _read(
    module: torch.nn.Module,
    coder: Coder,
    todo: Sequence[Scored],
    texts: Sequence[Pieces],
    report: Callable[[float], None],
) -> Iterator[tuple[Scored, Floats]]:
    """Each window with the bits (S,) of the tokens that it scores, windows of a length together.

    `report` is told the share of the tokens that are done.
    """
    import torch

    device = next(module.parameters()).device
    size, done = _vocabulary(module) * 4, 0
    total = sum(len(window.ids) for window in todo)
    order = sorted(range(len(todo)), key=lambda i: (-len(todo[i].ids), i))
    while order:
        many = max(1, min(MOST_WINDOWS, ROOM // (size * len(todo[order[0]].ids))))
        some, order = [todo[i] for i in order[:many]], order[many:]
        ids, mask = (t.to(device) for t in _padded([window.ids for window in some], coder.pad))
        with torch.inference_mode():
            logits = module(input_ids=ids, attention_mask=mask).logits
            for row, window in zip(logits, some, strict=True):
                said = row[window.at.start : window.at.stop]
                true = torch.tensor(
                    texts[window.text].ids[window.tokens.start : window.tokens.stop],
                    device=device,
                )
                # Part by part: the exponentials of a window would take its logits' memory again.
                total_of = torch.cat([part.float().logsumexp(dim=1) for part in said.split(128)])
                nats = total_of - said.gather(1, true[:, None])[:, 0].float()
                yield window, nats.double().cpu().numpy() / math.log(2)
        done += sum(len(window.ids) for window in some)
        report(done / total)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and mask (B, L) int64, padded behind, where a causal model does not look."""
    import torch

    width = max(len(row) for row in rows)
    ids = [[*row, *[pad] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _vocabulary(module: Any) -> int:
    return int(module.config.get_text_config().vocab_size)


def _chosen(ids: Sequence[int], most: int) -> list[int]:
    """`most` places of a text, by a hash of its tokens: the same on every machine."""
    if len(ids) <= most:
        return list(range(len(ids)))
    seed = hashlib.sha256(repr(tuple(ids)).encode()).digest()
    draw = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    return sorted(draw.choice(len(ids), size=most, replace=False).tolist())
