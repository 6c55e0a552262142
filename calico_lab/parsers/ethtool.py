"""`ethtool -k DEVICE`: what a device's driver does in the kernel's stead.

======= ==== ==== =========================================================================
column  type unit meaning
======= ==== ==== =========================================================================
line    int       1-based line in the text
device  str
feature str       tx-checksumming, tx-checksum-ip-generic, generic-segmentation-offload, ...
enabled bool
fixed   bool      it cannot be changed
======= ==== ==== =========================================================================

Source of the form: ethtool 4.15 and 6.1, ``ethtool.c`` and ``netlink/features.c``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import lines

__all__ = ["Row", "parse"]

_HEADER = re.compile(r"Features for (?P<device>\S+):")
_FEATURE = re.compile(
    r"\t*(?P<feature>[a-z0-9_-]+): (?P<state>on|off)(?P<fixed> \[fixed\])?(?: \[requested (?:on|off)\])?"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One feature; columns as in the module's table."""

    line: int
    device: str
    feature: str
    enabled: bool
    fixed: bool


def parse(text: str) -> list[Row]:
    """Read the features.

    Raises
    ------
    ParseError
        For a line that is neither a device's header nor a feature below one.
    """
    found, device = [], None
    for line in lines(text):
        header, feature = _HEADER.fullmatch(line.text), _FEATURE.fullmatch(line.text)
        if header:
            device = header["device"]
        elif feature and device:
            state = feature["state"] == "on"
            found.append(Row(line.number, device, feature["feature"], state, feature["fixed"] is not None))
        else:
            raise line.error("not a feature of a device")
    return found
