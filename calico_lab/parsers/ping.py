"""`ping` of iputils, with or without `-D` (time of arrival) and `-O` (missing answers): one row per event.

=========== ============ ===== ==================================================================
column      type         unit  meaning
=========== ============ ===== ==================================================================
line        int                1-based line in the text
seq         int | None         icmp_seq; None for an error that arose before a packet was sent
outcome     str                reply; no_answer (`-O`: none yet when the next was sent); error
time_ms     float | None ms    round trip; None too where the payload is too small to hold a time
ttl         int | None         of the reply
bytes       int | None   bytes of the reply's ICMP message
error       str | None         "Destination Host Unreachable", "message too long, mtu=1410", ...
from_ip     str | None         who replied or reported the error
mtu_bytes   int | None   bytes MTU that the error names
duplicate   bool               the second reply to one probe
timestamp_s float | None s     `-D`: when the event was seen, since 1970
=========== ============ ===== ==================================================================

The statistics at the end are no row: `summary` returns them. A text without them is not read at all, for
an unfinished measurement is not 100 % loss.

Source of the form: iputils, ``ping_common.c`` and ``ping.c`` (s20161105 to 20221126).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.errors import ParseError
from calico_lab.parsers._words import Line, address, integer, lines

__all__ = ["Row", "Summary", "parse", "summary"]

# The target's name, its address, the source; then the payload's size. IPv6 has no blank before the parenthesis.
_HEAD = re.compile(
    r"PING (?P<target>[^\s(]+) ?\((?P<target_ip>[^)]+)\)(?: from (?P<source>\S+)(?: (?P<dev>[^\s:]*))?:| ?:)?"
    r" (?P<size>[0-9]+)(?:\([0-9]+\) bytes of data\.| data bytes)"
)
_STAMP = re.compile(r"\[(?P<timestamp>[0-9]{1,12}\.[0-9]{1,9})\] (?P<rest>.*)")
_REPLY = re.compile(
    r"(?P<bytes>[0-9]+) bytes from (?:\S+ \()?(?P<from>[^\s()]+?)\)?: icmp_seq=(?P<seq>[0-9]+)(?: ttl=(?P<ttl>[0-9]+))?"
    r"(?: time=(?P<time>[0-9]{1,12}(?:\.[0-9]{1,9})?) ms)?(?P<duplicate> \(DUP!\))?(?: \(different address\))?"
)
_NO_ANSWER = re.compile(r"no answer yet for icmp_seq=(?P<seq>[0-9]+)")
_REPORT = re.compile(r"From (?:\S+ \()?(?P<from>[^\s()]+?)\)?:? icmp_seq=(?P<seq>[0-9]+) (?P<error>.*\S) *")
# Standard error, where it was recorded in the same text.
_LOCAL = re.compile(r"ping6?: (?:local error|sendmsg): (?P<error>.*\S) *")
_MTU = re.compile(r"mtu ?= ?(?P<mtu>[0-9]+)")
_TITLE = re.compile(r"--- \S+ ping statistics ---")
_COUNTS = re.compile(
    r"(?P<transmitted>[0-9]+) packets transmitted, (?P<received>[0-9]+) received(?:, \+[0-9]+ duplicates)?"
    r"(?:, \+[0-9]+ corrupted)?(?:, \+(?P<errors>[0-9]+) errors)?"
    r"(?:, (?P<loss>[0-9]{1,3}(?:\.[0-9]{1,9})?)% packet loss)?"
    r"(?:, time (?P<time>[0-9]+)ms)?"
)
_NUMBER = r"[0-9]{1,12}\.[0-9]{1,9}"
_RTT = re.compile(
    rf"rtt min/avg/max/mdev = (?P<min>{_NUMBER})/(?P<avg>{_NUMBER})/(?P<max>{_NUMBER})/(?P<mdev>{_NUMBER}) ms"
    r"(?:, pipe [0-9]+)?(?:, ipg/ewma \S+ ms)?"
)
_PIPE = re.compile(r"pipe [0-9]+")

# The payload begins with the time of sending, a struct timeval; a smaller one has no round trip to show.
_TIMED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One reply, missing answer or error; columns as in the module's table."""

    line: int
    seq: int | None
    outcome: str
    time_ms: float | None = None
    ttl: int | None = None
    bytes: int | None = None
    error: str | None = None
    from_ip: str | None = None
    mtu_bytes: int | None = None
    duplicate: bool = False
    timestamp_s: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The statistics of one run of ping.

    Attributes
    ----------
    target : str
        As it was given on the command line.
    target_ip : str
    source : str or None
        Source address, where ping printed it: with `-I`.
    size_bytes : int
        Of the payload, without the ICMP header.
    transmitted, received, errors : int
        Probes sent, probes answered, and ICMP or local errors.
    loss_percent : float or None
        None where nothing was transmitted.
    time_ms : int or None
        From the first probe to the end.
    rtt_min_ms, rtt_avg_ms, rtt_max_ms, rtt_mdev_ms : float or None
        None where nothing was received, and where the payload is too small to hold a time.
    line : int
        1-based line of the counts.
    """

    target: str
    target_ip: str
    source: str | None
    size_bytes: int
    transmitted: int
    received: int
    errors: int
    loss_percent: float | None
    time_ms: int | None
    rtt_min_ms: float | None
    rtt_avg_ms: float | None
    rtt_max_ms: float | None
    rtt_mdev_ms: float | None
    line: int


def parse(text: str) -> list[Row]:
    """Read the events.

    Raises
    ------
    ParseError
        For a line of no known form, and for a text without its statistics.
    """
    return _read(text)[0] if text.strip() else []


def summary(text: str) -> Summary:
    """Read the statistics.

    Raises
    ------
    ParseError
        As `parse`; and for an empty text, which has none.
    """
    return _read(text)[1]


def _read(text: str) -> tuple[list[Row], Summary]:
    found = list(lines(text))
    if not found:
        raise ParseError("ping printed nothing", line=1, text="")
    head = next((match for line in found if (match := _HEAD.fullmatch(line.text))), None)
    title = next((index for index, line in enumerate(found) if _TITLE.fullmatch(line.text)), None)
    rows = [row for line in found[:title] if (row := _event(line))]
    if head is None:
        raise found[0].error("ping's first line is missing")
    if title is None:
        raise found[-1].error("the text ends before the statistics")
    return rows, _statistics(head, found[title], found[title + 1 :])


def _event(line: Line) -> Row | None:
    """The row of a line above the statistics; None for ping's first line."""
    if _HEAD.fullmatch(line.text):
        return None
    stamp = _STAMP.fullmatch(line.text)
    text = stamp["rest"] if stamp else line.text
    timestamp_s = float(stamp["timestamp"]) if stamp else None
    if match := _REPLY.fullmatch(text):
        return Row(
            line=line.number,
            seq=integer(line, match["seq"], "icmp_seq"),
            outcome="reply",
            time_ms=float(match["time"]) if match["time"] else None,
            ttl=integer(line, match["ttl"], "ttl") if match["ttl"] else None,
            bytes=integer(line, match["bytes"], "bytes"),
            from_ip=address(line, match["from"]),
            duplicate=match["duplicate"] is not None,
            timestamp_s=timestamp_s,
        )
    if match := _NO_ANSWER.fullmatch(text):
        return Row(line.number, integer(line, match["seq"], "icmp_seq"), "no_answer", timestamp_s=timestamp_s)
    report = _REPORT.fullmatch(text)
    match = report or _LOCAL.fullmatch(text)
    if match is None:
        raise line.error("not a line of ping")
    mtu = _MTU.search(match["error"])
    return Row(
        line=line.number,
        seq=integer(line, report["seq"], "icmp_seq") if report else None,
        outcome="error",
        error=match["error"],
        from_ip=address(line, report["from"]) if report else None,
        mtu_bytes=integer(line, mtu["mtu"], "mtu") if mtu else None,
        timestamp_s=timestamp_s,
    )


