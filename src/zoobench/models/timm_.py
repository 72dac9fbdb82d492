"""timm/...: every model of timm, and timm models on the hub (timm/user/name).

The hub's client and cache are timm's own; a revision is a commit of the model's hub
repository, and "" means its main branch. timm builds the network and fits tensors into
it; which tensors, from which file, is never left to it or to a repository's config.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoobench import errors, hub
from zoobench.errors import MissingWeights, Unsupported, UserError, opening
from zoobench.files import expanded
from zoobench.models import checkpoints, folders, index, options, timm_config, timm_maps, torchhub
from zoobench.models.backbones import Blueprint, ImageBackbone, finish, seeded
from zoobench.models.timm_cards import cards
from zoobench.schema import ModelCard

if TYPE_CHECKING:
    import torch

    from zoobench.interfaces import Backbone, InputSpec
    from zoobench.models.checkpoints import State
    from zoobench.schema import Ref, Value
    from zoobench.transfer import Meter

POOLS = {"avg": "avg", "max": "max", "cls": "token"}
"""Our names of poolings -> timm's."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

__all__ = [
    "available", "backbone_of", "cards", "fetch", "find", "load", "repository", "resolve", "whole",
]  # fmt: skip


def _is_repo(name: str) -> bool:
    return "/" in name


def find(ref: Ref, where: str = "") -> ModelCard:
    """The card of a resolved ref. Raises UnknownName."""
    if _is_repo(ref.name):
        return ModelCard(
            "timm",
            ref.name,
            "image",
            weights=f"Hugging Face hub {ref.name}",
            family=index.family(ref.name.rpartition("/")[2]),
            extra=(("hub", ref.name),),
        )
    table = index.by_name("timm")
    if ref.name not in table:
        raise errors.unknown(where, "model", ref.id, [f"timm/{name}" for name in table])
    return table[ref.name][0]


def resolve(ref: Ref, where: str) -> Ref:
    at = opening(where)
    name = ref.name.removeprefix("hf-hub:").removeprefix("hf_hub:")
    if _is_repo(name) and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{at}{ref.id!r} is not of the form timm/name or timm/user/name")
    bare = type(ref)(ref.source, name, ref.revision, ref.options)
    card = find(bare, where)
    facts = dict(card.extra)
    named = type(ref)(ref.source, card.name, ref.revision, ref.options)
    known: dict[str, Value] = {
        k: facts[k] for k in ("input_size", "crop_pct", "interpolation") if k in facts
    }
    more = ("configuration",) if _is_repo(name) else ()
    named = options.normalise(named, where, "image", known, tuple(POOLS), more)
    weights = named.option("weights", "pretrained")
    if weights == "pretrained" and not ("hub" in facts or "url" in facts):
        raise UserError(f"{at}{ref.id} has no pretrained weights in timm; use weights=random")
    if named.revision and "hub" not in facts:
        raise UserError(f"{at}{ref.id} does not come from the hub, so it has no revisions")
    return named


def repository(ref: Ref) -> str | None:
    """The hub repository that `ref`'s weights come from, if any."""
    if ref.option("weights", "pretrained") != "pretrained":
        return None
    name = dict(find(ref).extra).get("hub")
    return str(name).partition("@")[0] if name else None


def _chooser(card: ModelCard) -> hub.Choose:
    """config.json and the weights in their safest form, as timm itself would take them."""
    facts = dict(card.extra)
    named = str(facts.get("file", ""))
    safe = named.replace("pytorch_model", "model").rpartition(".")[0] + ".safetensors"
    wanted = (safe, named) if named else WEIGHT_FILES

    def choose(names: Sequence[str]) -> list[str]:
        weights = next((name for name in wanted if name in names), None)
        config = hub.config_only(names)
        if weights is None or (_is_repo(card.name) and not config):
            return []
        return [*config, weights]

    return choose


def available(ref: Ref) -> tuple[bool, str]:
    weights = ref.option("weights", "pretrained")
    card = find(ref)
    facts = dict(card.extra)
    if weights != "pretrained":
        return Path(str(weights)).exists(), f"local {weights}"
    if "url" in facts:
        return torchhub.available(str(facts["url"]))
    repo = repository(ref)
    if repo is None:
        return False, card.weights
    if hub.cached(repo, ref.revision, _chooser(card)):
        return True, f"in {hub.cache_folder()}"
    return False, f"on the hub ({repo}), not downloaded yet"


