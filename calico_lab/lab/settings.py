"""What is set in one network namespace, in the languages of the tools that set it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Settings"]


@dataclass(slots=True)
class Settings:
    """Lines for each tool; each tool is started once and reads all of its lines.

    Attributes
    ----------
    ip, bridge, tc : list of str
        Lines of ``ip -batch``, ``bridge -batch`` and ``tc -batch``.
    ipset : list of str
        Lines of ``ipset restore``.
    iptables : dict of str to list of str
        For each table, lines of ``iptables-restore``: chains (``:NAME - [0:0]``) and rules (``-A …``).
    sysctl : dict of str to str
    """

    ip: list[str] = field(default_factory=list)
    ipset: list[str] = field(default_factory=list)
    iptables: dict[str, list[str]] = field(default_factory=dict)
    bridge: list[str] = field(default_factory=list)
    tc: list[str] = field(default_factory=list)
    sysctl: dict[str, str] = field(default_factory=dict)

    def add(self, other: Settings) -> None:
        """Put another's lines behind these."""
        for name in ("ip", "ipset", "bridge", "tc"):
            getattr(self, name).extend(getattr(other, name))
        for table, lines in other.iptables.items():
            self.iptables.setdefault(table, []).extend(lines)
        self.sysctl |= other.sysctl

    def batches(self) -> Iterator[tuple[list[str], str]]:
        """Commands with their standard input, in the order in which they depend on each other."""
        if self.ip:
            yield ["ip", "-batch", "-"], _text(self.ip)
        if self.ipset:
            yield ["ipset", "restore"], _text(self.ipset)
        if self.iptables:
            lines = [line for table, rules in self.iptables.items() for line in (f"*{table}", *rules, "COMMIT")]
            yield ["iptables-restore", "--noflush"], _text(lines)
        if self.bridge:
            yield ["bridge", "-batch", "-"], _text(self.bridge)
        if self.tc:
            yield ["tc", "-batch", "-"], _text(self.tc)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
