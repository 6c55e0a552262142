"""`ipset list`: one row per member. An empty set gives one row without a member, so that it can be seen.

======== ========== ==== ===============================================================
column   type       unit meaning
======== ========== ==== ===============================================================
line     int             1-based line of the member; of "Members:" for an empty set
set_name str
type     str             hash:net, hash:ip,port, list:set, ...
member   str | None      the element: address, network, "10.0.0.1,tcp:80", name of a set
options  str | None      what is printed behind the element: nomatch, timeout, comment
======== ========== ==== ===============================================================

Source of the form: ipset 6.34 and 7.17; the options of members are in ipset(8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]

_FIELD = re.compile(r"(?P<key>Name|Type|Revision|Header|Size in memory|References|Number of entries): ?(?P<value>.*)")
_MEMBERS = "Members:"


@dataclass(frozen=True, slots=True)
class Row:
    """One member of a set; columns as in the module's table."""

    line: int
    set_name: str
    type: str
    member: str | None
    options: str | None


@dataclass(slots=True)
class _Set:
    """A set while it is read."""

    head: Line
    fields: dict[str, str] = field(default_factory=dict)
    members: Line | None = None
    rows: list[Row] = field(default_factory=list)

    def finish(self) -> list[Row]:
        if self.members is None:
            raise self.head.error("the set ends before its members")
        entries = self.fields.get("Number of entries")
        if entries is not None and integer(self.head, entries, "number of entries") != len(self.rows):
            raise self.head.error(f"the set has {entries} entries and {len(self.rows)} lines of members")
        empty = Row(self.members.number, self.fields["Name"], self.fields["Type"], None, None)
        return self.rows or [empty]


def parse(text: str) -> list[Row]:
    """Read the sets.

    Raises
    ------
    ParseError
        For a line of no known form, a set without its type or members, and one whose members are not as many as its
        "Number of entries", where that is printed.
    """
    rows: list[Row] = []
    current: _Set | None = None
    for line in lines(text):
        match = _FIELD.fullmatch(line.text)
        if match and match["key"] == "Name":
            if current:
                rows.extend(current.finish())
            current = _Set(line)
        if current is None:
            raise line.error("a list of sets begins with 'Name:'")
        if current.members is not None:
            current.rows.append(_member(line, current.fields))
        elif line.text == _MEMBERS:
            if "Type" not in current.fields:
                raise line.error("a set without its type")
            current.members = line
        elif match:
            current.fields[match["key"]] = match["value"]
        else:
            raise line.error("unknown line of a set")
    if current:
        rows.extend(current.finish())
    return rows


def _member(line: Line, fields: dict[str, str]) -> Row:
    member, _, options = line.text.strip().partition(" ")
    return Row(line.number, fields["Name"], fields["Type"], member, options or None)
