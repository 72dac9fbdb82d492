"""`DATASET?judged_on=valid`: the same data, judged on `valid`, so that `test` stays unread.

What is chosen between models (a compressed variant of one, say) is chosen here; the pick is then
judged once on `test` (PROTOCOL section 1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoobench.datasets.shift import is_shifted
from zoobench.errors import UserError, opening, unknown
from zoobench.interfaces import Splits
from zoobench.schema import Ref

OPTION = "judged_on"


def on_valid(ref: Ref) -> bool:
    """Whether the answers of `ref` are judged on `valid`."""
    return ref.option(OPTION) is not None


def plain(ref: Ref) -> Ref:
    """The dataset itself, judged on `test`."""
    return ref.without(OPTION)


def check(ref: Ref, where: str) -> None:
    """Raises UserError for another value, or where the test split is shifted besides."""
    at = f"{opening(where)}{ref.id}: option {OPTION!r}"
    if ref.option(OPTION) not in (None, "valid"):
        raise unknown(at, "value", str(ref.option(OPTION)), ("valid",))
    if on_valid(ref) and is_shifted(ref):
        raise UserError(f"{at}: a shift changes the test split, which is not read then")


def as_test(splits: Splits) -> Splits:
    """`valid` in the place of `test`, too."""
    valid = splits.valid
    return replace(splits, test=valid.subset(np.arange(len(valid)), "test"))
