"""`iptables-save` and `iptables-save -c`, of the legacy and the nft variant.

============== ============ ===== ======================================================================
column         type         unit  meaning
============== ============ ===== ======================================================================
line           int                1-based line in the text
table          str                raw, mangle, nat, filter
chain          str
number         int | None         position in the chain, from 1; None on the chain's own line
policy         str | None         of a built-in chain, on its own line: ACCEPT, DROP
packets        int | None         of the rule, or of the chain's policy; None on rules without `-c`
bytes          int | None   bytes as `packets`
spec           str | None         the rule as printed after ``-A CHAIN``; None on the chain's own line
target         str | None         `-j` or `-g`
goto           bool               the target was given with `-g`
in_iface       str | None         `-i`
out_iface      str | None         `-o`
src            str | None         `-s`
dst            str | None         `-d`
proto          str | None         `-p`
dports         str | None         `--dport` or `--dports`, as printed: "4789", "179,8472", "30000:32767"
sports         str | None         as `dports`
set_name       str | None         `-m set --match-set`: the ipset
set_side       str | None         src, dst, or "src,src" where the set has several dimensions
src_type       str | None         `-m addrtype --src-type`
dst_type       str | None         `-m addrtype --dst-type`
ctstate        str | None         `-m conntrack --ctstate`, or `-m state --state`
mark           str | None         `-m mark --mark`, with its mask
comment        str | None         comments without their quotes; several are joined by "; "
to_source      str | None         of SNAT
to_destination str | None         of DNAT
negated        tuple of str       columns whose match is inverted by "!"
============== ============ ===== ======================================================================

A match that a rule makes twice (two sets, two address types) is joined by a space, each inverted one with its "!":
``"!LOCAL LOCAL"``. Matches that have no column stay in `spec` only.

Source of the options: iptables-extensions(8).
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from dataclasses import dataclass

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Rule", "parse"]

_TABLE = re.compile(r"\*(?P<table>[a-z]+)")
_CHAIN = re.compile(r":(?P<chain>\S+) (?P<policy>[A-Z]+|-) \[(?P<packets>[0-9]+):(?P<bytes>[0-9]+)\]")
_RULE = re.compile(r"(?:\[(?P<packets>[0-9]+):(?P<bytes>[0-9]+)\] )?-A (?P<chain>\S+)(?: (?P<spec>.*\S))? *")

_OPTIONS = {
    "-i": "in_iface",
    "-o": "out_iface",
    "-s": "src",
    "-d": "dst",
    "-p": "proto",
    "--dport": "dports",
    "--dports": "dports",
    "--sport": "sports",
    "--sports": "sports",
    "--match-set": "set_name",
    "--src-type": "src_type",
    "--dst-type": "dst_type",
    "--ctstate": "ctstate",
    "--state": "ctstate",
    "--comment": "comment",
    "--to-source": "to_source",
    "--to-destination": "to_destination",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, or one chain's declaration (`spec` is None); columns as in the module's table."""

    line: int
    table: str
    chain: str
    number: int | None = None
    policy: str | None = None
    packets: int | None = None
    bytes: int | None = None
    spec: str | None = None
    target: str | None = None
    goto: bool = False
    in_iface: str | None = None
    out_iface: str | None = None
    src: str | None = None
    dst: str | None = None
    proto: str | None = None
    dports: str | None = None
    sports: str | None = None
    set_name: str | None = None
    set_side: str | None = None
    src_type: str | None = None
    dst_type: str | None = None
    ctstate: str | None = None
    mark: str | None = None
    comment: str | None = None
    to_source: str | None = None
    to_destination: str | None = None
    negated: tuple[str, ...] = ()


def parse(text: str) -> list[Rule]:
    """Read the chains and rules of all tables.

    Raises
    ------
    ParseError
        For a line of no known form, a rule in a chain that is not declared, an option without its value, and a table
        without its COMMIT: the text is cut.
    """
    rules: list[Rule] = []
    table: tuple[Line, str] | None = None
    numbers: dict[str, int] = {}
    for line in lines(text):
        if line.text.startswith("#"):
            continue
        if match := _TABLE.fullmatch(line.text):
            if table:
                raise line.error(f"table {table[1]!r} is not ended by COMMIT")
            table, numbers = (line, match["table"]), {}
        elif table is None:
            raise line.error("not in a table")
        elif line.text == "COMMIT":
            table = None
        elif match := _CHAIN.fullmatch(line.text):
            numbers[match["chain"]] = 0
            rules.append(_chain(line, table[1], match))
        elif match := _RULE.fullmatch(line.text):
            chain = match["chain"]
            if chain not in numbers:
                raise line.error(f"chain {chain!r} is not declared")
            numbers[chain] += 1
            rules.append(_rule(line, table[1], numbers[chain], match))
        else:
            raise line.error("neither a chain nor a rule")
    if table:
        raise table[0].error(f"table {table[1]!r} is not ended by COMMIT")
    return rules


def _chain(line: Line, table: str, match: re.Match[str]) -> Rule:
    return Rule(
        line=line.number,
        table=table,
        chain=match["chain"],
        policy=None if match["policy"] == "-" else match["policy"],
        packets=integer(line, match["packets"], "packets"),
        bytes=integer(line, match["bytes"], "bytes"),
    )


def _rule(line: Line, table: str, number: int, match: re.Match[str]) -> Rule:
    spec = match["spec"] or ""
    try:
        words = shlex.split(spec)
    except ValueError:
        raise line.error("a quotation without its end") from None
    found, target, goto = _matches(line, words)

    def column(name: str) -> str | None:
        values = found[name]
        if len(values) < 2 or name == "comment":
            return "; ".join(value for value, _ in values) or None
        return " ".join(f"!{value}" if inverted else value for value, inverted in values)

    return Rule(
        line=line.number,
        table=table,
        chain=match["chain"],
        number=number,
        packets=integer(line, match["packets"], "packets") if match["packets"] else None,
        bytes=integer(line, match["bytes"], "bytes") if match["bytes"] else None,
        spec=spec,
        target=target,
        goto=goto,
        in_iface=column("in_iface"),
        out_iface=column("out_iface"),
        src=column("src"),
        dst=column("dst"),
        proto=column("proto"),
        dports=column("dports"),
        sports=column("sports"),
        set_name=column("set_name"),
        set_side=column("set_side"),
        src_type=column("src_type"),
        dst_type=column("dst_type"),
        ctstate=column("ctstate"),
        mark=column("mark"),
        comment=column("comment"),
        to_source=column("to_source"),
        to_destination=column("to_destination"),
        negated=tuple(sorted(name for name, values in found.items() if any(inverted for _, inverted in values))),
    )


def _matches(line: Line, words: list[str]) -> tuple[dict[str, list[tuple[str, bool]]], str | None, bool]:
    """Columns with their values, each inverted or not; then the target, and whether it is a goto."""
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    target: str | None = None
    goto = inverted = False
    extension = ""
    rest = iter(words)

    def value(option: str) -> str:
        word = next(rest, None)
        if word is None:
            raise line.error(f"the line ends before the value of {option!r}")
        return word

    for word in rest:
        if word == "!":
            inverted = True
            continue
        if word == "-m":
            extension = value(word)
        elif word in ("-j", "-g"):
            target, goto = value(word), word == "-g"
        elif word == "--mark" and extension == "mark":
            # connmark has an option of the same name.
            found["mark"].append((value(word), inverted))
        elif word in _OPTIONS:
            found[_OPTIONS[word]].append((value(word), inverted))
            if word == "--match-set":
                found["set_side"].append((value(word), False))
        inverted = False
    return found, target, goto
