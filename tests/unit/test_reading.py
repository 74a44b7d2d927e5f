"""YAML and JSON are read safely: nothing is executed, guessed or silently dropped, and every fault says its line."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_agents.errors import Problem
from unified_agents.reading import Marks, ReadError, read_text


def fault_of(text: str, *, is_json: bool = False) -> Problem:
    """The only problem that reading `text` raises."""
    with pytest.raises(ReadError) as caught:
        read_text(text, is_json=is_json)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    "written",
    [
        "NO",
        "no",
        "yes",
        "Yes",
        "on",
        "off",
        "y",
        "n",
        "tRue",
        "2026-01-01",
        "2026-01-01T12:00:00Z",
        "12:30:45",
        "1:30",
        "1_000",
        "5k",
        "<<",
    ],
)
def test_what_older_yaml_would_guess_is_text(written: str) -> None:
    """A country code, a date or a time stays the text that was written."""
    assert read_text(f"key: {written}")[0] == {"key": written}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("12", 12),
        ("-5", -5),
        ("+5", 5),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("3.5", 3.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
    ],
)
def test_plain_scalars_have_the_types_of_yaml_1_2(written: str, value: object) -> None:
    """Numbers, booleans and null are read as YAML 1.2 defines them, octal and hexadecimal included."""
    found = read_text(f"key: {written}")[0]["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("written", ['"true"', "'true'", '"12"', "'0x1F'", '"null"', "'1e3'", "|-\n  12", ">-\n  true"])
def test_quoted_and_block_scalars_are_text(written: str) -> None:
    """Whoever quotes a scalar means text."""
    assert isinstance(read_text(f"key: {written}")[0]["key"], str)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a'"),
        ('a: 1\n"a": 2', 2, "'a'"),
        ("top:\n  in: 1\n  in: 2", 3, "'in'"),
        ("top: {in: 1, other: 2,\n  in: 3}", 2, "'in'"),
        ("1: a\n'1': b", 2, "'1'"),
        ("first: &x [1]\nsecond: *x", 2, "alias"),
        ("base: &x {a: 1}\nmade:\n  <<: *x", 3, "alias"),
        ("&a [*a]", 1, "alias"),
        ("a: 1\nb: !!python/object/apply:os.system [id]", 2, "tag"),
        ("a: !!str 1", 1, "tag"),
        ("!local\na: 1", 1, "tag"),
        ("a: 1\n---\nb: 2", 2, "document"),
        ("? [a, b]\n: 1", 1, "key"),
        ("a: 1\nb: c: d", 2, "YAML"),
        ("a: [1, 2\nb: c", 2, "YAML"),
        ("a:\n\tb: 1", 2, "YAML"),
    ],
)
def test_what_is_refused_says_what_and_where(text: str, line: int, word: str) -> None:
    """Duplicate keys, aliases, tags, a second document and bad syntax are each refused with their line."""
    problem = fault_of(text)
    assert problem.line == line
    assert word in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "a: 'not closed",
        "a: 'not closed\nb: c\n",
        'a: "not closed\n',
        "a: [1, 2\n",
        "a: {b: 1\n\n\n",
        "a: |\n  x\n b\n",
        "%",
        "@a",
        "`",
        "a: \x00",
        "{",
        "- a\nb: c",
    ],
)
def test_text_cut_off_anywhere_is_a_problem_and_never_a_crash(text: str) -> None:
    """A file that ends in the middle of something is bad YAML, said in our words."""
    assert "YAML" in fault_of(text).message


@pytest.mark.parametrize("written", ["9" * 5000, "-" + "9" * 5000])
def test_an_absurdly_long_number_is_no_crash(written: str) -> None:
    """Python's limit on digits does not surface as a ValueError."""
    try:
        read_text(f"key: {written}")
    except ReadError as error:
        assert error.problems[0].line in (1, None)  # noqa: PT017  both outcomes are fine, a crash is not


@pytest.mark.parametrize(
    "text", ["a: 1\nb: {a: 1}\nc: [{a: 1}, {a: 2}]", "---\na: 1\n...\n", "A: 1\na: 2", "a: '*x'\nb: '&x'\nc: '!x'", "a: 1 # b: 2\n#---\n"]
)
def test_their_lawful_neighbours_are_read(text: str) -> None:
    """The same key in another mapping, one document with markers, and quoted signs are no faults."""
    assert "a" in read_text(text)[0]


def test_all_duplicate_keys_are_reported_at_once() -> None:
    """Two duplicates in one file are two problems."""
    with pytest.raises(ReadError) as caught:
        read_text("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n")
    assert [problem.line for problem in caught.value.problems] == [2, 5]


@pytest.mark.parametrize("key", ["1", "0", "007", "1.0", "2026", "2026-01-01", "yes", "true", "null"])
def test_a_key_is_the_text_that_was_written(key: str) -> None:
    """The names of agents and tasks are text, whatever they look like."""
    assert list(read_text(f"{key}: value")[0]) == [key]


