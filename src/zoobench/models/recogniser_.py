"""recogniser/...: complete models that write down what is spoken.

    recogniser/whisper-tiny-en               in a pip package (extra sound)
    recogniser/openai/whisper-base.en        any of transformers' encoder-decoders for speech, or of
    recogniser/facebook/wav2vec2-base-960h   its networks with a CTC head
    recogniser/mine?weights=FOLDER           the same from a local folder
    recogniser/openai/whisper-tiny?language=fr

They are judged as they are, by the method `as-is`. How they are run is pinned, whatever a folder
says of it: see `speech`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.errors import UserError, opening
from zoobench.models import options, packaged_
from zoobench.models.backbones import finish, seeded
from zoobench.models.complete import CompleteSource
from zoobench.models.text import tokenizer_of
from zoobench.schema import ModelCard, Ref

if TYPE_CHECKING:
    from zoobench.models.speech import Recogniser, SpeechFolder

TASK = "speech-recognition"
PACKAGED = {"whisper-tiny-en": "whisper-tiny-en"}
"""Name -> the packaged model of the same files."""
OPTIONS = ("weights", "configuration", "language")
LIBRARIES = ("transformers", "tokenizers", "scipy")


@dataclass(frozen=True)
class RecogniserSource(CompleteSource):
    """The source of recognisers: what CompleteSource does, for sound."""

    def cards(self) -> tuple[ModelCard, ...]:
        return tuple(
            replace(
                packaged_.entry(of).card, source=self.name, name=name, answers=(TASK,), extra=()
            )
            for name, of in PACKAGED.items()
        )

    def resolve(self, ref: Ref, where: str) -> Ref:
        """Raises UserError for an unknown name, revision or option."""
        from zoobench.models.speech import LANGUAGE

        packaged = ref.name in PACKAGED
        known = OPTIONS[:1] if packaged else OPTIONS
        for name, value in ref.options:
            if name not in known:
                raise errors.unknown(where, "option", name, known, f"of {ref.id}")
            if name == "language" and not (isinstance(value, str) and value.isalpha()):
                at = opening(where)
                raise UserError(f"{at}{ref.id}: language is a code such as {LANGUAGE!r}")
        if ref.option("language") == LANGUAGE:
            ref = ref.without("language")
        if not packaged:
            named = options.normalise(ref, where, "audio", {}, (), OPTIONS[1:])
            self.find(named, where)
            return named
        revision = self.find(ref).revision
        if ref.revision not in ("", revision):
            raise errors.unknown(where, f"revision of {ref.id}", ref.revision, [revision])
        named = options.normalise(ref.at(revision), where, "audio", {}, ())
        return options.refuse_folder(named, where)

    def load(self, ref: Ref, seed: int) -> Recogniser:
        """Raises MissingWeights, MissingExtra, and Unsupported for what writes nothing down."""
        if ref.name not in PACKAGED:
            read, provenance = self._read(ref, seed)
            return finish(_of_folder(read), provenance, LIBRARIES)
        from zoobench.models import whisper
        from zoobench.models.speech import SpeechFolder

        files, provenance = packaged_.verified(packaged_.entry(PACKAGED[ref.name]), ref)
        with seeded(seed):
            whole = whisper.load(files, str(ref.option("weights", "pretrained")))
        told = whole.module.generation_config.to_diff_dict()
        read = SpeechFolder(whole.module, (), whole.tokenizer, whole.extractor, told)
        return finish(_of_folder(read), provenance, LIBRARIES)

    def _choose(self, drawn: bool) -> Callable[..., list[str]]:
        from zoobench.models import speech

        return partial(speech.choose, pretrained=not drawn)

    def _prepared(self, folder: Path, config: Any, ref: Ref) -> Callable[..., SpeechFolder]:
        from zoobench.models import sound, speech

        return partial(
            speech.SpeechFolder,
            tokenizer=tokenizer_of(folder),
            extractor=sound.extractor_of(folder, ref),
            told=speech.told(folder),
            language=str(ref.option("language", speech.LANGUAGE)),
        )


def _of_folder(read: SpeechFolder) -> Recogniser:
    # It imports numpy, which a list of models does without.
    from zoobench.models import speech

    return speech.recogniser(read)


RECOGNISERS = RecogniserSource(
    "recogniser", TASK, ("MODEL_FOR_CTC_MAPPING", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING"),
    _of_folder, "audio", packaged=PACKAGED,
)  # fmt: skip
