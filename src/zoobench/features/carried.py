"""A head that is fitted on one model's features and used on another's: what a deployment does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.features.source import Features
    from zoobench.features.stages import StageSeconds


class CarriedFeatures:
    """A FeatureSource: the `original`'s features until `carry` is called, from then on those of its
    `variant`. A method that is given one fits its head on the first, and predicts by the second."""

    def __init__(self, original: Features, variant: Features) -> None:
        self.original, self.variant = original, variant
        self.source = original

    def carry(self) -> None:
        """From here on it is the variant that answers."""
        self.source = self.variant

    @property
    def seconds(self) -> dict[str, float]:
        """Of the extraction of each split by its fingerprint, by the variant where it read it."""
        return {**self.original.seconds, **self.variant.seconds}

    @property
    def stages(self) -> dict[str, StageSeconds]:
        """Of those seconds, likewise."""
        return {**self.original.stages, **self.variant.stages}

    @property
    def computed(self) -> list[str]:
        """Keys of what was computed here, by either."""
        return [*self.original.computed, *self.variant.computed]

    def __getattr__(self, name: str) -> Any:
        """All else, `features` and its like among it, is of the one that is read now."""
        return getattr(self.source, name)