def _statistics(head: re.Match[str], title: Line, rest: list[Line]) -> Summary:
    if not rest:
        raise title.error("the text ends within the statistics")
    line, *below = rest
    counts = _COUNTS.fullmatch(line.text)
    if not counts:
        raise line.error("not the counts of ping's statistics")
    rtt = _RTT.fullmatch(below[0].text) if below else None
    for extra in below[1:] if rtt else below:
        if not _PIPE.fullmatch(extra.text):
            raise extra.error("unknown line below ping's statistics")
    size = integer(title, head["size"], "payload size")
    received = integer(line, counts["received"], "received")
    if received and size >= _TIMED_BYTES and not rtt:
        raise line.error("the text ends before the round-trip times")
    return Summary(
        target=head["target"],
        target_ip=head["target_ip"],
        source=head["source"],
        size_bytes=size,
        transmitted=integer(line, counts["transmitted"], "transmitted"),
        received=received,
        errors=integer(line, counts["errors"], "errors") if counts["errors"] else 0,
        loss_percent=float(counts["loss"]) if counts["loss"] else None,
        time_ms=integer(line, counts["time"], "time") if counts["time"] else None,
        rtt_min_ms=float(rtt["min"]) if rtt else None,
        rtt_avg_ms=float(rtt["avg"]) if rtt else None,
        rtt_max_ms=float(rtt["max"]) if rtt else None,
        rtt_mdev_ms=float(rtt["mdev"]) if rtt else None,
        line=line.number,
    )
