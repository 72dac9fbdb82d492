"""Weights from a file: read without running any code, unwrapped, and fitted exactly.

A checkpoint either fits the model key by key and shape by shape (its classifier
apart), or `fit` raises with the keys that do not. It never loads half.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported, one_line
from zoobench.escape import plain

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

NESTS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema",
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network",
    "params", "teacher", "student",
)  # fmt: skip
"""Where training scripts put the weights inside what they save; averaged weights first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.")
AVERAGED = "n_averaged"
"""What torch's AveragedModel counts beside its weights: no weight, as `num_batches_tracked`."""
HARMLESS = (
    "argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta",
    "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath", "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype", "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}"
      for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)  # fmt: skip
"""What training scripts save beside the tensors. Each is read as a `Skipped`: what it held is
not wanted, and nothing of the class that it names is called."""
QUANTISED = ("_packed_params", ".qweight", ".SCB", ".absmax", ".quant_state", ".weight_format")
"""Parts of keys that only the state of a quantised model has."""
NOT_WEIGHTS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the file: git lfs pull",
    b"<!doctype html": "a web page, not the file: fetch it again",
    b"<html": "a web page, not the file: fetch it again",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"gguf": "a GGUF file, whose weights are quantised: it is not read",
}
"""How files begin that have the name of a checkpoint and are none -> what they are."""
SETTINGS = (".json", ".txt", ".model", ".vocab", ".merges", ".tiktoken", ".py")
"""Suffixes of the files beside the weights that a loader may read."""
SHOWN = 5


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def facts(path: Path, sha256: str = "") -> dict[str, Any]:
    """What the provenance says of the weights' file; `sha256` where it is known already."""
    return {
        "weights_sha256": sha256 or sha256_file(path),
        "file": path.name,
        "weights_bytes": path.stat().st_size,
    }


def settings(folder: Path) -> str:
    """Digest of a model's folder but its weights: configuration, tokenizer, pooling."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in SETTINGS:
            hasher.update(f"{path.relative_to(folder)}:{sha256_file(path)};".encode())
    return hasher.hexdigest()[:32]


class Skipped:
    """Stands for an object of `HARMLESS` in what is unpickled: takes all, holds nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read(path: Path, prefix: str = "") -> State:
    """The tensors of a .safetensors or torch checkpoint, on the CPU, out of their nest.

    Only plain tensors are unpickled (`weights_only`). `prefix` chooses those whose keys begin
    with it, or have it after the names they are nested in. Raises MissingWeights when the file
    is unreadable or damaged, Unsupported when it holds something else.
    """
    import pickle

    import torch
    from safetensors.torch import load_file

    _refuse_what_it_is(path)
    try:
        if path.suffix == ".safetensors":
            body: Any = dict(load_file(path))
        else:
            stand_ins: list[Any] = [(Skipped, name) for name in HARMLESS]
            with (
                warnings.catch_warnings(action="ignore"),
                torch.serialization.safe_globals(stand_ins),
            ):
                body = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Unsupported(f"{path} {_held(error)}. Save model.state_dict() instead") from error
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: the bytes are a stranger's
        raise MissingWeights(f"{path} cannot be read: {plain(one_line(error))}") from error
    state = _chosen(body, prefix, path) if prefix else _unnest(body, path)
    return {key: tensor for key, tensor in state.items() if key != AVERAGED}


def _refuse_what_it_is(path: Path) -> None:
    """Raises for a file that is no checkpoint, in the words for what it is instead."""
    import zipfile

    try:
        with path.open("rb") as stream:
            head = stream.read(64).lstrip().lower()
        archive = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
        names = zipfile.ZipFile(path).namelist() if archive else []
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise MissingWeights(f"{path} cannot be read: {plain(one_line(error))}") from error
    if not head:
        raise MissingWeights(f"{path} is empty")
    what = next((words for start, words in NOT_WEIGHTS.items() if head.startswith(start)), None)
    if what is not None:
        raise MissingWeights(f"{path} is {what}")
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise Unsupported(
            f"{path} is a TorchScript archive, which is a program, and is not opened. "
            "Save model.state_dict() instead"
        )


