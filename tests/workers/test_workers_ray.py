"""Ray's own cluster of two worker nodes on this machine; one of them is killed in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cells import GABOR, write_suite
from zoobench.errors import MissingExtra, UserError
from zoobench.runs import session, suite
from zoobench.runs.session import Plan, RunOptions
from zoobench.schema import Record
from zoobench.workers import ray_
from zoobench.workers.events import Begun, Event, Finished
from zoobench.workers.local import WorkerLimits

pytestmark = [
    pytest.mark.rare,  # a cluster is started for them
    pytest.mark.xdist_group("ray"),
    # Ray's own sockets and files are closed when its processes end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


QUICK = "[limits]\ncost_seconds = 0"


class Nodes:
    """A head without CPUs, and nodes with one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **self.common(2)},
        )
        self.workers = [self.cluster.add_node(num_cpus=1, **self.common(3 + i)) for i in range(2)]

    @staticmethod
    def common(number: int) -> dict[str, Any]:
        """Ray takes 127.0.0.1 for the machine's own address, and would mix the nodes up."""
        return {"node_ip_address": f"127.0.0.{number}", "object_store_memory": 80 * 2**20}

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def kill_one(self) -> None:
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("ZOOBENCH_CACHE", str(tmp_path_factory.mktemp("nodes")))
        patch.setenv("OMP_NUM_THREADS", "1")
        started = Nodes()
        yield started
        started.cluster.shutdown()


def execute(file: Path, out: Path, nodes: Nodes | None, watch: Any = None) -> dict[str, Record]:
    """Records by key; every cell must have ended once."""
    place: dict[str, Any] = {} if nodes is None else {"engine": "ray", "address": nodes.address}
    options = RunOptions(out, device="cpu", **place)
    plan = session.execute(suite.read(str(file)), options, watch or (lambda plan, event: None))
    lines = (out / "records.jsonl").read_text().splitlines()
    assert len(lines) == len(plan.cells)
    return {record.key: record for record in plan.records}


