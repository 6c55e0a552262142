"""The whole way from a scenario to a document: bring up, record, review, write."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import report
from .calico import counterpart
from .capture import record
from .cluster.kube.journal import JOURNAL, pending, read
from .cluster.lab import LabCluster
from .cluster.mcks.ownership import CLUSTERS
from .compare import Comparison
from .errors import InputError, LabError, RecordingError
from .kernel import Kernel
from .page import Language
from .recording import Recording
from .review import Review
from .scenario import Scenario

if TYPE_CHECKING:
    from .cluster.providers import Connect  # what only a live cluster needs takes a second to import

__all__ = [
    "BUNDLED",
    "OUTPUTS",
    "Observed",
    "clean",
    "compare",
    "find_recording",
    "observe",
    "observe_on",
    "open_comparison",
    "open_review",
    "recorded",
    "replay",
    "write_report",
]

_ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = _ROOT / "outputs"
REVIEW = _ROOT / "notebooks" / "review.ipynb"
BUNDLED = Path(__file__).resolve().parent / "recordings"
"""Recordings that come with the tool, made by its lab, for machines that cannot run one."""

_LOOK_S = 0.1
"""The system may give Ctrl-C to any thread; the main one hears of it when it wakes."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much is done."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A recording, and one of the same nodes with the other plugin where there is one."""

    recording: Path
    comparison: Path | None


def observe(
    scenario: Scenario,
    folder: Path,
    progress: Progress = lambda step, done, total: None,
    *,
    compare: bool = True,
) -> Observed:
    """Record a scenario and its counterpart on two local labs, side by side.

    Parameters
    ----------
    scenario : Scenario
    folder : Path
        Gets ``recording/`` and ``comparison/``.
    progress : callable, optional
    compare : bool
        False records the scenario alone. A comparison that is there stays if it still is the counterpart's.

    Raises
    ------
    HostError, LabError
        See `LabCluster`.
    """
    other, aside = counterpart(scenario), folder / ".comparison"
    stopped = threading.Event()

    def go_on(*done: int) -> None:
        if stopped.is_set():
            raise LabError("stopped", where="lab")

    def advance(*done: int) -> None:
        go_on()
        progress("capture", *done)

    try:
        # On Ctrl-C recordings end at their next command, and are dropped: a lab may take seconds to be gone.
        with ThreadPoolExecutor(2) as both, ExitStack() as clusters:
            cluster = LabCluster(scenario, progress=lambda step: progress(step, 0, 0))
            clusters.enter_context(closing(cluster))
            other_cluster = clusters.enter_context(closing(LabCluster(other))) if compare else None
            clusters.callback(stopped.set)
            recordings = [both.submit(record, cluster, scenario, folder / "recording", advance)]
            if other_cluster is not None:
                recordings.append(both.submit(record, other_cluster, other, aside, go_on))
            ended: set[Future[Recording]] = set()
            while len(ended) < len(recordings):
                ended, _ = wait(recordings, _LOOK_S, FIRST_EXCEPTION)
                for recording in ended:
                    recording.result()
        if compare:  # only now, so that it never stands beside an older recording
            shutil.rmtree(folder / "comparison", ignore_errors=True)
            aside.rename(folder / "comparison")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Observed(folder / "recording", _counterparts(folder / "comparison", other))


def observe_on(connect: Connect, scenario: Scenario, folder: Path, progress: Progress) -> Observed:
    """Record a cluster that is not the lab's: its own nodes take the place of the scenario's.

    Parameters
    ----------
    connect : callable
        See `providers.Connect`.
    scenario : Scenario
    folder : Path
        Gets ``recording/``.
    progress : callable

    Raises
    ------
    InputError, ClusterError
        See the providers.
    """
    with connect(scenario, lambda step: progress(step, 0, 0)) as cluster:
        record(cluster, cluster.scenario, folder / "recording", lambda *done: progress("capture", *done))
        return Observed(folder / "recording", _counterparts(folder / "comparison", counterpart(cluster.scenario)))


def recorded(scenario: Scenario, folder: Path) -> Observed | None:
    """What an earlier run left of that very scenario, or None."""
    with contextlib.suppress(RecordingError):
        if Recording(folder / "recording").scenario == scenario:
            return Observed(folder / "recording", _counterparts(folder / "comparison", counterpart(scenario)))
    return None


def _counterparts(comparison: Path, other: Scenario) -> Path | None:
    """The comparison if it is of that scenario; one of another is removed: it would be taken for this recording's."""
    with contextlib.suppress(RecordingError):
        if Recording(comparison).scenario == other:
            return comparison
    shutil.rmtree(comparison, ignore_errors=True)
    return None


def replay(scenario: Scenario | None, recording: Path | None = None) -> Observed:
    """An existing recording: that folder, or the one that comes with the tool for that scenario.

    Raises
    ------
    InputError
        If no recording of that scenario comes with the tool, or the folder's is of another one.
    RecordingError
        See `Recording`.
    """
    if recording is None:
        have = sorted(path.name for path in BUNDLED.iterdir())
        if scenario is None or scenario.name not in have:
            raise InputError(
                "no recording of this scenario comes with calico_lab",
                where="PROVIDER=replay",
                seen=scenario.name if scenario else None,
                todo=f"name one with RECORDING=<folder>, or take one of: {', '.join(have)}",
            )
        recording = BUNDLED / scenario.name / "recording"
    recorded = Recording(recording).scenario.name
    if scenario is not None and scenario.name != recorded:
        raise InputError(
            f"the recording is of {recorded}",
            where=f"RECORDING={recording}",
            seen=f"SCENARIO={scenario.name}",
            todo="leave SCENARIO out, or name the other recording",
        )
    comparison = recording.parent / "comparison"
    return Observed(recording, comparison if comparison.is_dir() else None)


