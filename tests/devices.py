"""The devices that tests of both run on: `from devices import DEVICES`, a parameter of the test.

On a GPU they run under `pytest -m gpu`; where there is none they are skipped, with this reason.
"""

from __future__ import annotations

import pytest
import torch


def cards(number: int) -> list[pytest.MarkDecorator]:
    """Marks of a test that needs so many."""
    here = torch.cuda.device_count()
    reason = "there is no GPU here" if not here else f"it needs {number} GPUs, and has {here}"
    return [pytest.mark.gpu, pytest.mark.skipif(here < number, reason=reason)]


CARD = pytest.param("cuda", marks=cards(1))
TWO_CARDS = pytest.param("cuda", marks=cards(2))
DEVICES = ["cpu", CARD]
