"""The options of a model's Ref: which exist, what they may be, and their one normal form.

Torch-free: `resolve` runs while a suite is read, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from zoobench import errors
from zoobench.errors import UserError, opening
from zoobench.files import expanded
from zoobench.schema import Modality, Ref, Value

IMAGE = ("weights", "input_size", "pool", "mean", "std", "interpolation", "crop_pct", "prefix")
TEXT = ("weights", "length", "pool", "prefix")
AUDIO = ("weights", "seconds", "pool", "prefix")
OPTIONS: Mapping[Modality, tuple[str, ...]] = {"image": IMAGE, "text": TEXT, "audio": AUDIO}
"""What every source understands, by modality. `prefix` is of texts' models what is put before every
text, of others the checkpoint's keys'. The rate of sound is the weights' own, and no option."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar")


def normalise(
    ref: Ref,
    where: str,
    modality: Modality,
    defaults: Mapping[str, Value],
    pools: tuple[str, ...],
    more: tuple[str, ...] = (),
) -> Ref:
    """`ref` with checked options, those equal to their default left out.

    `defaults` are the model's own values where they are known (`positions` bounds `length`,
    `window` `seconds`),
    `pools` the poolings it can do, `more` the source's own option names. Raises UserError.
    """
    names = (*OPTIONS[modality], *more)
    kept: dict[str, Value] = {}
    for name, value in ref.options:
        if name not in names:
            raise errors.unknown(where, "option", name, names, f"of {ref.id}")
        at = opening(where)
        if (name, value) == ("pool", "last") and "lasttoken" in pools:
            value = "lasttoken"  # as sentence-transformers calls it
        checked = _check(f"{at}{ref.id}: option {name!r}", name, value, pools)
        most = defaults.get("positions")
        if name == "length" and isinstance(most, int) and checked > most:  # type: ignore[operator]
            raise UserError(f"{at}{ref.id}: length = {checked} is above its {most} positions")
        window = defaults.get("window")
        if name == "seconds" and isinstance(window, float) and checked > window:  # type: ignore[operator]
            known = f"its window of {window:g}"
            raise UserError(f"{at}{ref.id}: seconds = {checked:g} is above {known}")
        if checked != defaults.get(name, "pretrained" if name == "weights" else None):
            kept[name] = checked
    return Ref(ref.source, ref.name, ref.revision, tuple(sorted(kept.items())))


def check_names(ref: Ref, where: str, names: Sequence[str]) -> None:
    """Raises UnknownName for an option that is none of `names`."""
    for name, _ in ref.options:
        if name not in names:
            raise errors.unknown(where, "option", name, names, f"of {ref.id}")


def refuse_folder(ref: Ref, where: str) -> Ref:
    """`ref` itself, unless its weights are a folder. Raises UserError."""
    weights = str(ref.option("weights", "pretrained"))
    if Path(weights).is_dir():
        at = opening(where)
        raise UserError(f"{at}{ref.id}: {weights} is a folder; a {ref.source} model takes a file")
    return ref


def _check(at: str, name: str, value: Value, pools: tuple[str, ...]) -> Value:
    if name == "pool":
        return _choice(at, value, pools)
    return _CHECKS[name](at, value) if name in _CHECKS else value


def _choice(at: str, value: Value, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise errors.unknown(at, "value", str(value), choices)
    return str(value)


def _weights(at: str, value: Value) -> str:
    """'pretrained', 'random', or a path that exists and has a form that is read safely."""
    text = str(value)
    if text in ("pretrained", "random"):
        return text
    path = expanded(text)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{at}: the folder {text} holds no config.json")
        return str(path)
    if not path.is_file():
        close = errors.nearest(text, ("pretrained", "random"))
        hint = f" Did you mean {close!r}?" if close else ""
        raise UserError(
            f"{at}: no file or folder {text}.{hint} Known: pretrained, random, or a path to "
            f"{', '.join(WEIGHT_SUFFIXES)} or to a transformers folder."
        )
    if not path.name.endswith(WEIGHT_SUFFIXES):
        raise UserError(
            f"{at}: {text} is not a kind of checkpoint that is read here. "
            f"Known: {', '.join(WEIGHT_SUFFIXES)}."
        )
    return str(path)


def _folder(at: str, value: Value) -> str:
    """A folder with a config.json."""
    path = expanded(str(value))
    if not (path / "config.json").is_file():
        raise UserError(f"{at}: {value} is no folder that holds a config.json")
    return str(path)


def _whole(least: int, most: int) -> Callable[[str, Value], int]:
    def check(at: str, value: Value) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else 0
        if not least <= number <= most:
            raise UserError(f"{at}: {value!r} is not a whole number of {least} to {most}")
        return number

    return check


def _crop_pct(at: str, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 2:
        raise UserError(f"{at}: {value!r} is not a number above 0 and at most 2")
    return float(value)


def _seconds(at: str, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 3600:
        raise UserError(f"{at}: {value!r} is not a number of seconds of 0.01 to 3600")
    return float(value)


def _channels(positive: bool) -> Callable[[str, Value], tuple[float, ...]]:
    def check(at: str, value: Value) -> tuple[float, ...]:
        listed = value.split(",") if isinstance(value, str) else value
        items = tuple(listed) if isinstance(listed, (list, tuple)) else (listed,) * 3
        items = items * 3 if len(items) == 1 else items
        try:
            numbers = tuple(float(item) for item in items)
        except ValueError:
            numbers = ()
        if len(numbers) != 3 or not all(abs(x) < 1e6 for x in numbers):
            raise UserError(f"{at}: {value!r} is not one number, or three with commas between")
        if positive and min(numbers) <= 0:
            raise UserError(f"{at}: {value!r} must be above 0, since pixels are divided by it")
        return numbers

    return check


def _named(at: str, value: Value) -> str:
    """A name, which may be one of digits alone."""
    return _text(at, str(value) if isinstance(value, int) else value)


def _span(at: str, value: Value) -> tuple[float, float]:
    listed = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(one) for one in listed)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        low = high = 0.0
    if not -1e6 < low < high < 1e6:
        raise UserError(f"{at}: {value!r} is not a least and a largest number, such as -1,1")
    return low, high


def _text(at: str, value: Value) -> str:
    if not isinstance(value, str):
        raise UserError(f"{at}: {value!r} is not a text")
    return value


_CHECKS: dict[str, Callable[[str, Value], Value]] = {
    "weights": _weights,
    "modality": partial(_choice, choices=("image", "text", "audio")),
    "interpolation": partial(_choice, choices=INTERPOLATIONS),
    "input_size": _whole(8, 8192),
    "length": _whole(3, 2**20),
    "seconds": _seconds,
    "crop_pct": _crop_pct,
    "mean": _channels(positive=False),
    "std": _channels(positive=True),
    "prefix": _text,
    "tap": _named,
    "signature": _named,
    "family": _text,
    "package": _text,
    "file": _text,
    "labels": _text,
    "layout": partial(_choice, choices=("nchw", "nhwc")),
    "channels": partial(_choice, choices=("rgb", "bgr")),
    "range": _span,
    "configuration": _folder,
}
