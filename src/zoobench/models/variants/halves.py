"""bf16 and fp16: `module.to(dtype)`, as a deployment does it. Inputs are cast, features float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from zoobench.models.backbones import AudioBackbone, ImageBackbone, OurBackbone
from zoobench.models.variants.coverage import WHOLE, Coverage, twin
from zoobench.views import FrameReader, MapReader

if TYPE_CHECKING:
    import torch

AnyReader = TypeVar("AnyReader", MapReader, FrameReader)


def bf16(backbone: OurBackbone) -> tuple[OurBackbone, Coverage]:
    """Weights, and all that is computed with them, in bfloat16."""
    import torch

    return _in(backbone, torch.bfloat16), WHOLE


def fp16(backbone: OurBackbone) -> tuple[OurBackbone, Coverage]:
    """Weights, and all that is computed with them, in float16."""
    import torch

    return _in(backbone, torch.float16), WHOLE


@dataclass
class HalfBackbone:
    """A backbone of somebody else's class, `inner`, whose module is in `dtype`."""

    inner: Any
    dtype: Any
    provenance: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":  # asked while it is copied, too
            raise AttributeError(name)
        found = getattr(self.inner, name)
        if name == "map_reader":
            return lambda size: _reader_in(self.dtype, found(size))
        return found

    def embed(self, batch: Any) -> torch.Tensor:
        """(N, D) float32."""
        found: torch.Tensor = self.inner.embed(_cast(batch, self.dtype)).float()
        return found


def _in(backbone: Any, dtype: torch.dtype) -> Any:
    own = twin(backbone)
    own.module.to(dtype)
    if not isinstance(backbone, OurBackbone):
        return HalfBackbone(own, dtype, backbone.provenance)
    forward = backbone.forward

    def in_dtype(module: torch.nn.Module, batch: Any) -> torch.Tensor:
        return forward(module, _cast(batch, dtype))

    own = replace(own, forward=in_dtype)
    if isinstance(backbone, AudioBackbone) and backbone.frames is not None:
        own = replace(own, frames=_reader_in(dtype, backbone.frames))
    if isinstance(backbone, ImageBackbone) and backbone.reads_maps is not None:
        reads_maps = backbone.reads_maps

        def maps_in_dtype(module: torch.nn.Module, size: tuple[int, int]) -> MapReader:
            return _reader_in(dtype, reads_maps(module, size))

        own = replace(own, reads_maps=maps_in_dtype)
    return own


def _reader_in(dtype: torch.dtype, reader: AnyReader) -> AnyReader:
    """`reader` of a module that is in `dtype`: maps, or states of frames, in float32."""

    def read(module: Any, batch: Any, wanted: Any) -> Any:
        return [one.float() for one in reader.read(module, _cast(batch, dtype), wanted)]

    return replace(reader, read=read)


def _cast(batch: Any, dtype: torch.dtype) -> Any:
    """Floats in `dtype`; token ids and masks as they are."""
    if isinstance(batch, Mapping):
        return {name: _cast(value, dtype) for name, value in batch.items()}
    return batch.to(dtype) if batch.is_floating_point() else batch
