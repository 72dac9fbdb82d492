"""A model's folder as a stranger made it: which of its files are read, and what is refused.

Files say what a model is, never where else to look or what to run: weights lie inside the
folder and are read by us, and a configuration that names code or files of another place is
refused by name before a library sees it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import CellError, MissingWeights, Unsupported, UserError
from zoobench.files import expanded, lies_in, parse_json
from zoobench.models import checkpoints
from zoobench.schema import Ref

if TYPE_CHECKING:
    from zoobench.models.checkpoints import State

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference; each may instead be shards beside an index."""
CONFIGURATIONS = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
CODE = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor")
"""Entries of an `auto_map` that would take part in loading an encoder."""
ELSEWHERE = {
    "quantization_config": "its weights are quantised",
    "transformers_weights": "it names another file of weights",
    "use_pretrained_backbone": "it takes the weights of its backbone from elsewhere",
    "trust_remote_code": "it asks for code of its own, which is never run",
    "kernel_config": "it asks for kernels of the hub, which are code",
}
"""Keys of a configuration whose value, where there is one, is not read here, and why."""
WITH_BACKBONE = (("use_pretrained_backbone", True), ("model_type", "timm_backbone"))
"""Entries that the configuration of a detector or segmenter has of what it was trained from."""
LARGEST_LABELS = 2**22
"""Bytes of a file of labels."""
LOCATED = ("configuration_files", "fast_tokenizer_files")
"""Keys whose values are names of files beside the configuration."""


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none. Raises MissingWeights if damaged."""
    if path.exists() and not path.is_file():  # a pipe or a device would be read without end
        raise MissingWeights(f"{path} is not a regular file")
    try:
        return parse_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise MissingWeights(f"{path} cannot be read: {error}") from error


@contextmanager
def looked_at(at: str) -> Iterator[None]:
    """What is wrong with files while a name is resolved is the user's mistake, said with `at`, the
    place of the name, before it. Raises UserError."""
    try:
        yield
    except (CellError, UserError) as error:
        raise UserError(f"{at}{error}") from error
    except OSError as error:
        raise UserError(f"{at}{error.filename}: cannot be read: {error.strerror}") from error


def located(ref: Ref) -> Path:
    """The file or folder that `ref` is of: its option `path`, else its own name. Raises UserError
    for a home folder of nobody's."""
    return expanded(str(ref.option("path", ref.name)))


def available(ref: Ref) -> tuple[bool, str]:
    """Whether the folder that `ref` is of is here, in words."""
    folder = located(ref)
    return (True, f"the folder {folder}") if folder.is_dir() else (False, f"no folder {folder}")


def inside(folder: Path, name: str) -> Path:
    """The regular file `name` of `folder`. Raises Unsupported where it lies outside, by its name
    or as a link, and MissingWeights where there is none."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not _belongs(path, folder):
        raise Unsupported(f"{folder}: {name!r} lies outside of the folder and is not read")
    if not path.is_file():
        raise MissingWeights(f"{folder} holds no file {name!r}")
    return path


def labels_file(folder: Path, name: str) -> Path:
    """The file `name` of `folder` that has a label a line. Raises as `inside` does."""
    file = inside(folder, name)
    if file.stat().st_size > LARGEST_LABELS:
        raise Unsupported(f"{file}: it is larger than {LARGEST_LABELS} bytes")
    return file


def labels(folder: Path, name: object) -> tuple[str, ...]:
    """The labels of `labels_file`, blank lines at its end left out. Raises as that does, and
    Unsupported where it is no text, or says no label."""
    file = labels_file(folder, str(name))
    try:
        # Of all that may end a line in Unicode only what ends one in a text file.
        lines = [line.strip() for line in file.read_text("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise Unsupported(f"{file}: its labels are no text in UTF-8") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise Unsupported(f"{file}: it holds no label")
    return tuple(lines)


def _belongs(path: Path, folder: Path) -> bool:
    """Whether `path`, with its links followed, lies in `folder`."""
    # The hub's cache links its snapshots to blobs of the same repository.
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    try:
        return lies_in(path, root)
    except (OSError, RuntimeError, ValueError):  # a ring of links, a null character
        return False


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or every shard that the index names, sorted.

    Raises MissingWeights where one is not there, Unsupported where one lies outside.
    """
    for name in WEIGHTS:
        if (folder / name).is_symlink() or (folder / name).exists():
            return [inside(folder, name)]
        index = folder / f"{name}.index.json"
        if index.exists():
            return [inside(folder, shard) for shard in _shards(index)]
    raise MissingWeights(f"{folder} holds no weights: {' or '.join(WEIGHTS)}, whole or in shards")


