"""Files that have the name of a checkpoint: nothing runs, and one sentence says what they are."""

from __future__ import annotations

import collections
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import _weights_only_unpickler

from hostile import Canary
from zoobench.errors import CellError, MissingWeights, Unsupported
from zoobench.models import checkpoints, folders
from zoobench.models.checkpoints import HARMLESS, Skipped

ONE = {"w": torch.ones(2)}
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar")


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


CALLS: dict[str, Callable[[Canary], Call]] = {
    "os.system": lambda c: Call(os.system, c.shell),
    "eval": lambda c: Call(eval, c.python),
    "exec": lambda c: Call(exec, c.python),
    "open": lambda c: Call(open, str(c.path), "w"),
    "Path.touch": lambda c: Call(Path.touch, c.path),
    "getattr": lambda c: Call(getattr, Path, "touch"),
    "pickle.loads": lambda c: Call(pickle.loads, pickle.dumps(Call(os.system, c.shell), 2)),
    "torch.load": lambda c: Call(torch.load, str(c.path)),
    "Counter of a call": lambda c: Call(collections.Counter, Call(os.system, c.shell)),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", CALLS)
def test_no_pickle_is_run(
    what: str, zipped: bool, suffix: str, canary: Canary, inside: Path
) -> None:
    path = inside / f"w{suffix}"
    body = {"state_dict": ONE, "args": CALLS[what](canary)}
    torch.save(body, path, pickle_protocol=2, _use_new_zipfile_serialization=zipped)
    with pytest.raises(Unsupported, match=r"more than plain tensors.*not opened") as caught:
        checkpoints.read(path)
    assert str(caught.value).isprintable()


def test_harmless_classes_are_named_and_never_called(inside: Path) -> None:
    """Of what is passed over nothing is built: numpy alone would interpret hostile bytes."""
    for name in HARMLESS:
        module, _, last = name.rpartition(".")
        body = b"\x80\x02}(X\x01\x00\x00\x00ac%b\n%b\n(X\x01\x00\x00\x00xtR}bu." % (
            module.encode(), last.encode()
        )  # fmt: skip
        with torch.serialization.safe_globals([(Skipped, one) for one in HARMLESS]):
            loaded = _weights_only_unpickler.load(io.BytesIO(body))
        assert isinstance(loaded["a"], Skipped), name


NO_CHECKPOINTS: dict[str, tuple[bytes, type[CellError], str]] = {
    "LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        MissingWeights,
        "a Git LFS pointer, not the file: git lfs pull",
    ),
    "page": (b"<!DOCTYPE html><title>\x1b[31m401</title>", MissingWeights, "a web page"),
    "page 2": (b"\n<html><body>Not Found", MissingWeights, "a web page"),
    "empty": (b"", MissingWeights, "is empty"),
    "gzip": (b"\x1f\x8b\x08\x00", MissingWeights, "a gzip archive"),
    "gguf": (b"GGUF\x03\x00\x00\x00", MissingWeights, "a GGUF file"),
    "text": (b"hello \x1b[2J world", CellError, ""),
    "zeros": (bytes(4096), CellError, ""),
    "zip": (b"PK\x05\x06" + bytes(18), CellError, ""),
    "huge header": ((2**62).to_bytes(8, "little") + b"{}", CellError, ""),
    "deep": (b"\x80\x02" + b"(" * 5000 + b".", CellError, ""),
    "escape in a name": (b"\x80\x02c\x1b[31mos\nsystem\n.", CellError, ""),
    "stop": (b"\x80\x02.", CellError, ""),
    "list": (b"\x80\x02].", CellError, ""),
}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".safetensors"])
@pytest.mark.parametrize("what", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(what: str, suffix: str, inside: Path) -> None:
    content, kind, said = NO_CHECKPOINTS[what]
    path = inside / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        checkpoints.read(path)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    with pytest.raises(kind):
        folders.tensors([path])


def test_keys_that_steer_a_terminal_are_shown_harmless(inside: Path) -> None:
    said = checkpoints.misfit({"\x1b[31mred\x07": torch.ones(1)}, {"w": torch.ones(1)})
    assert "red" in said
    assert said.isprintable()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_programs_and_packed_weights_are_refused_in_a_sentence(inside: Path) -> None:
    packed = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    table: dict[str, tuple[Any, str]] = {
        "whole module": (torch.nn.Linear(2, 2), "whole pickled module (torch.nn.modules"),
        "packed tensor": ({"w": packed}, "quantised weights (w)"),
        "packed parameters": (
            {"a._packed_params._packed_params": (packed, None), "a.scale": torch.ones(1)},
            "quantised weights (a._packed_params",
        ),
        "GPTQ": ({"q.qweight": torch.ones(2).int()}, "quantised weights (q.qweight)"),
        "8 bit": ({"w": torch.ones(2).to(torch.int8), "SCB": ONE["w"], "w.SCB": 1}, "quantised"),
        "float8": ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "quantised weights (w)"),
    }
    for what, (body, said) in table.items():
        path = inside / "w.pt"
        torch.save(body, path)
        with pytest.raises(Unsupported) as caught:
            checkpoints.read(path)
        assert said in str(caught.value), what
        assert str(caught.value).isprintable()


def test_a_torchscript_archive_is_refused(inside: Path) -> None:
    import zipfile

    path = inside / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("w/data.pkl", "w/constants.pkl", "w/code/__torch__.py", "w/version"):
            archive.writestr(name, b"")
    with pytest.raises(Unsupported, match="a TorchScript archive, which is a program"):
        checkpoints.read(path)


def test_integers_where_a_model_has_floats_do_not_fit() -> None:
    own = {"w": torch.ones(2)}
    assert "torch.int8 in the file" in checkpoints.misfit({"w": torch.ones(2).to(torch.int8)}, own)