def fetch(ref: Ref, meter: Meter) -> None:
    """Download what `load` will read. Raises MissingWeights."""
    _fetch(ref, find(ref), {}, meter)


def load(ref: Ref, seed: int) -> Backbone:
    """Raises MissingWeights, and Unsupported for what does not fit or cannot be resized."""
    return backbone_of(*whole(ref, seed))


def whole(ref: Ref, seed: int) -> tuple[Any, Ref, dict[str, Any], dict[str, Any]]:
    """The module with its classifier, `ref`, what its record says of it, and the arguments that it
    was made with. Raises as `load` does."""
    card = find(ref)
    weights = str(ref.option("weights", "pretrained"))
    provenance: dict[str, Any] = {"weights": weights}
    name, config, arguments = card.name, dict[str, Any](), dict[str, Any]()
    files: list[Path] = []
    described: Path | None = None  # a repository's config.json
    if weights == "pretrained":
        files, described = _fetch(ref, card, provenance)
    elif weights != "random":
        files = _local(Path(weights), provenance)
    if _is_repo(ref.name):
        name, config, arguments = timm_config.read(described or _described(ref), ref.short)
    arguments = _sized(name, config, arguments, ref)
    create = partial(_create, name, config, arguments)
    with seeded(seed):
        module, dropped = _filled(create, files, weights != "pretrained", ref)
    if dropped:
        provenance["dropped_keys"] = list(dropped)
    return module, ref, provenance, arguments


def _described(ref: Ref) -> Path:
    """The config.json that tells what a repository's model is: the local folder's own where its
    weights come from one, else the hub's."""
    for given in (ref.option("configuration"), ref.option("weights")):
        folder = expanded(str(given))
        if given is not None and folder.is_dir():
            return folder / "config.json"
    return hub.fetch(ref.name, ref.revision, hub.config_only, "config.json").files[0]


def _local(path: Path, provenance: dict[str, Any]) -> list[Path]:
    """The files of a local checkpoint, which are one or a folder's, and their facts."""
    files = folders.weight_files(path) if path.is_dir() else [path]
    provenance |= checkpoints.facts(files[-1])
    if len(files) > 1:
        sha256 = [checkpoints.sha256_file(one) for one in files]
        provenance["weights_sha256"] = folders.digest(sha256)
        provenance["weights_bytes"] = sum(one.stat().st_size for one in files)
    return files


def _fetch(
    ref: Ref, card: ModelCard, provenance: dict[str, Any], meter: Meter | None = None
) -> tuple[list[Path], Path | None]:
    """(weights, config.json) of the pretrained model, and where they came from."""
    url = dict(card.extra).get("url")
    if url is not None:
        path, sha256 = torchhub.fetch(str(url), meter)
        provenance |= {**checkpoints.facts(path, sha256), "url": url}
        return [path], None
    repo = repository(ref)
    if repo is None:
        raise MissingWeights(f"{ref.short} has no pretrained weights in this version of timm")
    wanted = f"config.json and {' or '.join(WEIGHT_FILES)}"
    snapshot = hub.fetch(repo, ref.revision, _chooser(card), wanted, meter)
    path = snapshot.files[-1]
    facts = checkpoints.facts(path, snapshot.sha256)
    provenance |= {**facts, "repository": repo, "revision": snapshot.commit}
    return [path], snapshot.folder / "config.json"


def _sized(
    name: str, config: dict[str, Any], arguments: dict[str, Any], ref: Ref
) -> dict[str, Any]:
    """The model's arguments, with the input size where the architecture has to be told."""
    import timm

    known = timm.get_pretrained_cfg(name)
    fixed = config.get("fixed_input_size", bool(known and known.fixed_input_size))
    side = ref.option("input_size")
    return {**arguments, "img_size": side} if fixed and side is not None else arguments


def _create(
    name: str, config: Mapping[str, Any], arguments: Mapping[str, Any], state: State | None = None
) -> Any:
    """timm's own constructor, with random weights or those of `state`."""
    import timm

    extra: dict[str, Any] = {}
    if config:
        extra["pretrained_cfg"] = {"architecture": name, **config}
    if state is not None:
        extra["pretrained_cfg_overlay"] = {"state_dict": state}
    return timm.create_model(name, pretrained=state is not None, **extra, **arguments)


