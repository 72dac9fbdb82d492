"""`recommend --data --needs`: the picks alone are asked what takes loading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zoobench.advise import needs as module
from zoobench.advise.candidates import broken
from zoobench.advise.needs import known, settle
from zoobench.advise.nouns import Advice, Candidate, Rung, Standing
from zoobench.ranking.recommend import Limits
from zoobench.report.advice import advice_json, advice_text
from zoobench.schema import Ref
from zoobench.usability import PROBES
from zoobench.usability.answers import FILE, UsabilityAnswer, encode

NAMES = ("timm/best@1", "timm/second@1", "timm/third@1")
EXPORTS = {"timm/best@1": "no", "timm/second@1": "unknown", "timm/third@1": "yes"}


def standing(name: str) -> Standing:
    return Standing(
        Candidate(name, "MIT", ""), "probe", 100, 0.9, 0.8, 0.95, 1.0, True, "", {"params": 1e6}
    )  # fmt: skip


def advice(limits: Limits) -> Advice:
    """The first of NAMES that is not left out."""
    left = [standing(name) for name in NAMES if name not in limits.unmet]
    return Advice(
        "data", left[0] if left else None, left[-1] if left else None, "params", 0.01, "knn",
        tuple(left), {one.candidate.model: 0.0 for one in left}, 1.0, dict(limits.unmet), (), 0,
        60.0, 1.0, {}, "all of the data was used", (), Rung(1, 1, 1, True), needs=limits.needs,
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    noted: list[str] = []

    def ask(folder: Path, refs: Sequence[Ref], names: Sequence[str]) -> Iterator[Any]:
        for ref in refs:
            for name in names:
                noted.append(f"{ref.name} {name}")
                one = UsabilityAnswer(ref.text, name, EXPORTS[ref.text], None, "so")  # type: ignore[arg-type]
                with (folder / FILE).open("ab") as file:
                    file.write(encode(one))
                yield ref, one, True

    monkeypatch.setattr(module, "ask", ask)
    return noted


def test_the_picks_are_asked_until_they_keep_the_needs(tmp_path: Path, asked: list[str]) -> None:
    limits = Limits(needs=("exports-onnx",))
    said: list[str] = []
    found = settle(advice(limits), limits, tmp_path, advice, said.append)
    assert asked == ["best exports-onnx", "third exports-onnx", "second exports-onnx"]
    assert found.pick is not None
    assert found.pick.candidate.model == "timm/third@1"
    assert found.ruled_out == {
        "timm/best@1": "exports-onnx is no: so", "timm/second@1": "exports-onnx is unknown: so",
    }  # fmt: skip
    assert said[0] == "Asking timm/best: exports-onnx (beside the budget)"
    assert said[1] == "  exports-onnx: no, so"
    text = advice_text(found)
    assert "Needed: exports-onnx. Only a yes keeps a need." in text
    assert "Not best: exports-onnx is no: so." in text
    assert advice_json(found)["needs"] == ["exports-onnx"]
    settle(advice(limits), known(limits, [], tmp_path), tmp_path, advice, said.append)
    assert len(asked) == 3, "what is answered is not asked again"


def test_nobody_is_left_where_nobody_keeps_them(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPORTS, "timm/third@1", "no")
    limits = Limits(needs=("exports-onnx",))
    found = settle(advice(limits), limits, tmp_path, advice, lambda line: None)
    assert found.pick is None
    assert len(found.ruled_out) == 3
    assert "No advice for data" in advice_text(found)[0]


def test_without_needs_nobody_is_asked(tmp_path: Path, asked: list[str]) -> None:
    found = advice(Limits())
    assert settle(found, Limits(), tmp_path, advice, pytest.fail) is found
    assert known(Limits(), [Candidate(NAMES[0], "MIT", "")], tmp_path) == Limits()


def test_cards_and_kept_answers_leave_candidates_out_at_once(tmp_path: Path) -> None:
    assert not PROBES["permissive"].loads
    models = ("synthetic/gabor@1", "hf/user/net@1?modality=text")
    kept = UsabilityAnswer(models[0], "stateless", "no", None, "0.5 apart")
    (tmp_path / FILE).write_bytes(encode(kept))
    candidates = [Candidate(name, "", "") for name in models]
    limits = known(Limits(needs=("license-known", "stateless")), candidates, tmp_path)
    assert limits.unmet[models[0]].endswith("stateless is no: 0.5 apart")
    assert limits.unmet[models[1]] == "license-known is no: its card names none"
    assert broken(candidates, (), limits) == limits.unmet
