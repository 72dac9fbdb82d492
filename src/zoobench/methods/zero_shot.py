"""Classes told by their names: a network of pictures and texts, as it is (PROTOCOL section 2).

A class is the mean direction of what the network's other half makes of its name in each of some
templates: per template at length 1, their mean at length 1 again (Radford et al. 2021,
arXiv:2103.00020, section 3.1.4). N pictures, C classes, T templates, E dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoobench.errors import UserError
from zoobench.interfaces import Adapted, SealedSplits, Split
from zoobench.methods.predictor import Predictor
from zoobench.methods.retrieval import text_tower
from zoobench.tasks.classification import Templated
from zoobench.views import unit

SINGLE = "a photo of a {}."
"""The template that stands alone beside the others, where it is among them."""
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "general": (
        SINGLE, "a photo of the {}.", "a photo of many {}.", "a close-up of a {}.",
        "a small {}.", "a large {}.", "a blurred photo of a {}.", "a drawing of a {}.",
        "a {} seen from afar.", "a dark photo of a {}.",
    ),
    "characters": (
        'a photo of the character "{}".', 'the number or letter "{}".', 'a handwritten "{}".',
        '"{}", written by hand.', 'a scan of the character "{}".',
    ),
    "textures": (
        "a photo of a {} texture.", "a {} surface.", "a close-up of a {} pattern.",
        "something that is {}.",
    ),
    "satellite": (
        "a satellite photo of {}.", "an aerial photo of {}.", "{}, seen from above.",
        "land that is used as {}, from the air.",
    ),
    "actions": ("a photo of a person during {}.", "someone who is {}.", "the action of {}."),
}  # fmt: skip
"""By what the classes are. The first of each is the single one."""


def check(templates: Sequence[str]) -> None:
    """Raises ValueError for templates that are neither one name of TEMPLATES, nor texts with one
    place for a class each."""
    if len(templates) == 1 and templates[0] in TEMPLATES:
        return
    for text in templates:
        if text.count("{}") != 1:
            raise ValueError(
                f"a template has one {{}} for the class, unlike {text!r}; or say one of "
                f"{', '.join(TEMPLATES)}"
            )
    if not templates:
        raise ValueError("templates must hold one at least")


def spoken(name: str) -> str:
    """A class's name as one says it: underscores are blanks, and one parts "AnnualCrop"; "001." in
    front is left out."""
    plain = re.sub(r"^\d+[.)]\s*(?=\D)", "", name)
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain)
    return " ".join(plain.replace("_", " ").split()) or name


def renamed(classes: Sequence[str], names: Sequence[str]) -> list[str]:
    """The `classes` as one says them, with `names` of the kind "CLASS=WORDS" for some. Raises
    UserError where one names no class."""
    said = dict.fromkeys(classes, "")
    for text in names:
        name, _, words = (part.strip() for part in text.partition("="))
        if name not in said:
            raise UserError(f"names: {name!r} is none of {', '.join(map(repr, classes[:12]))}")
        said[name] = words
    return [said[name] or spoken(name) for name in classes]


def zero_shot(
    source: Any, splits: SealedSplits, templates: Sequence[str], names: Sequence[str]
) -> Adapted:
    """The classes of `splits` told by their names. Raises Unsupported for a backbone that reads no
    texts, UserError for names of no class."""
    tower = text_tower(source)
    texts = TEMPLATES.get(templates[0], tuple(templates))
    words = renamed(splits.classes, names)
    towards = [unit(tower.embed([text.replace("{}", one) for one in words])) for text in texts]
    ensemble = unit(sum(towards[1:], towards[0]))

    def answer(split: Split) -> Templated:
        pictures = unit(tower.project(source.features(split)))
        logits = tower.scale * pictures @ ensemble.t() + tower.bias
        alone = [(pictures @ one.t()).argmax(dim=1).numpy() for one in towards]
        return Templated(logits.log_softmax(dim=1).numpy(), alone)

    def scores(split: Split) -> Any:
        return answer(split).scores

    told = {"class_names": words, "templates": list(texts)}
    return Predictor(answer, splits.valid, scores, told, {"trainable_params": 0.0})
