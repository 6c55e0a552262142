"""A recording: everything that was observed of a cluster, as a folder of raw text with a manifest.

::

    manifest.json                       what was captured, when, from where, with the sha256 of each file
    captures/<node>/<command>.txt       one command's standard output, as printed

A recording is the only thing that passes from the live world to the tables, the checks and the reports, so it stands
alone: the scenario, the nodes and what stood in for what are in its manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import RecordingError, ScenarioError
from .scenario import Scenario

__all__ = ["FORMAT", "Capture", "Recording", "Writer", "now", "redact", "write_atomically"]

FORMAT = 1
"""Version of the manifest's layout."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One command on one node.

    Attributes
    ----------
    node : str
        A node, or one of the lab's routers.
    command : str
        Its name, which is also its file's.
    kind : str
        The parser that reads its output.
    line : str
        What was run, as a person would type it on the node.
    outcome : "done", "timeout" or "unreachable"
    exit_code : int or None
    stderr : str
    started : str
        ISO 8601, UTC.
    duration_s : float
    path : str
        Where its output is, from the recording's folder.
    sha256 : str
        Of that file.
    probe : dict
        For a ping: ``layer``, ``source`` and ``target`` (names), ``via`` (which address), ``address``.
    """

    node: str
    command: str
    kind: str
    line: str
    outcome: str
    exit_code: int | None
    stderr: str
    started: str
    duration_s: float
    path: str
    sha256: str
    probe: dict[str, Any] = field(default_factory=dict)


class Recording:
    """A recording on disk, read only.

    Raises
    ------
    RecordingError
        If the folder has no manifest, or one of another format; from `scenario`, if this version does not know what
        it says; from `text`, if a file is missing or was changed.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecordingError(
                "no recording here", where=str(folder), seen="no manifest.json", todo="name a recording's folder"
            ) from None
        except ValueError as problem:
            raise RecordingError(
                "not a manifest", where=f"{folder}/manifest.json", seen=str(problem), todo="record again"
            ) from None
        found = self.manifest.get("format", "none") if isinstance(self.manifest, dict) else "none"
        if found != FORMAT:
            raise RecordingError(
                "another format",
                where=f"{folder}/manifest.json",
                seen=found,
                todo=f"this version reads format {FORMAT}",
            )

    @cached_property
    def scenario(self) -> Scenario:
        try:
            return Scenario.of(self.manifest["scenario"], where=f"{self.folder}/manifest.json: scenario")
        except ScenarioError as error:
            raise RecordingError(
                error.what, where=error.where, seen=error.seen, todo="use the version that recorded it, or record again"
            ) from None

    @cached_property
    def captures(self) -> tuple[Capture, ...]:
        return tuple(Capture(**entry) for entry in self.manifest["captures"])

    def text(self, capture: Capture) -> str:
        """What the command printed, byte for byte."""
        path = self.folder / capture.path
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise RecordingError("a captured file is missing", where=str(path), todo="record again") from None
        if hashlib.sha256(data).hexdigest() != capture.sha256:
            raise RecordingError(
                "a captured file was changed after it was recorded",
                where=str(path),
                seen="another sha256",
                todo="restore it or record again",
            )
        return data.decode("utf-8")


class Writer:
    """Writes a recording beside its place and moves it there when it is complete.

    Use as a context manager: leaving it with an exception leaves an older recording as it was.

    Parameters
    ----------
    folder : Path
        Where the recording will be.
    scenario : Scenario
    provider : str
    nodes, pods : list of dict
    fabric : list of str
    facts : mapping
    tool : str
        Name and version of the writer.
    """

    def __init__(self, folder: Path, scenario: Scenario, **about: Any) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        self._aside.chmod(0o755)
        self._captures: list[Capture] = []
        self._about = {"format": FORMAT, **about, "started": now(), "scenario": scenario.parameters()}

    def add(self, *, node: str, command: str, stdout: str, stderr: str, **facts: Any) -> None:
        """Keep one command's output; secrets in it are blacked out first."""
        path = Path("captures", node, f"{command}.txt")
        data = redact(stdout).encode()
        write_atomically(self._aside / path, data)
        self._captures.append(
            Capture(
                node=node,
                command=command,
                stderr=redact(stderr),
                path=path.as_posix(),
                sha256=hashlib.sha256(data).hexdigest(),
                **facts,
            )
        )

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _finish(self) -> None:
        captures = sorted(self._captures, key=lambda capture: (capture.node, capture.command))
        manifest = {**self._about, "finished": now(), "captures": [asdict(capture) for capture in captures]}
        text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
        write_atomically(self._aside / "manifest.json", text.encode())
        with _moved_away(self.folder):
            self._aside.rename(self.folder)


@contextlib.contextmanager
def _moved_away(folder: Path) -> Iterator[None]:
    """Make room for a folder's successor; the old one is put back if that fails, and deleted if not."""
    old = folder.with_name(f".{folder.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    existed = folder.exists()
    if existed:
        folder.rename(old)
    try:
        yield
    except BaseException:
        if existed:
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """A reader sees the old file or the new one, never a part, and never with other permissions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(aside).chmod(mode)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


_SECRETS = (
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----)", re.DOTALL),
    re.compile(r"((?:client-key-data|token|password|[Aa]uthorization):\s*)\S[^\n]*()"),
    re.compile(r'("(?:client-key-data|token|password|[Aa]uthorization)":\s*")[^"]*(")'),
)


def redact(text: str) -> str:
    """Black out private keys, tokens and passwords; the lines around them stay."""
    for secret in _SECRETS:
        text = secret.sub(r"\1[redacted]\2", text)
    return text
