"""From a notebook and its parameters to a document: ``report.ipynb``, ``report.html`` and ``report.md``.

Everything runs in this process and one kernel: papermill executes, nbconvert exports with the templates beside this
module. Both exports are functions of the executed notebook alone, so that equal notebooks give equal bytes.
"""

from __future__ import annotations

import base64
import copy
import difflib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import KernelManager
from nbconvert.exporters import HTMLExporter, MarkdownExporter
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from traitlets.config import Config

from .errors import ParameterError, ReportError
from .kernel import Kernel
from .page import Language, catalogue

__all__ = ["Progress", "Report", "html", "markdown", "write"]

Progress = Callable[[str, int, int], None]
"""Called before each cell with the heading it stands under, its number and the number of cells."""

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_ENGINE = "calico_lab"


@dataclass(frozen=True, slots=True)
class Report:
    """What `write` left: the executed notebook and its exports. Pictures of `markdown` are in ``<name>_files/``."""

    notebook: Path
    html: Path
    markdown: Path


def write(
    notebook: Path,
    parameters: Mapping[str, Any],
    folder: Path,
    *,
    language: Language,
    title: str,
    name: str = "report",
    kernel: Kernel | None = None,
    progress: Progress | None = None,
) -> Report:
    """Execute a notebook and export it.

    Nothing under the final names is ever half-written: files of an earlier run are removed before the first cell runs,
    and the new ones are moved in when all of them are complete.

    Parameters
    ----------
    notebook : Path
        The notebook, with one cell tagged ``parameters``.
    parameters : mapping
        Values for the names that cell declares.
    folder : Path
        Where the report goes; made if missing.
    language : {"ko", "en"}
        Of the document's frame; the notebook's own text follows its parameters.
    title : str
        Of the window and of a wiki page.
    name : str
        Of the files, without their ending.
    kernel : Kernel, optional
        One that has been started early; otherwise one is started here.
    progress : callable, optional
        See `Progress`.

    Raises
    ------
    ParameterError
        If the notebook does not declare a parameter; nothing has been touched then.
    ReportError
        If the notebook cannot be read, or a cell fails; that run is left as ``<name>-failed.ipynb``.
    """
    source = _read(notebook)
    _check(source, notebook, parameters)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder, name)
    with ExitStack() as stack:
        aside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".report-", dir=folder)))
        if kernel is None:
            kernel = stack.enter_context(Kernel())
        failed = folder / f"{name}-failed.ipynb"
        executed = _execute(notebook, source, parameters, aside / f"{name}.ipynb", failed, kernel, progress)
        executed.metadata["title"] = title
        executed.metadata["language"] = language
        nbformat.write(executed, aside / f"{name}.ipynb")
        (aside / f"{name}.html").write_text(html(executed), encoding="utf-8", newline="\n")
        text, pictures = markdown(executed, f"{name}_files")
        (aside / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")
        for path, content in pictures.items():
            picture = aside / path
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(content)
        # The page that people open comes last: where it is, the rest is.
        for written in sorted(aside.iterdir(), reverse=True):
            written.replace(folder / written.name)
    return Report(folder / f"{name}.ipynb", folder / f"{name}.html", folder / f"{name}.md")


# ---------------------------------------------------------------------- before


def _read(notebook: Path) -> NotebookNode:
    try:
        source: NotebookNode = nbformat.read(notebook, as_version=4)
    except FileNotFoundError:
        raise ReportError("no such notebook", where=str(notebook), todo="name a notebook that exists") from None
    except nbformat.reader.NotJSONError:
        raise ReportError("not a notebook", where=str(notebook), todo="open it in Jupyter and save it") from None
    # Whatever kernel it was saved with, it runs in ours; papermill asks the notebook for name and language.
    source.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return source


def _check(source: NotebookNode, notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse what the notebook does not declare: papermill only warns, and the cell runs with its default."""
    declared = list(papermill.inspect_notebook(source))
    for name in parameters:
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1)
            raise ParameterError(
                f"the notebook declares no parameter {name}" + (f", did you mean {close[0]}?" if close else ""),
                where=notebook.name,
                todo=f"allowed: {', '.join(declared) or 'none, it has no cell tagged parameters'}",
            )


def _remove_old(folder: Path, name: str) -> None:
    for ending in (".ipynb", ".html", ".md", "-failed.ipynb"):
        (folder / f"{name}{ending}").unlink(missing_ok=True)
    pictures = folder / f"{name}_files"
    if pictures.exists():
        shutil.rmtree(pictures)


# ---------------------------------------------------------------------- execution


class _Engine(Engine):  # type: ignore[misc]
    """papermill's own engine, but in a kernel that is already there, and with its sockets closed in the end."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        manager: KernelManager,
        on_cell_start: Callable[..., None],
        **options: Any,
    ) -> None:
        client = PapermillNotebookClient(
            nb_man,
            km=manager,
            startup_timeout=options["start_timeout"],
            on_cell_start=on_cell_start,
            shutdown_kernel="immediate",
        )
        client.execute(cleanup_kc=True)


papermill_engines.register(_ENGINE, _Engine)


@dataclass
class _Watch:
    """Follows the execution, for `Progress` and for the place of a failure."""

    total: int
    progress: Progress | None
    number: int = 0
    heading: str = field(default="", init=False)

    def __call__(self, cell: NotebookNode, cell_index: int) -> None:
        # papermill puts the parameters' values into a cell of its own, which the notebook's author does not count.
        if "injected-parameters" not in cell.metadata.get("tags", []):
            self.number += 1
        if cell.cell_type == "markdown" and (found := re.search(r"^#+\s+(.+)$", cell.source, flags=re.MULTILINE)):
            self.heading = found[1]
        if self.progress is not None:
            self.progress(self.heading, self.number, self.total)


def _execute(
    notebook: Path,
    source: NotebookNode,
    parameters: Mapping[str, Any],
    output: Path,
    failed: Path,
    kernel: Kernel,
    progress: Progress | None,
) -> NotebookNode:
    watch = _Watch(len(source.cells), progress)
    manager = kernel.take()
    try:
        executed: NotebookNode = papermill.execute_notebook(
            _braced(notebook),
            _braced(output),
            dict(parameters),
            engine_name=_ENGINE,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            manager=manager,
            on_cell_start=watch,
        )
    except (papermill.PapermillExecutionError, RuntimeError) as error:  # the latter: the kernel died, or never answered
        output.replace(failed)
        raise ReportError(
            f"cell {watch.number} failed" if watch.number else "the kernel did not start",
            where=notebook.name,
            seen=_last_line(error),
            todo=f"see {failed}",
        ) from None
    # The folder aside is gone soon, and a colleague has neither path.
    executed.metadata.papermill.input_path = notebook.name
    executed.metadata.papermill.output_path = output.name
    return executed


def _last_line(error: Exception) -> str:
    text = f"{error.ename}: {error.evalue}" if isinstance(error, papermill.PapermillExecutionError) else str(error)
    return text.strip().splitlines()[-1]


def _braced(path: Path) -> str:
    """Double the braces: papermill fills in ``{placeholders}`` of a path."""
    return str(path).replace("{", "{{").replace("}", "}}")


# ---------------------------------------------------------------------- exports


def html(executed: NotebookNode) -> str:
    """The document as one HTML file that loads nothing."""
    language = executed.metadata["language"]
    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        language_code=language,
        config=_prefer("text/html", "text/markdown", "image/png", "text/plain"),
        filters={"outline": _outline, "escape_html_keep_quotes": lambda text: escape(text, quote=False)},
    )
    resources = {"contents_heading": catalogue(language)["report.contents"]}
    text, _ = exporter.from_notebook_node(executed, resources=resources)
    return str(text)


