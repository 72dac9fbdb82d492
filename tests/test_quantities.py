"""Numbers as people write them, and times as people say them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from zoobench.compare.gates import Measure, Times
from zoobench.errors import UserError
from zoobench.quantities import COUNT, SIZE, TIME, Quantity, data_size, duration
from zoobench.runs.suite import SuiteLimits

READ = [
    (COUNT, "10M", "", 10_000_000), (COUNT, "10 M", "", 10_000_000), (COUNT, "2.3M", "", 2_300_000),
    (COUNT, "10k", "", 10_000), (COUNT, "10K", "", 10_000), (COUNT, "7B", "", 7e9),
    (COUNT, "7b", "", 7e9), (COUNT, "3.9G", "", 3_900_000_000), (COUNT, "1T", "", 1e12),
    (COUNT, "5e6", "", 5e6), (COUNT, "1.5E7", "", 1.5e7), (COUNT, "1e3k", "", 1e6),
    (COUNT, "10_000_000", "", 1e7), (COUNT, "+5", "", 5), (COUNT, ".5M", "", 5e5),
    (COUNT, "5.", "", 5), (COUNT, "0", "", 0), (COUNT, "-0", "", 0), (COUNT, " 3 ", "", 3),
    (COUNT, 12.5, "", 12.5), (COUNT, 7, "", 7), (COUNT, "1e-400", "", 0),
    (COUNT, "9" * 100, "", 1e100),
    (SIZE, "2GB", "", 2e9), (SIZE, "2 gb", "", 2e9), (SIZE, "5GiB", "", 5 * 2**30),
    (SIZE, "500MB", "", 5e8), (SIZE, "1kB", "", 1000), (SIZE, "1KiB", "", 1024),
    (SIZE, "9B", "", 9),
    (SIZE, "1.5TiB", "", 1.5 * 2**40), (SIZE, "123456", "", 123456), (SIZE, 1e9, "", 1e9),
    (SIZE, "512MB", "gb", 0.512), (SIZE, "16", "gb", 16), (SIZE, "16GiB", "gb", 17.179869184),
    (TIME, "20ms", "", 0.02), (TIME, "90s", "", 90), (TIME, "10m", "", 600), (TIME, "1h", "", 3600),
    (TIME, "1.5h", "", 5400), (TIME, "1h30m", "", 5400), (TIME, "1h 30 min", "", 5400),
    (TIME, "2d", "", 172800), (TIME, "2 days", "", 172800), (TIME, "10 min", "", 600),
    (TIME, "250us", "", 250e-6), (TIME, "250µs", "", 250e-6), (TIME, "90", "", 90),
    (TIME, "20ms", "ms", 20), (TIME, "20", "ms", 20), (TIME, "0.0123s", "ms", 12.3),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "unit", "value"), READ)
def test_what_people_write_is_read(
    kind: Quantity, text: str | float, unit: str, value: float
) -> None:
    assert kind.read(text, "--x", unit) == value


REFUSED = [
    (COUNT, "10m", "a million is written 10M"), (COUNT, "", "such as 10M"),
    (COUNT, " ", "such as 10M"), (COUNT, "M", "such as 10M"), (COUNT, "ten", "such as 10M"),
    (COUNT, "1,000,000", "such as 10M"), (COUNT, "10MB", "Known units: k, M, G"),
    (COUNT, "1 000", "such as 10M"), (COUNT, "1M5k", "such as 10M"), (COUNT, "1.2.3", "such as"),
    (COUNT, "0x10", "such as 10M"), (COUNT, "--5", "such as 10M"), (COUNT, "1_", "such as"),
    (COUNT, "1__0", "such as"), (COUNT, "\u0661\u0660", "such as"), (COUNT, "\u00bd", "such as"),
    (COUNT, "10M\x1b[31m", r"10M\x1b[31m"), (COUNT, "1e", "such as"), (COUNT, "x" * 500, "xxx..."),
    (COUNT, "-1", "expected 0 or more"), (COUNT, "-10M", "expected 0 or more"),
    (COUNT, -1.0, "expected 0 or more"), (COUNT, "nan", "finite"), (COUNT, "-NaN", "finite"),
    (COUNT, "inf", "finite"), (COUNT, "-inf", "finite"), (COUNT, "Infinity", "finite"),
    (COUNT, "1e999", "finite"), (COUNT, "1e308G", "finite"), (COUNT, "9" * 400, "finite"),
    (COUNT, "1e99999999999999999999", "finite"), (COUNT, math.nan, "finite"),
    (COUNT, math.inf, "finite"), (COUNT, True, "such as"), (COUNT, None, "such as"),
    (SIZE, "2G", "write GB or GiB"), (SIZE, "2m", "write MB or MiB"),
    (SIZE, "2GBit", "Known units"),
    (SIZE, "-2GB", "0 or more"), (SIZE, "2GB2MB", "such as 500MB"), (SIZE, "2 ms", "Known units"),
    (TIME, "soon", "expected a time such as"), (TIME, "10M", "minutes are written m or min"),
    (TIME, "1h30", "such as"), (TIME, "1 30m", "such as"), (TIME, "h", "such as"),
    (TIME, "1:30", "such as"), (TIME, "1h-30m", "such as"), (TIME, "-1s", "0 or more"),
    (TIME, "2 weeks", "Known units"), (TIME, "10GB", "Known units"), (TIME, "1e999d", "finite"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "why"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(kind: Quantity, text: str, why: str) -> None:
    with pytest.raises(UserError) as caught:
        kind.read(text, "--x")
    said = str(caught.value)
    assert said.startswith("--x: ")
    assert why in said
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 250


def test_a_bare_number_is_refused_where_its_unit_is_open() -> None:
    assert TIME.read("20ms", "--max-latency", "ms", bare=False) == 20
    with pytest.raises(UserError, match="--max-latency: '20' has no unit; write 20ms"):
        TIME.read("20", "--max-latency", "ms", bare=False)


FACTORS = {
    COUNT.what: (COUNT, {"k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}),
    SIZE.what: (SIZE, {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "GiB": 2**30}),
    TIME.what: (TIME, {"ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600, "days": 86400}),
}


@given(st.data(), st.just(0.0) | st.floats(1e-200, 1e200), st.sampled_from(["", " ", "  "]))
def test_any_number_with_any_unit_is_the_product(data: st.DataObject, x: float, gap: str) -> None:
    kind, factors = FACTORS[data.draw(st.sampled_from(sorted(FACTORS)))]
    unit = data.draw(st.sampled_from(sorted(factors)))
    assert math.isclose(kind.read(f"{x!r}{gap}{unit}", "x"), x * factors[unit], rel_tol=1e-12)
    assert kind.read(x, "x") == x
    assert kind.read(repr(x), "x") == x


@given(st.text(max_size=20) | st.text("0123456789.eE+-_kMGBTiBmsh ", max_size=12))
def test_any_text_is_a_number_or_a_users_mistake(text: str) -> None:
    for kind in (COUNT, SIZE, TIME):
        with contextlib.suppress(UserError):
            assert 0 <= kind.read(text, "x") < math.inf


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (0.00001, "0.01 ms"), (0.0032, "3.2 ms"), (0.01, "0.01 s"), (0.348, "0.35 s"),
        (0.994, "0.99 s"), (0.996, "1 s"), (1, "1 s"), (9.5, "9.5 s"), (9.94, "9.9 s"),
        (9.96, "10 s"), (12.3, "12 s"), (119, "119 s"), (120, "2 min"), (540, "9 min"),
        (2400, "40 min"), (7199, "120 min"), (7200, "2 h"), (8280, "2.3 h"), (36000, "10 h"),
        (172800, "2 days"), (558552, "6.5 days"), (3e7, "347 days"), (-90, "-90 s"),
        (math.inf, "inf s"), (math.nan, "nan s"),
    ],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.floats(1e-6, 1e10))
def test_a_spoken_time_is_read_again_to_two_digits(seconds: float) -> None:
    assert math.isclose(TIME.read(duration(seconds), "x"), seconds, rel_tol=0.06)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_longer_time_never_sounds_shorter(a: float, b: float) -> None:
    first, second = (TIME.read(duration(x), "x") for x in sorted((a, b)))
    assert first <= second or math.isclose(first, second, rel_tol=0.06)


def test_files_take_the_same_words() -> None:
    limits = SuiteLimits.model_validate(
        {"cell_seconds": "1h", "memory_gb": "512MB", "silent_seconds": 60, "cost_seconds": "500ms"}
    )
    assert limits == SuiteLimits(
        cell_seconds=3600, memory_gb=0.512, silent_seconds=60, cost_seconds=0.5
    )
    assert Measure.model_validate({"floor_ms": "0.2ms", "memory_bytes": "16MiB"}) == Measure(
        floor_ms=0.2
    )
    assert Times.model_validate({"memory_bytes": "1MB"}).memory_bytes == 1e6


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("cell_seconds", "1x", "expected a time such as"),
        ("cell_seconds", "0s", "greater than 0"),
        ("cell_seconds", "nan", "finite"),
        ("cell_seconds", True, "number"),
        ("memory_gb", "16G", "write GB or GiB"),
        ("memory_gb", "-1GB", "0 or more"),
        ("memory_gb", ["1GB"], "number"),
    ],
)
def test_a_wrong_word_in_a_file_says_which_key(name: str, given: object, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SuiteLimits.model_validate({name: given})
    (error,) = caught.value.errors()
    assert error["loc"] == (name,)
    assert why in error["msg"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (15_096_096, "15.1 MB"), (5e9, "5 GB")],
)
def test_sizes_as_people_say_them(count: float, text: str) -> None:
    assert data_size(count) == text
