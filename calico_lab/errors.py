"""The tree of errors.

::

    CalicoLabError            anything this tool reports on one line; the command exits with `exit_code`
    ├── InputError      (2)   what a person wrote is wrong; nothing has been started
    │   ├── ScenarioError       a scenario file, or a parameter that overrides one
    │   └── ParameterError      a notebook parameter that the notebook does not declare
    ├── HostError       (3)   this machine lacks something; the message ends with the line to run
    ├── LabError        (4)   the local lab broke
    ├── ClusterError    (4)   a node could not be reached or did not answer
    ├── RecordingError  (5)   a recording is incomplete, damaged or of another scenario
    │   └── ParseError          a captured text has a line that its parser does not know
    ├── ReportError     (6)   a notebook or an export failed
    └── WikiError       (7)   a page could not be published

Every message says what is wrong, where, what was seen and what to do next, on one line. A failed *check* is never
an error: it is a finding, a row of the result.
"""

from __future__ import annotations

__all__ = [
    "CalicoLabError",
    "ClusterError",
    "HostError",
    "InputError",
    "LabError",
    "ParameterError",
    "ParseError",
    "RecordingError",
    "ReportError",
    "ScenarioError",
    "WikiError",
]


class CalicoLabError(Exception):
    """One line for a person.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str, optional
        File, key, node or command it is wrong in.
    seen : object, optional
        The value or text that was seen there.
    todo : str, optional
        What to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, seen: object = None, todo: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.seen, self.todo = what, where, seen, todo

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.seen is not None:
            line += f"; seen: {self.seen if isinstance(self.seen, str) else repr(self.seen)}"
        if self.todo:
            line += f"; {self.todo}"
        return " ".join(line.split())


class InputError(CalicoLabError):
    exit_code = 2


class ScenarioError(InputError):
    pass


class ParameterError(InputError):
    pass


class HostError(CalicoLabError):
    exit_code = 3


class LabError(CalicoLabError):
    exit_code = 4


class ClusterError(CalicoLabError):
    exit_code = 4


class RecordingError(CalicoLabError):
    exit_code = 5


class ParseError(RecordingError):
    """A line that a strict parser does not know.

    Raised by a parser with the line alone; whoever knows the node and the command adds them with `at`.
    """

    def __init__(self, what: str, *, line: int, text: str, where: str | None = None) -> None:
        super().__init__(what, where=where or f"line {line}", seen=text)
        self.line, self.text = line, text

    def at(self, node: str, command: str) -> ParseError:
        """The same error with the place it happened in."""
        return ParseError(self.what, line=self.line, text=self.text, where=f"{node}, {command}, line {self.line}")


class ReportError(CalicoLabError):
    exit_code = 6


class WikiError(CalicoLabError):
    exit_code = 7
