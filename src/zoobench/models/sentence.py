"""The recipe of a sentence-transformers folder: its pooling, layers, prompt and tokenisation.

Everything that the library's own `encode` would do is done, or refused by name: half of a
recipe gives other features than the model's own. modules.json says what follows what:

    Transformer -> Pooling -> any of Dense and Normalize
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench.errors import MissingWeights, Unsupported
from zoobench.models import checkpoints, folders

if TYPE_CHECKING:
    import torch

    from zoobench.models.checkpoints import State

POOLS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY_POOLS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Its older spelling: one key a mode, true or false."""
TRANSFORMER = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names that the settings of the Transformer module have had; the first that is there counts."""
PROMPTS = "config_sentence_transformers.json"
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "LeakyReLU")
"""Classes of torch.nn that a Dense layer may name; a name is looked up, never imported."""


@dataclass(frozen=True)
class Dense:
    """A layer after the pooling: activation(weight @ x + bias). `folder` holds its weights."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class PoolingRecipe:
    """How a folder turns token states into one vector, and what it reads of a text.

    `layers` follow the pooling in their order: a Dense, or None for a division by the length.
    """

    pool: str = "mean"
    layers: tuple[Dense | None, ...] = ()
    length: int | None = None
    lower_case: bool = False
    prompt: str = ""

    @property
    def pooling(self) -> str:
        return "+".join([self.pool, *("dense" if layer else "l2" for layer in self.layers)])


