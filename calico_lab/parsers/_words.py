"""What the parsers share: numbered lines, words claimed by keyword, and values that are what they claim to be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from calico_lab.errors import ParseError

__all__ = ["Line", "Words", "address", "destination", "integer", "is_mac", "lines", "mac"]

# At most 20 digits: every counter of the kernel fits, and `int` refuses texts of thousands of digits.
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a captured text.

    Attributes
    ----------
    number : int
        1-based, as an editor counts.
    text : str
        The line without its end.
    """

    number: int
    text: str

    def error(self, what: str) -> ParseError:
        """The error that shows this line."""
        return ParseError(what, line=self.number, text=self.text)


def lines(text: str) -> Iterator[Line]:
    """The non-blank lines of `text`.

    Split at newlines alone: `str.splitlines` also splits at characters that no command ends a line with, and the
    numbers would differ from an editor's.
    """
    for number, part in enumerate(text.split("\n"), start=1):
        if part.strip():
            yield Line(number, part.removesuffix("\r"))


class Words:
    """The words of a line, claimed from left to right.

    Parameters
    ----------
    line : Line
        The line that errors show.
    text : str, optional
        The part of the line to read; all of it by default.
    """

    def __init__(self, line: Line, text: str | None = None) -> None:
        self.line = line
        self._words = (line.text if text is None else text).split()
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._words)

    def peek(self) -> str | None:
        """The next word, unclaimed."""
        return self._words[self._next] if self else None

    def take(self, what: str) -> str:
        """Claim the next word.

        Raises
        ------
        ParseError
            If the line ends here; `what` names what is missing.
        """
        word = self.peek()
        if word is None:
            raise self.line.error(f"the line ends before the {what}")
        self._next += 1
        return word

    def claim(
        self, values: Mapping[str, int] | Collection[str], flags: Collection[str]
    ) -> tuple[dict[str, str], list[str]]:
        """Claim all that is left by keyword.

        Parameters
        ----------
        values : collection of str, or mapping of str to int
            Keywords that are followed by one word, or by the given number of words.
        flags : collection of str
            Keywords that stand alone.

        Returns
        -------
        dict of str to str
            Keyword to its value; the words of a longer value are joined by a space.
        list of str
            Flags in the order printed.

        Raises
        ------
        ParseError
            For a word that is no keyword, a keyword without its value, and a keyword that comes twice.
        """
        found: dict[str, str] = {}
        seen: list[str] = []
        while self:
            word = self.take("next word")
            if word in flags:
                seen.append(word)
            elif word in values:
                if word in found:
                    raise self.line.error(f"{word!r} comes twice")
                count = values[word] if isinstance(values, Mapping) else 1
                found[word] = " ".join(self.take(f"value of {word!r}") for _ in range(count))
            else:
                raise self.line.error(f"unknown word {word!r}")
        return found, seen


def integer(line: Line, word: str, what: str) -> int:
    """`word` as a number; `ParseError` names `what` otherwise."""
    if not _INTEGER.fullmatch(word):
        raise line.error(f"{what} is not a number: {word!r}")
    return int(word)


def address(line: Line, word: str) -> str:
    """An IPv4 or IPv6 address in its normal form."""
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise line.error(f"not an IP address: {word!r}") from None


def destination(line: Line, word: str) -> str:
    """A destination in its normal form: "default", an address, or a network with its prefix length."""
    if word == "default":
        return word
    host, slash, prefix_len = word.partition("/")
    host = address(line, host)
    if not slash:
        return host
    if integer(line, prefix_len, "prefix length") not in range(129 if ":" in host else 33):
        raise line.error(f"no such prefix length: {word!r}")
    return f"{host}/{prefix_len}"


def is_mac(word: str) -> bool:
    """Whether `word` is a link-layer address in colon form (6 bytes, 20 on InfiniBand)."""
    return _MAC.fullmatch(word) is not None and len(word) in (17, 59)


def mac(line: Line, word: str) -> str:
    """A MAC address in lower case."""
    if not is_mac(word):
        raise line.error(f"not a MAC address: {word!r}")
    return word.lower()
