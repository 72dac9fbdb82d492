"""A transformers folder as an audio encoder: its own extractor, the mean over its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported
from zoobench.interfaces import InputSpec
from zoobench.models import folders, sound_frames
from zoobench.models.backbones import AudioBackbone, Blueprint, finish, seeded
from zoobench.models.sound_frames import PATCHES, WAVES, WHOLE, WINDOWS, SoundFamily
from zoobench.models.text import (
    HIDDEN_FRAMES,
    load_file,
    pretrained,
    quiet,
    transformers_errors,
)

if TYPE_CHECKING:
    import torch

    from zoobench.schema import Ref

SECONDS = 10.0
"""Most seconds read by default of a clip, by networks that would read any: attention is quadratic.
"""


@dataclass(frozen=True)
class AudioArchitecture:
    """A model type's class in transformers, how it is fed and read, and the names of its part that
    hears, in the network and in the configuration, where it is one of several."""

    kind: str
    family: SoundFamily
    part: str = ""
    config: str = ""


ARCHITECTURES: Mapping[str, AudioArchitecture] = {
    "wav2vec2": AudioArchitecture("Wav2Vec2Model", WAVES),
    "wav2vec2-conformer": AudioArchitecture("Wav2Vec2ConformerModel", WAVES),
    "hubert": AudioArchitecture("HubertModel", WAVES),
    "wavlm": AudioArchitecture("WavLMModel", WAVES),
    "unispeech": AudioArchitecture("UniSpeechModel", WAVES),
    "unispeech-sat": AudioArchitecture("UniSpeechSatModel", WAVES),
    "data2vec-audio": AudioArchitecture("Data2VecAudioModel", WAVES),
    "whisper": AudioArchitecture("WhisperModel", WINDOWS, part="encoder"),
    "audio-spectrogram-transformer": AudioArchitecture("ASTModel", PATCHES),
    "clap": AudioArchitecture("ClapAudioModelWithProjection", WHOLE, "audio_model", "audio_config"),
    "clap_audio_model": AudioArchitecture("ClapAudioModelWithProjection", WHOLE, "audio_model"),
}
"""By model type, as config.json says it."""
POOLS = ("mean", "cls", "pooler")
STILL = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0}
"""Settings of training that hide parts of a clip or skip layers, by draws that no seed of ours
governs."""
BOUNDS = {
    "feature_size": 1024, "num_mel_bins": 1024, "n_fft": 2**14, "fft_window_size": 2**14,
    "hop_length": 2**14, "max_length": 2**14, "chunk_length": 60, "max_length_s": 60,
}  # fmt: skip
"""Most that a stranger's extractor may ask for: it makes tables of these sizes."""


def load_folder(folder: Path, ref: Ref, seed: int, provenance: Mapping[str, Any]) -> AudioBackbone:
    """The audio encoder in `folder`. Raises MissingWeights, Unsupported."""
    extractor = extractor_of(folder, ref)
    with seeded(seed):
        module, model_type, notes = _encoder(folder, ref)
    made = encoder_of(ref, module, extractor, ARCHITECTURES[model_type])
    return finish(made, {**provenance, **notes}, ("transformers", "scipy"))


def encoder_of(
    ref: Ref, module: Any, extractor: Any, architecture: AudioArchitecture
) -> AudioBackbone:
    """A backbone, not yet finished, of a module of transformers and its feature extractor. Raises
    Unsupported where `ref` asks for what the network cannot do."""
    config, family = module.config, architecture.family
    for name, value in STILL.items():
        if hasattr(config, name):
            setattr(config, name, value)
        if hasattr(module, name):  # Whisper's encoder has copied it
            setattr(module, name, value)
    for name, one in module.named_parameters():
        if name.endswith(HIDDEN_FRAMES):
            one.requires_grad_(False)  # nothing that is read here depends on it
    pool = str(ref.option("pool", family.pools[0]))
    if pool not in family.pools:
        raise Unsupported(f"{ref.short}: no pool = {pool!r}; known: {', '.join(family.pools)}")
    reader, spec = family.reader(extractor, config), spec_of(ref, extractor, config, family)
    settings = {
        "class": architecture.kind,
        "part": architecture.part,
        "fed": family.name,
        "pool": pool,
        "length": spec.length,
        "rate": spec.rate,
    }
    return AudioBackbone(
        module=module,
        input_spec=spec,
        pooling=pool,
        listen=partial(family.listen, extractor, config),
        forward=(
            partial(sound_frames.masked_mean, reader)
            if pool == "mean" and reader is not None
            else partial(sound_frames.pooled, pool)
        ),
        frames=reader,
        blueprint=Blueprint("transformers-audio", settings, partial(_write, extractor)),
    )


