"""Pictures in frames, maps on grids, and what every backbone's maps have to obey."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoobench import models
from zoobench.errors import Unsupported
from zoobench.models.dense import colours, dense, lay, placement, resample

PLACED = [  # picture, frame, fit, content
    ((100, 300), (224, 224), "letterbox", (75, 224)),
    ((300, 100), (224, 224), "letterbox", (224, 75)),
    ((224, 224), (224, 224), "letterbox", (224, 224)),
    ((10, 10), (32, 64), "letterbox", (32, 32)),
    ((1, 20_000), (64, 64), "letterbox", (1, 64)),
    ((333, 500), (320, 320), "letterbox", (213, 320)),
    ((100, 300), (224, 160), "stretch", (224, 160)),
]


@pytest.mark.parametrize(("picture", "frame", "fit", "content"), PLACED)
def test_a_picture_lies_in_the_top_left_of_its_frame(
    picture: tuple[int, int], frame: tuple[int, int], fit: str, content: tuple[int, int]
) -> None:
    where = placement(picture, frame, fit)
    assert where.content == content
    pixels, again = lay(Image.new("RGB", picture[::-1], (9, 99, 199)), frame, fit, (1, 2, 3))
    assert again == where
    assert pixels.shape == (*frame, 3)
    height, width = content
    assert (pixels[:height, :width] == (9, 99, 199)).all()
    assert (pixels[height:] == (1, 2, 3)).all()
    assert (pixels[:, width:] == (1, 2, 3)).all()
    down, across = where.scale
    assert down == pytest.approx(height / picture[0])
    assert across == pytest.approx(width / picture[1])


class Prepared:
    """A backbone of which nothing but its preprocessing is asked."""

    def __init__(self, matrix: Any, offset: Any, bend: float = 1.0) -> None:
        self.matrix, self.offset, self.bend = np.array(matrix), np.array(offset), bend

    def prepare(self, raw: Image.Image) -> torch.Tensor:
        pixels = (np.asarray(raw, dtype=np.float64) / 255) ** self.bend
        return torch.from_numpy((pixels @ self.matrix.T + self.offset).transpose(2, 0, 1))


def test_the_weights_own_colours_are_read_off() -> None:
    bgr = [[0, 0, 2.0], [0, 3.0, 0], [4.0, 0, 0]]
    backbone: Any = Prepared(bgr, [-1.0, -1.5, -1.0])
    found = colours(backbone)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    got = found.values(torch.from_numpy(pixels))
    want = torch.stack([backbone.prepare(Image.fromarray(one)) for one in pixels])
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as training is on a GPU
        assert torch.equal(found.values(torch.from_numpy(pixels)), got)
    assert found.padding == (64, 128, 128)  # 255 / 4 for red, which is the last of its channels
    crooked: Any = Prepared(bgr, [0.0, 0.0, 0.0], bend=2.2)
    with pytest.raises(Unsupported, match="no scale and offset"):
        colours(crooked)


@pytest.mark.parametrize(
    ("cells", "covered", "side", "wanted"),
    [(7, 224, 224, 14), (14, 224, 224, 14), (56, 224, 224, 14), (37, 518, 512, 32), (1, 32, 32, 2)],
)
def test_a_map_is_resampled_as_numpy_would(
    cells: int, covered: int, side: int, wanted: int
) -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 2, cells, cells))
    got = resample(torch.from_numpy(one), (covered,) * 2, (side,) * 2, (wanted,) * 2).numpy()

    def along(values: Any) -> Any:
        rows = []
        centres = [(i + 0.5) * covered / cells for i in range(cells)]
        width = max(covered / cells, side / wanted)
        for j in range(wanted):
            at = min(max((j + 0.5) * side / wanted, centres[0]), centres[-1])
            share = np.array([max(0.0, 1 - abs(at - c) / width) for c in centres])
            rows.append(np.tensordot(share / share.sum(), values, axes=1))
        return np.stack(rows)

    for channel in range(2):
        want = along(along(one[0, channel]).T).T
        np.testing.assert_allclose(got[0, channel], want, atol=1e-12)
    if cells == wanted and covered == side:
        np.testing.assert_array_equal(got, one)


def test_a_ramp_keeps_its_place_on_another_grid() -> None:
    """Patch 14 on 512 pixels: padded to 518, and read where the picture is."""
    ramp = (torch.arange(37, dtype=torch.float64) + 0.5) * 14
    one = ramp.expand(1, 1, 37, 37)
    got = resample(one, (518, 518), (512, 512), (32, 32))
    want = (torch.arange(32, dtype=torch.float64) + 0.5) * 16
    torch.testing.assert_close(got[0, 0, :, 1:-1], want[1:-1].expand(32, 30), rtol=0, atol=1.0)


NAMES = [
    "packaged/efficientnet-lite0",
    "synthetic/gabor",
    "timm/test_vit?weights=random",
    "timm/test_vit3?weights=random",  # registers
    "torchvision/mobilenet_v3_small?weights=random",
    "timm/test_resnet?weights=random",
]


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest, index_folder: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOOBENCH_CACHE", str(index_folder))
        return models.load(models.resolve(str(request.param)), seed=1)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_maps_are_as_the_specs_say_at_any_size(backbone: Any) -> None:
    own = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    for size in ((64, 96), (80, 48)):
        view = dense(backbone, size)
        frames = np.stack([view.place(noise(40, 90))[0], view.place(noise(90, 40))[0]])
        batch = view.tensor(torch.from_numpy(frames))
        assert batch.shape == (2, 3, *view.input_size)
        with torch.no_grad():
            maps = view.maps(batch)
        assert len(maps) == len(view.specs)
        for one, spec in zip(maps, view.specs, strict=True):
            assert one.shape[:2] == (2, spec.channels)
            assert one.dtype == torch.float32
            assert torch.isfinite(one).all()
            cells = [side / spec.stride for side in view.input_size]
            assert tuple(one.shape[2:]) == tuple(round(n) for n in cells)
        strides = [spec.stride for spec in view.specs]
        assert strides == sorted(strides)
    after = backbone.module.state_dict()
    assert after.keys() == own.keys()
    assert all(torch.equal(own[k], after[k]) for k in own)


def test_values_are_those_of_the_weights_own_preprocessing(backbone: Any) -> None:
    _, height, width = backbone.input_spec.size
    picture = Image.new("RGB", (width, height), (200, 30, 90))
    view = dense(backbone, (height, width))
    got = view.tensor(torch.from_numpy(view.place(picture)[0][None]))[0]
    want = backbone.prepare(picture)
    torch.testing.assert_close(got[:, :height, :width], want, rtol=0, atol=1e-5)


def test_a_changed_tile_changes_its_cell_most(backbone: Any) -> None:
    """Rows are rows and columns are columns, in a frame that is not square.

    Tiles of two cells of the coarsest map: where strided convolutions pad, the centre of a cell's
    receptive field is half a cell beside the cell.
    """
    side = 64
    view = dense(backbone, (3 * side, 5 * side))
    frame = view.place(noise(3 * side, 5 * side))[0]
    for row, column in ((0, 3), (2, 1), (1, 4)):
        other = frame.copy()
        tile = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        other[tile] = 255 - other[tile]
        with torch.no_grad():
            batch = view.tensor(torch.from_numpy(np.stack([frame, other])))
            maps = view.maps(batch)
        for one in maps:
            change = (one[1] - one[0]).square().sum(0)[None, None]
            coarse = torch.nn.functional.adaptive_avg_pool2d(change, (3, 5))[0, 0]
            assert divmod(int(coarse.argmax()), 5) == (row, column)


def test_maps_can_be_trained_and_the_copy_alone(backbone: Any) -> None:
    view = dense(backbone, (64, 64))
    own = view.copy()
    maps = own.maps(torch.randn(1, 3, *own.input_size))
    total: Any = torch.stack([one.square().sum() for one in maps]).sum()
    total.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in own.module.parameters())
    assert all(p.grad is None for p in view.module.parameters())
    assert all(p.grad is None for p in backbone.module.parameters())


def test_two_backbones_have_maps_of_their_own() -> None:
    """Of one architecture with weights of their own, at every level."""
    views = [dense(models.load(models.resolve(NAMES[-1]), seed), (64, 64)) for seed in (1, 2)]
    batch = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for one, two in zip(*(view.maps(batch) for view in views), strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), two.flatten(), dim=0) < 0.99


def test_what_has_no_maps_says_what_it_has() -> None:
    bag = models.load(models.resolve("synthetic/bag"))
    with pytest.raises(Unsupported, match="reads text, so it has no maps: only embed"):
        dense(bag, (64, 64))
