"""A stranger's .keras file, looked at before Keras is: layers of Keras's own, weights in the file.

Such a file is a zip of config.json, which says the layers, and model.weights.h5, in HDF5. Either
may name more than it holds: a function, a class of another package, a file elsewhere.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoobench.errors import MissingWeights, Unsupported, missing_extra
from zoobench.files import parse_json

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
HELD = frozenset((CONFIG, WEIGHTS, "metadata.json"))
LARGEST_CONFIG = 2**26
LARGEST = 2**36
"""Bytes of what is in a file, unpacked."""
HOMES = (
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers",
    "keras.constraints", "keras.activations", "keras.dtype_policies",
)  # fmt: skip
"""Modules whose classes a file may name; `keras.src.models.` too, which holds what a model is."""
FOREIGN = frozenset(
    ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "function")
)
"""Classes of these that run what is not Keras's own."""


def require(what: str) -> None:
    """Raises MissingExtra where Keras is not installed, without importing it."""
    if not all(importlib.util.find_spec(name) for name in ("keras", "h5py")):
        raise missing_extra("keras", "keras", what)


def check(path: Path) -> None:
    """Raises MissingWeights where there is no such file or it is damaged, Unsupported where it
    names anything that is not Keras's own, or a file elsewhere."""
    if not path.is_file():
        raise MissingWeights(f"{path}: " + ("it is no file" if path.exists() else "no such file"))
    try:
        with zipfile.ZipFile(path) as packed:
            sizes = {one.filename: one.file_size for one in packed.infolist()}
            if not HELD >= sizes.keys() >= {CONFIG, WEIGHTS}:
                raise Unsupported(f"{path}: a .keras file holds {', '.join(sorted(HELD))} alone")
            if sizes[CONFIG] > LARGEST_CONFIG or sum(sizes.values()) > LARGEST:
                raise Unsupported(f"{path}: it holds {sum(sizes.values()):,} bytes")
            config = parse_json(packed.read(CONFIG).decode("utf-8"))
            with packed.open(WEIGHTS) as weights:
                check_weights(weights, path)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise MissingWeights(f"{path}: cannot be read: {error}") from error
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise MissingWeights(f"{path}: it is damaged: {error}") from error
    if not isinstance(config, dict):
        raise MissingWeights(f"{path}: it is damaged: its {CONFIG} holds no model")
    for named in _named(config):
        _check_class(named, path)


def check_weights(file: Any, path: Path) -> None:
    """Raises Unsupported where a file of HDF5, open or a path, points to other files."""
    import h5py

    with h5py.File(file, "r") as held:
        for place in _places(held):
            link = held.get(place, getlink=True)
            if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
                raise Unsupported(f"{path}: {place} is a link to elsewhere")
            one = held[place]
            if isinstance(one, h5py.Dataset) and (one.external or one.is_virtual):
                raise Unsupported(f"{path}: {place} lies in another file")


def _places(group: Any, before: str = "") -> Iterator[str]:
    """The names of all that is in a group, and below it, without following a link."""
    import h5py

    for name in group:
        place = f"{before}{name}"
        yield place
        if group.get(name, getclass=True, getlink=True) is h5py.HardLink:
            below = group[name]
            if isinstance(below, h5py.Group):
                yield from _places(below, f"{place}/")


def _named(config: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries of a configuration that name a class."""
    ahead = [config]
    while ahead:
        one = ahead.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            ahead += one.values()
        elif isinstance(one, list):
            ahead += one


def _check_class(named: dict[str, Any], path: Path) -> None:
    module, name = named.get("module"), named["class_name"]
    registered = named.get("registered_name")
    if (module, name) == (None, "__keras_tensor__"):
        return
    texts = isinstance(module, str) and isinstance(name, str)
    ours = texts and (module in HOMES or str(module).startswith("keras.src.models."))
    if not ours or name in FOREIGN or registered not in (None, name):
        said = json.dumps([module, name, registered])[:120]
        raise Unsupported(f"{path}: it names what is not Keras's own: {said}")
