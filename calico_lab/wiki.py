"""Publish a report to a git wiki, by the conventions of GitHub's.

A page is a file ``<Title-With-Dashes>.md`` at the root; its pictures are under ``images/<Title-With-Dashes>/``. Only
those are written, plus ``Home.md`` when the wiki has no page at all. A page that somebody else wrote is never touched:
ours are known by their first line.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .errors import HostError, WikiError

__all__ = ["Published", "page_name", "publish"]

_OURS = "<!-- Written by calico_lab: the next report replaces this page. -->"

_ATTEMPTS = 3
"""The first push and two more: each follows a push of somebody else that came in between."""

_TIMEOUT_S = 300
"""For one git command; a wiki is small, so that longer means a network that does not answer."""


@dataclass(frozen=True, slots=True)
class Published:
    """What `publish` did.

    Attributes
    ----------
    changed : bool
        Whether there was anything to commit.
    page : str
        File name of the page at the wiki's root.
    commit : str or None
        The commit's full hash, None when nothing changed.
    """

    changed: bool
    page: str
    commit: str | None


def publish(page: Path, wiki: str, *, title: str, message: str) -> Published:
    """Write a report into a wiki and commit it; push if the wiki is elsewhere.

    Parameters
    ----------
    page : Path
        A ``report.md``, with its pictures beside it as it links to them.
    wiki : str
        A git URL, a bare repository, or a work tree. A work tree gets a commit of our files alone, whatever else is
        changed in it, and is not pushed: it is somebody's own.
    title : str
        The page's title.
    message : str
        The commit's.

    Raises
    ------
    HostError
        If git is not installed.
    WikiError
        If the report, the wiki or the title cannot be used, git refuses, or others kept pushing in between.
    """
    name = page_name(title)
    files = _files(page, name)
    if (tree := _work_tree(wiki)) is not None:
        commit = _commit(tree, files, name, title, message, where=wiki)
        return Published(commit is not None, f"{name}.md", commit)
    for _ in range(_ATTEMPTS):
        with _clone(wiki) as tree:
            commit = _commit(tree, files, name, title, message, where=wiki)
            if commit is None or _push(tree, wiki):
                return Published(commit is not None, f"{name}.md", commit)
    raise WikiError(
        f"others pushed in between {_ATTEMPTS} times", where=_without_password(wiki), todo="publish again later"
    )


def page_name(title: str) -> str:
    """Name of a title's page without ``.md``, as GitHub makes it and as Windows can check it out.

    Raises
    ------
    WikiError
        If nothing is left of the title, or it names one of the wiki's own pages, or is too long.
    """
    # What neither GitHub's wiki nor Windows takes in a name: \ / : * ? " < > | and control characters.
    name = re.sub(r'[\\/:*?"<>|\s\x00-\x1f\x7f]+', "-", unicodedata.normalize("NFC", title))
    name = re.sub(r"-{2,}", "-", name).strip("-.")
    if not name or name.startswith("_") or name.lower() == "home":
        raise WikiError("this title cannot be a page", where="title", seen=title, todo="choose another title")
    # Reserved device names of Windows: "Naming Files, Paths, and Namespaces", Microsoft.
    if re.fullmatch(r"(?i)con|prn|aux|nul|com[0-9]|lpt[0-9]", name.partition(".")[0]):
        raise WikiError("Windows reserves this name", where="title", seen=title, todo="choose another title")
    # File systems take 255 bytes; a Hangul syllable is three.
    if len(f"{name}.md".encode()) > 255:
        raise WikiError(
            "this title is too long", where="title", seen=title, todo="choose one of 80 characters or fewer"
        )
    return name


# ---------------------------------------------------------------------- content


def _files(page: Path, name: str) -> dict[str, bytes]:
    """Content by path in the wiki: the page, with its links rewritten, and its pictures."""
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WikiError("no such page", where=str(page), todo="write the report first") from None
    pictures: dict[str, bytes] = {}

    def moved(found: re.Match[str]) -> str:
        picture = page.parent / found[1]
        try:
            pictures[f"images/{name}/{picture.name}"] = picture.read_bytes()
        except OSError:
            raise WikiError(
                "a picture is missing", where=str(page), seen=found[1], todo="write the report again"
            ) from None
        return f"](images/{quote(name)}/{quote(picture.name)})"

    # Only our own links: a page may link to pictures elsewhere.
    body = re.sub(rf"\]\(({re.escape(page.stem)}_files/[^)\s]+)\)", moved, text)
    return {f"{name}.md": f"{_OURS}\n\n{body}".encode(), **pictures}


def _home(name: str, title: str) -> bytes:
    """The first page of a wiki that had none."""
    text = re.sub(r"[\\\[\]]", lambda active: f"\\{active[0]}", title)
    return f"* [{text}]({quote(name)})\n".encode()


# ---------------------------------------------------------------------- repositories


def _work_tree(wiki: str) -> Path | None:
    """The wiki as a work tree; None if it is a bare repository or no folder, which can only be cloned.

    Raises
    ------
    WikiError
        If it is a folder but no repository, or lies inside another repository: that one is not the wiki.
    """
    folder = Path(wiki)
    if not wiki or not folder.is_dir():
        return None
    answer = _run(folder, "rev-parse", "--is-bare-repository", "--show-toplevel")
    if answer.stdout.startswith("true"):
        return None
    if answer.returncode:
        seen = _reason(answer.stderr)
    elif (top := answer.stdout.splitlines()[-1]) != str(folder.resolve()):
        seen = f"inside of {top}"
    else:
        return folder
    raise WikiError("not a wiki's work tree", where=wiki, seen=seen, todo="clone the wiki there, or name its address")


@contextmanager
def _clone(wiki: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="calico-lab-wiki-") as folder:
        tree = Path(folder, "wiki")
        # The pages are written as bytes: no conversion of line endings.
        options = ("--quiet", "--depth=1", "--no-tags", "--config=core.autocrlf=false")
        _git(Path(folder), "clone", *options, "--", wiki, str(tree), where=wiki)
        yield tree


def _commit(tree: Path, files: dict[str, bytes], name: str, title: str, message: str, where: str) -> str | None:
    """Commit our files and nothing else; None if they are there already."""
    _check_author(tree, where)
    page = tree / f"{name}.md"
    if page.exists() and not page.read_bytes().startswith(_OURS.encode()):
        raise WikiError(
            "somebody else wrote this page",
            where=f"{_without_password(where)}: {page.name}",
            todo="choose another title",
        )
    if all(entry.name == ".git" for entry in tree.iterdir()):
        files = {"Home.md": _home(name, title), **files}
    stale = set(_git(tree, "ls-files", "-z", "--", f"images/{name}", where=where).split("\0")) - {"", *files}
    for path in stale:
        (tree / path).unlink(missing_ok=True)
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    ours = sorted([*files, *stale])
    _git(tree, "add", "--all", "--force", "--", *ours, where=where)
    if not _git(tree, "diff", "--cached", "--name-only", "--", *ours, where=where):
        return None
    _git(tree, "commit", "--quiet", f"--message={message}", "--only", "--", *ours, where=where)
    return _git(tree, "rev-parse", "HEAD", where=where).strip()


def _push(tree: Path, where: str) -> bool:
    """Whether the push arrived; False if somebody else's did in between."""
    answer = _run(tree, "push", "--quiet", "origin", "HEAD")
    if answer.returncode and re.search(r"\[rejected\]|cannot lock ref|failed to update ref", answer.stderr):
        return False
    _succeed(answer, "push", where)
    return True


