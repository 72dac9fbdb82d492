"""The planted source, for every test of usability."""

from __future__ import annotations

import pytest

from zoobench import models


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "plantedmodels:Planted"
    monkeypatch.setattr(models, "SOURCES", {**models.SOURCES, "planted": source})