def kill_tasks() -> None:
    """SIGKILL to Ray's worker processes that run our task."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::run_on_node"):
            process.kill()


def test_a_node_dies_in_the_middle_and_the_records_are_those_of_a_local_run(
    nodes: Nodes, tmp_path: Path
) -> None:
    before = len(nodes.workers)
    busy: set[str] = set()

    def watch(plan: Plan, event: Event) -> None:
        if isinstance(event, Begun):
            busy.add(event.cell.model.text)
        if isinstance(event, Finished):
            busy.discard(event.result.record.cell.model.text)
        if len(busy) == 2 and len(nodes.workers) == before:  # both nodes are at work
            nodes.kill_one()

    slow = [f"{GABOR}?fault=hang&seconds=1.0&mean={mean}" for mean in (0.4, 0.6)]
    file = write_suite(
        tmp_path / "s.toml", models=[*slow, f"{GABOR}?fault=crash"], methods=["ridge", "knn"],
        datasets=["synthetic/stripes?test=20&train=40&valid=12"], rest=QUICK,
    )  # fmt: skip
    far = execute(file, tmp_path / "ray", nodes, watch)
    assert len(nodes.workers) == before - 1
    near = execute(file, tmp_path / "local", None)
    assert far.keys() == near.keys()
    for key, record in far.items():
        said = (record.status, record.predictions)
        assert said == (near[key].status, near[key].predictions), record.error
    assert [r.status for r in far.values()] == ["ok"] * 4 + ["crash"] * 2


def test_losing_rays_worker_again_and_again_is_a_crash_of_one_cell(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_, "LOSSES", 2)
    monkeypatch.setattr(ray_, "PAUSE_SECONDS", 0.1)  # no node has died, whose loss takes seconds
    begun: list[str] = []

    def watch(plan: Plan, event: Event) -> None:
        if isinstance(event, Begun) and "fault" in event.cell.model.text:
            begun.append(event.cell.method)
            if event.cell.method == "ridge":
                kill_tasks()

    bad = f"{GABOR}?fault=hang&seconds=1.0"  # on the one node left, so nobody else is hit
    file = write_suite(
        tmp_path / "s.toml", models=[bad], methods=["ridge", "knn"], rest=QUICK,
        datasets=["synthetic/stripes?test=20&train=40&valid=12"],
    )  # fmt: skip
    lost, good = execute(file, tmp_path / "run", nodes, watch).values()
    assert begun == ["ridge", "ridge", "knn"]
    assert (lost.status, good.status) == ("crash", "ok")
    assert "lost 2 times" in (lost.error or {})["message"]


def test_other_versions_on_a_node_are_refused(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_, "versions", lambda: {"zoobench": "9.9", "torch": "1.0"})
    file = write_suite(tmp_path / "s.toml")
    with pytest.raises(UserError, match=r"node 127\.0\.0\.\d has zoobench .* \(here 9\.9\), torch"):
        execute(file, tmp_path / "run", nodes)


def test_what_no_node_can_do_is_refused_before_any_work(nodes: Nodes, tmp_path: Path) -> None:
    file = write_suite(tmp_path / "s.toml", rest="[limits]\nmemory_gb = 1e6")
    with pytest.raises(UserError, match="no node of the cluster has"):
        execute(file, tmp_path / "run", nodes)


def test_a_missing_extra_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'zoobench\[ray\]'"):
        ray_.connected("auto", 1).__enter__()


@pytest.mark.parametrize("address", ["", "nowhere", "ray://host:1", "host:port"])
def test_an_address_is_checked(address: str) -> None:
    with pytest.raises(UserError, match="HOST:PORT"):
        ray_.connected(address, 1).__enter__()


def node(cpus: float, gpus: float = 0) -> ray_.Node:
    return ray_.Node("x", "127.0.0.9", cpus, gpus, 2**35)


def test_a_task_takes_its_share_of_the_smallest_node_that_will_do() -> None:
    nodes = [node(0), node(8), node(6), node(64, 4), node(32, 4)]
    assert ray_.needs("cpu", 1, WorkerLimits(), nodes) == ray_.Needs(6)
    assert ray_.needs("cpu", 2, WorkerLimits(memory_bytes=7), nodes) == ray_.Needs(3, 0, 7)
    assert ray_.needs("cuda:0", 1, WorkerLimits(), nodes) == ray_.Needs(8, 1)
    with pytest.raises(UserError, match="1 GPU"):
        ray_.needs("cuda:0", 1, WorkerLimits(), nodes[:3])


def test_records_say_nothing_of_where_a_cluster_is() -> None:
    node = ray_.Node("1", "10.1.2.3", cpus=4, gpus=0, memory=2**30)
    assert (node.size, str(node)) == (
        "4 CPUs, 0 GPUs, 1.0 GiB", "10.1.2.3 (4 CPUs, 0 GPUs, 1.0 GiB)",
    )  # fmt: skip
    lost = "The node (IP: 10.1.2.3, id 7f) of 10.0.0.12:6379 died; ray 2.51.1, 1.2.3.4.5"
    assert ray_.ADDRESS.sub("…", lost) == "The node (IP: …, id 7f) of … died; ray 2.51.1, 1.2.3.4.5"


def test_the_device_is_the_clusters() -> None:
    assert ray_.resolve_device("auto", [node(8)]) == "cpu"
    assert ray_.resolve_device("auto", [node(8), node(8, 1)]) == "cuda:0"
    assert ray_.resolve_device("cpu", [node(8, 1)]) == "cpu"
    with pytest.raises(UserError, match="has a GPU"):
        ray_.resolve_device("cuda", [node(8)])
    with pytest.raises(UserError, match="Ray places"):
        ray_.resolve_device("cuda:3", [node(8, 1)])


def test_ray_is_told_to_send_nothing_home() -> None:
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


OWN_CLUSTER = """
import json, os, sys
import psutil
from zoobench.workers import ray_

with ray_.connected("local", 1) as nodes:
    import ray

    @ray.remote
    def look():
        return [entry for entry in sys.path if entry in ("", os.getcwd())]

    looked = ray.get(look.remote())
    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ours = {process.pid for process in own}
    ports = [c for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in ours]
    mode = os.environ["RAY_AUTH_MODE"]
print(json.dumps({
    "looked": looked, "addresses": sorted({c.laddr.ip for c in ports}), "mode": mode,
    "nodes": [node.address for node in nodes], "after": os.environ.get("RAY_AUTH_MODE"),
}))
"""


def test_our_own_cluster_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens on the loopback, asks for a token, and runs no module of the current folder."""
    pytest.importorskip("ray")
    mark = tmp_path / "executed"
    (tmp_path / "here").mkdir()
    for name in ("torch", "random", "json", "msgspec", "psutil", "zoobench"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray keeps the token
    monkeypatch.setenv("PYTHONPATH", str(Path(ray_.__file__).parents[2]))
    done = subprocess.run(
        [sys.executable, "-P", "-c", OWN_CLUSTER], cwd=tmp_path / "here",
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["looked"] == []
    assert told["addresses"], "something listens"
    assert {a.removeprefix("::ffff:") for a in told["addresses"]} == {"127.0.0.1"}
    assert told["nodes"] == ["127.0.0.1"]
    assert (told["mode"], told["after"]) == ("token", None)
    assert not mark.exists()