def _check_author(tree: Path, where: str) -> None:
    if _run(tree, "var", "GIT_AUTHOR_IDENT").returncode:
        raise WikiError(
            "git does not know who commits",
            where=_without_password(where),
            todo="run: git config --global user.name NAME && git config --global user.email ADDRESS",
        )


# ---------------------------------------------------------------------- git


def _git(folder: Path, verb: str, *arguments: str, where: str) -> str:
    answer = _run(folder, verb, *arguments)
    _succeed(answer, verb, where)
    return answer.stdout


def _run(folder: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without useConfigOnly git makes an author up from the login and the host.
    command = ["git", "-C", str(folder), "-c", "user.useConfigOnly=true", verb, *arguments]
    try:
        return subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            # No terminal, so that ssh cannot wait for a passphrase there.
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError:
        raise HostError("git is not installed", todo="run: sudo apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise WikiError(f"git {verb} did not end within {_TIMEOUT_S} s", todo="check the network") from None


def _environment() -> dict[str, str]:
    """Ours without what points git at another repository, as inside of a git hook."""
    elsewhere = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
    kept = {name: value for name, value in os.environ.items() if name not in elsewhere}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C.UTF-8"}


def _succeed(answer: subprocess.CompletedProcess[str], verb: str, where: str) -> None:
    if answer.returncode:
        raise WikiError(
            f"git {verb} failed",
            where=_without_password(where),
            seen=_without_password(_reason(answer.stderr)),
            todo="check the address, and that git reaches it without asking",
        )


def _reason(stderr: str) -> str:
    """The last line of git's that says why; what follows it is advice."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # ssh says why one line before git says that it could not read.
    lines = [line for line in lines if "Could not read from remote repository" not in line] or lines
    for sign in ("! ", "fatal: ", "error: ", "ssh: "):
        found = [line for line in lines if line.startswith(sign)]
        if found:
            return found[-1].removeprefix(sign)
    advice = ("hint:", "warning:", "Cloning into", "Please make sure", "and the repository exists")
    return next((line for line in reversed(lines) if not line.startswith(advice)), "git said nothing")


def _without_password(text: str) -> str:
    """The text with no user and password in any URL: it is shown and may be logged."""
    return re.sub(r"://[^/@\s]+@", "://", text)