def _shards(index: Path) -> list[str]:
    body = read_json(index)
    shards = body.get("weight_map") if isinstance(body, Mapping) else None
    if not isinstance(shards, Mapping) or not shards:
        raise MissingWeights(f"{index} names no shards")
    names = {str(name) for name in shards.values()}
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    if odd := sorted(name for name in names if Path(name).suffix != suffix):
        raise Unsupported(f"{index} names {odd[0]!r} where a {suffix} file was due")
    return sorted(names)


def tensors(files: Sequence[Path], prefix: str = "") -> State:
    """All tensors of the files, or those under `prefix`. Raises MissingWeights, and Unsupported
    where a name is in two."""
    state: State = {}
    for path in files:
        part = checkpoints.read(path, prefix)
        if twice := sorted(part.keys() & state.keys()):
            raise Unsupported(f"{path} holds {twice[0]}, which another shard holds too")
        state |= part
    if not state:
        raise MissingWeights(f"{files[0]} holds no tensors")
    return state


def digest(sha256: Sequence[str]) -> str:
    """One sha256 for weights in several files, from each file's in order."""
    if len(sha256) == 1:
        return sha256[0]
    return hashlib.sha256("\n".join(sha256).encode()).hexdigest()


MOST_LAYERS = 10_000
"""Layers, or experts, of a network."""
_COUNT = re.compile(r"^n(?:um)?_\w*(?:layer|block|expert|group)s?$|layers$|^depths?$")


def refuse_foreign(folder: Path, what: str, complete: bool = False) -> None:
    """Raises Unsupported where a configuration in `folder` names code, or files elsewhere, or asks
    for more layers than any model has, which would be made one by one until memory is out, or for
    fewer than none.

    The file of a `complete` model holds its backbone's weights too, of whatever library that is.
    """
    if (folder / "adapter_config.json").exists():
        raise Unsupported(
            f"{what}: adapter_config.json makes it an adapter of another model; merge them and "
            "save the whole model"
        )
    for name in CONFIGURATIONS:
        body = read_json(folder / name)
        if body is None:
            continue
        if not isinstance(body, Mapping):
            raise MissingWeights(f"{folder / name} cannot be read: it is not a table")
        for key, value in _walk(body):
            inside = complete and (key, value) in WITH_BACKBONE
            if value and not inside and (why := _foreign(key, value, folder)):
                raise Unsupported(f"{what}: {name}: {key}: {why}")
            if _COUNT.search(key) and any(
                map(_no_count, value if isinstance(value, list) else [value])
            ):
                raise Unsupported(f"{what}: {name}: {key} is no number of 0 to {MOST_LAYERS:,}")


def _no_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not 0 <= value <= MOST_LAYERS


def _walk(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key, value) of a table and of all tables and lists inside."""
    ahead: list[Any] = [body]
    while ahead:
        item = ahead.pop()
        if isinstance(item, Mapping):
            yield from ((str(key), value) for key, value in item.items())
            ahead += item.values()
        elif isinstance(item, list):
            ahead += item


def _foreign(key: str, value: Any, folder: Path) -> str:
    """Why an entry of a configuration is refused; "" where it is not."""
    if key == "auto_map":
        ours = isinstance(value, Mapping) and not any(name in value for name in CODE)
        return "" if ours else "it needs code of its own, which is never run"
    if key == "model_type" and value in ("timm_wrapper", "timm_backbone"):
        return "a timm model is named timm/user/name"
    if key == "backbone" and "/" in str(value):
        return "it takes its backbone from another repository"
    if "attn_implementation" in key:
        named = value.values() if isinstance(value, Mapping) else [value]
        foreign = any(set("/:") & set(str(name)) for name in named)
        return "it asks for a kernel of the hub, which is code" if foreign else ""
    if key in LOCATED:
        names = value if isinstance(value, list) else [value]
        outside = any(set("/\\") & set(str(name)) for name in names)
        return "it names files outside of the folder" if outside else ""
    if key.endswith("_file") and isinstance(value, str) and value:
        there = folder / value
        strange = not _belongs(there, folder) and there.exists()
        return "it names a file outside of the folder" if strange else ""
    return ELSEWHERE.get(key, "")
