"""Complete recognisers: what they say against loops of our own, what is pinned, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinyrecognisers import LETTERS, tiny_ctc, tiny_moonshine, tiny_whisper
from zoobench import models
from zoobench.audio import Clip
from zoobench.costs.counted import static_costs
from zoobench.errors import MissingWeights, Unsupported, UserError
from zoobench.models import speech
from zoobench.models.speech import Recogniser

KINDS: dict[str, Callable[[Path], Path]] = {
    "ctc": tiny_ctc, "whisper": tiny_whisper, "moonshine": tiny_moonshine,
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("recognisers")
    return {kind: make(root / kind) for kind, make in KINDS.items()}


def loaded(folder: Path, options: str = "") -> Recogniser:
    found: Any = models.load(models.resolve(f"recogniser/mine?weights={folder}{options}"))
    assert isinstance(found, Recogniser)
    return found


def noise(seconds: float, rate: int = 16_000) -> Clip:
    drawn = np.random.default_rng(0).normal(0, 0.1, int(seconds * rate))
    return Clip(drawn.astype(np.float32), rate)


def said(model: Recogniser, clip: Clip) -> str:
    with torch.inference_mode():
        return model.answer(clip)


def test_a_ctc_network_spells_its_likeliest_path(folders: dict[str, Path]) -> None:
    model, clip = loaded(folders["ctc"]), noise(1.0)
    sound = (clip.samples - clip.samples.mean()) / np.sqrt(clip.samples.var() + 1e-7)
    with torch.inference_mode():
        path = model.module(torch.from_numpy(sound)[None]).logits[0].argmax(dim=1).tolist()
    letters = [LETTERS[one] for one, _ in groupby(path) if one != 0]
    spelt = "".join(letter for letter in letters if not letter.startswith("<"))
    assert len(set(spelt)) > 4
    assert said(model, clip) == spelt.replace("|", " ").strip()


@pytest.mark.parametrize("kind", ["whisper", "moonshine"])
def test_an_encoder_decoder_says_the_likeliest_token_after_another(
    folders: dict[str, Path], kind: str
) -> None:
    model, clip = loaded(folders[kind]), noise(0.5)
    with torch.no_grad():  # larger weights say more than one token
        for weight in model.module.parameters():
            weight.mul_(6 if weight.ndim > 1 else 1)
    batch = model.collate([model.prepare(clip)])
    module: Any = model.module
    rules = module.generation_config
    ids = [rules.decoder_start_token_id]
    if kind == "whisper":
        ids += [rules.lang_to_id["<|en|>"], rules.task_to_id["transcribe"]]
        ids += [rules.no_timestamps_token_id]
    begun = len(ids)
    while len(ids) < begun + 40:
        with torch.inference_mode():
            inputs = {module.main_input_name: batch["values"]}
            said_yet = torch.tensor([ids])
            scores = module(**inputs, decoder_input_ids=said_yet).logits[0, -1].clone()
            never = rules.begin_suppress_tokens if len(ids) == begun else []
            scores[[*(rules.suppress_tokens or []), *(never or [])]] = -torch.inf
        ids.append(int(scores.argmax()))
        if ids[-1] == rules.eos_token_id:
            break
    tokenizer = folders_tokenizer(folders[kind])
    assert len(set(ids[begun:])) > 1
    assert said(model, clip) == tokenizer.decode(ids, skip_special_tokens=True).strip()


def folders_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@every_kind
def test_an_answer_depends_on_its_recording_alone_whatever_its_rate_and_length(
    folders: dict[str, Path], kind: str
) -> None:
    model = loaded(folders[kind])
    assert said(model, noise(1.0)) == said(model, noise(1.0))
    for clip in (noise(1 / 16_000), noise(0.3, 44_100), Clip(np.zeros(9_000, np.float32), 8_000)):
        assert isinstance(said(model, clip), str)
    one, two = (model.prepare(noise(s)) for s in (0.4, 1.1))
    with torch.inference_mode():
        alone, both = (model.embed(model.collate(some)) for some in ([one], [one, two]))
    torch.testing.assert_close(alone[0], both[0], rtol=1e-4, atol=1e-5)
    assert alone.shape == (1, model.feature_dim)


def test_costs_of_one_that_goes_on_are_a_lower_bound(folders: dict[str, Path]) -> None:
    for kind, folder in folders.items():
        [macs] = [one for one in static_costs(loaded(folder)) if one.metric == "macs"]
        assert macs.detail["lower_bound"] == (kind != "ctc")
        assert macs.detail.get("depends_on_data", False) == (kind != "ctc")


def test_how_a_folder_wants_to_be_run_changes_nothing(tmp_path: Path) -> None:
    plain = loaded(tiny_whisper(tmp_path / "plain"))
    asked = loaded(
        tiny_whisper(
            tmp_path / "asked", do_sample=True, num_beams=4, repetition_penalty=9.0,
            temperature=3.0, no_repeat_ngram_size=1, return_timestamps=True,
            condition_on_prev_tokens=True, max_length=7,
        )
    )  # fmt: skip
    assert said(asked, noise(0.5)) == said(plain, noise(0.5)) != ""
    kept: Any = plain.module.generation_config
    assert (kept.do_sample, kept.num_beams, kept.return_timestamps) == (False, 1, False)


def test_an_answer_is_bounded_by_the_seconds(tmp_path: Path) -> None:
    model = loaded(tiny_moonshine(tmp_path / "m"))
    few = [len(said(model, noise(seconds))) for seconds in (0.2, 1.0)]
    # It never ends by itself; each token is a sign, and so is the one that answers begin with.
    assert few == [1 + 32 + 4, 1 + 32 + 16]


def test_a_language_is_said_and_stands_in_the_name(folders: dict[str, Path]) -> None:
    english = models.resolve(f"recogniser/mine?weights={folders['whisper']}&language=en")
    assert english.option("language") is None
    french = loaded(folders["whisper"], "&language=fr")
    assert dict(french.input_spec.extra)["language"] == "fr"
    assert french.input_spec.digest != loaded(folders["whisper"]).input_spec.digest
    with pytest.raises(Unsupported, match=r"unknown language 'de'.*Known: en, fr"):
        loaded(folders["whisper"], "&language=de")
    with pytest.raises(Unsupported, match="not told a language"):
        loaded(folders["ctc"], "&language=fr")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recogniser/nothing", "unknown model"),
        ("recogniser/whisper-tiny-en@9", "unknown revision"),
        ("recogniser/whisper-tiny-en?language=fr", "unknown option 'language'"),
        ("recogniser/a/b?seconds=3", "unknown option 'seconds'"),
        ("recogniser/a/b?language=3", "language is a code"),
        ("recogniser/a/b?weights=nowhere", "no file or folder"),
    ],
)
def test_mistakes_of_a_name_are_said_before_anything_is_loaded(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.resolve(name, "here")


def broken(folder: Path, **told: Any) -> Path:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **told}))
    return folder


@pytest.mark.parametrize(
    "told",
    [
        {"suppress_tokens": [10**9]},
        {"decoder_start_token_id": "x"},
        {"lang_to_id": {"<|en|>": -1}},
        {"begin_suppress_tokens": [[1]]},
    ],
)
def test_tokens_that_a_model_has_not_are_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=f"{next(iter(told))}: .* is none of its 307 tokens"):
        loaded(broken(tiny_whisper(tmp_path / "w"), **told))


def test_a_folder_that_lacks_a_part_is_refused_by_name(tmp_path: Path) -> None:
    tokenless = tiny_ctc(tmp_path / "a")
    for name in ("vocab.json", "tokenizer_config.json"):
        (tokenless / name).unlink(missing_ok=True)
    with pytest.raises(MissingWeights, match="tokenizer"):
        loaded(tokenless)
    deaf = tiny_ctc(tmp_path / "b")
    (deaf / "preprocessor_config.json").unlink(missing_ok=True)
    (deaf / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(MissingWeights, match="feature extractor"):
        loaded(deaf)
    damaged = tiny_whisper(tmp_path / "c")
    (damaged / "generation_config.json").write_text("{")
    with pytest.raises(MissingWeights, match=r"generation_config\.json cannot be read"):
        loaded(damaged)


def test_an_encoder_without_a_head_is_no_recogniser(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_ctc(tmp_path / "a")
    state = load_file(folder / "model.safetensors")
    kept = {name: one for name, one in state.items() if not name.startswith("lm_head")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match="lm_head"):
        loaded(folder)


def test_files_of_a_repository_need_tokens_and_an_extractor() -> None:
    names = ["config.json", "preprocessor_config.json", "model.safetensors", "vocab.json"]
    whole = [*names, "tokenizer_config.json", "generation_config.json", "README.md"]
    assert speech.choose(whole)[-1] == "model.safetensors"
    assert "generation_config.json" in speech.choose(whole)
    assert "README.md" not in speech.choose(whole)
    assert speech.choose(["config.json", "preprocessor_config.json", "model.safetensors"]) == []
    assert speech.choose([name for name in whole if "preprocessor" not in name]) == []