def _filled(
    create: Callable[..., Any], files: list[Path], local: bool, ref: Ref
) -> tuple[Any, tuple[str, ...]]:
    """The model with the weights in `files` (none: random), and the keys left out.

    `create` makes it, with random weights or those it is given; `ref` names it in messages, and
    which keys of a file are its own.
    """
    what = ref.short
    try:
        model = create()
    except MemoryError:
        raise
    except Exception as error:  # many kinds: the arguments are a stranger's
        raise Unsupported(f"{what}: timm cannot build it so: {error}") from error
    if not files:
        return model, ()
    state = folders.tensors(files, str(ref.option("prefix", "")) if local else "")
    dropped: tuple[str, ...] = ()
    if local:
        own = dict(model.state_dict())
        inner = checkpoints.unwrap(state, own)
        outside = checkpoints.left_out(state, inner)
        state, dropped = checkpoints.without_heads(inner, own, _heads(model))
        dropped = (*outside, *dropped)
        if not checkpoints.misfit(state, own):
            model.load_state_dict(state, strict=False)
            return model, dropped
    # timm's own path: its filters rename the keys of other code bases and resize
    # position embeddings, then it loads strictly.
    try:
        loaded = create(state)
    except (RuntimeError, KeyError, ValueError, AttributeError, AssertionError, TypeError) as error:
        wrong = checkpoints.misfit(state, model.state_dict())
        raise Unsupported(
            f"{files[0]} into {what}: the weights do not fit the model: {wrong or error}"
        ) from error
    loaded.pretrained_cfg.pop("state_dict", None)  # else the tensors are kept twice
    return loaded, dropped


def _heads(module: Any) -> tuple[str, ...]:
    named = module.pretrained_cfg.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def backbone_of(
    module: Any, ref: Ref, provenance: dict[str, Any], arguments: Mapping[str, Any] | None = None
) -> ImageBackbone:
    """The finished backbone over one of timm's modules, which was made with `arguments`. Raises
    Unsupported."""
    from zoobench.models.images import timm_preprocessing

    spec, transform = timm_preprocessing(module.pretrained_cfg, ref)
    pool = ref.option("pool")
    head = _source_head(module, ref)
    try:
        module.reset_classifier(0, *([POOLS[pool]] if pool else []))
    except (AssertionError, RuntimeError, TypeError, NotImplementedError, ValueError) as error:
        raise Unsupported(f"{ref.short}: this architecture has no pooling {pool!r}") from error
    pooling = pool or _pooling(module)
    backbone = ImageBackbone(
        module, spec, pooling, transform, pooled_features, reads_maps=timm_maps.reader
    )
    backbone = finish(backbone, provenance, ("timm", "torchvision", "pillow"))
    backbone.blueprint = Blueprint("timm", _settings(module, spec, pool, arguments or {}))
    if head is not None and head.in_features == backbone.feature_dim:
        backbone.source_head = head.eval().requires_grad_(False)
    return backbone


def _settings(
    module: Any, spec: InputSpec, pool: str | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What timm makes the same model and transform of, in the shape of a repository's config.json;
    `pool` are the arguments of `reset_classifier` after the number of classes."""
    own = module.pretrained_cfg
    told = {key: own[key] for key in timm_config.FIELDS if own.get(key) is not None}
    names = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
    return {
        "architecture": own["architecture"],
        "pretrained_cfg": told,
        "model_args": dict(arguments),
        "pool": [POOLS[pool]] if pool else [],
        "transform": {"input_size": spec.size, **{name: getattr(spec, name) for name in names}},
    }


def _source_head(module: Any, ref: Ref) -> torch.nn.Linear | None:
    """The linear classifier that pretrained weights came with; None where there is none.

    Another pooling than the model's own would feed it what it never saw.
    """
    import torch

    if ref.option("weights", "pretrained") != "pretrained" or ref.option("pool") is not None:
        return None
    head = module.get_classifier()
    return head if isinstance(head, torch.nn.Linear) else None


def _pooling(module: Any) -> str:
    """timm's name for how the model pools, in our words where we have one."""
    pool = getattr(module, "global_pool", None)
    pool = getattr(getattr(module, "head", None), "global_pool", None) if pool is None else pool
    kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", "")
    ours = {theirs: name for name, theirs in POOLS.items()}
    return ours.get(kind, str(kind) or "the model's own")


def pooled_features(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """(N, D): timm's pooled features just before the classifier."""
    model: Any = module
    features: torch.Tensor = model.forward_head(model.forward_features(batch), pre_logits=True)
    return features
