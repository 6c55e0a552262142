"""All scenarios, each recorded and reviewed by itself, then side by side in one document."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pandas as pd

from . import __version__, report, run, workers
from .errors import CalicoLabError, InputError, LabError, RecordingError
from .kernel import Kernel
from .overview import Entry, Overview
from .page import Language
from .recording import Recording, write_atomically
from .scenario import Scenario, names

__all__ = ["FOLDER", "TIMEOUT_S", "is_current", "matrix", "open_overview", "review_one", "scenarios_to_review"]

FOLDER = "matrix"
"""Of the document, in the outputs."""

TIMEOUT_S = 600.0
"""For one scenario. On a busy machine user-mode Linux takes a minute, so this only ends what hangs."""

_NOTEBOOK = run.REVIEW.with_name("matrix.ipynb")


def review_one(name: str, *, outputs: str, language: Language = "ko") -> dict[str, Any]:
    """Record a scenario on the local lab and write its report: the matrix's unit of work.

    What it is called with and what it returns can go to another process or machine and back.

    Parameters
    ----------
    name : str
        A scenario's name or file.
    outputs : str
        Folder in which the scenario's folder is.
    language : {"ko", "en"}

    Returns
    -------
    dict
        ``scenario``, ``installed``, ``ping``, ``cause``, ``agrees`` as in summary.json; ``seconds`` (float);
        ``error``: None, or why there is no report, on one line, and then the other answers are None.
    """
    start = time.monotonic()
    keys = ("scenario", "installed", "ping", "cause", "agrees")
    try:
        scenario = Scenario.load(name)
        with Kernel() as kernel:
            observed = run.observe(scenario, Path(outputs, scenario.name), compare=False)
            review, _ = run.write_report(observed, Path(outputs), language=language, kernel=kernel)
        summary = review.summary()
        answers = {key: summary[key] for key in keys}
        error = None
    except CalicoLabError as failed:
        answers = dict.fromkeys(keys) | {"scenario": Path(name).stem}
        error = str(failed)
    return {**answers, "seconds": time.monotonic() - start, "error": error}


def matrix(
    names: Sequence[str],
    *,
    outputs: Path = run.OUTPUTS,
    executor: Executor | None = None,
    at_once: int | None = None,
    resume: bool = False,
    timeout_s: float = TIMEOUT_S,
    language: Language = "ko",
    unit: Callable[..., dict[str, Any]] = review_one,
    started: Callable[[str], None] = lambda name: None,
    ended: Callable[[str], None] = lambda name: None,
) -> pd.DataFrame:
    """Review scenarios, a few at a time, and write ``matrix/matrix.html``, ``.md`` and ``.csv``.

    A scenario that fails, hangs or takes its process down is a row that says so. Reports of a matrix have no comparison
    with the other plugin unless there is one already: the matrix itself compares.

    Parameters
    ----------
    names : sequence of str
        Names or files of scenarios.
    outputs : Path
    executor, at_once, timeout_s, started, ended
        See `workers.each`.
    resume : bool
        Keep what `is_current`.
    language : {"ko", "en"}
    unit : callable
        What is called for a scenario: `review_one`, or what stands in for it.

    Returns
    -------
    DataFrame
        `overview.Overview.table`.

    Raises
    ------
    ScenarioError, InputError
        If a scenario cannot be read, or is named twice; nothing has been started then.
    ReportError
        If the document cannot be written.
    """
    scenarios = {name: Scenario.load(name) for name in names}
    _refuse_twins([scenario.name for scenario in scenarios.values()], len(names))
    kept = {name for name, scenario in scenarios.items() if resume and is_current(scenario, outputs / scenario.name)}
    tasks = {
        name: {"name": name, "outputs": str(outputs), "language": language} for name in scenarios if name not in kept
    }
    try:
        results = workers.each(
            unit, tasks, executor=executor, at_once=at_once, timeout_s=timeout_s, started=started, ended=ended
        )
    except BaseException:
        for name in tasks:
            _tidy(outputs / scenarios[name].name)
        raise
    entries = []
    for name, scenario in scenarios.items():
        result = results.get(name, {"seconds": None, "error": None})
        if isinstance(result, LabError):
            _tidy(outputs / scenario.name)
            result = {"seconds": None, "error": str(result)}
        entries.append(Entry(scenario, result["seconds"], result["error"]))
    return _write(Overview(entries, outputs, language), outputs / FOLDER)


def scenarios_to_review() -> list[str]:
    """Names of the scenarios that a matrix is of where none are named: those in params/ that expect an outcome.

    One that expects none is there for a recording that comes along, and in a lab would only be another one again.
    """
    return [name for name in names() if Scenario.load(name).expected is not None]


def is_current(scenario: Scenario, folder: Path) -> bool:
    """Whether that folder has a report of the scenario as it now stands, by this version."""
    try:
        recording = Recording(folder / "recording")
        same = recording.scenario == scenario and recording.manifest["tool"] == f"calico_lab {__version__}"
    except RecordingError:
        return False
    return same and (folder / "summary.json").is_file() and (folder / "report.html").is_file()


def open_overview(entries: Sequence[dict[str, Any]] | None, outputs: str | None, language: Language) -> Overview:
    """What the notebook starts with: the scenarios that it was given, or all that have a report in the outputs."""
    folder = Path(outputs) if outputs else run.OUTPUTS
    if entries is not None:
        return Overview([Entry.of(entry) for entry in entries], folder, language)
    recordings = [path.parent / "recording" for path in sorted(folder.glob("*/summary.json"))]
    return Overview([Entry(Recording(path).scenario) for path in recordings if path.is_dir()], folder, language)


def _write(overview: Overview, folder: Path) -> pd.DataFrame:
    report.write(
        _NOTEBOOK,
        {
            "entries": [entry.plain() for entry in overview.entries],
            "outputs": str(overview.outputs),
            "language": overview.page.language,
        },
        folder,
        language=overview.page.language,
        title=overview.words("matrix.title"),
        name=FOLDER,
    )
    table = overview.table
    write_atomically(folder / f"{FOLDER}.csv", table.to_csv(index=False).encode())
    return table


def _refuse_twins(own: Sequence[str], asked: int) -> None:
    twins = sorted({name for name in own if own.count(name) > 1})
    if twins or asked > len(own):
        raise InputError(
            "a scenario is named more than once",
            where="SCENARIOS",
            seen=", ".join(twins) or None,
            todo="name each once: its name is its folder's",
        )


def _tidy(folder: Path) -> None:
    """Remove what a killed process was writing; what was complete before is as it was."""
    for aside in (*folder.glob(".recording-*"), *folder.glob(".report-*")):
        if aside.name != ".recording-old":
            shutil.rmtree(aside, ignore_errors=True)
