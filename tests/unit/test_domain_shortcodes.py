"""Media ids, their codes, and the time in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instagrapi.utils.ids import InstagramIdCodec

from service.domain.shortcodes import born_at, code_of, media_id, pk_of
from workers.simulator import ids

pks = st.integers(1, 2**63 - 1)


@given(pks)
def test_a_code_is_the_one_instagram_gives_and_leads_back(pk: int) -> None:
    assert code_of(pk) == InstagramIdCodec.encode(pk) == ids.shortcode(pk)
    assert pk_of(code_of(pk)) == str(pk)


def test_the_code_of_a_private_post_leads_to_its_pk_too() -> None:
    pk = 3_741_925_019_028_375_123
    assert pk_of(code_of(pk) + "AbCdEf0123456789") == str(pk)


@pytest.mark.parametrize("code", ["", "A", "AAAA", "a b", "a/b", "ä", "__________-", "-----------"])
def test_what_is_no_code_leads_nowhere(code: str) -> None:
    assert pk_of(code) is None


@given(st.integers(0, 2**40), st.integers(1_400_000_000, 1_900_000_000))
def test_a_pk_tells_the_second_it_was_given_out_in(owner: int, taken_at: int) -> None:
    assert born_at(ids.media_pk(owner, 5, taken_at)) == taken_at


@given(pks, st.integers(0, 3))
def test_a_media_id_is_kept_without_leading_zeros(pk: int, zeros: int) -> None:
    text = "0" * zeros + str(pk)
    assert media_id(text) == (str(pk) if len(text) <= 19 else None)
