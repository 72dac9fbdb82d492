"""Explanations find evidence that was planted, and say so where they find nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from cells import cell, settings
from corner import C, Corner, Probe, picture, splits
from probes import split_of
from zoobench import methods
from zoobench.errors import Unsupported, UserError
from zoobench.interfaces import Splits
from zoobench.methods import explain
from zoobench.methods.audit import GRADIENTS
from zoobench.methods.example_parts import RUNS, PictureParts, TextParts
from zoobench.models import graphs
from zoobench.workers.runner import Bench

ASKED: tuple[dict[str, Any], ...] = ({}, {"explain": True}, {"explain": GRADIENTS})
WORDS = ("the", "of", "and", "to", "a", "in", "is", "it")
CUES = ("awful", "lovely")
HOW: tuple[bool | str, ...] = (True, GRADIENTS)


def sentence(i: int) -> str:
    """Twelve words that say nothing, and one anywhere that says the class."""
    rng = np.random.default_rng(i)
    words = [*rng.choice(WORDS, 12)]
    return " ".join([*words[: i % 12], CUES[i % C], *words[i % 12 :]])


@dataclass
class Cues:
    """Reads texts as counts of words, of which it knows CUES alone."""

    module: torch.nn.Linear = field(
        default_factory=lambda: torch.nn.Linear(len(WORDS) + C, C, bias=False)
    )
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.module.weight.zero_()
            self.module.weight[:, -C:] = 3.0 * torch.eye(C)

    def copy(self) -> Cues:
        return Cues()

    def prepare(self, raw: str) -> torch.Tensor:
        known = (*WORDS, *CUES)
        rows = torch.tensor([known.index(word) for word in raw.split()], dtype=torch.long)
        return torch.bincount(rows, minlength=len(known)).float()

    def collate(self, prepared: Any) -> torch.Tensor:
        return torch.stack(prepared)

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(batch)
        return found


def found(how: bool | str = True, blind: bool = False) -> dict[str, Any]:
    return {m.metric: m for m in explain.explained(Probe(), Corner(blind), splits(), how)}


@pytest.mark.parametrize("how", HOW)
def test_evidence_in_a_corner_is_found_there(how: bool | str) -> None:
    body, head = Corner(), Probe().head()
    scores = explain.scores_of(body, head)
    others = [explain.shuffled(body, s) for s in range(10)]
    first, elsewhere = 0, 0
    for i in range(10):
        own, said = PictureParts(picture(i)), i % C
        assert int(scores([own.picture])[0].argmax()) == said
        first += int(explain.attribution(own, how, body, head, said).argmax()) == 0
        for other in others:
            elsewhere += int(explain.attribution(own, how, other, head, said).argmax()) != 0
    assert first == 10
    assert elsewhere > 75, "of 100: shuffled weights do not point there"


@pytest.mark.parametrize("how", HOW)
def test_an_attribution_that_is_right_beats_every_control(how: bool | str) -> None:
    numbers = found(how)
    gain = numbers["explanation_gain"]
    assert numbers["insertion_auc"].value > numbers["deletion_auc"].value
    apart = numbers["insertion_auc"].value - numbers["deletion_auc"].value
    assert gain.value == pytest.approx(apart)
    assert gain.n == explain.EXPLAINED
    assert gain.low < gain.value < gain.high
    assert gain.detail["attribution"] == (
        "integrated gradients" if how == GRADIENTS else "occlusion"
    )
    assert list(gain.detail["over"]) == ["random map", "centre", "shuffled weights"]
    assert explain.NOT_BETTER not in gain.detail
    assert all(low > 0 for _, low, _ in gain.detail["over"].values())


@pytest.mark.parametrize("how", HOW)
def test_a_model_that_sees_nothing_is_said_to_explain_nothing(how: bool | str) -> None:
    gain = found(how, blind=True)["explanation_gain"]
    assert gain.value == 0
    assert gain.detail[explain.NOT_BETTER] == list(gain.detail["over"])


def test_the_word_that_decides_a_text_is_found() -> None:
    parts = [split_of(name, np.arange(20) % C) for name in ("train", "valid", "test")]
    texts = [replace(part, read=sentence) for part in parts]
    every = Splits(texts[0], texts[1], texts[2], CUES, "text")
    for i in range(10):
        own = TextParts(Cues(), sentence(i))
        importance = explain.attribution(own, True, Cues(), Probe().head(), i % C)
        assert own.runs[int(importance.argmax())] == CUES[i % C]
    for how in HOW:  # of texts words are removed, whatever is asked of pictures
        numbers = {m.metric: m for m in explain.explained(Probe(), Cues(), every, how)}
        gain = numbers["explanation_gain"]
        assert gain.detail["attribution"] == "removal of words"
        assert list(gain.detail["over"]) == ["random map", "position", "shuffled weights"]
        assert explain.NOT_BETTER not in gain.detail
    words = replace(every, test=replace(parts[2], read=lambda i: CUES[i % C]))
    assert explain.explained(Probe(), Cues(), words, True) == (), "one word has no parts"


def test_curves_of_a_text_by_hand() -> None:
    """Probabilities of the class as words come and go, the cue first of three."""
    parts, head = TextParts(Cues(), "the lovely is"), Probe().head()
    scores = explain.scores_of(Cues(), head)
    shown = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    assert [row.tolist() for row in parts.shown(shown)] == [
        Cues().prepare(text).tolist() for text in ("the is", "lovely", "")
    ]
    sure = 1 / (1 + np.exp(-3.0))
    assert scores(parts.shown(shown))[:, 1].tolist() == pytest.approx([0.5, sure, 0.5])
    importance = explain.attribution(parts, True, Cues(), head, 1)
    assert importance.tolist() == pytest.approx([0, sure - 0.5, 0], abs=1e-6)


def test_a_long_text_is_cut_into_runs_of_words() -> None:
    words = [f"w{i}" for i in range(3 * RUNS + 5)]
    parts = TextParts(None, " ".join(words))
    assert parts.count == RUNS
    assert " ".join(parts.runs).split() == words
    assert {len(run.split()) for run in parts.runs} == {3, 4}


def test_a_graph_has_no_gradients() -> None:
    body = Corner()
    body.module = graphs.module_of("onnx", b"none")  # type: ignore[assignment]
    with pytest.raises(Unsupported, match="explain = true"):
        explain.explained(Probe(), body, splits(), GRADIENTS)


def test_another_word_is_refused() -> None:
    with pytest.raises(UserError, match=r"linear-probe.explain: .*'integrated-gradients'"):
        methods.build("linear-probe", {"explain": "gradients"}, "s.toml: methods[0]")
    for params in ASKED[1:]:
        assert methods.params_of(methods.build("linear-probe", params))["explain"] in HOW


def test_a_cell_that_asks_is_explained_and_keeps_its_scores() -> None:
    bench = Bench(settings())
    plain, asked, sloped = (
        bench.run(cell(method="linear-probe", **options)).record for options in ASKED
    )
    assert asked.status == "ok", asked.error
    assert asked.value("accuracy") == plain.value("accuracy")
    assert asked.value("audit_seconds") is not None
    assert plain.value("audit_seconds") is None
    by_slopes = sloped.get("explanation_gain")
    assert by_slopes is not None
    assert by_slopes.detail["attribution"] == "integrated gradients"
    gain = asked.get("explanation_gain")
    assert gain is not None
    flagged = "explanation-no-better-than-control" in asked.flags
    assert flagged == (explain.NOT_BETTER in gain.detail)
    tuned: dict[str, Any] = {"steps": 2, "batch_size": 8, "rates": [1e-3], "explain": True}
    record = bench.run(cell(method="fine-tune", **tuned)).record
    assert record.status == "ok", record.error
    assert record.get("insertion_auc") is not None
    phrases = "synthetic/phrases@1?test=20&train=40"
    told = bench.run(cell("synthetic/bag@1", phrases, "linear-probe", explain=True)).record
    assert told.status == "ok", told.error
    said = told.get("explanation_gain")
    assert said is not None
    assert said.detail["attribution"] == "removal of words"