def _held(error: Exception) -> str:
    """Why a pickle is not opened. The library's own text advises to run it, in colours."""
    named = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+\.\w+)", str(error))
    what = named.group(1) if named else ""
    if re.match(r"torch\.nn\.modules|torchvision\.models|timm\.|transformers\.|__main__", what):
        return f"holds a whole pickled module ({what}), and is not opened, since that runs its code"
    holds = f" ({what})" if what else ""
    return (
        f"is damaged, or holds more than plain tensors{holds} and is not opened, since that could "
        "run its code"
    )


def _flat(body: Any, depth: int = 4) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in nested tables, under its keys joined by dots."""
    import torch

    for key, value in body.items() if isinstance(body, Mapping) else ():
        if isinstance(value, torch.Tensor):
            yield str(key), value
        elif depth:
            yield from ((f"{key}.{inner}", tensor) for inner, tensor in _flat(value, depth - 1))


def _chosen(body: Any, prefix: str, path: Path) -> State:
    """The tensors under `prefix`, which must stand in one place of the file."""
    start = f"{prefix.rstrip('.')}."
    found: dict[str, State] = {}
    keys = []
    for key, tensor in _flat(body):
        keys.append(key)
        at = f".{key}".find(f".{start}")
        if at >= 0:
            end = at + len(start)
            found.setdefault(key[:end], {})[key[end:]] = tensor
    if len(found) > 1:
        places = ", ".join(map(plain, sorted(found)[:SHOWN]))
        raise Unsupported(f"{path}: prefix {prefix!r} is in {len(found)} places: {places}")
    if not found:
        some = ", ".join(map(plain, keys[:SHOWN]))
        raise Unsupported(f"{path}: no key has the prefix {prefix!r}; it holds {some or 'none'}")
    return next(iter(found.values()))


def _unnest(body: Any, path: Path) -> State:
    import torch

    for _ in range(3):
        if not isinstance(body, Mapping):
            break
        inner = next((body[k] for k in NESTS if any(_flat(body.get(k)))), None)
        if inner is None:
            break
        body = inner
    if isinstance(body, Mapping):
        if not body:
            raise MissingWeights(f"{path} holds no tensors")
        tensors = {str(k): v for k, v in body.items() if isinstance(v, torch.Tensor)}
        quantised = (k for k in map(str, body) if any(part in k for part in QUANTISED))
        odd = next(quantised, None) or next((k for k, v in tensors.items() if _packed(v)), None)
        if odd is not None:
            raise Unsupported(
                f"{path} holds quantised weights ({plain(odd)[:80]}), which are not read"
            )
        if tensors:
            return tensors
    raise Unsupported(f"{path} holds no dictionary of tensors (it is a {type(body).__name__})")


def _packed(tensor: torch.Tensor) -> bool:
    """Whether a tensor's numbers mean something only with a scale that is kept elsewhere."""
    return tensor.is_quantized or "float8" in str(tensor.dtype) or "float4" in str(tensor.dtype)


def unwrap(state: State, target: Iterable[str], prefixes: Sequence[str] = PREFIXES) -> State:
    """`state` with wrapper prefixes taken off, as far as that brings it closer to `target`.

    What stands beside the model that was wrapped is left out (see `left_out`). Raises
    Unsupported where several networks in it would do.
    """
    wanted = set(target)

    def agreement(candidate: State) -> int:
        return len(wanted & candidate.keys())

    beside: set[str] = set()
    for _ in range(3):
        stripped = {
            prefix: {k.removeprefix(prefix): v for k, v in state.items()}
            for prefix in prefixes
            if any(k.startswith(prefix) for k in state)
        }
        best = max(stripped, key=lambda prefix: agreement(stripped[prefix]), default="")
        if not best or agreement(stripped[best]) <= agreement(state):
            break
        beside |= {k for k in state if not k.startswith(best)} - wanted
        state = stripped[best]
    if agreement(state) * 2 < len(wanted):
        return _of_one_network(state, wanted)
    if agreement(state) > 0.9 * len(wanted):  # a training's losses and metrics, beside its model
        return {k: v for k, v in state.items() if k not in beside}
    return state


