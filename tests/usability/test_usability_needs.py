"""Needs: only a yes keeps one, and an unknown is said as unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import zoobench as zb
from fakes import make_run
from hostile import Said as Ended
from plantedmodels import Planted
from variant_runs import KINDS, NET, variant_run
from zoobench.errors import UnknownName, UserError
from zoobench.ranking.recommend import PERMISSIVE, license_fits
from zoobench.schema import Ref
from zoobench.store import Run
from zoobench.usability import Said
from zoobench.usability.answers import FILE, UsabilityAnswer, encode
from zoobench.usability.needs import by_cards, left_out, parse, unasked, unmet

SOUND, STATE, ORDER = (f"planted/{name}@1" for name in ("sound", "state", "order"))


def told(model: str, probe: str, said: Said, why: str = "") -> UsabilityAnswer:
    return UsabilityAnswer(model, probe, said, None, why)


KEPT = (
    told(SOUND, "exports-onnx", "yes"),
    told(STATE, "exports-onnx", "no", "RuntimeError: no such layer"),
    told(ORDER, "exports-onnx", "unknown", "needs onnx"),
    told(STATE, "stateless", "no"),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three models, the best of which is said not to be exported."""
    truth = {STATE: 0.9, SOUND: 0.7, ORDER: 0.8}
    made = make_run(tmp_path / "run", list(truth), ["packaged/digits@1"], truth)
    (made.path / FILE).write_bytes(b"".join(map(encode, KEPT)))
    return made


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        (("exports-onnx",), {
            STATE: "exports-onnx is no: RuntimeError: no such layer",
            ORDER: "exports-onnx is unknown: needs onnx",
        }),
        (("exports-onnx", "stateless"), {
            SOUND: "stateless is unknown: not asked (zoobench check RUN --only stateless)",
            STATE: "exports-onnx is no: RuntimeError: no such layer; stateless is no",
            ORDER: "exports-onnx is unknown: needs onnx; stateless is unknown: not asked "
                   "(zoobench check RUN --only stateless)",
        }),
        (("permissive", "license-known"), {}),
        ((), {}),
    ],
)  # fmt: skip
def test_who_is_left_out_and_why(run: Run, needs: tuple[str, ...], why: dict[str, str]) -> None:
    assert left_out(run, needs) == why


def test_what_a_card_tells_needs_no_asking(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planted, "license", "CC-BY-NC-4.0")
    assert left_out(run, ("permissive",)) == dict.fromkeys(
        (STATE, SOUND, ORDER), "permissive is no: CC-BY-NC-4.0"
    )
    gone = Ref.parse("nowhere/model")
    assert by_cards({}, [gone], ("permissive",))[gone.text, "permissive"].answer == "unknown"
    assert by_cards({}, [gone], ("stateless",)) == {}
    held = {(SOUND, "permissive"): told(SOUND, "permissive", "yes")}
    assert by_cards(held, [Ref.parse(SOUND)], ("permissive",)) == {}


def test_what_nobody_asked_may_be_passed_over() -> None:
    ref = Ref.parse(SOUND)
    assert unmet({}, [ref], ["stateless"], only_asked=True) == {}
    assert list(unmet({}, [ref], ["stateless"])) == [ref]
    assert unasked({}, ref, ["stateless", "permissive"]) == ["stateless"]
    assert unasked({(SOUND, "stateless"): KEPT[0]}, ref, ["stateless"]) == []


def test_names_are_helped() -> None:
    assert parse("stateless, permissive,stateless", "--needs") == ("stateless", "permissive")
    with pytest.raises(UnknownName, match="--needs: unknown probe 'onnx'"):
        parse("onnx", "--needs")


def test_permissive_means_one_thing() -> None:
    """As a licence limit and as a probe."""
    for name in PERMISSIVE:
        assert license_fits(name.upper(), "permissive")
    assert {"mit-0", "bsd-3-clause-clear"} <= PERMISSIVE


def test_the_command_names_the_needs_and_who_lacks_them(
    run: Run, zoobench: Callable[..., Ended]
) -> None:
    needs = ("--needs", "exports-onnx,permissive")
    said = zoobench("recommend", run.path, *needs)
    assert said.code == 0
    assert said.out.startswith("Most accurate: sound")
    assert "Needed: exports-onnx, permissive. Only a yes keeps a need." in said.out
    assert "Not state: exports-onnx is no: RuntimeError: no such layer." in said.out
    assert "Not order: exports-onnx is unknown: needs onnx." in said.out
    (body,) = json.loads(zoobench("recommend", run.path, *needs, "--json").out)
    assert body["needs"] == ["exports-onnx", "permissive"]
    assert body["most_accurate"]["model"] == SOUND
    assert body["ruled_out"][ORDER] == "exports-onnx is unknown: needs onnx"
    wrong = zoobench("recommend", run.path, "--needs", "exports-onx")
    assert (wrong.code, "Did you mean 'exports-onnx'" in wrong.error) == (2, True)
    plain = zoobench("recommend", run.path).out
    assert plain.startswith("Most accurate: state")
    assert "Needed" not in plain
    (run.path / FILE).write_text("nonsense\n")
    assert zoobench("recommend", run.path).code == 0, "what is not needed is not read"
    assert f"{FILE}:1: not an answer" in zoobench("recommend", run.path, *needs).error


def test_a_variant_is_left_out_with_either_head(tmp_path: Path) -> None:
    """The ranking tells its heads apart, which the answers of a model do not."""
    made = variant_run(tmp_path / "run", KINDS[:2])
    kept = (told(NET, "exports-onnx", "yes"), told(KINDS[0].record, "exports-onnx", "no"))
    (made.path / FILE).write_bytes(b"".join(map(encode, kept)))
    (found,) = zb.recommend(made, needs=["exports-onnx"])
    assert found.accurate is not None
    assert found.accurate.model.text == NET
    said = {model.option("head"): why for model, why in found.ruled_out.items()}
    assert said == dict.fromkeys(("carried", "anew"), "exports-onnx is no")


def test_python_takes_needs_and_limits_too(run: Run) -> None:
    (found,) = zb.recommend(run, needs=["exports-onnx"])
    assert found.accurate is not None
    assert found.accurate.model.text == SOUND
    assert found.needs == ("exports-onnx",)
    (same,) = zb.recommend(run.path, needs="exports-onnx")
    assert same == found
    with pytest.raises(UserError, match="needs: unknown probe"):
        zb.recommend(run, needs=["onnx"])
    with pytest.raises(UnknownName, match="Did you mean 'max_params'"):
        zb.recommend(run, max_param=3)  # type: ignore[call-arg]
