"""Which models are tried: the pools, the limits, and what may be downloaded."""

from __future__ import annotations

from typing import Any

import pytest

from zoobench import models
from zoobench.advise import candidates
from zoobench.advise.candidates import POOLS, Pool, broken, gather, worth_fetching
from zoobench.advise.nouns import Candidate
from zoobench.errors import UserError
from zoobench.models.priors import published
from zoobench.models.shortlist import IMAGE, SHORTLIST, TEXT
from zoobench.ranking.recommend import Limits

FIVE_GB = 5e9


@pytest.fixture(scope="module")
def here() -> dict[str, list[Candidate]]:
    return {name: list(candidates._offline(name)) for name in ("image", "text")}


@pytest.fixture(autouse=True)
def quick(here: dict[str, list[Candidate]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for the files of 1,600 models takes a second: once is enough."""
    monkeypatch.setattr(candidates, "_offline", here.__getitem__)


def fetched(found: tuple[Candidate, ...]) -> list[str]:
    return [one.model.partition("?")[0] for one in found if one.bytes is not None]


def names(rows: Any) -> list[str]:
    return [row.name.partition("?")[0] for row in rows]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_pool_is_what_is_here_and_what_it_adds(modality: Any) -> None:
    rows = SHORTLIST[modality]
    offline = gather(modality, (), "offline", Limits(), FIVE_GB)
    assert fetched(offline) == []
    assert {one.model.partition("/")[0] for one in offline} == {"packaged"}
    for pool, added in (("quick", [row for row in rows if row.quick]), ("wide", rows)):
        found = gather(modality, (), pool, Limits(), FIVE_GB)  # type: ignore[arg-type]
        assert found[: len(offline)] == offline, "what is here comes first"
        assert fetched(found) == names(added), "in the order of the list"
        assert [one.bytes for one in found if one.bytes] == [row.bytes for row in added]
        for most in (None, 0.0):
            assert gather(modality, (), pool, Limits(), most) == offline  # type: ignore[arg-type]


def test_all_goes_on_with_the_best_published_until_the_bytes_end() -> None:
    found = fetched(gather("image", (), "all", Limits(), 2e10))
    assert found[: len(IMAGE)] == names(IMAGE)
    more = [name.removeprefix("timm/") for name in found[len(IMAGE) :]]
    scores = [published()[name].score for name in more]
    assert scores
    assert scores == sorted(scores, reverse=True)
    assert len(set(found)) == len(found)
    texts = fetched(gather("text", (), "all", Limits(), 2e10))
    assert texts[: len(TEXT)] == names(TEXT)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("most", [0.0, 1e6, 5e7, 1e9])
def test_no_pool_is_larger_than_allowed(pool: Pool, most: float) -> None:
    sizes = [one.bytes or 0 for one in gather("image", (), pool, Limits(), most)]
    assert sum(sizes) <= most
    if pool == "wide" and most == 5e7:  # what does not fit is passed over, a smaller one is not
        assert len([size for size in sizes if size]) == 2


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (Limits(max_params=6e6), lambda row: row.params <= 6e6),
        (Limits(license="MIT"), lambda row: row.license == "MIT"),
        (Limits(license="permissive"), lambda row: row.license != "dinov3-license"),
        (Limits(max_params=0.0), lambda row: False),
    ],
)
def test_what_is_known_to_break_a_limit_is_not_fetched(limits: Limits, fits: Any) -> None:
    found = fetched(gather("image", (), "wide", limits, FIVE_GB))
    assert found == names(row for row in IMAGE if fits(row))


def test_a_head_that_is_taken_off_does_not_count() -> None:
    """Swin-T has 28 million parameters, and a classifier of 21,841 classes has another 16."""
    found = fetched(gather("image", (), "wide", Limits(max_params=3e7), FIVE_GB))
    assert "timm/swin_tiny_patch4_window7_224.ms_in22k" in found
    known = gather("image", (), "wide", Limits(max_macs=1e9), FIVE_GB)
    assert all(one.macs is None or one.macs <= 1e9 for one in known if one.bytes)


def test_a_named_model_is_fetched_where_that_is_possible() -> None:
    asked = ("timm/resnet50", "packaged/efficientnet-lite0", "timm/resnet50.a1_in1k", "timm/u/m")
    first, here, own = gather("image", asked, "quick", Limits(), FIVE_GB)
    assert first.model.startswith("timm/resnet50.a1_in1k")
    assert first.bytes == pytest.approx(4 * 25.6e6, rel=0.01)
    assert here.bytes is None
    assert own.bytes == 0, "nobody knows the size of a stranger's"
    (listed,) = gather("image", (IMAGE[0].name,), "quick", Limits(), FIVE_GB)
    assert listed.bytes == IMAGE[0].bytes


@pytest.mark.parametrize(
    ("name", "most", "says"),
    [
        ("timm/resnet50", None, "resnet50.a1_in1k is not available offline: on the hub"),
        ("timm/u/m?weights=random&input_size=9000", FIVE_GB, "input_size"),
        ("hf/google-bert/bert-base-uncased", FIVE_GB, "reads text, the data is image"),
        ("timm/resnet5O", FIVE_GB, "Did you mean"),
        ("classifier/packaged/efficientnet-lite0", None, "is a complete model"),
    ],
)
def test_a_named_model_that_cannot_be_had_is_said(name: str, most: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        gather("image", (name,), "quick", Limits(), most)


def test_what_is_worth_fetching_is_of_the_list_and_may_be_better() -> None:
    here = gather("image", (), "offline", Limits(), None)
    shown, many = worth_fetching(here, "image", Limits())
    best = max(one.prior or 0.0 for one in here)
    better = [row.name for row in IMAGE if _promising(row.name, best)]
    assert [one.model for one in shown] == better[: len(shown)]
    assert many == len(better) > len(shown)
    assert len(better) < len(IMAGE), "MobileNetV4's small one is published to be worse"
    strong = Candidate("timm/x", "MIT", "f", prior=0.99)
    assert all(one.prior is None for one in worth_fetching([strong], "image", Limits())[0])
    tried = gather("image", (), "wide", Limits(), FIVE_GB)
    assert worth_fetching(tried, "image", Limits()) == ((), 0)
    assert worth_fetching((), "text", Limits(license="MIT"))[1] == len(
        [row for row in TEXT if row.license == "MIT"]
    )


def _promising(name: str, best: float) -> bool:
    prior = published().get(models.resolve(name).name)
    return prior is None or prior.score > best


def test_a_named_model_that_breaks_a_limit_is_not_fetched_for_that() -> None:
    asked = ("timm/vit_base_patch16_224.mae", "packaged/efficientnet-lite0", "timm/u/m")
    found = gather("image", asked, "quick", Limits(), FIVE_GB)
    for limits in (Limits(max_params=1e6), Limits(license="permissive")):
        out = broken(found, (), limits)
        assert "timm/vit_base_patch16_224.mae" in out
        here = next(name for name in (one.model for one in found) if name.startswith("packaged"))
        assert here not in out, "of what is here the numbers are measured"
    assert "params" in broken(found, (), Limits(max_params=1e6))["timm/vit_base_patch16_224.mae"]
