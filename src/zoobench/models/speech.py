"""A complete recogniser of transformers: what it makes of one recording of at most 30 seconds.

    CTC               the likeliest class of each frame, repeats and then blanks left out, in the
                      letters of its own tokenizer
    encoder-decoder   the likeliest token after another, with nothing said before and no timestamps;
                      of a multilingual one the language is given, and it transcribes

One recording at a time: no answer depends on what else there is. T samples, F frames, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoobench import errors
from zoobench.errors import Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import folders, transformers_
from zoobench.models.backbones import AudioBackbone
from zoobench.models.complete import CompleteModel
from zoobench.models.text import TOKENIZERS, quiet, tokenizer_digest
from zoobench.solvers import ctc

if TYPE_CHECKING:
    import torch

    from zoobench.audio import Clip

WINDOW = 30.0
"""Most seconds of a recording."""
SHORTEST = 0.1
"""Seconds to which a shorter recording is filled up with silence: the first frame of a network
takes so much."""
TOKENS = (32, 16)
"""Most tokens of an answer: so many, and so many more for each second."""
LANGUAGE = "en"
GENERATION = "generation_config.json"
TOLD = (
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "suppress_tokens",
    "begin_suppress_tokens", "no_timestamps_token_id", "prev_sot_token_id", "lang_to_id",
    "task_to_id",
)  # fmt: skip
"""What is taken of a folder's settings of generation: which tokens it has, and never how it is
run."""


@dataclass(frozen=True)
class SpeechFolder:
    """What was read of a recogniser: `told` are its settings of generation, of which TOLD count."""

    module: Any
    labels: tuple[str, ...]
    tokenizer: Any
    extractor: Any
    told: Mapping[str, Any] = field(default_factory=dict)
    language: str = LANGUAGE


@dataclass
class Recogniser(CompleteModel, AudioBackbone):
    """A complete model of recordings: its answer is a text.

    As a backbone it gives the mean of its frames' scores; an encoder-decoder, which `generates`
    token after token, those of its first one, since how many it says is the recording's matter.
    """

    generates: bool = False

    def answer(self, raw: Clip) -> str:
        """What is said in a recording of at most WINDOW seconds."""
        device = next(self.module.parameters()).device
        batch = self.collate([self.prepare(raw)])
        text: str = super().answer({name: one.to(device) for name, one in batch.items()})
        return text


def choose(names: Sequence[str], pretrained: bool = True) -> list[str]:
    """The files of a repository that are read; [] when something is not there."""
    found = transformers_.choose(names, "audio", pretrained)
    spelt = any(name in (*TOKENIZERS, "tokenizer_config.json") for name in names)
    return [*(name for name in (GENERATION,) if name in names), *found] if found and spelt else []


def told(folder: Path) -> Mapping[str, Any]:
    """The folder's settings of generation. Raises MissingWeights where they are damaged."""
    body = folders.read_json(folder / GENERATION)
    return body if isinstance(body, Mapping) else {}


