"""Which pretrained model to use, what it costs, and how sure one can be.

    import zoobench as zb

The functions below are those of zoobench.api, which is imported when one of them is used:
`import zoobench` loads neither torch nor numpy nor pandas. See docs/python.md.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.api import compare, features, judge_images, load, profile, rank, recommend, run

__version__ = "0.1.0"

__all__ = ["compare", "features", "judge_images", "load", "profile", "rank", "recommend", "run"]


class _Package(ModuleType):
    """`zoobench.compare` and `zoobench.features` are functions, and there are rooms of these
    names: importing from a room must not put it in its function's place."""

    def __getattr__(self, name: str) -> Any:
        if name in __all__:
            return getattr(importlib.import_module("zoobench.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