def open_review(
    parameters: Mapping[str, Any],
    recording: str | None = None,
    comparison: str | None = None,
    language: Language = "ko",
) -> Review:
    """What a notebook starts with: the review of a recording, or of one that is made now on the local lab.

    Parameters
    ----------
    parameters : mapping
        Keys of a scenario file. None for a key means as ``params/<scenario>.yaml`` says.
    recording, comparison : str, optional
        Folders. Without a recording the scenario is recorded under ``outputs/``.
    language : {"ko", "en"}
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    if recording is not None:
        folder = Path(recording)
        own = Recording(folder)
        if set(given) != {"scenario"} and Scenario.of(given) != own.scenario:
            raise RecordingError(
                "the recording is of a scenario with other parameters",
                where=recording,
                seen=own.scenario.name,
                todo="record again, or leave the parameters out",
            )
        return Review(own, language, comparison=comparison)
    scenario = Scenario.load(given.pop("scenario"), given)
    observed = observe(scenario, OUTPUTS / scenario.name)
    return Review(observed.recording, language, comparison=observed.comparison)


def write_report(
    observed: Observed,
    outputs: Path = OUTPUTS,
    *,
    language: Language = "ko",
    kernel: Kernel | None = None,
    progress: Progress = lambda step, done, total: None,
) -> tuple[Review, report.Report]:
    """Write report.ipynb, report.html, report.md and summary.json of a recording into its scenario's folder."""
    review = Review(observed.recording, language, comparison=observed.comparison)
    folder = outputs / review.scenario.name
    (folder / "summary.json").unlink(missing_ok=True)
    parameters = review.scenario.parameters() | {
        "recording": str(observed.recording),
        "comparison": str(observed.comparison) if observed.comparison else None,
        "language": language,
    }
    written = report.write(
        REVIEW,
        parameters,
        folder,
        language=language,
        title=review.title,
        kernel=kernel,
        progress=lambda _, done, total: progress("report", done, total),
    )
    review.write_summary(folder / "summary.json")
    return review, written


def find_recording(text: str) -> tuple[Path, str]:
    """A recording and what to call it: a folder, a folder that has one, or the name of a scenario.

    A scenario's is the one under ``outputs/``, else the one that comes with the tool.

    Raises
    ------
    RecordingError
        If there is none.
    """
    given = Path(text)
    named = [base / text / "recording" for base in (OUTPUTS, BUNDLED)] if given.name == text else []
    for folder in (given, given / "recording", *named):
        if (folder / "manifest.json").is_file():
            above = folder.resolve().parent.name
            called = {"recording": above, "comparison": f"{above}-comparison"}
            return folder, called.get(folder.name, folder.resolve().name)
    have = {path.parent.parent.name for base in (OUTPUTS, BUNDLED) for path in base.glob("*/recording/manifest.json")}
    raise RecordingError(
        "no recording here",
        where=text,
        seen="no manifest.json",
        todo=f"name a recording's folder, or a scenario that has one: {', '.join(sorted(have))}",
    )


def open_comparison(a: str, b: str, language: Language = "ko") -> Comparison:
    """Two recordings side by side, each as `find_recording` finds it."""
    (folder_a, name_a), (folder_b, name_b) = find_recording(a), find_recording(b)
    return Comparison(folder_a, folder_b, name_a, name_b, language)


def compare(
    a: str, b: str, outputs: Path = OUTPUTS, *, language: Language = "ko", kernel: Kernel | None = None
) -> tuple[Comparison, report.Report]:
    """Compare two recordings and write ``compare-<a>-<b>/compare.html``, ``.md`` and ``.ipynb``.

    Raises
    ------
    RecordingError
        If a recording is not there or damaged; nothing is written then.
    """
    comparison = open_comparison(a, b, language)
    found = {side: str(review.recording.folder.resolve()) for side, review in comparison.reviews.items()}
    written = report.write(
        REVIEW.with_name("compare.ipynb"),
        {"a": found["A"], "b": found["B"], "language": language},
        outputs / f"compare-{comparison.names['A']}-{comparison.names['B']}",
        language=language,
        title=comparison.title,
        name="compare",
        kernel=kernel,
    )
    return comparison, written


def clean(outputs: Path = OUTPUTS, *, recordings: bool = False) -> list[Path]:
    """Remove what runs left under outputs/, keeping recordings unless told otherwise; returns what was removed.

    The records of clusters that were made (`cluster.ownership`) always stay, as do journals of changes that are
    not undone (`cluster.journal`): without them nobody could delete those or undo these.
    """
    removed = []
    for entry in sorted(outputs.glob("*/*")):
        if entry.parent.name == CLUSTERS.name:
            continue
        if entry.name in ("recording", "comparison", "recordings", "remedies") and not recordings:
            continue
        if entry.name == JOURNAL and pending(read(entry)):  # without it there is no way back
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        removed.append(entry)
    for folder in outputs.glob("*/"):
        if not any(folder.iterdir()):
            folder.rmdir()
    return removed
