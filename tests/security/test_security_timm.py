"""A timm repository's config.json: architecture and sizes are believed, places and code are not."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hostile import Canary
from tinymodels import tiny_timm, write_files
from zoobench import models
from zoobench.errors import CellError, MissingWeights, Unsupported
from zoobench.models import timm_, timm_config


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "create_connection", refused)


@pytest.fixture
def net(inside: Path, no_network: None) -> Path:
    """A repository as it lies in the cache, which `fetched` hands out without a hub."""
    return write_files(tiny_timm(seed=1), inside / "net")


@pytest.fixture
def load(net: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads timm/me/net as if the hub had given the files in `net`."""

    def fetched(*args: Any) -> tuple[list[Path], Path]:
        return [net / "model.safetensors"], net / "config.json"

    monkeypatch.setattr(timm_, "_fetch", fetched)
    return lambda: models.load(models.resolve("timm/me/net"))


def change(net: Path, where: str, **fields: Any) -> None:
    path = net / "config.json"
    body = json.loads(path.read_text("utf-8"))
    part = body if not where else body.setdefault(where, {})
    part |= fields
    path.write_text(json.dumps(body), "utf-8")


PLACES = {
    "file": "../other/model.safetensors",
    "url": "http://127.0.0.1:9/w.pth",
    "hf_hub_id": "me/other",
    "hf_hub_filename": "pytorch_model.bin",
    "source": "hf-hub",
    "custom_load": True,
    "state_dict": {"x": 1},
}


@pytest.mark.parametrize("source", ["", "hf-hub", "local-dir", "file", "url"])
@pytest.mark.parametrize("keys", [*([key] for key in PLACES), list(PLACES)])
def test_the_weights_are_those_of_the_verified_file_whatever_is_said(
    keys: list[str], source: str, net: Path, load: Any, inside: Path, canary: Canary
) -> None:
    other = write_files(tiny_timm(seed=2), inside / "other")
    torch.save({"x": torch.zeros(1)}, other / "pytorch_model.bin")
    said = {key: PLACES[key] for key in keys}
    change(net, "pretrained_cfg", **(said | ({"source": source} if source else {})))
    change(net, "", **{key: value for key, value in said.items() if key != "state_dict"})
    state = load_file(net / "model.safetensors")
    own = load().module.state_dict()
    assert own
    assert all(torch.equal(value, state[key]) for key, value in own.items())


ARGUMENTS: list[tuple[str, Any]] = [
    ("checkpoint_path", "evil.pth"),
    ("checkpoint_path", 3),
    ("pretrained", True),
    ("pretrained", False),
    ("pretrained_cfg", {"file": "evil.pth"}),
    ("pretrained_cfg", "a1_in1k"),
    ("pretrained_cfg_overlay", {"file": "evil.pth"}),
    ("pretrained_strict", False),
    ("pretrained_filter_fn", "os.system"),
    ("pretrained_model_args", {}),
    ("cache_dir", "/tmp"),
    ("features_only", True),
    ("feature_cls", "hook"),
    ("out_indices", [0]),
    ("scriptable", True),
    ("exportable", True),
    ("no_jit", True),
    ("device", "cuda"),
    ("dtype", "float16"),
    ("pruned", True),
    ("cfg", {"x": 1}),
    ("model_cfg", 1),
    ("model_name", "resnet18"),
    ("act_layer", "../../x"),
    ("act_layer", "os.system('x')"),
    ("norm_layer", {"x": 1}),
    ("block_args", "ds_r1_k3"),
    ("img_size", 10**9),
    ("embed_dim", float("inf")),
    ("depths", [1] * 999),
    ("depths", [[[1]]]),
    ("depths", "3"),
    ("a b", 1),
    ("__class__", {}),
    ("no_such_argument", 1),
    ("num_classes", 9),
    ("in_chans", 1),
]


