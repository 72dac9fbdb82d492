"""Models of transformers in GGUF, one file with configuration, tokenizer and quantised weights.

transformers' own path reads them, by the package `gguf` (extra `gguf`), and makes float32 of the
weights: what is judged are the quantised values, computed with in float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors
from zoobench.models.text import quiet, transformers_errors

if TYPE_CHECKING:
    import torch


def read(path: Path, auto: str, *, random: bool = False) -> tuple[Any, torch.nn.Module]:
    """(tokenizer, module in float32) of the file at `path`, by transformers' class `auto`, such as
    "AutoModelForCausalLM"; its weights drawn where `random`.

    Raises MissingExtra without the package, MissingWeights and Unsupported for what it cannot read.
    """
    import torch
    import transformers

    if importlib.util.find_spec("gguf") is None:
        raise errors.missing_extra("gguf", "gguf", f"reading {path.name}")
    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    # Its bar knows no switch.
    with transformers_errors(str(path)), quiet(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path.parent, trust_remote_code=False, **where
        )
        # Read once: the file's metadata, a vocabulary, take seconds each time.
        config = transformers.AutoConfig.from_pretrained(
            path.parent, trust_remote_code=False, **where
        )
        kind = getattr(transformers, auto)
        if random:
            return tokenizer, kind.from_config(config, trust_remote_code=False).float()
        read = kind.from_pretrained(
            path.parent, config=config, dtype=torch.float32, trust_remote_code=False, **where
        )
        # What it gives calls itself quantised still, and refuses to be moved or saved.
        config = type(read.config).from_dict(read.config.to_dict())
        config.__dict__.pop("quantization_config", None)
        module = type(read)(config).float()
        module.load_state_dict(read.state_dict())
    return tokenizer, module
