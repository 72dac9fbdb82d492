"""Maps of torchvision's models: every class has its layers, and rows stay rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.models as zoo

from zoobench.errors import Unsupported
from zoobench.models import torchvision_maps
from zoobench.models.dense import padded

SMALL: dict[str, Callable[[], Any]] = {
    "vit": lambda: zoo.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    ),
    "swin": lambda: zoo.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=[7, 7], stochastic_depth_prob=0.0,
    ),
    "densenet": lambda: zoo.DenseNet(
        growth_rate=4, block_config=(1, 1, 1, 1), num_init_features=8
    ),
    "squeezenet": zoo.squeezenet1_1,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(128, 192), (60, 100)])
def test_a_changed_tile_changes_its_cell_most(name: str, size: tuple[int, int]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SMALL[name]().eval()
    own = {k: v.clone() for k, v in module.state_dict().items()}
    reader = torchvision_maps.reader(module, size)
    assert reader.size == padded(size, 8 if name == "vit" else 32)
    height, width = reader.size
    base = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    other = base.clone()
    other[..., : height // 2, width // 2 :] *= -1
    with torch.no_grad():
        maps = reader.read(reader.module, torch.cat([base, other]), range(len(reader.taps)))
    for one in maps:
        change = (one[1] - one[0]).square().sum(0)[None, None]
        coarse = torch.nn.functional.adaptive_avg_pool2d(change, (2, 2))[0, 0]
        assert divmod(int(coarse.argmax()), 2) == (0, 1)
    assert all(torch.equal(own[k], v) for k, v in module.state_dict().items())


def test_a_vit_at_its_own_size_is_read_as_it_computes() -> None:
    module = SMALL["vit"]().eval()
    reader = torchvision_maps.reader(module, (32, 32))
    batch = torch.randn(2, 3, 32, 32)
    seen: list[torch.Tensor] = []
    module.encoder.ln.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        module(batch)
        last = reader.read(reader.module, batch, [1])[0]
    torch.testing.assert_close(last.flatten(2).transpose(1, 2), seen[0][:, 1:])


def test_a_class_that_is_not_known_says_which_are() -> None:
    with pytest.raises(Unsupported, match=r"no layers of a Linear are known.*ResNet"):
        torchvision_maps.reader(torch.nn.Linear(2, 2), (32, 32))