def tokens_told(said: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What of `said` is in TOLD. Raises Unsupported where that is none of `size` tokens."""
    kept = {name: said[name] for name in TOLD if said.get(name) is not None}
    for name, value in kept.items():
        parts = value.values() if isinstance(value, Mapping) else value
        for one in parts if isinstance(value, (Mapping, list)) else [value]:
            if not isinstance(one, int) or not 0 <= one < size:
                raise Unsupported(f"{GENERATION}: {name}: {one!r} is none of its {size} tokens")
    return kept


def recogniser(read: SpeechFolder) -> Recogniser:
    """Not yet finished. Raises Unsupported for a language that a model does not know."""
    module, rate = read.module, int(read.extractor.sampling_rate)
    decodes = bool(module.config.is_encoder_decoder)
    if read.language != LANGUAGE and not read.told.get("lang_to_id"):
        raise Unsupported("it is not told a language: leave the option out")
    extra = (("tokenizer", tokenizer_digest(read.tokenizer)), ("language", read.language))
    settings = read.extractor.to_dict().items()
    plain = ((name, str(v)) for name, v in settings if isinstance(v, (str, int, float, bool)))
    return Recogniser(
        module=module,
        input_spec=InputSpec(
            "audio", length=int(WINDOW * rate), rate=rate, extra=(*sorted(plain), *extra)
        ),
        pooling="first token's scores" if decodes else "mean scores",
        listen=partial(_listen, read.extractor, module.main_input_name),
        forward=partial(_scores, int(SHORTEST * rate)),
        task="speech-recognition",
        answer_with=_generated(read) if decodes else partial(_spelt, read.tokenizer),
        generates=decodes,
    )


def _listen(extractor: Any, name: str, samples: NDArray[np.float32]) -> torch.Tensor:
    """What the network is fed of a recording, which is filled up to SHORTEST."""
    import torch

    rate = int(extractor.sampling_rate)
    filled = np.pad(samples, (0, max(0, int(SHORTEST * rate) - len(samples))))
    made = extractor(filled, sampling_rate=rate, return_tensors="np")[name][0]
    return torch.from_numpy(np.ascontiguousarray(made, dtype=np.float32))


def _alone(batch: Mapping[str, torch.Tensor], least: int) -> list[torch.Tensor]:
    """(1, T', ...) what is fed of each recording: of samples its own, without padding."""
    import torch

    values = batch["values"]
    if values.ndim > 2:
        return list(values[:, None])
    own = batch["lengths"].clamp(min=least).tolist()
    return [torch.narrow(row, 0, 0, many)[None] for row, many in zip(values, own, strict=True)]


def _scores(least: int, module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, V); a recording has `least` samples or more."""
    import torch

    name, start = module.main_input_name, _start(module)
    found = []
    for one in _alone(batch, least):
        more = {}
        if start is not None:
            more["decoder_input_ids"] = torch.tensor([[start]], device=one.device)
        found.append(module(**{name: one}, **more).logits[0].mean(dim=0))
    return torch.stack(found)


def _start(module: Any) -> int | None:
    """The first token of an encoder-decoder's answers; None for another network."""
    if not module.config.is_encoder_decoder:
        return None
    return int(module.generation_config.decoder_start_token_id)


def _spelt(tokenizer: Any, module: Any, batch: Mapping[str, torch.Tensor]) -> str:
    """The answer of a network with a CTC head."""
    logits = module(**{module.main_input_name: batch["values"]}).logits[0]
    ids = ctc.collapsed(logits.argmax(dim=1).tolist(), int(module.config.pad_token_id))
    # What this network's tokenizer would do to a path is done.
    grouped = {"group_tokens": False} if hasattr(tokenizer, "word_delimiter_token") else {}
    return str(tokenizer.decode(ids, skip_special_tokens=True, **grouped))


def _generated(read: SpeechFolder) -> Any:
    """What gives the answer of an encoder-decoder, greedily. Raises Unsupported for a language
    that it does not know."""
    import transformers

    module, ours = read.module, {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
        ours[name] = getattr(module.config, name, None)
    kept = tokens_told({**ours, **read.told}, int(module.config.vocab_size))
    if "decoder_start_token_id" not in kept:
        raise Unsupported(f"neither config.json nor {GENERATION} says what an answer begins with")
    spoken: dict[str, Any] = {}
    known = kept.get("lang_to_id", {}) if read.told.get("is_multilingual", True) else {}
    if known:
        codes = [str(one).strip("<|>") for one in known]
        if read.language not in codes:
            raise Unsupported(str(errors.unknown("", "language", read.language, codes)))
        spoken = {"language": read.language, "task": "transcribe"}
    module.generation_config = transformers.GenerationConfig(
        **kept, do_sample=False, num_beams=1, return_timestamps=False, is_multilingual=bool(known)
    )
    limits = ("max_target_positions", "max_position_embeddings", "max_length")
    said = (getattr(module.config, name, None) for name in limits)
    room = next((one for one in said if isinstance(one, int)), 448)

    def answer(module: Any, batch: Mapping[str, torch.Tensor]) -> str:
        seconds = float(batch["lengths"][0]) / int(read.extractor.sampling_rate)
        most = min(TOKENS[0] + math.ceil(TOKENS[1] * seconds), room - 8)  # what is said before
        with quiet():  # it advises against what is pinned here
            ids = module.generate(batch["values"], max_new_tokens=most, **spoken)[0]
        return str(read.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    return answer