def recipe(folder: Path) -> PoolingRecipe:
    """What sentence-transformers' files in `folder` say, or the default where there are none.

    Raises MissingWeights where a file that they name is not there, Unsupported for what is
    not done here.
    """
    modules = folders.read_json(folder / "modules.json")
    if modules is None:
        return PoolingRecipe()
    if not isinstance(modules, list) or not all(isinstance(one, Mapping) for one in modules):
        raise MissingWeights(f"{folder / 'modules.json'} is not a list of modules")
    kinds = [_kind(module, folder) for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= {"Dense", "Normalize"}:
        raise Unsupported(
            f"{folder / 'modules.json'}: {', '.join(kinds) or 'nothing'} is not a recipe that is "
            "followed here: Transformer, Pooling, then any of Dense and Normalize"
        )
    if modules[0].get("path"):
        raise Unsupported(f"{folder / 'modules.json'}: its Transformer lies in another folder")
    settings = _transformer(folder)
    layers = tuple(
        _dense(folder, module) if kind == "Dense" else None
        for kind, module in zip(kinds[2:], modules[2:], strict=True)
    )
    prompt = _prompt(folder)
    return PoolingRecipe(
        pool=_pool(folder, modules[1], prompt),
        layers=layers,
        length=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case")),
        prompt=prompt,
    )


def _kind(module: Mapping[str, Any], folder: Path) -> str:
    """The class of a module of the library; one of somebody else's is code."""
    name = str(module.get("type", ""))
    if not name.startswith("sentence_transformers."):
        raise Unsupported(f"{folder / 'modules.json'}: {name!r} needs code of its own")
    return name.rpartition(".")[2]


def _config(folder: Path, module: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(name of the file, its content) of a module's config.json, which must be there."""
    name = f"{module.get('path', '')}/config.json".lstrip("/")
    path = folders.inside(folder, name)
    body = folders.read_json(path)
    if not isinstance(body, Mapping):
        raise MissingWeights(f"{path} cannot be read: it is not a table")
    return name, body


def _table(path: Path) -> Mapping[str, Any]:
    body = folders.read_json(path)
    if body is not None and not isinstance(body, Mapping):
        raise MissingWeights(f"{path} cannot be read: it is not a table")
    return body or {}


def _transformer(folder: Path) -> Mapping[str, Any]:
    """The settings of the Transformer module. Raises Unsupported for any that is not read."""
    name = next((name for name in TRANSFORMER if (folder / name).exists()), TRANSFORMER[0])
    settings = _table(folder / name)
    length = settings.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise Unsupported(f"{folder / name}: max_seq_length {length!r} is not a number of tokens")
    usual = {
        "transformer_task": "feature-extraction",
        "module_output_name": "token_embeddings",
    }
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    for key, value in settings.items():
        read = key in ("max_seq_length", "do_lower_case", "unpad_inputs")
        if key == "modality_config":
            read = isinstance(value, Mapping) and value.get("text", forward) == forward
        if value and not read and value != usual.get(key):
            raise Unsupported(f"{folder / name}: {key} is not supported")
    return settings


def _pool(folder: Path, module: Mapping[str, Any], prompt: str) -> str:
    name, config = _config(folder, module)
    on = [mode for key, mode in LEGACY_POOLS.items() if config.get(key) is True]
    named = config.get("pooling_mode", on or "mean")
    chosen = [named] if isinstance(named, str) else list(named or ())
    if len(chosen) != 1 or chosen[0] not in POOLS:
        said = " and ".join(map(str, chosen)) or "none"
        raise Unsupported(f"{folder / name}: the pooling {said} is none of {', '.join(POOLS)}")
    if prompt and config.get("include_prompt") is False:
        raise Unsupported(f"{folder / name}: include_prompt = false is not supported")
    return str(chosen[0])


def _prompt(folder: Path) -> str:
    """What the library puts before every text where nothing else is asked for."""
    config = _table(folder / PROMPTS)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise Unsupported(f"{folder / PROMPTS}: a {kind} gives no features of whole texts")
    name = config.get("default_prompt_name")
    if name is None:
        return ""
    prompts = config.get("prompts")
    if not isinstance(prompts, Mapping) or not isinstance(prompts.get(name), str):
        raise MissingWeights(f"{folder / PROMPTS}: it holds no prompt {name!r}, its default")
    return str(prompts[name])


def _dense(folder: Path, module: Mapping[str, Any]) -> Dense:
    name, config = _config(folder, module)
    at = folder / name
    places = (config.get("module_input_name"), config.get("module_output_name"))
    if config.get("use_residual") or not {*places} <= {None, "sentence_embedding"}:
        raise Unsupported(f"{at}: a Dense layer beside the path of the features is not supported")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    parts = activation.split(".")
    if parts[:2] != ["torch", "nn"] or parts[-1] not in ACTIVATIONS:
        raise Unsupported(
            f"{at}: the activation {activation!r} is none of {', '.join(ACTIVATIONS)}"
        )
    sizes: list[Any] = [config.get("in_features"), config.get("out_features")]
    if not all(isinstance(size, int) and 0 < size < 2**16 for size in sizes):
        raise Unsupported(f"{at}: {sizes[0]!r} to {sizes[1]!r} features is no size of a layer")
    bias = bool(config.get("bias", True))
    return Dense(at.parent, int(sizes[0]), int(sizes[1]), bias, parts[-1])


def with_layers(
    encoder: torch.nn.Module, how: PoolingRecipe, random: bool
) -> tuple[torch.nn.Module, list[Path]]:
    """`encoder` and its Dense layers as one module, and the files that these came from.

    Raises MissingWeights, and Unsupported where a file does not fit its layer.
    """
    import torch

    dense = [layer for layer in how.layers if layer is not None]
    if not dense:
        return encoder, []
    whole = torch.nn.ModuleDict({"encoder": encoder})
    whole.config = encoder.config  # as the encoder alone would show it
    files = []
    for number, layer in enumerate(dense):
        linear = torch.nn.Linear(layer.inputs, layer.outputs, layer.bias)
        if not random:
            here = folders.weight_files(layer.folder)
            state = {k.removeprefix("linear."): v for k, v in folders.tensors(here).items()}
            checkpoints.fit(linear, state, f"{here[0]} into a Dense layer")
            files += here
        activation = getattr(torch.nn, layer.activation)()
        whole[f"dense_{number}"] = torch.nn.Sequential(linear, activation)
    return whole.float(), files


def parts(how: PoolingRecipe, module: Any) -> tuple[State, State]:
    """The tensors of the encoder, and those of the Dense layers by their place in `how.layers`."""
    if not any(how.layers):
        return module.state_dict(), {}
    places = [place for place, layer in enumerate(how.layers) if layer]
    dense = {
        f"{place}.{name}": tensor
        for number, place in enumerate(places)
        for name, tensor in module[f"dense_{number}"][0].state_dict().items()
    }
    return module["encoder"].state_dict(), dense


def pooled(how: PoolingRecipe, module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, D): the features of a batch as `how` makes them of the last hidden states."""
    from torch.nn.functional import normalize

    from zoobench.models.backbones import pool_tokens

    encoder = module["encoder"] if any(how.layers) else module
    hidden = encoder(**batch).last_hidden_state
    features = pool_tokens(hidden, batch["attention_mask"], how.pool)
    number = 0
    for layer in how.layers:
        if layer is None:
            features = normalize(features, dim=-1)
        else:
            features = module[f"dense_{number}"](features)
            number += 1
    return features


def states(
    how: PoolingRecipe, module: Any, batch: Mapping[str, torch.Tensor], wanted: Sequence[int]
) -> list[torch.Tensor]:
    """(N, T, D) hidden states after each of the layers `wanted`, which count from 1. Raises
    Unsupported for a network that does not give one for each of its layers."""
    encoder = module["encoder"] if any(how.layers) else module
    found = encoder(**batch, output_hidden_states=True)
    held = getattr(found, "hidden_states", None) or ()
    if len(held) != int(encoder.config.num_hidden_layers) + 1:
        raise Unsupported(
            f"it gives {len(held)} hidden states, where one for each of its layers was due"
        )
    return [held[layer] for layer in wanted]