@pytest.mark.parametrize(
    ("letter", "count", "fits"), [("x", 1_000_000, True), ("x", 1_000_001, False), ("é", 500_000, True), ("é", 500_001, False)]
)
def test_a_file_holds_at_most_a_million_bytes(letter: str, count: int, fits: bool) -> None:
    """The limit counts bytes, not characters."""
    text = letter * count
    if fits:
        assert read_text(text)[0] == text
    else:
        assert "1,000,000" in fault_of(text).message


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ('{"a":[', "]}")])
@pytest.mark.parametrize("is_json", [False, True])
def test_fifty_levels_are_read_and_fifty_one_are_not(opening: str, closing: str, is_json: bool) -> None:
    """The limit on depth is exact, for sequences and mappings, in YAML and in JSON."""
    if is_json and opening == "{a: ":
        opening = '{"a": '
    width = opening.count("[") + opening.count("{")
    fits, inner = 50 // width, "1"
    assert read_text(opening * fits + inner + closing * fits, is_json=is_json)[0]
    assert "50" in fault_of(opening * fits + "[1]" + closing * fits, is_json=is_json).message


@pytest.mark.parametrize("is_json", [False, True])
def test_hostile_depth_is_refused_quickly(is_json: bool) -> None:
    """A hundred thousand brackets are neither a RecursionError nor a long wait."""
    started = time.monotonic()
    assert "50" in fault_of("[" * 100_000 + "]" * 100_000, is_json=is_json).message
    assert time.monotonic() - started < 5


def test_block_style_depth_names_its_line() -> None:
    """The 51st level of an indented file is named by its line."""
    text = "\n".join("  " * level + "a:" for level in range(51)) + " 1\n"
    assert fault_of(text).line == 51


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    """The billion-laughs file stops at its first alias."""
    rows = ["a: &a [x, x, x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=False))]
    assert fault_of("\n".join(rows)).line == 2


def line(marks: Marks, *path: str | int) -> int:
    """The line that stands for the node at `path`."""
    for key in path:
        marks = marks.children[key]
    return marks.line


@pytest.mark.parametrize("is_json", [False, True])
def test_every_part_knows_its_line(is_json: bool) -> None:
    """An entry stands on the line of its key, an item on its own."""
    text = '{"tasks": {\n"write": {\n"context":\n["one",\n"two"]}}}'
    data, marks = read_text(text, is_json=is_json)
    assert data == {"tasks": {"write": {"context": ["one", "two"]}}}
    lines = [
        line(marks, "tasks"),
        line(marks, "tasks", "write"),
        line(marks, "tasks", "write", "context"),
        line(marks, "tasks", "write", "context", 1),
    ]
    assert lines == [1, 2, 3, 5]


@pytest.mark.parametrize(
    "text",
    [
        '{\n\t"a":\t1,\n\t"b":\t[\t]\n}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "😀"}',
        '{"a": "tab\\tline\\nslash\\/quote\\"unicode\\u00e9nul\\u0000bell\\u0007"}',
        '{"a": "NO", "b": "12", "c": "true", "d": "null"}',
        '{"a": true, "b": null, "c": -1.5e3, "d": 1E2, "e": 0}',
        '{"a": "# no comment", "b": "${X:-y}", "c": "{topic}", "d": "*x", "e": "!x"}',
        '{"a"\n:\n1}',
        '{"a" : 1 ,"b":{"c":"d"},"e":[{"f":"g"}]}',
        json.dumps({"k" * 2000: 1}),
        '{"a": "del \x7f and c1 \x9f"}',
        '{"a": "line\u2028paragraph\u2029next\x85"}',
    ],
    ids=[
        "tabs",
        "surrogates",
        "astral",
        "escapes",
        "quoted",
        "scalars",
        "signs",
        "newlines",
        "tight",
        "long key",
        "controls",
        "separators",
    ],
)
def test_valid_json_means_what_it_says(text: str) -> None:
    """JSON is read as JSON: the same data as Python's own reader gives."""
    assert read_text(text, is_json=True)[0] == json.loads(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=3), ascii_only=st.booleans(), indent=st.sampled_from([None, 2, "\t"]))
def test_any_json_document_survives(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    """Whatever a program dumps as JSON is read back unchanged."""
    assert read_text(json.dumps(value, ensure_ascii=ascii_only, indent=indent), is_json=True)[0] == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n"a": 1,\n}', 3),
        ('{\n"a": 1\n"b": 2}', 3),
        ("{\n'a': 1}", 2),
        ('{"a": 1} \n {"b": 2}', 2),
        ('{"a":\n"tab\there"}', 2),
        ('{"a":\n\nNO}', 3),
        ('{"a": 1, # comment\n"b": 2}', 1),
        ('{"a": 1,\n "b": [1, 2}', 2),
        ("", 1),
        ("name: team", 1),
    ],
)
def test_bad_json_is_refused_with_its_line(text: str, line: int) -> None:
    """What YAML would forgive is a fault in a .json file, on the line where it stands."""
    problem = fault_of(text, is_json=True)
    assert "JSON" in problem.message
    assert problem.line == line


def test_a_json_key_twice_is_refused() -> None:
    """Python's own JSON reader would keep the last one without a word."""
    assert fault_of('{"a": 1,\n"b": 2,\n"a": 3}', is_json=True).line == 3


def test_braces_in_braces_get_a_hint() -> None:
    """The commonest slip in a team file is answered with how to write it."""
    problem = fault_of("agents:\n  writer: {role: Writer, goal: About {topic}}\n")
    assert problem.line == 2
    assert "quotes" in problem.message
    assert "quotes" not in fault_of("a: b: c").message
