"""results/maps, which docs/models.md tells of, is what the sweep would write today."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zoobench import models
from zoobench.errors import Unsupported
from zoobench.models.dense import dense

RESULTS = Path(__file__).parents[2] / "results" / "maps"
QUICK = {
    "timm": ("cait_xxs24_224", "levit_128s"),
    "torchvision": ("squeezenet1_1", "shufflenet_v2_x0_5"),
}


def rows(source: str) -> dict[str, dict[str, str]]:
    with (RESULTS / f"{source}.csv").open(encoding="utf-8", newline="") as file:
        return {row["architecture"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("source", "least"), [("timm", 60), ("torchvision", 15)])
def test_every_architecture_works_or_says_why_not(source: str, least: int) -> None:
    table = rows(source)
    assert len(table) >= least
    assert len({row["kind"] for row in table.values()}) == len(table)
    for row in table.values():
        for column in ("at own size", "at 256 x 320"):
            assert row[column] == "works" or row[column].startswith("unsupported: ")
            assert len(row[column]) > len("unsupported: ") or row[column] == "works"
        assert row["at own size"] == "works"
    # With random weights a change may spread over the whole of a deep layer.
    told = [row["corner"] == "right" for row in table.values()]
    assert sum(told) >= 0.9 * len(told)


@pytest.mark.parametrize(("source", "name"), [(s, n) for s in QUICK for n in QUICK[s]])
def test_a_row_is_what_is_seen_today(
    source: str, name: str, index_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOBENCH_CACHE", str(index_folder))
    row = rows(source)[name]
    backbone = models.load(models.resolve(f"{source}/{name}?weights=random"))
    assert backbone.input_spec.size is not None
    height, width = backbone.input_spec.size[1:]
    for column, size in (("at own size", (height, width)), ("at 256 x 320", (256, 320))):
        if row[column] == "works":
            view = dense(backbone, size)
            assert [spec.tap for spec in view.specs][-1] == row["last layer"]
            assert " ".join(str(spec.channels) for spec in view.specs) == row["channels"]
        else:
            with pytest.raises(Unsupported) as caught:
                dense(backbone, size)
            assert row[column] == f"unsupported: {str(caught.value).splitlines()[0]}"[:213]