@pytest.mark.parametrize(("key", "value"), ARGUMENTS)
def test_no_other_argument_reaches_the_constructor(
    key: str, value: Any, net: Path, load: Any, canary: Canary
) -> None:
    (net / "evil.pth").write_bytes(b"not a checkpoint")
    change(net, "model_args", **{key: value})
    with pytest.raises(Unsupported, match=key):
        load()


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "hf-hub:me/other"},
        {"architecture": "hf_hub:me/other"},
        {"architecture": "local-dir:/tmp"},
        {"architecture": "../net"},
        {"architecture": "os.system"},
        {"architecture": ""},
        {"architecture": None},
        {"architecture": ["test_resnet"]},
        {"architecture": "no_such_net"},
        {"pretrained_cfg": [1]},
        {"pretrained_cfg": "a1_in1k"},
        {"model_args": [1]},
        {"num_classes": -1},
        {"num_classes": 2**40},
        {"num_classes": "5"},
    ],
)
def test_what_is_no_architecture_of_timms_is_refused(
    fields: dict[str, Any], net: Path, load: Any
) -> None:
    change(net, "", **fields)
    with pytest.raises(Unsupported, match=r"its config\.json"):
        load()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_size", [3, 10**6, 10**6]),
        ("input_size", [3, 0, 0]),
        ("input_size", "big"),
        ("input_size", [3, 32]),
        ("interpolation", "random"),
        ("interpolation", 3),
        ("crop_pct", 0),
        ("crop_pct", -1),
        ("crop_pct", "0.9"),
        ("crop_mode", "elsewhere"),
        ("mean", [float("nan")] * 3),
        ("mean", "0.5"),
        ("std", [0, 0, 0]),
        ("std", [1e300] * 3),
        ("classifier", "../fc"),
        ("classifier", {"x": 1}),
        ("first_conv", ["conv1", 3]),
        ("label_offset", -1),
        ("pool_size", "7"),
        ("fixed_input_size", "yes"),
    ],
)
def test_a_preprocessing_that_is_no_preprocessing_is_refused(
    key: str, value: Any, net: Path, load: Any
) -> None:
    change(net, "pretrained_cfg", **{key: value})
    with pytest.raises(Unsupported, match=key):
        load()


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"x"', "[" * 100_000, "\udcff"])
def test_a_damaged_configuration_is_said_to_be_damaged(content: str, net: Path, load: Any) -> None:
    (net / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CellError, match="config"):
        load()


def test_a_configuration_that_is_not_there_is_named(net: Path, load: Any) -> None:
    (net / "config.json").unlink()
    with pytest.raises(MissingWeights, match=r"holds no config\.json"):
        load()


@pytest.mark.parametrize("kept", ["nothing", "half"])
def test_weights_that_would_be_fetched_or_left_at_random_are_refused(
    kept: str, net: Path, load: Any
) -> None:
    path = net / "model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if kept == "half" and "layer1" not in k}, path)
    with pytest.raises(CellError, match="holds no tensors" if kept == "nothing" else "do not fit"):
        load()


def test_usual_arguments_pass(inside: Path) -> None:
    import timm

    body = {
        "architecture": "test_vit",
        "num_classes": 0,
        "model_args": {
            "img_size": 32, "patch_size": 8, "depth": 1, "init_values": 1e-5, "class_token": False,
            "global_pool": "avg", "act_layer": "gelu_tanh", "norm_layer": "rmsnorm",
            "pos_drop_rate": 0, "dynamic_img_size": True, "reg_tokens": None,
        },
    }  # fmt: skip
    (inside / "config.json").write_text(json.dumps(body))
    name, config, arguments = timm_config.read(inside / "config.json", "it")
    model = timm.create_model(name, pretrained_cfg={"architecture": name, **config}, **arguments)
    save_file(model.state_dict(), inside / "model.safetensors")
    backbone: Any = models.load(models.resolve(f"timm/me/own?weights={inside}"))
    own = backbone.module.state_dict()
    assert all(torch.equal(own[key], value) for key, value in model.state_dict().items())


def test_every_configuration_of_timms_own_is_read() -> None:
    import timm

    for name in timm.list_models(pretrained=True)[::7]:
        known = timm.get_pretrained_cfg(name).to_dict()
        body = json.loads(json.dumps(known))
        for key, allowed in timm_config.FIELDS.items():
            assert body.get(key) is None or allowed(body[key]), (name, key)


def test_a_local_folder_is_read_with_its_own_configuration_and_without_a_hub(net: Path) -> None:
    backbone: Any = models.load(models.resolve(f"timm/me/net?weights={net}"))
    assert backbone.input_spec.size == (3, 32, 32)
    state = load_file(net / "model.safetensors")
    assert all(torch.equal(v, state[k]) for k, v in backbone.module.state_dict().items())
    drawn: Any = models.load(models.resolve(f"timm/me/net?weights=random&configuration={net}"), 5)
    assert drawn.input_spec == backbone.input_spec
    assert not torch.equal(drawn.module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
