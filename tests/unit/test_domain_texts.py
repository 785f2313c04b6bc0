"""What may be in a text that people read, and how the rest is shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ValidationFailed
from service.domain.texts import check_printable, printable, printable_json
from tests.texts import HOSTILE, MARKUP


@pytest.mark.parametrize("text", HOSTILE)
def test_what_cannot_be_printed_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_printable("name", text, 100)
    [[sentence]] = (caught.value.details or {}).values()
    [hidden] = {mark for mark in text if not mark.isprintable()} - {"\x07"}
    assert f"U+{ord(hidden):04X}" in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("text", [*MARKUP, "läptop", "日本", "a b", "", "😀"])
def test_what_can_be_printed_is_taken_as_it_is(text: str) -> None:
    assert check_printable("name", text, 100) == text
    assert printable(text) == text


def test_a_text_that_is_too_long_or_too_short_is_refused() -> None:
    assert check_printable("note", "x" * 5, 5) == "x" * 5
    for text, least in (("x" * 6, 0), ("", 1)):
        with pytest.raises(ValidationFailed, match="invalid fields") as caught:
            check_printable("note", text, 5, least=least)
        assert list(caught.value.details or {}) == ["note"]


def test_hidden_characters_are_shown_as_escapes() -> None:
    assert printable("\x1b[31m\u202e\n\x00\ud800") == r"\x1b[31m\u202e\n\x00\ud800"


@given(st.text(st.characters(codec=None)))
def test_whatever_it_is_one_line_comes_of_it(text: str) -> None:
    assert printable(text).isprintable()


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_says_the_same_and_hides_nothing(value: object) -> None:
    for indent in (None, 2):
        text = printable_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(text) == value
        assert text.replace("\n", "").isprintable()
