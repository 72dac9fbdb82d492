"""The one-line names of models and datasets: whatever they hold, they can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.errors import UserError
from zoobench.refs import Ref

WORDS = st.text(alphabet="abcxyz-_.0123456789", min_size=1, max_size=8)
ODD = st.one_of(
    st.text(min_size=1, max_size=9),
    st.text(" &=?/@%\"'[]{}:,.0123456789eENaNtrufls\ud800\udcff\x1b", min_size=1, max_size=9),
    st.sampled_from(
        ["1.50", "1e5", "true", "NaN", "null", " 5", "01", "-0", "1e999", "[1]", '"a"', '"', "%41",
         "%FF", "a@b", "pets?v=2", "[" * 5000, "9" * 5000]
    ),
)  # fmt: skip
VALUES = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False),
    ODD,
    st.lists(st.one_of(st.integers(), ODD, st.booleans()), max_size=3).map(tuple),
)


@given(WORDS, ODD, st.one_of(st.just(""), ODD), st.dictionaries(ODD, VALUES, max_size=3))
def test_a_ref_survives_its_text(
    source: str, name: str, revision: str, options: dict[str, object]
) -> None:
    ref = Ref(source, name, revision).with_options(**options)  # type: ignore[arg-type]
    again = Ref.parse(ref.text)
    assert (again.source, again.name, again.revision) == (source, name, revision)
    assert [(k, type(v), v) for k, v in again.options] == [
        (k, type(v), v) for k, v in sorted(options.items())
    ]
    assert again.text == ref.text
    ref.text.encode()  # what is no Unicode is escaped


def test_a_name_that_is_no_text_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="not UTF-8"):
        Ref.parse("folder/%FF")


def test_a_ref_reads_as_people_write_it() -> None:
    ref = Ref.parse("hf/org/model@abc?input_size=64&weights=random&mean=[0.5,0.5,0.5]")
    assert (ref.source, ref.name, ref.revision) == ("hf", "org/model", "abc")
    assert ref.option("input_size") == 64
    assert ref.option("mean") == (0.5, 0.5, 0.5)
    assert ref.short == "hf/org/model?input_size=64&mean=[0.5,0.5,0.5]&weights=random"


@pytest.mark.parametrize("text", ["", "resnet18", "/x", "timm/"])
def test_a_name_without_source_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="source/name"):
        Ref.parse(text)
