"""One scenario again and again with another value of one parameter each time."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel

from . import latency, plot, run, workers
from .errors import InputError, LabError
from .page import Language, Page
from .recording import write_atomically
from .review import Review
from .scenario import Scenario
from .tables import rows

__all__ = ["TIMEOUT_S", "folder_of", "key_of", "measure_one", "sweep", "values_of"]

TIMEOUT_S = 600.0
"""For one value: only ends what hangs."""


def key_of(param: str) -> str:
    """The dotted key of a scenario that is meant: as it is, or a bare name looked up in its parts.

    ``latency_ms`` is ``internet.latency_ms``; keys of sites and nodes are written in full, such as
    ``sites.0.latency_ms``.

    Raises
    ------
    InputError
        If no part has a key of that name, or several have.
    """
    if "." in param or param in _top_level():
        return param
    keys = {f"{part}.{key}" for part, kind in _parts().items() for key in kind.model_fields}
    found = sorted(key for key in keys if key.endswith(f".{param}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError("several keys have that name", where="PARAM", seen=param, todo=f"name one: {', '.join(found)}")
    close = difflib.get_close_matches(param, [key.partition(".")[2] for key in keys], n=1)
    raise InputError(
        "no key has that name" + (f", did you mean {close[0]}?" if close else ""),
        where="PARAM",
        seen=param,
        todo="write it as in the scenario file, for example internet.latency_ms",
    )


def values_of(text: str) -> list[Any]:
    """The values of a comma-separated list, each read as in a scenario file.

    Raises
    ------
    InputError
        If it is none, or a value stands in it twice.
    """
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        values = []
    slugs = [_slug(value) for value in values]
    if not values or len(set(slugs)) < len(slugs):
        raise InputError(
            "not a list of different values", where="VALUES", seen=text, todo="write for example VALUES=1,5,20"
        )
    return list(values)


def measure_one(name: str, *, param: str, value: Any, folder: str) -> list[dict[str, Any]]:
    """Record the scenario with that value: the sweep's unit of work.

    Returns
    -------
    list of dict
        Rows of `sweep`'s table.
    """
    # Whatever is swept, it has to be there: a latency that the kernel leaves out would make every value look alike.
    scenario = Scenario.load(name, {"internet.exact_latency": True, param: value})
    review = Review(run.observe(scenario, Path(folder), compare=False).recording)
    verdict = review.verdict
    answers = {"ping": verdict.ping, "installed": verdict.installed, "cause": verdict.cause, "error": None}
    return [
        {
            "value": value,
            "src": src,
            "dst": dst,
            "layer": layer,
            "rtt_ms": None if probes["time_ms"].isna().all() else float(probes["time_ms"].median()),
            "loss_percent": 100 * float(probes["time_ms"].isna().mean()),
            **answers,
        }
        for (src, dst, layer), probes in latency.compared(review.tables).groupby(["src", "dst", "layer"], sort=False)
    ]


def sweep(
    name: str,
    param: str,
    values: Sequence[Any],
    *,
    outputs: Path = run.OUTPUTS,
    executor: Executor | None = None,
    at_once: int | None = None,
    timeout_s: float = TIMEOUT_S,
    language: Language = "ko",
    unit: Callable[..., list[dict[str, Any]]] = measure_one,
    started: Callable[[str], None] = lambda value: None,
    ended: Callable[[str], None] = lambda value: None,
) -> pd.DataFrame:
    """Measure a scenario with each value, and write ``sweep.csv``, ``sweep.md`` and ``sweep.png``.

    Parameters
    ----------
    name : str
        A scenario's name or file.
    param : str
        See `key_of`.
    values : sequence
    outputs : Path
        Gets the folder `folder_of`, with the recordings in it.
    executor, at_once, timeout_s, started, ended
        See `workers.each`; a task's name is its value.
    language : {"ko", "en"}
    unit : callable
        What is called for a value: `measure_one`, or what stands in for it.

    Returns
    -------
    DataFrame
        One row a value, pair of nodes and layer; one row for a value that could not be measured.

        ============ ======= ==== ==================================================================
        column       type    unit meaning
        ============ ======= ==== ==================================================================
        value                     of the parameter
        src          str          node; NA where nothing was measured
        dst          str          node
        layer        str          underlay (to the node's public IP) or overlay (to its pods)
        rtt_ms       Float64 ms   median; NA without a reply
        loss_percent Float64
        ping         boolean      pods of all nodes answer
        installed    boolean
        cause        str          as in summary.json
        error        str          why nothing was measured
        ============ ======= ==== ==================================================================

    Raises
    ------
    ScenarioError, InputError
        If the scenario, the parameter or a value is wrong; nothing has been started then.
    """
    key = key_of(param)
    scenarios = [Scenario.load(name, {key: value}) for value in values]
    folder = outputs / folder_of(scenarios[0].name, key)
    tasks = {
        str(value): {"name": name, "param": key, "value": value, "folder": str(folder / "recordings" / _slug(value))}
        for value in values
    }
    results = workers.each(
        unit, tasks, executor=executor, at_once=at_once, timeout_s=timeout_s, started=started, ended=ended
    )
    columns = ["value", "src", "dst", "layer", "rtt_ms", "loss_percent", "ping", "installed", "cause", "error"]
    found: list[dict[str, Any]] = []
    for value in values:
        result = results[str(value)]
        found += [{"value": value, "error": str(result)}] if isinstance(result, LabError) else result
    types = {"rtt_ms": "Float64", "loss_percent": "Float64", "ping": "boolean", "installed": "boolean"}
    table = pd.DataFrame(found, columns=columns).astype(types)
    _write(table, folder, Page(language), scenarios[0].name, key)
    return table


def folder_of(scenario: str, key: str) -> str:
    """``sweep-<scenario>-<param>``, the parameter without its part."""
    return f"sweep-{scenario}-{key.rpartition('.')[2]}"


def _write(table: pd.DataFrame, folder: Path, page: Page, scenario: str, key: str) -> None:
    summary = "; ".join(
        f"{row.value} {row.src} → {row.dst} {page.words(f'layer.{row.layer}')} "
        + (page.words("plot.sweep.no_reply") if pd.isna(row.rtt_ms) else f"{row.rtt_ms:.3g} ms")
        for row in rows(table.dropna(subset="layer"))
    )
    alt = page.words("sweep.alt", param=key, summary=summary)
    plot.sweep(table, page.words, key).savefig(_made(folder) / "sweep.png", dpi=192, metadata={"Software": None})
    layers = {layer: page.words(f"layer.{layer}") for layer in table["layer"].dropna()}
    shown = table.assign(layer=table["layer"].map(layers))
    lines = [
        f"# {page.words('sweep.title', scenario=scenario, param=f'`{key}`')}",
        page.table(shown).data["text/markdown"],
        f"![{alt}](sweep.png)",
    ]
    write_atomically(folder / "sweep.md", ("\n\n".join(lines) + "\n").encode())
    write_atomically(folder / "sweep.csv", table.to_csv(index=False).encode())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _slug(value: Any) -> str:
    return re.sub(r"[^\w.-]+", "-", str(value)).strip("-.")


def _parts() -> dict[str, type[BaseModel]]:
    """The parts that every scenario has once."""
    kinds = {name: field.annotation for name, field in Scenario.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _top_level() -> set[str]:
    return {field.alias or name for name, field in Scenario.model_fields.items()}
