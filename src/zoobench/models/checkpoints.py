"""Weights from a file: read without running any code, unwrapped, and fitted exactly.

A checkpoint either fits the model key by key and shape by shape (its classifier
apart), or `fit` raises with the keys that do not. It never loads half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported, one_line

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net", "teacher")
"""Where training scripts put the weights inside what they save; averaged weights first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.")
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


def read(path: Path) -> State:
    """The tensors of a .safetensors or torch checkpoint, on the CPU, out of their nest.

    Only plain tensors are unpickled (`weights_only`). Raises MissingWeights when the
    file is unreadable or damaged, Unsupported when it holds something else.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        body = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Unsupported(
            f"{path} is damaged, or holds more than plain tensors and is not opened, since that "
            f"could run its code. Save model.state_dict() instead. ({one_line(error)})"
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError, KeyError) as error:
        raise MissingWeights(f"{path} cannot be read: {one_line(error)}") from error
    return _unnest(body, path)


def _unnest(body: Any, path: Path) -> State:
    import torch

    for _ in range(3):
        if not isinstance(body, Mapping):
            break
        inner = next((body[k] for k in NESTS if isinstance(body.get(k), Mapping)), None)
        if inner is None:
            break
        body = inner
    if isinstance(body, Mapping):
        tensors = {str(k): v for k, v in body.items() if isinstance(v, torch.Tensor)}
        if tensors:
            return tensors
    raise Unsupported(f"{path} holds no dictionary of tensors (it is a {type(body).__name__})")


def unwrap(state: State, target: Iterable[str], prefixes: Sequence[str] = PREFIXES) -> State:
    """`state` with wrapper prefixes taken off, as far as that brings it closer to `target`."""
    wanted = set(target)

    def agreement(candidate: State) -> int:
        return len(wanted & candidate.keys())

    for _ in range(3):
        stripped = [
            {k.removeprefix(prefix): v for k, v in state.items()}
            for prefix in prefixes
            if any(k.startswith(prefix) for k in state)
        ]
        best = max(stripped, key=agreement, default=state)
        if agreement(best) <= agreement(state):
            break
        state = best
    return state


def misfit_text(missing: Sequence[str], unexpected: Sequence[str], misshaped: Sequence[str]) -> str:
    """How a state dict differs from a model's own, three lists of key names; "" where nowhere."""
    parts = [
        f"{len(keys)} {word} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
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
    ready, dropped = without_heads(unwrap(state, own), own, heads)
    wrong = misfit(ready, own)
    if wrong:
        raise Unsupported(f"{what}: the weights do not fit the model: {wrong}")
    model.load_state_dict(ready, strict=False)  # strict but for the batch counters
    return dropped
