"""The journal of what is changed on a cluster: JSON lines, each on the disk before what it announces is done.

A change has its number in ``change``, what to do in ``do``, and what was there in ``before``; later lines have the uid
of what a change made in ``made``, and in ``undone`` the number of a change that was undone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError, RecordingError

__all__ = ["JOURNAL", "append", "pending", "read"]

JOURNAL = "changes.jsonl"
"""The journal's name in a run's folder."""

Entry = dict[str, Any]


def pending(entries: Sequence[Entry]) -> list[Entry]:
    """The changes that are not undone."""
    undone = {entry["undone"] for entry in entries if "undone" in entry}
    return [entry for entry in entries if "do" in entry and entry["change"] not in undone]


def append(journal: Path, entry: Mapping[str, Any]) -> None:
    """One line, on the disk when this returns; nobody else may read it: what was there before may be secret."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.touch(mode=0o600)
    with journal.open("ab+") as file:
        _cut_torn_line(file)
        file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    """Remove what a crash left of a line: what it was to announce was never done."""
    file.seek(0)
    whole = file.read().rpartition(b"\n")
    if whole[2]:
        file.truncate(len(whole[0]) + len(whole[1]))


def read(journal: Path) -> list[Entry]:
    """The entries, without what a crash left of a last one.

    Raises
    ------
    InputError
        If there is no journal.
    RecordingError
        If it is damaged before its last line.
    """
    try:
        *lines, _ = journal.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise InputError(
            "there is no journal", where=str(journal), todo=f"name a run's {JOURNAL}: make restore JOURNAL=<file>"
        ) from None
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError:
            raise RecordingError(
                "the journal is damaged", where=f"{journal}, line {number}", seen=line[:80], todo="mend that line"
            ) from None
    return entries
