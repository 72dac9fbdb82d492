"""This machine: its devices, cores and cache. Torch is imported only where CUDA may be here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoobench.errors import UserError

if TYPE_CHECKING:
    import torch

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""For every Python process that is started: without it `-c` and `-m` import what lies in the folder
that the user stands in, and a torch.py or json.py there would run."""


@dataclass(frozen=True)
class Place:
    """Where and how a backbone runs: a torch device string, and "fp32", "bf16" (its bf16 variant)
    or "autocast" (its own weights, under bf16 autocast, as it is trained)."""

    device: str = "cpu"
    precision: str = "fp32"


def resolve(device: str) -> str:
    """ "auto", "cpu", "cuda" or "cuda:N" as a torch device string. Raises UserError early."""
    if device == "cpu":
        return "cpu"
    if device == "auto" and not cuda_plausible():
        return "cpu"
    if device != "auto" and device.partition(":")[0] != "cuda":
        raise UserError(f"--device: unknown device {device!r}. Known: auto, cpu, cuda, cuda:N.")
    import torch

    count = torch.cuda.device_count()
    if device == "auto":
        return "cuda:0" if count else "cpu"
    number = device.partition(":")[2] or "0"
    if not number.isdigit():
        raise UserError(f"--device: {device!r}: expected a number after 'cuda:'")
    if int(number) >= count:
        here = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise UserError(f"--device: there is no {device} here. Known: {here}.")
    return f"cuda:{number}"


def cards(asked: str) -> tuple[str, ...]:
    """What `asked` of `resolve` leaves: all cards that are here, unless it names one, or the CPU.
    Raises UserError."""
    device = resolve(asked)
    if asked not in ("auto", "cuda") or device == "cpu":
        return (device,)
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def lost(device: str) -> bool:
    """Whether a GPU does nothing more for this process: after an index out of bounds, say, whatever
    it is asked fails."""
    if not device.startswith("cuda"):
        return False
    import torch

    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def cuda_plausible() -> bool:
    """Whether looking for a CUDA device is worth the seconds that importing torch takes."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    nodes = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")
    return any(Path(node).exists() for node in nodes) or shutil.which("nvidia-smi") is not None


def default_precision(device: str) -> Literal["bf16", "fp32"]:
    """What "auto" means where only costs are measured: bf16 autocast on CUDA, fp32 elsewhere."""
    return "bf16" if device.startswith("cuda") else "fp32"


def place(device: str, precision: str = "auto") -> Place:
    """Where and how to time: `resolve` and, for "auto", `default_precision`. Raises UserError."""
    found = resolve(device)
    return Place(found, default_precision(found) if precision == "auto" else precision)


def check_compiler(device: str, where: str) -> None:
    """Raises UserError where torch.compile lacks what it needs: a compiler, on CUDA Triton too."""
    import shlex
    import sys
    from importlib.util import find_spec

    cuda = device.startswith("cuda")
    if cuda and find_spec("triton") is None:
        raise UserError(f"{where}: torch.compile needs Triton for {device}: pip install triton")
    # Triton compiles its launchers with a C compiler, inductor its CPU kernels with a C++ one.
    name, language = ("CC", "C") if cuda else ("CXX", "C++")
    known = ["gcc", "clang", "cc"]
    if not cuda:
        known = [{"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")]
    chosen = shlex.split(os.environ.get(name, ""))[:1]
    wanted = chosen or known
    if not any(shutil.which(one) for one in wanted):
        raise UserError(
            f"{where}: torch.compile needs a {language} compiler, and there is no "
            f"{' or '.join(wanted)} here. Install one (apt install g++, dnf install gcc-c++, "
            f"conda install gxx, xcode-select --install), or name yours in {name}."
        )


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(processes: int = 1) -> int:
    """Threads of each of so many processes: its share of the cores, OMP_NUM_THREADS at most."""
    share = max(1, cores() // processes)
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def driver() -> str:
    """The NVIDIA driver's version as its kernel module or nvidia-smi gives it; "" if neither."""
    import subprocess

    module = Path("/sys/module/nvidia/version")
    if module.exists():
        return module.read_text(encoding="ascii").strip()
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return lines[0] if lines else ""


def sent(batch: Any, device: torch.device) -> Any:
    """`batch`, a tensor or a dict of such, on `device`. Nobody waits: a GPU reads it by itself,
    when it has done what it was told before."""
    if isinstance(batch, dict):
        return {name: sent(one, device) for name, one in batch.items()}
    return (pinned(batch) if reads_pinned(device) else batch).to(device, non_blocking=True)


def pinned(batch: Any) -> Any:
    """`batch`, a tensor or a dict of such, in memory that a GPU reads by itself where it is of the
    CPU. From other memory the host would hand it over, and first wait for the GPU."""
    if isinstance(batch, dict):
        return {name: pinned(one) for name, one in batch.items()}
    return batch.pin_memory() if batch.device.type == "cpu" else batch


def reads_pinned(device: torch.device) -> bool:
    """Whether `device` has a memory of its own, and reads the host's by itself."""
    return device.type == "cuda"


def exact_float32(device: torch.device | str) -> None:
    """Lets float32 be float32 on a GPU. By default cuDNN's convolutions round what they multiply to
    TF32, 10 bits of 23: features then differ from the CPU's by about 1e-3. Where fewer bits do,
    bf16 is asked for, which is faster still."""
    if str(device).partition(":")[0] != "cuda":
        return
    import warnings

    import torch

    with warnings.catch_warnings():
        # torch has another name for it, too, and refuses what both names are used for:
        # its own compiler reads this one.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def free_bytes(device: torch.device) -> int:
    """Of a GPU's memory, with what torch holds of it to use it again."""
    import torch

    held: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def placed(
    tensors: Sequence[torch.Tensor], device: torch.device, copies: int
) -> list[torch.Tensor]:
    """Them on `device`; or, where `copies` of all would take more than half of a GPU's free memory,
    in the host's, from where the GPU is sent a block at a time."""
    many = copies * sum(one.nbytes for one in tensors)
    if reads_pinned(device) and many > free_bytes(device) // 2:
        return [pinned(one) for one in tensors]
    return [one.to(device) for one in tensors]


@lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device) -> torch.Tensor:
    """Some numbers as a float32 tensor of `device`, kept: each time they are made anew the host
    waits for a GPU. Nobody writes to it."""
    import torch

    with torch.inference_mode(False):  # or training could not read what extraction made
        return torch.tensor(values, dtype=torch.float32, device=device)


def unrounded(device: torch.device) -> AbstractContextManager[Any]:
    """Within it float32 stays float32 on `device`, also where training computes in bf16."""
    import torch

    there = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if there else nullcontext()


def cache_dir() -> Path:
    """$ZOOBENCH_CACHE, or ~/.cache/zoobench."""
    return Path(os.environ.get("ZOOBENCH_CACHE") or "~/.cache/zoobench").expanduser()


ENDED = (
    "can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED", "unable to find an engine to execute",
)  # fmt: skip
"""In plain RuntimeErrors: of torch's allocator for the CPU, and of a card's memory where it is not
torch's own allocator that asked for it; the last is cuDNN's, whose every way to compute a
convolution wanted more."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ended, on a card or on the CPU."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in ENDED)


def release_memory() -> None:
    """Give back what is held for nothing: what refers to itself, and what torch keeps of a card's
    memory to use it again."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA was never used


def device_name(device: str) -> str:
    """The card's name, or the processor's as the system gives it."""
    import platform

    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