def markdown(executed: NotebookNode, folder: str = "report_files") -> tuple[str, dict[str, bytes]]:
    """The document as Markdown for a wiki, and its pictures by the name, in that folder, that the text links to."""
    executed = copy.deepcopy(executed)
    pictures = _name_pictures(executed, folder)
    exporter = MarkdownExporter(
        template_name="wiki",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_input=True,
        config=_prefer("image/png", "text/markdown", "text/plain"),
        filters={"bracketed": _bracketed, "fenced": _fenced},
    )
    text, _ = exporter.from_notebook_node(executed)
    return f"{text.strip()}\n", pictures


@dataclass
class _Entry:
    """A heading of the table of contents; `text` is HTML."""

    anchor: str
    text: str
    children: list[_Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Outline:
    """A body cut in two where the table of contents goes: after the title and its block, before the first h2."""

    head: str
    rest: str
    entries: list[_Entry]


_HEADING = re.compile(r"<h([1-6])[^>]*>(.*?)</h\1>", re.DOTALL)


def _outline(body: str) -> _Outline:
    """Give each heading an anchor of its own, also where two have the same text, and list h2 and h3."""
    entries: list[_Entry] = []
    taken: dict[str, int] = {}

    def anchored(found: re.Match[str]) -> str:
        level, text = int(found[1]), found[2]
        name = re.sub(r"[^\w-]+", "-", re.sub(r"<[^>]*>|&\w+;", "", text).lower()).strip("-") or "section"
        taken[name] = taken.get(name, 0) + 1
        anchor = name if taken[name] == 1 else f"{name}-{taken[name]}"
        # An anchor inside an anchor is no HTML: the entry keeps a link's text only.
        entry = _Entry(anchor, re.sub(r"</?a\b[^>]*>", "", text))
        if level == 2:
            entries.append(entry)
        elif level == 3 and entries:
            entries[-1].children.append(entry)
        return f'<h{level} id="{anchor}">{text}</h{level}>'

    head, chapter, rest = _HEADING.sub(anchored, body).partition("<h2 ")
    return _Outline(head, chapter + rest, entries)


def _prefer(*mime_types: str) -> Config:
    """Which form of an output is shown, the first that it has. Pictures are named by us, not extracted by nbconvert."""
    return Config(
        NbConvertBase={"display_data_priority": list(mime_types)},
        ExtractOutputPreprocessor={"enabled": False},
    )


def _name_pictures(executed: NotebookNode, folder: str) -> dict[str, bytes]:
    """Name each picture by its order, which does not change with what it shows."""
    pictures: dict[str, bytes] = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                name = f"{folder}/figure-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(output.data["image/png"])
                output.metadata["filenames"] = {"image/png": name}
    return pictures


def _bracketed(text: str) -> str:
    """A text that can stand inside ``![…]`` and ``*…*``."""
    return re.sub(r"[\\`*_\[\]<]", lambda active: f"\\{active[0]}", text)


def _fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"
