"""language-model/...: complete language models, which say how probable a text is.

    language-model/smollm2-135m-instruct         in a pip package (extra gguf)
    language-model/openai-community/gpt2         any of transformers', causal or masked
    language-model/mine?weights=FOLDER           the same from a local folder

They are judged as they are, by the method `as-is`. A causal model answers language-modelling and
multiple-choice, a masked one masked-language-modelling alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import Unsupported
from zoobench.files import parse_json
from zoobench.interfaces import InputSpec
from zoobench.models import complete, options, packaged_, text
from zoobench.models.backbones import finish, pool_tokens, seeded
from zoobench.models.catalog import HF
from zoobench.models.complete import CompleteSource, CompleteTexts, TextFolder
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    import torch

    from zoobench.models.likelihood import Coder

CAUSAL = ("language-modelling", "multiple-choice")
MASKED = ("masked-language-modelling",)
LONGEST = 1024
"""Most tokens of a window by default, even of models that could read more."""
COSTED = 128
"""Tokens of the text that costs are counted and timed of: a window would take minutes on a CPU."""
PACKAGED = {"smollm2-135m-instruct": "smollm2-135m"}
"""Name -> the packaged model of the same file."""


@dataclass
class LanguageModel(CompleteTexts):
    """A complete model of texts; its module gives logits of tokens, which `coder` writes texts in.

    As a backbone it reads a text's first COSTED tokens, and gives the logits of the last of them.
    """

    answers: tuple[str, ...] = ()
    coder: Coder | None = None


def _of(module: Any, tokenizer: Any, spec: InputSpec, answers: tuple[str, ...]) -> LanguageModel:
    # They import numpy, which a list of models does without.
    from zoobench.models.likelihood import Coder, sees_ahead

    pad = text.padding(tokenizer, module.config)
    coder = Coder.of(tokenizer, int(spec.length or LONGEST), pad)
    rows = int(module.get_input_embeddings().weight.shape[0])
    if coder.start is not None and coder.start >= rows:
        raise Unsupported(f"its tokenizer has a token {coder.start}, and the model {rows} of them")
    if answers == MASKED and coder.mask is None:
        raise Unsupported("a masked model whose tokenizer has no mask token")
    if answers == CAUSAL and sees_ahead(module, coder):
        raise Unsupported(f"a {type(module).__name__} that sees the tokens that it is to predict")
    module.config.use_cache = False  # nothing is generated, so nothing need be kept for it
    return LanguageModel(
        module, spec, "logits of the last token", partial(_ids, coder, answers == MASKED), _logits,
        coder.pad, task=answers[0], answers=answers, coder=coder,
    )  # fmt: skip


def _ids(coder: Coder, masked: bool, texts: Sequence[str]) -> list[list[int]]:
    """Each text's first tokens, as a window begins and ends."""
    start = () if coder.start is None else (coder.start,)
    before, after = (coder.before, coder.after) if masked else (start, ())
    room = min(coder.length, COSTED) - len(before) - len(after)
    found = (coder.encode(text).ids[:room] for text in texts)
    return [[*before, *ids, *after] or [coder.pad] for ids in found]


