"""Remedies, measured: each on a lab of its own, alone and then in pairs, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from .capture import record
from .cluster.lab import LabCluster
from .errors import InputError, LabError, RecordingError
from .fixes import FIXES, applicable, changed, pairs
from .lab.host import lacking
from .recording import Recording
from .review import Review, folder_of_remedies
from .scenario import Scenario

__all__ = ["apply", "measure"]

_AT_ONCE = 2
_LINE_S = 20.0


def measure(
    scenario: Scenario,
    folder: Path,
    *,
    started: Callable[[str], None] = lambda name: None,
    ended: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Apply every remedy that could mend a scenario to a lab of its own, then pairs of those that did not help.

    Parameters
    ----------
    scenario : Scenario
    folder : Path
        The scenario's, with the recording before any remedy in ``recording/``. Each set of remedies gets
        ``remedies/<ids joined by +>/recording``.
    started, ended : callable, optional
        Called with the ids of a set of remedies.

    Returns
    -------
    list of Path
        The recordings that were made.

    Raises
    ------
    InputError
        If pods reach each other already, or no remedy could be measured here.
    HostError, LabError
        See `LabCluster`.
    """
    verdict = Review(folder / "recording").verdict
    if verdict.installed and verdict.ping and verdict.cause is None:
        raise InputError("pods reach each other already: there is nothing to mend", where=f"SCENARIO={scenario.name}")
    known = [fix for fix in applicable(scenario) if fix.needs is None or not lacking(frozenset({fix.needs}))]
    if not known:
        raise InputError(
            "no remedy of the catalogue is for this scenario",
            where=f"SCENARIO={scenario.name}",
            todo="see the remedies in the README",
        )

    def one(ids: tuple[str, ...]) -> tuple[tuple[str, ...], Path, bool]:
        started(" + ".join(ids))
        try:
            path = folder_of_remedies(folder) / "+".join(ids) / "recording"
            return ids, path, apply(scenario, ids, path)
        finally:
            ended(" + ".join(ids))

    made = []
    with ThreadPoolExecutor(_AT_ONCE) as several:
        try:
            alone = list(several.map(one, [(fix.id,) for fix in known]))
            failed = [ids[0] for ids, _, works in alone if not works]
            made = [*alone, *several.map(one, pairs(failed))]
        except BaseException:
            several.shutdown(cancel_futures=True)
            raise
    return [path for _, path, _ in made]


def apply(scenario: Scenario, ids: Sequence[str], folder: Path) -> bool:
    """Bring a scenario up with these remedies, record it, and say whether pods reach each other.

    An earlier recording of the same scenario and remedies is kept.

    Raises
    ------
    HostError, LabError
        See `LabCluster`; also where a remedy's own line fails on a node.
    """
    mended = changed(scenario, ids)
    if not _is_current(folder, mended, ids):
        early = [FIXES[name] for name in ids if FIXES[name].before_cni]
        late = [FIXES[name] for name in ids if not FIXES[name].before_cni]
        with ExitStack() as stack:
            cluster = LabCluster(
                mended, prepare=lambda node: [line for fix in early for line in fix.on_node(node, mended)]
            )
            stack.enter_context(closing(cluster))
            for node in mended.nodes:
                for fix in late:
                    for line in (*fix.on_node(node, mended), *fix.in_lab(node, mended)):
                        done = cluster.run(node.name, line, _LINE_S)
                        if done.code != 0:
                            raise LabError(f"remedy {fix.id} failed", where=f"{node.name}: {line}", seen=done.stderr)
            record(cluster, mended, folder, facts={"remedies": list(ids)})
    return Review(folder).verdict.ping is True


def _is_current(folder: Path, scenario: Scenario, ids: Sequence[str]) -> bool:
    try:
        recording = Recording(folder)
    except RecordingError:
        return False
    return recording.scenario == scenario and recording.manifest["facts"].get("remedies") == list(ids)
