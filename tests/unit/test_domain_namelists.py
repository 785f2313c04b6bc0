"""Lists of names as callers send them, in every form, and what is made of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import namelists
from service.domain.errors import ValidationFailed
from service.domain.namelists import (
    EXTERNAL_ID_MOST,
    NAMES_MOST,
    SHOWN_MOST,
    Entry,
    NameList,
    from_csv,
    from_json,
    from_ndjson,
    from_text,
)

ENDS = {"unix": "\n", "windows": "\r\n", "old mac": "\r"}
# What `str.splitlines` takes for the end of a line besides those.
EXOTIC = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
READERS = {"text": from_text, "csv": from_csv, "ndjson": from_ndjson}


def names(found: NameList) -> list[str]:
    return [entry.username for entry in found.entries]


def lines(found: NameList) -> list[tuple[int, str]]:
    return [(entry.line, entry.username) for entry in found.entries]


def wrong(found: NameList) -> list[tuple[int, str]]:
    return [(each.line, each.value) for each in found.invalid]


def refusal(read: Callable[[Any], NameList], given: Any) -> str:
    """The sentence with which a whole list is refused."""
    with pytest.raises(ValidationFailed) as caught:
        read(given)
    assert list(caught.value.details or {}) == ["usernames"]
    [sentence] = (caught.value.details or {})["usernames"]
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    return str(sentence)


# --- JSON ----------------------------------------------------------------------------------------


def test_a_json_list_is_read_in_its_order_and_told_by_place() -> None:
    found = from_json(["nasa", "@BBC", "bad name", "https://www.instagram.com/cnn/"])
    assert lines(found) == [(1, "nasa"), (2, "bbc"), (4, "cnn")]
    assert wrong(found) == [(3, "bad name")]
    assert found.invalid[0].error.startswith("A username holds only")


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], ["x"], {}, {"username": "nasa"}])
def test_what_is_no_text_is_an_invalid_line(value: Any) -> None:
    found = from_json(["nasa", value])
    assert wrong(found) == [(2, json.dumps(value))]
    assert found.invalid[0].error == "Give a username: a text. Objects have it in a field 'username'."


@pytest.mark.parametrize("spelling", ["nasa", "NASA", "@nasa", " nasa ", "https://instagram.com/Nasa/?x=1"])
def test_a_name_counts_once_however_it_is_spelled(spelling: str) -> None:
    found = from_json(["nasa", "bbc", spelling])
    assert names(found) == ["nasa", "bbc"]
    assert found.duplicates == [Entry(3, "nasa")]


def test_an_invalid_line_is_shown_in_short() -> None:
    found = from_json(["nasa", "x" * 5_000])
    assert found.invalid[0].value == "x" * SHOWN_MOST + "..."


def test_what_cannot_be_written_is_shown_all_the_same() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    found = from_json(["nasa", deep, 10**5_000, "half \ud83d"])
    assert [each.line for each in found.invalid] == [2, 3, 4]
    for each in found.invalid:
        each.value.encode()


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_text_holds_a_name_a_line(end: str) -> None:
    text = end.join(["nasa", "", "# a comment", "  ", "  # another", " @bbc ", "bad name", "NASA"])
    found = from_text(text.encode())
    assert lines(found) == [(1, "nasa"), (6, "bbc")]
    assert wrong(found) == [(7, "bad name")]
    assert found.duplicates == [Entry(8, "nasa")]
    assert from_text((text + end).encode()) == found, "whether or not the last line has an end"


@pytest.mark.parametrize("separator", EXOTIC, ids=ascii)
def test_only_what_an_editor_counts_as_a_line_is_one(separator: str) -> None:
    found = from_text(f"nasa{separator}bbc\ncnn\n".encode())
    assert lines(found) == [(2, "cnn")]
    assert wrong(found) == [(1, f"nasa{separator}bbc")]


# --- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize(
    "header",
    [["username", "externalId"], ["id", "EXTERNALID", "UserName"], [" Username ", "x", "ExternalID"]],
)
def test_a_csv_has_its_columns_in_any_place_and_case(end: str, delimiter: str, header: list[str]) -> None:
    def row(**cells: str) -> str:
        return delimiter.join(cells.get(name.strip().lower(), "other") for name in header)

    text = end.join(
        [
            delimiter.join(header),
            row(username="nasa", externalid="a-1"),
            "",
            row(username=" @BBC ", externalid=""),
            row(username="bad name", externalid="3"),
            row(username="NASA", externalid="a-2"),
        ]
    )
    found = from_csv(text.encode())
    assert found.entries == [Entry(2, "nasa", "a-1"), Entry(4, "bbc")]
    assert wrong(found) == [(5, "bad name")]
    assert found.duplicates == [Entry(6, "nasa", "a-2")]


def test_a_csv_without_a_header_is_a_name_a_line() -> None:
    assert lines(from_csv(b'\nnasa\n"bbc"\n\ncnn,\n')) == [(2, "nasa"), (3, "bbc"), (5, "cnn")]


def test_a_header_alone_is_one_also_when_it_is_all_there_is() -> None:
    assert lines(from_csv(b"username\nnasa\n")) == [(2, "nasa")]
    assert refusal(from_csv, b"username\n") == "Give at least one username."
    assert refusal(from_csv, b"externalId,username\r\n") == "Give at least one username."


def test_two_names_in_a_row_are_not_taken_for_one() -> None:
    found = from_csv(b"nasa\nbbc,cnn\n")
    assert lines(found) == [(1, "nasa")]
    assert wrong(found) == [(2, "bbc,cnn")]


def test_columns_of_which_none_holds_the_names_are_refused() -> None:
    sentence = refusal(from_csv, b"\nname,id\nnasa,1\n")
    assert sentence.startswith("Line 2: no column is called 'username'.")


def test_ragged_rows_have_what_they_have() -> None:
    found = from_csv(b"id,username,externalId\n1,nasa\n2\n3,bbc,x,more,and more\n")
    assert found.entries == [Entry(2, "nasa"), Entry(4, "bbc", "x")]
    assert wrong(found) == [(3, "")]


def test_cells_in_quotes_hold_delimiters_quotes_and_line_ends() -> None:
    text = 'bio,username\n"one, ""two""\nthree\r\nfour",nasa\n"\u2028\x85",bbc\nplain \u2028 text,cnn\n'
    found = from_csv(text.encode())
    assert lines(found) == [(2, "nasa"), (5, "bbc"), (6, "cnn")], "a row is told by its first line"


def test_blanks_before_a_quote_are_none_of_its() -> None:
    assert from_csv(b'username, externalId\nnasa, "a, b"\n').entries == [Entry(2, "nasa", "a, b")]


def test_a_delimiter_within_the_header_misleads_nobody() -> None:
    assert names(from_csv(b'"full, real, name";username\nNasa;nasa\n')) == ["nasa"]


@pytest.mark.parametrize(
    "body", [b'username\nnasa\n"bbc\ncnn\n', b'username\nnasa\n"bbc"x\ncnn\n'], ids=["open", "text behind"]
)
def test_a_quote_that_swallows_names_is_refused_by_its_line(body: bytes) -> None:
    assert refusal(from_csv, body).startswith("Line 3 is no CSV: ")


@pytest.mark.parametrize("size", [131_072, 131_073, 1_000_000])
def test_a_cell_of_any_size_is_refused_or_invalid(size: int) -> None:
    body = b"username\nnasa\n" + b"x" * size
    if size <= csv.field_size_limit():
        assert [each.line for each in from_csv(body).invalid] == [3]
    else:
        assert refusal(from_csv, body).startswith("Line 3 is no CSV: ")
    refusal(from_csv, b"x" * size)


# --- NDJSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_ndjson_holds_an_object_or_a_name_a_line(end: str) -> None:
    rows = [
        '{"username": "nasa", "externalId": "a-1"}',
        '"@bbc"',
        "",
        '{"username": "cnn", "externalId": 7, "note": "more"}',
        '{"externalId": null, "username": "dw"}',
        '{"username": "NASA", "externalId": "a-2"}',
    ]
    found = from_ndjson(end.join(rows).encode())
    assert found.entries == [Entry(1, "nasa", "a-1"), Entry(2, "bbc"), Entry(4, "cnn", "7"), Entry(5, "dw")]
    assert found.duplicates == [Entry(6, "nasa", "a-2")]
    assert found.invalid == []


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"], ids=ascii)
def test_a_text_in_json_holds_what_json_lets_it_hold(separator: str) -> None:
    found = from_ndjson(f'{{"username": "nasa", "note": "a{separator}b"}}\n"bbc"\n'.encode())
    assert lines(found) == [(1, "nasa"), (2, "bbc")]


@pytest.mark.parametrize(
    "row",
    [
        "nasa",
        "{",
        '{"username": "x"',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        '{"username": "x"} {"username": "y"}',
        '"\x0b"',
    ],
    ids=["bare", "brace", "open", "deep list", "deep object", "digits", "two in a line", "control"],
)
def test_a_line_that_is_no_json_is_told(row: str) -> None:
    found = from_ndjson(f'"bbc"\n{row}\n"cnn"\n'.encode())
    assert lines(found) == [(1, "bbc"), (3, "cnn")]
    assert [each.line for each in found.invalid] == [2]
    assert "is no JSON" in found.invalid[0].error


@pytest.mark.parametrize(
    "row",
    [
        "null", "5", "NaN", "-Infinity", "true", "[]", '["x"]', "{}", '{"user": "x"}', '{"username": 5}',
        '{"username": NaN}', '{"username": ["x"]}', '{"username": {"a": "\\ud800"}}', '"\\ud83d"', '""',
        '{"username": null}', "9" * 4_000, "[" * 500 + "]" * 500,
    ],
)  # fmt: skip
def test_json_that_names_nobody_is_an_invalid_line_that_can_be_sent(row: str) -> None:
    found = from_ndjson(f'"bbc"\n{row}\n'.encode())
    assert names(found) == ["bbc"]
    [invalid] = found.invalid
    assert invalid.line == 2
    assert len(invalid.value) <= SHOWN_MOST + 3
    invalid.value.encode()


@pytest.mark.parametrize("external_id", ["x" * EXTERNAL_ID_MOST, "größer 🙂", " ", "0", '"', "a,b"])
def test_an_external_id_comes_back_as_it_is(external_id: str) -> None:
    row = {"username": "nasa", "externalId": external_id}
    assert from_ndjson(json.dumps(row).encode()).entries == [Entry(1, "nasa", external_id)]


@pytest.mark.parametrize(
    "external_id",
    ["", "x" * (EXTERNAL_ID_MOST + 1), "a\nb", "a\x00b", "\x7f", "\u2028", "\ud800", 1.5, True, [], {}],
    ids=ascii,
)
def test_an_external_id_that_is_none_makes_its_line_invalid(external_id: Any) -> None:
    rows = [{"username": "nasa", "externalId": external_id}, {"username": "bbc"}]
    found = from_ndjson("\n".join(map(json.dumps, rows)).encode())
    assert names(found) == ["bbc"]
    assert [(each.line, each.value) for each in found.invalid] == [(1, "nasa")]
    assert str(EXTERNAL_ID_MOST) in found.invalid[0].error


def test_an_invalid_line_does_not_keep_the_name_from_the_next_one() -> None:
    rows = b'{"username": "nasa", "externalId": ""}\n{"username": "nasa", "externalId": "2"}\n'
    assert from_ndjson(rows).entries == [Entry(2, "nasa", "2")]


# --- how many ------------------------------------------------------------------------------------

EMPTY: dict[str, tuple[Callable[[Any], NameList], Any]] = {
    "json": (from_json, []),
    "no text": (from_text, b""),
    "comments": (from_text, b"# nothing\n\n  \r\n"),
    "no csv": (from_csv, b""),
    "blank csv": (from_csv, b"\n,,\n"),
    "no ndjson": (from_ndjson, b"\n\n"),
    "a mark": (from_text, b"\xef\xbb\xbf"),
}


@pytest.mark.parametrize(("read", "given"), EMPTY.values(), ids=EMPTY)
def test_an_empty_list_is_refused(read: Callable[[Any], NameList], given: Any) -> None:
    assert refusal(read, given) == "Give at least one username."


def many(form: str, count: int) -> tuple[Callable[[Any], NameList], Any]:
    """A reader and a list of ``count`` names in one of the forms."""
    given = [f"name{number}" for number in range(count)]
    if form == "json":
        return from_json, given
    if form == "ndjson":
        return from_ndjson, "\n".join(map(json.dumps, given)).encode()
    head = "username\n" if form == "csv" else ""
    return READERS[form], (head + "\n".join(given)).encode()


@pytest.mark.parametrize("form", ["json", *READERS])
def test_ten_thousand_names_are_taken_and_one_more_is_not(form: str) -> None:
    read, given = many(form, NAMES_MOST)
    assert names(read(given)) == [f"name{number}" for number in range(NAMES_MOST)]
    assert "10,000" in refusal(*many(form, NAMES_MOST + 1))


def test_what_counts_against_the_limit_are_lines_not_names() -> None:
    assert "10,000" in refusal(from_json, ["nasa"] * (NAMES_MOST + 1))
    assert len(from_json(["nasa"] * NAMES_MOST).duplicates) == NAMES_MOST - 1


def test_where_nothing_is_a_name_the_first_line_tells_why() -> None:
    sentence = refusal(from_text, b"\nbad name\nworse name\n")
    assert sentence.startswith("None of these is a username. Line 2: A username holds only")


# --- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_byte_order_mark_is_no_part_of_the_first_line(read: Callable[[bytes], NameList]) -> None:
    text = '"nasa"\n"bbc"' if read is not from_text else "nasa\nbbc"
    assert lines(read(text.encode("utf-8-sig"))) == [(1, "nasa"), (2, "bbc")]


def test_a_byte_order_mark_hides_no_header() -> None:
    assert names(from_csv("username;externalId\r\nnasa;1\r\n".encode("utf-8-sig"))) == ["nasa"]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_utf_16_is_told_with_its_mark_and_without(read: Callable[[bytes], NameList], encoding: str) -> None:
    assert "Save it as UTF-8" in refusal(read, "nasa\nbbc\n".encode(encoding))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "marked"])
def test_bytes_that_are_no_utf_8_are_told_by_their_line(
    read: Callable[[bytes], NameList], end: str, mark: bytes
) -> None:
    body = mark + end.join(["nasa", "größe", "müller"]).encode("latin-1")
    assert refusal(read, body).startswith("Line 2 holds bytes that are no UTF-8.")


@pytest.mark.parametrize("body", [b"nasa\n\xed\xa0\x80\n", b"nasa\n\xf0\x9f\x98", b"nasa\n\xc0\x80"])
def test_surrogates_and_cut_letters_are_no_utf_8(body: bytes) -> None:
    assert refusal(from_text, body).startswith("Line 2 ")


# --- whatever comes ------------------------------------------------------------------------------

scraps = st.sampled_from(
    [
        *(
            "nasa",
            "NASA",
            "@nasa",
            "bbc",
            "a" * 30,
            "a" * 31,
            "https://instagram.com/nasa/",
            "instagram.com/p/x",
        ),
        *("username", "externalId", "#", '"', '""', ",", ";", "\t", " ", "\n", "\r\n", "\r", *EXOTIC),
        *(
            '{"username": "cnn"}',
            '{"username": "dw", "externalId": "',
            '"}',
            "{",
            "}",
            "[",
            "]",
            "\\ud800",
            "NaN",
        ),
        *("\x00", "\ufeff", "🙂", "ü", "9" * 400),
    ]
)
texts = st.lists(scraps | st.text(max_size=4), max_size=30).map("".join)
bodies = texts.map(str.encode) | st.binary(max_size=60) | texts.map(lambda text: text.encode("utf-16"))
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
calls = st.tuples(st.sampled_from(list(READERS.values())), bodies) | st.tuples(
    st.just(from_json), st.lists(values, max_size=20)
)


@given(calls)
def test_whatever_comes_is_read_or_refused_and_each_name_comes_once_and_in_order(
    call: tuple[Callable[[Any], NameList], Any],
) -> None:
    read, given = call
    try:
        found = read(given)
    except ValidationFailed:
        refusal(read, given).encode()
        return
    assert found.entries
    assert len(set(names(found))) == len(found.entries)
    assert {entry.username for entry in found.duplicates} <= set(names(found))
    for each in (found.entries, found.duplicates, found.invalid):
        numbers = [entry.line for entry in each]
        assert numbers == sorted(numbers)
        assert all(number >= 1 for number in numbers)
    told = [entry.line for entry in (*found.entries, *found.duplicates, *found.invalid)]
    assert len(set(told)) == len(told), "a line is one thing"
    for entry in (*found.entries, *found.duplicates):
        assert re.fullmatch(r"[a-z0-9._]{1,30}", entry.username)
        assert entry.external_id is None or entry.external_id.isprintable()
    json.dumps([each.value for each in found.invalid], ensure_ascii=False).encode()


usernames = st.from_regex(r"[a-z0-9._]{1,30}", fullmatch=True)
externals = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=EXTERNAL_ID_MOST)


@given(
    st.dictionaries(usernames, st.none() | externals, min_size=1, max_size=20),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_csv_writer_writes_is_read_back(
    given: dict[str, str | None], delimiter: str, end: str
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerow(["externalId", "bio", "username"])
    for name, external_id in given.items():
        writer.writerow([external_id or "", f'of {name},\n;\t"quoted"', name])
    found = from_csv(file.getvalue().encode())
    assert [(entry.username, entry.external_id) for entry in found.entries] == list(given.items())


@given(st.dictionaries(usernames, st.none() | externals, min_size=1, max_size=20), st.booleans())
def test_what_a_json_writer_writes_is_read_back(given: dict[str, str | None], plain: bool) -> None:
    rows = [{"username": name, "externalId": external_id} for name, external_id in given.items()]
    body = "\n".join(json.dumps(row, ensure_ascii=plain) for row in rows).encode()
    found = from_ndjson(body)
    assert [(entry.username, entry.external_id) for entry in found.entries] == list(given.items())
    assert [entry.line for entry in found.entries] == list(range(1, len(given) + 1))


def test_the_limits_are_those_of_the_contract() -> None:
    assert (NAMES_MOST, EXTERNAL_ID_MOST) == (10_000, 128)
    assert namelists.DELIMITERS == ",;\t"


@pytest.mark.parametrize("header", ["Account", "name", "User_names", "URL"])
def test_a_lone_header_in_csv_is_no_name_to_fetch(header: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        from_csv(f"{header}\nanna\n".encode())
    assert "no column is called 'username'" in str(raised.value.details)


def test_external_ids_may_be_written_with_an_underscore() -> None:
    [entry] = from_csv(b"user_name;External_ID\nanna;17\n").entries
    assert (entry.username, entry.external_id) == ("anna", "17")