def _logits(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return pool_tokens(module(**batch).logits, batch["attention_mask"], "lasttoken")


def _answers_of(config: Path | None) -> tuple[str, ...]:
    """The tasks that a configuration's model answers; all where that is not known yet."""
    try:
        body = parse_json(config.read_text("utf-8")) if config else {}
    except (OSError, ValueError):
        body = {}
    named = body.get("architectures") if isinstance(body, dict) else None
    first = str(named[0]) if isinstance(named, list) and named else ""
    if first.endswith("ForMaskedLM"):
        return MASKED
    return CAUSAL if first.endswith(("LMHeadModel", "ForCausalLM")) else (*CAUSAL, *MASKED)


@dataclass(frozen=True)
class LanguageSource(CompleteSource):
    """The source of language models: what CompleteSource does, for two kinds of heads."""

    def cards(self) -> tuple[ModelCard, ...]:
        return tuple(
            replace(
                packaged_.entry(of).card, source=self.name, name=name, answers=CAUSAL, extra=(),
            )
            for name, of in PACKAGED.items()
        )  # fmt: skip

    def find(self, ref: Ref, where: str = "") -> ModelCard:
        """As of any complete source; a configuration that is here says which tasks are answered,
        and the card of the encoder in the same repository whose it is."""
        card = super().find(ref, where)
        if ref.name in PACKAGED:
            return card
        folder = complete.folder_of(ref)
        here = hub.cached(ref.name, ref.revision, hub.config_only) if folder is None else None
        path = folder / "config.json" if folder else here[0] if here else None
        encoder = next((one for one in HF if folder is None and one.name == ref.name), card)
        known = {name: getattr(encoder, name) for name in ("license", "published", "pretrained_on")}
        return replace(card, answers=_answers_of(path), **known)

    def resolve(self, ref: Ref, where: str) -> Ref:
        """Raises UserError for an unknown name, revision or option."""
        if ref.name not in PACKAGED:
            return super().resolve(ref, where)
        revision = self.find(ref).revision
        if ref.revision not in ("", revision):
            raise errors.unknown(where, f"revision of {ref.id}", ref.revision, [revision])
        if ref.option("prefix") is not None:
            raise errors.unknown(where, "option", "prefix", ("weights", "length"))
        named = options.normalise(ref.at(revision), where, "text", {"length": LONGEST}, ())
        if named.option("weights") not in (None, "random"):
            raise errors.UserError(
                f"{where}: {ref.id}: its weights are those of the package, or random: weights of "
                "your own are language-model/NAME?weights=FOLDER"
            )
        return named

    def load(self, ref: Ref, seed: int) -> LanguageModel:
        """Raises MissingWeights, MissingExtra, and Unsupported for what is no language model."""
        if ref.name not in PACKAGED:
            made: LanguageModel = super().load(ref, seed)
            return made
        from zoobench.models import gguf_

        files, provenance = packaged_.verified(packaged_.entry(PACKAGED[ref.name]), ref)
        with seeded(seed):
            tokenizer, module = gguf_.read(
                files["weights"], "AutoModelForCausalLM", random=ref.option("weights") == "random"
            )
        length = text.length_of(ref, tokenizer, module.config, LONGEST)
        spec = InputSpec("text", length=length, extra=_told(tokenizer))
        return finish(
            _of(module, tokenizer, spec, CAUSAL), provenance, ("transformers", "tokenizers", "gguf")
        )

    def _prepared(self, folder: Path, config: Any, ref: Ref) -> Callable[..., TextFolder]:
        tokenizer = text.tokenizer_of(folder)
        length = text.length_of(ref, tokenizer, config, LONGEST)
        spec = InputSpec("text", length=length, extra=_told(tokenizer))
        return partial(TextFolder, tokenizer=tokenizer, length=length, spec=spec)

    def _class_of(self, config: Any, what: str) -> Any:
        """The class that the configuration names, else a masked one where there is one: encoders
        can be run as causal models, which they were not trained to be."""
        from transformers.models.auto import modeling_auto

        found = [getattr(modeling_auto, name).get(type(config), None) for name in self.mappings]
        classes = [kind for kind in found if kind is not None]
        if getattr(config, "is_encoder_decoder", False):
            raise Unsupported(f"{what}: an encoder-decoder ({config.model_type}) is not read")
        named = getattr(config, "architectures", None) or ()
        if chosen := next((kind for kind in classes if kind.__name__ in named), None):
            return chosen
        return classes[0] if classes else super()._class_of(config, what)


def _told(tokenizer: Any) -> tuple[tuple[str, Any], ...]:
    return (("tokenizer", text.tokenizer_digest(tokenizer)),)


def _of_folder(read: TextFolder) -> LanguageModel:
    masked = type(read.module).__name__.endswith("ForMaskedLM")
    return _of(read.module, read.tokenizer, read.spec, MASKED if masked else CAUSAL)


LANGUAGE_MODELS = LanguageSource(
    "language-model", "language-modelling",
    ("MODEL_FOR_MASKED_LM_MAPPING", "MODEL_FOR_CAUSAL_LM_MAPPING"), _of_folder, "text",
    packaged=PACKAGED,
)  # fmt: skip
