"""``python -m calico_lab …``: each verb is one call into the library, with progress and errors for a person."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from . import cluster_cli, doctor
from .errors import CalicoLabError, InputError, ReportError
from .scenario import PARAMS, Scenario, names

if TYPE_CHECKING:
    from pandas import DataFrame

    from .cluster.providers import Connect
    from .run import Observed

__all__ = ["main"]

_OUT = Console()
_ERR = Console(stderr=True)

_LIVE = ["lab", "ssh", "kube", "mcks"]
"""Providers that observe; `replay` reads what they left."""

_OPTIONS = {
    "ssh": ("inventory", "trust_first_use"),
    "kube": ("inventory", "trust_first_use", "kubeconfig", "context", "force", "other_cni"),
    "mcks": ("trust_first_use", "force", "other_cni", "cluster"),
}
"""Options of each provider."""

_WORDS = {"trust_first_use": "TRUST"}
"""What the Makefile calls an option, where not by its name."""

_STEPS = {
    "fabric": "clouds and nodes",
    "cni": "CNI",
    "ssh": "SSH servers",
    "api": "API server",
    "mcks": "MCKS",
    "capture": "commands and probes",
    "report": "report",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors are one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.verb(options)
    except CalicoLabError as error:
        _ERR.print(f"calico_lab: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt as stopped:
        said = str(stopped) or "stopped; the lab is gone and an older recording is as it was"
        _ERR.print(f"calico_lab: {said}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="calico_lab", description=__import__("calico_lab").__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, action: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(verb=action)
        return added

    report = verb("report", _report, "review a scenario and write its document")
    report.add_argument("scenario", nargs="?", help="a name from `list`, or a .yaml file")
    report.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of the report")
    report.add_argument("--recording", type=Path, help="render this recording instead of making one")
    capture = verb("capture", _capture, "record a scenario, and write no document")
    capture.add_argument("scenario", nargs="?", help="a name from `list`, or a .yaml file")
    for live, providers in ((report, [*_LIVE, "replay"]), (capture, _LIVE)):
        live.add_argument("--provider", choices=providers, default="lab", help="where the observations come from")
        live.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a scenario's key")
        live.add_argument("--inventory", type=Path, help="ssh: the machines; kube: go to the nodes over SSH")
        live.add_argument("--trust-first-use", action="store_true", help="SSH takes host keys that are not known yet")
        live.add_argument("--kubeconfig", type=Path, help="kube: of the cluster")
        live.add_argument("--context", help="kube: of the kubeconfig; its current one by default")
        live.add_argument("--cluster", help="mcks: its name; the scenario's by default")
        live.add_argument("--force", action="store_true", help="kube, mcks: take over fields that others manage")
        live.add_argument(
            "--other-cni", choices=["stay", "park"], help="kube, mcks: what becomes of a CNI that is there"
        )
    predict = verb("predict", _predict, "the verdict that follows from a scenario alone; runs nothing")
    predict.add_argument("scenario", nargs="?", help="a name from `list`, or a .yaml file")
    predict.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of the words")
    predict.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a scenario's key")
    matrix = verb("matrix", _matrix, "review several scenarios, and put them side by side")
    matrix.add_argument("scenario", nargs="*", help="names or .yaml files; all that expect an outcome by default")
    matrix.add_argument("--resume", action="store_true", help="run only what is missing or changed")
    sweep = verb("sweep", _sweep, "measure a scenario with several values of a parameter")
    sweep.add_argument("scenario", nargs="?")
    sweep.add_argument("--param", help="a scenario's key, for example internet.latency_ms or latency_ms")
    sweep.add_argument("--values", help="separated by commas")
    for several in (matrix, sweep):
        several.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of the texts")
        several.add_argument("--dask", metavar="ADDRESS", help="run on this Dask cluster instead of this machine")
    remedies = verb("remedies", _remedies, "apply each remedy to a lab of its own and measure again")
    remedies.add_argument("scenario", nargs="?")
    remedies.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of the report")
    imported = verb("import", _import, "make a recording of what was captured by hand")
    imported.add_argument("scenario", nargs="?")
    imported.add_argument(
        "--from", dest="source", type=Path, help="a folder with a folder a node, or calicoctl's bundle"
    )
    compared = verb("compare", _compare, "compare two recordings by their facts")
    for side in ("a", "b"):
        compared.add_argument(f"--{side}", help="a recording's folder, or a scenario's name")
    compared.add_argument("--lang", choices=["ko", "en"], default="ko", help="language of the report")
    restored = verb("restore", _restore, "undo what a run changed on a Kubernetes cluster")
    restored.add_argument("--journal", type=Path, help="the run's changes.jsonl")
    restored.add_argument("--kubeconfig", type=Path, help="of the cluster")
    restored.add_argument("--context", help="of the kubeconfig; its current one by default")
    verb("list", _list, "list the scenarios")
    verb("doctor", _doctor, "what this machine has, lacks and can do")
    publish = verb("publish", _publish, "send a scenario's report to a git wiki")
    publish.add_argument("scenario", nargs="?")
    publish.add_argument("--wiki", help="git address, or a folder with a work tree")
    cluster_cli.add_verbs(verbs.add_parser("cluster", help="clusters of MCKS", description="Clusters of MCKS."))
    clean = verb("clean", _clean, "empty outputs/")
    clean.add_argument("--recordings", action="store_true", help="delete recordings too")
    return parser


# ---------------------------------------------------------------------- verbs


def _report(options: argparse.Namespace) -> None:
    observed_already = options.recording is not None or options.provider == "replay"
    if not options.scenario and not options.recording:
        raise InputError("no scenario is named", where="SCENARIO", todo=f"allowed: {', '.join(names())}")
    if observed_already and options.set:
        raise InputError(
            "a recording's parameters cannot be changed",
            where="SET",
            seen=" ".join(options.set),
            todo="leave SET out, or record with PROVIDER=lab",
        )
    if options.recording and options.provider not in ("lab", "replay"):
        raise InputError(
            "a recording is read, and nothing is asked",
            where="PROVIDER",
            seen=options.provider,
            todo="leave PROVIDER out",
        )
    scenario = None
    if options.scenario:
        scenario = Scenario.load(options.scenario, dict(map(_override, options.set)))
    # From here on it takes seconds: nothing heavy is imported before the words on the command line are known good.
    connect = _connect(options, scenario) if scenario and not observed_already else None
    from . import run
    from .kernel import Kernel

    with _progress() as progress, Kernel() as kernel:
        if observed_already:
            observed = run.replay(scenario, options.recording)
        else:
            assert scenario is not None
            observed = _observe(options, scenario, connect, progress)
        review, written = run.write_report(
            observed, run.OUTPUTS, language=options.lang, kernel=kernel, progress=progress
        )
    for line in (review.title, review.headline.replace("**", "").replace("`", "")):
        _OUT.print(line, soft_wrap=True, highlight=False, markup=False)
    for path in (written.html, written.markdown):
        _OUT.print(_shortest(path), soft_wrap=True, highlight=False)


def _capture(options: argparse.Namespace) -> None:
    if not options.scenario:
        raise InputError("no scenario is named", where="SCENARIO", todo=f"allowed: {', '.join(names())}")
    scenario = Scenario.load(options.scenario, dict(map(_override, options.set)))
    connect = _connect(options, scenario)
    with _progress() as progress:
        observed = _observe(options, scenario, connect, progress, compare=False)
    shown = _shortest(observed.recording)
    _OUT.print(f"{shown}; now: make report RECORDING={shown}", highlight=False, soft_wrap=True)


def _observe(
    options: argparse.Namespace,
    scenario: Scenario,
    connect: Connect | None,
    progress: Callable[[str, int, int], None],
    *,
    compare: bool = True,
) -> Observed:
    from . import run

    folder = run.OUTPUTS / scenario.name
    if connect is None:
        return run.observe(scenario, folder, progress, compare=compare)
    try:
        return run.observe_on(connect, scenario, folder, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; an older recording is as it was") from None
    finally:
        _say_how_to_undo(options, scenario, folder)


def _say_how_to_undo(options: argparse.Namespace, scenario: Scenario, folder: Path) -> None:
    """Where a cluster was changed, also by a run that failed."""
    from .cluster.kube.journal import JOURNAL, pending, read
    from .cluster.mcks.ownership import CLUSTERS

    journal = folder / JOURNAL
    if options.provider in ("kube", "mcks") and journal.exists() and pending(read(journal)):
        kubeconfig = options.kubeconfig or CLUSTERS / (options.cluster or scenario.name) / "kubeconfig"
        undo = f"make restore JOURNAL={_shortest(journal)} KUBECONFIG={_shortest(kubeconfig)}"
        _ERR.print(f"to undo what was changed on the cluster: {undo}", highlight=False, soft_wrap=True)


def _connect(options: argparse.Namespace, scenario: Scenario) -> Connect | None:
    """How to get the cluster that the words on the command line name; None for the local lab."""
    _refuse_options_of_others(options)
    if options.provider == "lab":
        return None
    from . import run
    from .cluster.providers import Options, provider

    given = {name: getattr(options, name) for names_ in _OPTIONS.values() for name in names_ if getattr(options, name)}
    return provider(options.provider, Options(journal_folder=run.OUTPUTS / scenario.name, **given))


def _refuse_options_of_others(options: argparse.Namespace) -> None:
    """An option of another provider would have no effect, which is not what was meant."""
    for name in dict.fromkeys(name for own in _OPTIONS.values() for name in own):
        providers = [provider for provider, own in _OPTIONS.items() if name in own]
        if getattr(options, name) and options.provider not in providers:
            word = _WORDS.get(name, name.upper())
            raise InputError(
                f"this is for PROVIDER={' or '.join(providers)}",
                where=word,
                seen=f"PROVIDER={options.provider}",
                todo=f"leave {word} out, or name that provider",
            )


def _predict(options: argparse.Namespace) -> None:
    if not options.scenario:
        raise InputError("no scenario is named", where="SCENARIO", todo=f"allowed: {', '.join(names())}")
    scenario = Scenario.load(options.scenario, dict(map(_override, options.set)))
    from .page import Page
    from .predict import predict, shown

    for part in shown(predict(scenario), Page(options.lang).words):
        if isinstance(part, str):
            _OUT.print(part, soft_wrap=True, highlight=False, markup=False)
        else:
            _print_table(part)


def _matrix(options: argparse.Namespace) -> None:
    from . import matrix, run

    asked = options.scenario or matrix.scenarios_to_review()
    with _several(len(asked)) as (started, ended), _executor(options.dask) as where:
        table = matrix.matrix(
            asked, resume=options.resume, language=options.lang, started=started, ended=ended, **where
        )
    columns = ["scenario", "installed", "ping", "cause", "agrees", "seconds", "error"]
    _print_table(table[columns].assign(seconds=table["seconds"].round(1)))
    for ending in ("html", "md", "csv"):
        _OUT.print(
            _shortest(run.OUTPUTS / matrix.FOLDER / f"{matrix.FOLDER}.{ending}"), soft_wrap=True, highlight=False
        )


def _sweep(options: argparse.Namespace) -> None:
    for name in ("scenario", "param", "values"):
        if not getattr(options, name):
            todo = "make sweep SCENARIO=cross-canal PARAM=latency_ms VALUES=1,5,20"
            raise InputError("not given", where=name.upper(), todo=todo)
    from . import run, sweep

    values = sweep.values_of(options.values)
    with _several(len(values)) as (started, ended), _executor(options.dask) as where:
        table = sweep.sweep(
            options.scenario, options.param, values, language=options.lang, started=started, ended=ended, **where
        )
    _print_table(table.assign(rtt_ms=table["rtt_ms"].round(3)))
    folder = run.OUTPUTS / sweep.folder_of(Path(options.scenario).stem, sweep.key_of(options.param))
    for ending in ("md", "csv", "png"):
        _OUT.print(_shortest(folder / f"sweep.{ending}"), soft_wrap=True, highlight=False)


def _remedies(options: argparse.Namespace) -> None:
    if not options.scenario:
        raise InputError("no scenario is named", where="SCENARIO", todo=f"allowed: {', '.join(names())}")
    scenario = Scenario.load(options.scenario)
    from . import remedies, run
    from .kernel import Kernel

    folder = run.OUTPUTS / scenario.name
    with _progress() as progress:
        observed = run.recorded(scenario, folder) or run.observe(scenario, folder, progress)
    with _several(None) as (started, ended):
        remedies.measure(scenario, folder, started=started, ended=ended)
    with _progress() as progress, Kernel() as kernel:
        review, written = run.write_report(
            observed, run.OUTPUTS, language=options.lang, kernel=kernel, progress=progress
        )
    _print_table(review.remedies[["remedy", "before", "after", "cause"]])
    _OUT.print(_shortest(written.html), soft_wrap=True, highlight=False)


def _import(options: argparse.Namespace) -> None:
    if not options.scenario or not options.source:
        missing = "SCENARIO" if not options.scenario else "FROM"
        raise InputError("not given", where=missing, todo="make import SCENARIO=<name> FROM=<folder or bundle>")
    scenario = Scenario.load(options.scenario)
    from . import run
    from .imports import import_outputs

    folder = run.OUTPUTS / scenario.name / "recording"
    recording = import_outputs(scenario, options.source, folder)
    shown = _shortest(folder)
    ignored = recording.manifest["facts"].get("ignored", [])
    if ignored:
        _OUT.print(f"{len(recording.captures)} outputs; {len(ignored)} other files of the bundle are not read")
    _OUT.print(f"{shown}; now: make report RECORDING={shown}", highlight=False, soft_wrap=True)


def _compare(options: argparse.Namespace) -> None:
    for side in ("a", "b"):
        if not getattr(options, side):
            raise InputError(
                "not given", where=side.upper(), todo="make compare A=<folder or scenario> B=<folder or scenario>"
            )
    from . import run
    from .kernel import Kernel

    with _progress() as progress, Kernel() as kernel:
        progress("report", 0, 0)
        comparison, written = run.compare(options.a, options.b, run.OUTPUTS, language=options.lang, kernel=kernel)
    differing = comparison.table[comparison.table["status"] == "differs"]
    if not differing.empty:
        _print_table(
            differing[["subject", "fact", "a", "b"]].rename(
                columns={side.lower(): f"{side}: {name}" for side, name in comparison.names.items()}
            )
        )
    _OUT.print(comparison.headline.replace("**", ""), soft_wrap=True, highlight=False, markup=False)
    for path in (written.html, written.markdown):
        _OUT.print(_shortest(path), soft_wrap=True, highlight=False)


def _restore(options: argparse.Namespace) -> None:
    for name in ("journal", "kubeconfig"):
        if not getattr(options, name):
            todo = "make restore JOURNAL=outputs/<scenario>/changes.jsonl KUBECONFIG=<file>"
            raise InputError("not given", where=name.upper(), todo=todo)
    from .cluster.kube.api import Api
    from .cluster.kube.changes import restore

    with closing(Api.open(options.kubeconfig, options.context)) as api:
        restore(
            api,
            options.journal.expanduser(),
            lambda line: _OUT.print(line, highlight=False, markup=False, soft_wrap=True),
        )


def _list(_: argparse.Namespace) -> None:
    table = Table("scenario", "what it is", box=None, pad_edge=False)
    for name in names():
        first = (PARAMS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        table.add_row(name, first.removeprefix("#").strip())
    _OUT.print(table)


def _doctor(_: argparse.Namespace) -> None:
    survey = doctor.survey()
    _OUT.print(doctor.render(survey))
    if doctor.verdict(survey) == doctor.Verdict.REPLAY_ONLY:
        return
    from .cluster.lab import kernel_for

    has_uml = any(need.name == "linux.uml" and need.found for need in survey)
    table = Table("Scenario", "Runs in")
    for name in names():
        here = kernel_for(Scenario.load(name)) == "here"
        table.add_row(name, "this kernel" if here else "user-mode Linux" if has_uml else "nothing here: see linux.uml")
    _OUT.print(table)


def _publish(options: argparse.Namespace) -> None:
    if not options.scenario or not options.wiki:
        missing = "SCENARIO" if not options.scenario else "WIKI"
        raise InputError("not given", where=missing, todo="make publish SCENARIO=<name> WIKI=<git address or folder>")
    from . import run, wiki

    page = run.OUTPUTS / options.scenario / "report.md"
    if not page.is_file():
        raise ReportError(
            "there is no report to publish", where=_shortest(page), todo=f"run: make report SCENARIO={options.scenario}"
        )
    title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    published = wiki.publish(
        page, options.wiki, title=f"{title} {options.scenario}", message=f"Review {options.scenario}"
    )
    _OUT.print(f"{published.page}: {published.commit or 'nothing to change'}", highlight=False)


def _clean(options: argparse.Namespace) -> None:
    from . import run

    for path in run.clean(recordings=options.recordings):
        _OUT.print(f"removed {_shortest(path)}", highlight=False, soft_wrap=True)


# ---------------------------------------------------------------------- showing


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A line per step, with a bar where the number of things to do is known."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # To a file it would still write the empty line that ends it.
    with Progress(*columns, console=_ERR, transient=True, disable=not _ERR.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                for earlier in tasks.values():
                    bars.update(earlier, visible=False)
                tasks[step] = bars.add_task(_STEPS.get(step, step), total=total or None)
            bars.update(tasks[step], completed=done, total=total or None)

        yield advance


@contextmanager
def _several(total: int | None) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """A line for each that runs, and one for how many have ended."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_ERR, transient=True, disable=not _ERR.is_terminal) as bars:
        whole = bars.add_task("all", total=total)
        running: dict[str, Any] = {}

        def started(name: str) -> None:
            running[name] = bars.add_task(name, total=1)

        def ended(name: str) -> None:
            bars.remove_task(running.pop(name))
            bars.advance(whole)

        yield started, ended


@contextmanager
def _executor(dask: str | None) -> Iterator[dict[str, Any]]:
    """Where tasks run, as keywords of `workers.each`: nothing said is this machine."""
    if dask is None:
        yield {}
        return
    from . import workers

    with workers.dask(dask) as (executor, at_once):
        yield {"executor": executor, "at_once": at_once}


def _print_table(frame: DataFrame) -> None:
    """Values as in the review document's table: O, X, and a dot for what is not known."""
    marks = {True: "O", False: "X", None: "."}
    table = Table(*frame.columns, box=None, pad_edge=False)
    for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False):
        table.add_row(
            *(Text(marks[value] if value is None or isinstance(value, bool) else str(value)) for value in row)
        )
    _OUT.print(table)


def _shortest(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError("not KEY=VALUE", where="SET", seen=text, todo="write for example probes.ping_count=5")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(
            "the value is not YAML", where="SET", seen=text, todo="write for example probes.ping_count=5"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
