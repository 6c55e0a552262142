"""`birdcl show protocols`: BIRD's own, of Calico's 1.6 and of stock 2.

======== ========== ==== ===========================================================================
column   type       unit meaning
======== ========== ==== ===========================================================================
line     int             1-based line in the text
name     str             protocol; Calico calls the mesh's sessions Mesh_<address with underscores>
proto    str             BGP, Kernel, Device, Direct, Static, ...
table    str | None      None for `---`
state    str             up, start, down, ...
since    str             time or date of the last change
info     str | None      of BGP: the session's state (Established, Active, Passive, ...) and its last error
peer_ip  str | None      of a mesh session: the peer, from the name
======== ========== ==== ===========================================================================

Source of the form: BIRD, ``nest/proto.c`` (1.6 and 2.0); Calico's ``confd`` templates for the names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import lines

__all__ = ["Row", "parse"]

_BANNER = re.compile(r"(BIRD .* ready\.|Access restricted)")
_HEADING = re.compile(r"name\s+proto\s+table\s+state\s+since\s+info", re.IGNORECASE)
_ROW = re.compile(
    r"(\S+)\s+(\S+)\s+(\S+)\s+(up|start|down|stop|flush)\s+(\d\S*(?: \d\d:\d\d:\d\d\S*)?)(?:\s+(\S.*?))?\s*"
)
_MESH = re.compile(r"(?:Mesh|Global|Node)_(\d+)_(\d+)_(\d+)_(\d+)")


@dataclass(frozen=True, slots=True)
class Row:
    """One protocol."""

    line: int
    name: str
    proto: str
    table: str | None
    state: str
    since: str
    info: str | None
    peer_ip: str | None


def parse(text: str) -> list[Row]:
    """Read the table.

    Raises
    ------
    ParseError
        For a line that is neither a banner, the heading nor a protocol, or a protocol above the heading.
    """
    rows: list[Row] = []
    headed = False
    for line in lines(text):
        if _HEADING.fullmatch(line.text.strip()):
            headed = True
        elif found := _ROW.fullmatch(line.text) if headed else None:
            name, proto, table, state, since, info = found.groups()
            peer = _MESH.fullmatch(name)
            rows.append(
                Row(
                    line=line.number,
                    name=name,
                    proto=proto,
                    table=None if table == "---" else table,
                    state=state,
                    since=since,
                    info=info and " ".join(info.split()),
                    peer_ip=".".join(peer.groups()) if peer else None,
                )
            )
        elif not _BANNER.fullmatch(line.text.strip()):
            raise line.error("not a line of birdcl show protocols")
    return rows