def _write(extractor: Any, folder: Path, module: Any) -> None:
    """What `load_folder` reads of a folder, but for the weights."""
    extractor.save_pretrained(folder)
    module.config.save_pretrained(folder)


def spec_of(ref: Ref, extractor: Any, config: Any, family: SoundFamily) -> InputSpec:
    """What is read of a clip, and how. Raises Unsupported for more seconds than a window has."""
    window, rate = family.window(extractor, config), int(extractor.sampling_rate)
    seconds = float(ref.option("seconds", 0) or window or SECONDS)
    if window and seconds > window:
        raise Unsupported(f"{ref.short}: seconds = {seconds:g} is above its window of {window:g}")
    told = {name: value for name, value in extractor.to_dict().items() if _plain(value)}
    extra = tuple(sorted((name, str(value)) for name, value in told.items()))
    return InputSpec("audio", length=max(1, round(seconds * rate)), rate=rate, extra=extra)


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))


def extractor_of(folder: Path, ref: Ref) -> Any:
    """The folder's feature extractor. Raises MissingWeights, and Unsupported where it asks for
    tables of no sense."""
    import transformers

    check_extractor(folder, ref)
    what = f"the feature extractor of {ref.short} in {folder}"
    with transformers_errors(what), quiet():
        found: Any = transformers.AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not hasattr(found, "sampling_rate"):
        raise Unsupported(f"{what} is a {type(found).__name__}, which is not for sound")
    return found


def check_extractor(folder: Path, ref: Ref) -> None:
    """Raises MissingWeights where there is none, and Unsupported as `extractor_of` does."""
    names = ("preprocessor_config.json", "processor_config.json")
    bodies = [body for name in names if (body := folders.read_json(folder / name)) is not None]
    if not bodies:
        raise MissingWeights(f"{folder} holds no feature extractor: {' or '.join(names)}")
    for body in bodies:
        inner = body.get("feature_extractor")
        refuse_large(ref, {**body, **(inner if isinstance(inner, Mapping) else {})})


def refuse_large(ref: Ref, settings: Mapping[str, Any]) -> None:
    """Raises Unsupported where a number of an extractor's settings is none that a table has."""
    from zoobench.audio import RATES

    least, most = RATES
    limits = {name: (1, limit) for name, limit in BOUNDS.items()} | {"sampling_rate": (least, most)}
    for name, (low, high) in limits.items():
        value = settings.get(name, low)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise Unsupported(
                f"{ref.short}: its extractor's {name} is not a number of {low} to {high}"
            )


def architecture_of(config: Any, ref: Ref) -> AudioArchitecture:
    """Raises Unsupported for a model type that is none of ARCHITECTURES."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise Unsupported(
            f"{ref.short}: a {config.model_type} is not read as an audio encoder; "
            f"known: {', '.join(ARCHITECTURES)}"
        )
    return found


def _encoder(folder: Path, ref: Ref) -> tuple[torch.nn.Module, str, dict[str, Any]]:
    """The bare module in float32, its model type, and notes for the provenance."""
    import transformers

    weights = str(ref.option("weights", "pretrained"))
    with transformers_errors(f"{ref.short} in {folder}"):
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        architecture = architecture_of(config, ref)
        model_type = config.model_type
        config = getattr(config, architecture.config) if architecture.config else config
        kind = getattr(transformers, architecture.kind)
        notes: dict[str, Any] = {}
        if weights == "pretrained":
            module, notes = pretrained(kind, config, folder, ref)
        else:
            module = kind(config).float()
            notes = {} if weights == "random" else load_file(module, Path(weights), ref)
    return getattr(module, architecture.part) if architecture.part else module, model_type, notes
