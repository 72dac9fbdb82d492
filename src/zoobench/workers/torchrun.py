"""One network trained by several processes: torchrun, one rank a device (docs/engines.md).

Every rank loads the cell's model and data for itself, as a run does, and takes its share of
each global batch. Rank 0 leaves the trained network in a file for the process that asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoobench import datasets, methods, models, tasks
from zoobench.datasets.splits import drawn
from zoobench.errors import CellError
from zoobench.machine import SAFE_PATH
from zoobench.models.weights import weights_of
from zoobench.schema import Cell, from_json, to_json

JOB, TUNED, TROUBLE = "job.json", "tuned.pt", "trouble-{}.json"
MEMORY = "memory"


@dataclass(frozen=True)
class Processes:
    """A Team (`interfaces`) of `ranks` fresh processes on this machine.

    On CUDA rank r takes the r-th visible card and nccl; on the CPU it is gloo, and the
    ranks share the cores that this process has.
    """

    cell: Cell
    device: str
    ranks: int
    precision: str = "fp32"

    def train(self, rate: float, pieces: int) -> dict[str, Any] | None:
        """Raises torch.OutOfMemoryError where a rank's memory ended, CellError where one died."""
        import torch

        with tempfile.TemporaryDirectory(prefix="zoobench-team-") as folder:
            job = {
                "cell": to_json(self.cell),
                "device": self.device.partition(":")[0],
                "precision": self.precision,
                "rate": rate,
                "pieces": pieces,
                "parent": os.getpid(),
            }
            Path(folder, JOB).write_text(json.dumps(job), encoding="utf-8")
            done = subprocess.run(
                [
                    sys.executable, "-m", "torch.distributed.run", "--standalone",
                    f"--nproc-per-node={self.ranks}", "-m", "zoobench.workers.torchrun", folder,
                ],
                env=self._environment(), capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise _trouble(Path(folder), done.stderr)
            found: dict[str, Any] | None = torch.load(Path(folder, TUNED), weights_only=True)
            return found

    def _environment(self) -> dict[str, str]:
        import torch

        threads = max(1, torch.get_num_threads() // self.ranks)
        own = {**os.environ, **SAFE_PATH, "OMP_NUM_THREADS": str(threads)}
        if self.device == "cpu" and sys.platform == "linux":
            own["GLOO_SOCKET_IFNAME"] = "lo"  # a machine's name need not lead to itself
        return own


def _trouble(folder: Path, said: str) -> BaseException:
    """Memory that ended in any rank, else the error of the rank that failed first."""
    import torch

    files = sorted(folder.glob(TROUBLE.format("*")), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        lines = said.strip().splitlines() or ["no message"]
        return CellError(f"a training process died: {lines[-1]}")
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for one in told:  # the others only tell that they lost it
        if one["kind"] == MEMORY:
            return torch.OutOfMemoryError(one["message"])
    return CellError(f"a training process failed: {told[0]['message']}")


def main(folder: Path) -> None:
    """One rank: train, and leave the network (rank 0) or the trouble."""
    import torch
    import torch.distributed

    from zoobench.machine import out_of_memory
    from zoobench.methods.data_parallel import Share

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    _die_with(int(job["parent"]))
    cuda = job["device"] == "cuda"
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = f"cuda:{rank}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(rank)
    try:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
        found = _train(job, device, Share(rank, ranks, int(job["pieces"])))
        if rank == 0:
            torch.save(found, folder / TUNED)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    except Exception as error:
        kind = MEMORY if out_of_memory(error) else "error"
        told = {"kind": kind, "message": f"rank {rank}: {type(error).__name__}: {error}"[:500]}
        (folder / TROUBLE.format(rank)).write_text(json.dumps(told), encoding="utf-8")
        raise


def _train(job: Mapping[str, Any], device: str, share: Any) -> dict[str, Any] | None:
    """This rank's part; what rank 0 found is what all found."""
    from zoobench.features.extraction import lay_out
    from zoobench.features.source import Features, View
    from zoobench.methods.finetune import FineTune, Training
    from zoobench.methods.inputs import Inputs
    from zoobench.methods.objectives import objective_of

    cell = msgspec.convert(job["cell"], Cell, dec_hook=from_json)
    recipe = methods.of_cell(cell, tasks.name_of(cell))
    assert isinstance(recipe, FineTune)
    splits = drawn(datasets.load(cell.dataset), cell)
    ref, seed = weights_of(cell, recipe.random_weights)
    backbone = models.load(models.variants.original(ref), seed)
    lay_out(backbone, device)
    source = Features(backbone, View(str(ref), device, job["precision"]))
    run = Training(recipe, source, objective_of(splits), job["rate"], cell.seed)
    tuned = run.train(Inputs(source, splits.train), Inputs(source, splits.valid), share)
    if tuned is None:
        return None
    state = {name: value.cpu() for name, value in tuned.network.state_dict().items()}
    return {"state": state, "valid_scores": tuned.valid_scores, "facts": dict(tuned.facts)}


def _die_with(parent: int) -> None:
    """A rank must not outlive the process that asked for it: torchrun would not notice."""
    import psutil

    def watch() -> None:
        while psutil.pid_exists(parent):
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
