"""Sealed files: nothing of them opens that was not written so, in its place, under this key."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ConfigurationError, ValidationFailed
from service.sealing import CHUNK, TAG, Sealing

SEALING = Sealing(b"k" * 32, b"c" * 16)
HEADER = 65
SEALED = CHUNK + TAG


def seal(*parts: bytes, sealing: Sealing = SEALING) -> bytes:
    file = io.BytesIO()
    with sealing.seal(file) as writer:
        for part in parts:
            writer.write(part)
    return file.getvalue()


def opened(data: bytes, sealing: Sealing = SEALING) -> bytes:
    file = sealing.open(io.BytesIO(data))
    assert file is not None
    return file.read()


def chunks(data: bytes) -> list[bytes]:
    return [data[place : place + SEALED] for place in range(HEADER, len(data), SEALED)]


TEXT = bytes(range(256)) * (3 * CHUNK // 256) + b"the last one"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7])
def test_what_was_sealed_comes_out_again(size: int) -> None:
    text = TEXT[:size]
    data = seal(text)
    assert opened(data) == text
    assert len(data) == HEADER + size + TAG * max(1, -(-size // CHUNK))
    assert data.startswith(b"storyhook-sealed\x01" + b"c" * 16)


@given(st.lists(st.binary(max_size=CHUNK), max_size=6))
def test_it_is_the_same_however_it_is_written(parts: list[bytes]) -> None:
    assert opened(seal(*parts)) == b"".join(parts)


def test_no_two_files_have_anything_in_common() -> None:
    first, second = seal(TEXT), seal(TEXT)
    assert first[:33] == second[:33]
    assert not set(chunks(first)) & set(chunks(second))


@given(place=st.integers(0, HEADER + len(TEXT) + 4 * TAG - 1), mask=st.integers(1, 255))
def test_a_changed_byte_is_refused_wherever_it_is(place: int, mask: int) -> None:
    data = bytearray(SAMPLE)
    data[place] ^= mask
    assert is_refused(bytes(data))


@given(st.integers(0, HEADER + len(TEXT) + 4 * TAG - 1))
def test_a_file_that_is_cut_short_is_refused_wherever_it_was_cut(length: int) -> None:
    assert is_refused(SAMPLE[:length])


SAMPLE = seal(TEXT)


def is_refused(data: bytes) -> bool:
    """Whether it is no sealed file, or opening it or reading it to the end is refused."""
    try:
        file = SEALING.open(io.BytesIO(data))
        if file is None:
            return True
        file.read()
    except (ValidationFailed, ConfigurationError):
        return True
    return False


def test_a_file_cut_between_two_chunks_is_refused() -> None:
    for count in range(4):
        with pytest.raises(ValidationFailed, match="not whole"):
            opened(SAMPLE[: HEADER + count * SEALED])


def test_chunks_that_are_swapped_doubled_or_gone_are_refused() -> None:
    header, (first, second, third, last) = SAMPLE[:HEADER], chunks(SAMPLE)
    for arranged in (
        [second, first, third, last],
        [first, second, last],
        [first, first, second, third, last],
        [first, second, third, last, last],
        [last],
        [],
    ):
        with pytest.raises(ValidationFailed, match="was changed"):
            opened(header + b"".join(arranged))


@pytest.mark.parametrize("rest", [b"\0", b"x" * SEALED, SAMPLE], ids=["byte", "chunk", "file"])
def test_what_follows_the_end_is_refused(rest: bytes) -> None:
    with pytest.raises(ValidationFailed, match="was changed"):
        opened(SAMPLE + rest)


def test_a_chunk_of_another_file_is_refused() -> None:
    other = seal(TEXT)
    for number in range(4):
        mixed = chunks(SAMPLE)
        mixed[number] = chunks(other)[number]
        with pytest.raises(ValidationFailed, match="was changed"):
            opened(SAMPLE[:HEADER] + b"".join(mixed))
    with pytest.raises(ValidationFailed, match="was changed"):
        opened(other[:HEADER] + SAMPLE[HEADER:])


def test_another_key_is_told_in_a_sentence_and_one_that_says_it_is_the_same_opens_nothing() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY: the backup was made under another one"):
        opened(SAMPLE, Sealing(b"o" * 32, b"d" * 16))
    with pytest.raises(ValidationFailed, match="was changed"):
        opened(SAMPLE, Sealing(b"o" * 32, b"c" * 16))


def test_a_newer_version_asks_for_an_update() -> None:
    with pytest.raises(ValidationFailed, match="version 2, this Storyhook opens up to 1"):
        opened(SAMPLE[:16] + b"\x02" + SAMPLE[17:])
    with pytest.raises(ValidationFailed, match="was changed"):
        opened(SAMPLE[:16] + b"\x00" + SAMPLE[17:])


def test_what_is_not_sealed_is_left_as_it_is() -> None:
    file = io.BytesIO(b"\x1f\x8b and so on")
    assert SEALING.open(file) is None
    assert file.read() == b"\x1f\x8b and so on"


def test_a_file_whose_writing_failed_has_no_end() -> None:
    file = io.BytesIO()

    def fail() -> None:
        with SEALING.seal(file) as writer:
            writer.write(TEXT)
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    with pytest.raises(ValidationFailed, match="not whole"):
        opened(file.getvalue())


def test_nothing_is_handed_out_before_its_chunk_was_checked() -> None:
    data = bytearray(SAMPLE)
    data[HEADER + SEALED] ^= 1  # in the second chunk
    file = SEALING.open(io.BytesIO(bytes(data)))
    assert file is not None
    assert file.read(CHUNK) == TEXT[:CHUNK]
    with pytest.raises(ValidationFailed):
        file.read(1)
