"""What the parsers share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from calico_lab.errors import ParseError
from calico_lab.parsers._words import Line, Words, address, destination, integer, lines, mac

LINE = Line(3, "10.0.0.0/8 dev eth0")


def message(call: Callable[[], object]) -> str:
    with pytest.raises(ParseError) as caught:
        call()
    return str(caught.value)


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert list(lines("a\n\n b\x0bc\r\n")) == [Line(1, "a"), Line(3, " b\x0bc")]


def test_words_are_claimed_by_keyword() -> None:
    values, flags = Words(LINE, "srcport 1 2 up dev eth0 down").claim({"srcport": 2, "dev": 1}, {"up", "down"})
    assert (values, flags) == ({"srcport": "1 2", "dev": "eth0"}, ["up", "down"])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("dev eth0 via", "unknown word 'via'"),
        ("dev", "the line ends before the value of 'dev'"),
        ("dev eth0 dev eth1", "'dev' comes twice"),
    ],
    ids=["unknown", "no-value", "twice"],
)
def test_a_word_that_cannot_be_claimed_is_named(text: str, what: str) -> None:
    assert message(lambda: Words(LINE, text).claim({"dev"}, ())) == f"line 3: {what}; seen: 10.0.0.0/8 dev eth0"


@pytest.mark.parametrize(
    ("convert", "word", "what"),
    [
        (address, "10.0.0", "not an IP address: '10.0.0'"),
        (destination, "10.0.0.0/33", "no such prefix length: '10.0.0.0/33'"),
        (destination, "10.0.0.0/", "prefix length is not a number: ''"),
        (mac, "66:09:ac", "not a MAC address: '66:09:ac'"),
        (lambda line, word: integer(line, word, "mtu"), "1_500", "mtu is not a number: '1_500'"),
        (lambda line, word: integer(line, word, "mtu"), "\u0661\u0665", "mtu is not a number: '\u0661\u0665'"),
    ],
    ids=["address", "prefix-too-long", "no-prefix", "mac", "underscore", "other-digits"],
)
def test_a_value_that_is_not_what_it_claims_to_be_is_named(
    convert: Callable[[Line, str], object], word: str, what: str
) -> None:
    assert message(lambda: convert(LINE, word)) == f"line 3: {what}; seen: 10.0.0.0/8 dev eth0"


@pytest.mark.parametrize(
    ("word", "normal"),
    [("default", "default"), ("10.0.0.1", "10.0.0.1"), ("2001:DB8::/32", "2001:db8::/32")],
)
def test_a_destination_is_read_in_its_normal_form(word: str, normal: str) -> None:
    assert destination(LINE, word) == normal