def _of_one_network(state: State, wanted: set[str]) -> State:
    """The part of `state` under the one prefix that gives most of the `wanted` keys, or `state`.

    So the encoder is taken out of a pre-training's whole state. Raises Unsupported where it
    holds several that would do, such as a student and a teacher.
    """
    counts = Counter(
        key[:at]
        for key in state
        for at in (match.end() for match in re.finditer(r"\.", key))
        if key[at:] in wanted
    )
    most = max(counts.values(), default=0)
    if most * 2 < len(wanted):
        return state
    rivals = sorted(prefix for prefix, count in counts.items() if count > 0.9 * most)
    if len(rivals) > 1:
        raise Unsupported(
            f"the file holds {len(rivals)} networks that would do "
            f"({', '.join(map(plain, rivals[:SHOWN]))}): choose one by the option prefix"
        )
    return {k.removeprefix(rivals[0]): v for k, v in state.items() if k.startswith(rivals[0])}


def left_out(before: State, after: State) -> tuple[str, ...]:
    """Keys of `before` whose tensors `unwrap` did not keep in `after`, for the provenance."""
    kept = {id(tensor) for tensor in after.values()}
    return tuple(key for key, tensor in before.items() if id(tensor) not in kept)


def misfit_text(missing: Sequence[str], unexpected: Sequence[str], misshaped: Sequence[str]) -> str:
    """How a state dict differs from a model's own, three lists of key names; "" where nowhere."""
    parts = [
        f"{len(keys)} {word} ({', '.join(map(plain, keys[:SHOWN]))}"
        f"{', ...' if len(keys) > SHOWN else ''})"
        for word, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("mis-shaped", misshaped),
        )
        if keys
    ]
    return "; ".join(parts)


def misfit(state: State, own: Mapping[str, torch.Tensor]) -> str:
    """What of `state` does not fit the model whose state is `own`; "" where all does."""
    # Batch counters came late to PyTorch; old checkpoints lack them and lose nothing.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    shaped = [
        f"{k}: {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    shaped += [  # int8 where the model has floats: quantised, and the scale lies elsewhere
        f"{k}: {state[k].dtype} in the file, {own[k].dtype} in the model"
        for k in own
        if k in state and own[k].is_floating_point() and not state[k].is_floating_point()
    ]
    return misfit_text(missing, [k for k in state if k not in own], shaped)


def without_heads(state: State, own: State, heads: Sequence[str]) -> tuple[State, tuple[str, ...]]:
    """`state` with classifier keys that do not fit replaced by the model's own or dropped.

    `heads` are module names. Features never see the classifier, so another number of
    classes does no harm; the second value lists the keys, for the provenance.
    """

    def is_head(key: str) -> bool:
        return any(key == h or key.startswith(f"{h}.") for h in heads)

    kept = {
        k: v for k, v in state.items() if not is_head(k) or (k in own and own[k].shape == v.shape)
    }
    dropped = tuple(k for k in state if k not in kept)
    filled = {k: v for k, v in own.items() if is_head(k) and k not in kept}
    return {**kept, **filled}, dropped


def fit(
    model: torch.nn.Module, state: State, what: str, heads: Sequence[str] = ()
) -> tuple[str, ...]:
    """Load `state` into `model`, strictly but for `heads`; the dropped keys are returned.

    Raises Unsupported naming missing, unexpected and mis-shaped keys; `what` names file
    and model in the message.
    """
    own = dict(model.state_dict())
    inner = unwrap(state, own)
    ready, dropped = without_heads(inner, own, heads)
    wrong = misfit(ready, own)
    if wrong:
        raise Unsupported(f"{what}: the weights do not fit the model: {wrong}")
    model.load_state_dict(ready, strict=False)  # strict but for the batch counters
    return (*left_out(state, inner), *dropped)
