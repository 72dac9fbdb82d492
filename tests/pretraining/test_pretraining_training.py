"""Pretraining is killed and goes on to the same bits; `test` stays sealed; cards say what is."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forked import start
from zoobench import datasets
from zoobench.errors import MissingWeights, NotFinite
from zoobench.features.source import Features, View
from zoobench.interfaces import Split, Splits, TestSetRead
from zoobench.models import pretrained_here_, small
from zoobench.models.weights import state_digest
from zoobench.pretraining import PretrainingRecipe
from zoobench.pretraining.training import Pretrained, PretrainingRun

STRIPES = "synthetic/stripes?train=48&test=24&valid=24"


class Stopped(Exception):
    """Training was interrupted, as a kill would."""


def splits() -> Splits:
    return datasets.load(datasets.resolve(STRIPES))


def pretraining_run(state: Path, objective: str = "masked", **more: Any) -> PretrainingRun:
    recipe = PretrainingRecipe(objective, "small-conv", 12, 8, more.pop("rates", (1e-3, 3e-3)))
    backbone = small.backbone("small-conv", more.get("seed", 0), {})
    source = Features(backbone, View("x", "cpu", "fp32"), None)
    seed = more.pop("seed", 0)
    return PretrainingRun(
        recipe, source, splits().sealed(), seed, state, more.get("progress"), keep_every=5
    )


def state_of(made: Pretrained) -> str:
    return state_digest(made.learner.encoder.module)


@pytest.mark.parametrize("objective", ["masked", "vae", "contrastive", "supervised"])
def test_what_was_interrupted_goes_on_to_the_same_bits(tmp_path: Path, objective: str) -> None:
    """Once within the first rate, once within the second."""
    whole = pretraining_run(tmp_path / "whole", objective).run()

    def stop_at(steps: int) -> Any:
        seen = iter(range(1, 10**6))

        def progress(stage: str, done: int, total: int) -> None:
            if next(seen) == steps:
                raise Stopped

        return progress

    state = tmp_path / "state"
    for steps in (
        8,
        11,
    ):  # of the first rate 5 are kept; then 7 of it are left, and 4 of the second
        with pytest.raises(Stopped):
            pretraining_run(state, objective, progress=stop_at(steps)).run()
        assert state.exists()
    asked = []
    progress = lambda stage, done, total: asked.append((stage, done))  # noqa: E731
    again = pretraining_run(state, objective, progress=progress).run()
    assert len(asked) < 24, "it began anew"
    assert state_of(again) == state_of(whole)
    assert again.curve == whole.curve
    for name, tensor in whole.heads.state_dict().items():
        assert torch.equal(tensor, again.heads.state_dict()[name])


def test_joules_of_an_interrupted_training_add_up_and_are_absent_where_a_part_has_none(
    tmp_path: Path,
) -> None:
    """The meter goes on by 1 J a look, and by 1,000 between two parts, which are not counted."""

    def part(state: Path, begins: int, stop: int = 0, metered: bool = True) -> float | None:
        looks, steps = iter(range(begins, 10**6)), iter(range(1, 10**6))

        def progress(stage: str, done: int, total: int) -> None:
            if next(steps) == stop:
                raise Stopped

        run = pretraining_run(state, rates=(1e-3,), progress=progress)
        run.meter = (lambda: float(next(looks))) if metered else None
        return run.run().joules

    whole = part(tmp_path / "whole", 0)
    assert whole == 12 + 2 + 1  # after each step, at both states of 5 and 10, at the end
    state = tmp_path / "state"
    with pytest.raises(Stopped):
        part(state, 1000, stop=7)
    assert part(state, 2000) == whole
    for first, second in ((True, False), (False, True)):
        mixed = tmp_path / f"mixed {first}"
        with pytest.raises(Stopped):
            part(mixed, 0, stop=7, metered=first)
        assert part(mixed, 0, metered=second) is None


def test_energy_is_a_number_of_what_was_alone_on_a_meter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pretraining_cells import pretrain_cell
    from zoobench.pretraining import cell as cells

    def energy(seed: int, alone: bool) -> list[Any]:
        cell = dataclasses.replace(pretrain_cell("supervised"), seed=seed)
        _, numbers = cells.pretrained(cell, splits(), "cpu", alone=alone)
        return [one for one in numbers if one.metric == "pretraining_joules"]

    looks = iter(range(10**6))
    meter = (lambda: float(next(looks))), "a meter"
    monkeypatch.setattr(cells, "energy_meter", lambda device: meter)
    assert energy(0, alone=False) == []
    (one,) = energy(1, alone=True)
    assert one.value > 16
    assert (one.unit, one.detail["source"]) == ("J", "a meter")
    assert energy(1, alone=False) == [one], "of the training that was found"
    monkeypatch.setattr(cells, "energy_meter", lambda device: None)
    assert energy(2, alone=True) == []


def test_a_damaged_state_or_one_of_other_data_begins_anew(tmp_path: Path) -> None:
    whole = pretraining_run(tmp_path / "whole").run()
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 what is this")
    assert state_of(pretraining_run(tmp_path / "damaged").run()) == state_of(whole)
    other = tmp_path / "other"
    torch.save({"number": 1, "step": 0, "best": None, "train": "another"}, other)
    assert state_of(pretraining_run(other).run()) == state_of(whole)


def test_the_seed_draws_weights_batches_and_masks(tmp_path: Path) -> None:
    one, two = (state_of(pretraining_run(tmp_path / f"{s}", seed=s).run()) for s in (0, 1))
    assert one != two


def test_torchs_generator_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pretraining_run(tmp_path / "state").run()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_is_the_first_of_the_best_by_knn_on_valid(tmp_path: Path) -> None:
    rates = (1e-4, 1e-3, 1e-2)
    alone = [
        pretraining_run(tmp_path / f"{rate}", "supervised", rates=(rate,)).run() for rate in rates
    ]
    best = max(alone, key=lambda one: one.accuracy)
    together = pretraining_run(tmp_path / "all", "supervised", rates=rates).run()
    assert (together.rate, together.curve) == (best.rate, best.curve)
    assert state_of(together) == state_of(best)


def test_random_weights_are_those_that_every_objective_begins_with(tmp_path: Path) -> None:
    made = pretraining_run(tmp_path / "state", "random", seed=3).run()
    assert state_of(made) == state_digest(small.backbone("small-conv", 3, {}).module)
    assert [steps for steps, _ in made.curve] == [0]


def test_a_loss_that_is_no_number_leaves_its_rate_out_and_all_of_them_fail(tmp_path: Path) -> None:
    kept = pretraining_run(tmp_path / "some", rates=(1e-3, 1e30)).run()
    assert kept.rate == 1e-3
    with pytest.raises(NotFinite, match="every rate"):
        pretraining_run(tmp_path / "none", rates=(1e30,)).run()


def test_macs_of_two_views_are_twice_those_of_one(tmp_path: Path) -> None:
    """Of the encoder; a projection of 128 to 64 is next to nothing beside it."""
    one = pretraining_run(tmp_path / "one", "supervised", rates=(1e-3,)).run()
    two = pretraining_run(tmp_path / "two", "contrastive", rates=(1e-3,)).run()
    assert two.macs / one.macs == pytest.approx(2.0, rel=0.05)
    # Forward and backward of 8 pictures; the first layer has no gradient of its input.
    assert one.macs / 8 == pytest.approx(3 * 2.51e6, rel=0.1)


def test_sealed_splits_are_all_that_training_is_given(tmp_path: Path) -> None:
    run = pretraining_run(tmp_path / "state")
    with pytest.raises(TestSetRead):
        _ = run.splits.test


def guarded(whole: Splits, log: list[str]) -> Splits:
    """The same splits, whose every read is noted."""

    def watched(split: Split) -> Split:
        def read(i: int) -> Any:
            log.append(split.name)
            return split.read(i)

        return Split(split.name, split.ids, split.targets, read, split.reader, split.groups)

    train, valid, test = map(watched, (whole.train, whole.valid, whole.test))
    return Splits(train, valid, test, whole.classes, whole.modality)


def test_test_is_read_after_the_checkpoint_was_written_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pretraining_cells import pretrain_cell
    from zoobench.pretraining import cell as cells

    log: list[str] = []
    write = pretrained_here_.write

    def noted(*given: Any) -> None:
        write(*given)
        log.append("written")

    monkeypatch.setattr(pretrained_here_, "write", noted)
    _, numbers = cells.pretrained(pretrain_cell("autoencoder"), guarded(splits(), log), "cpu")
    assert "test" not in log[: log.index("written")]
    assert {"train", "valid"} <= set(log[: log.index("written")])
    assert "test" in log[log.index("written") :]
    assert {"psnr", "ssim"} <= {one.metric for one in numbers}


def test_a_second_run_finds_the_encoder_and_says_the_same(surroundings: Path) -> None:
    from pretraining_cells import pretrain_cell
    from zoobench.pretraining import cell as cells

    cell, data = pretrain_cell("vae"), splits()
    made, first = cells.pretrained(cell, data, "cpu")
    (weights,) = surroundings.glob("pretrained/*/model.safetensors")
    before = weights.stat().st_mtime_ns
    _, second = cells.pretrained(cell, data, "cpu")
    assert second == first
    assert weights.stat().st_mtime_ns == before
    assert not list(surroundings.glob("pretrained/*.training"))
    assert made.card["objective"] == "vae"
    assert (made.folder / cells.SAMPLES).read_bytes().startswith(b"\x89PNG")
    assert {"bits_per_dim", "psnr", "ssim"} <= {one.metric for one in first}


def test_weights_that_were_changed_are_refused_and_made_anew(surroundings: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pretraining_cells import pretrain_cell
    from zoobench.pretraining import cell as cells

    cell, data = pretrain_cell("supervised"), splits()
    made, first = cells.pretrained(cell, data, "cpu")
    file = made.folder / pretrained_here_.WEIGHTS
    state = load_file(file)
    name = next(iter(state))
    save_file({**state, name: state[name] + 1}, file)
    with pytest.raises(MissingWeights, match="not those"):
        pretrained_here_.load(cell.model, 0)
    again, numbers = cells.pretrained(cell, data, "cpu")
    assert again.card["state"] == made.card["state"]
    kept = [one for one in first if one.unit != "s"]
    assert [one for one in numbers if one.unit != "s"] == kept


def test_a_sigkill_in_the_middle_changes_no_bit(tmp_path: Path) -> None:
    whole = pretraining_run(tmp_path / "whole").run()
    state = tmp_path / "state"
    code = (
        "import sys, time; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]\n"
        "from test_pretraining_training import pretraining_run\n"
        "slow = lambda stage, done, total: time.sleep(0.02 if done < 6 else 60)\n"
        f"pretraining_run(Path({str(state)!r}), progress=slow).run()\n"
    )
    with (tmp_path / "log").open("w") as log:
        child = start("-c", code, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not state.exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert state.exists(), (tmp_path / "log").read_text()
    finally:
        child.kill()
        child.wait()
    again = pretraining_run(state).run()
    assert state_of(again) == state_of(whole)
    assert np.array_equal(again.curve, whole.curve)
