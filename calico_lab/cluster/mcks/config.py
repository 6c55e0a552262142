"""Which MCKS, and which namespace there: from arguments, the environment, the scenario and cbctl's own file.

The first of these that says it wins, for the address and for the namespace each by itself:

1. an argument, then the context that an argument names;
2. ``MCKS_URL`` and ``MCKS_NAMESPACE``, then the context that ``MCKS_CONTEXT`` names;
3. the scenario's ``mcks``, then the context that it names;
4. the current context of ``~/.cbctl/config``.

An address that nobody says is this machine's port 1470, which is fixed in MCKS (cb-ladybug, src/rest-api/server.go).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ...errors import InputError
from ...scenario import McksPlace

__all__ = ["CONFIG", "DEFAULT_URL", "Server", "find_server"]

CONFIG = Path.home() / ".cbctl" / "config"
"""cbctl's file (itnpeople/cbctl, app/config.go)."""

DEFAULT_URL = "http://localhost:1470"

_Said = tuple[str | None, str | None]
"""An address and a namespace, as far as they are said."""

_NOTHING: _Said = (None, None)


@dataclass(frozen=True, slots=True)
class Server:
    """An MCKS, and one of its namespaces.

    Attributes
    ----------
    url : str
        As it was given: with or without the path under which MCKS answers, without a slash at its end.
    namespace : str
        Has to exist in Tumblebug.
    """

    url: str
    namespace: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: what stays the same when MCKS is started under another path."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def path(self) -> str:
        return urlsplit(self.url).path


def find_server(
    *,
    url: str | None = None,
    namespace: str | None = None,
    context: str | None = None,
    place: McksPlace | None = None,
    environment: Mapping[str, str] = os.environ,
    config: Path = CONFIG,
) -> Server:
    """The MCKS to talk to.

    Parameters
    ----------
    url, namespace, context : str, optional
        Arguments.
    place : McksPlace, optional
        A scenario's ``mcks``.
    environment : mapping
    config : Path
        cbctl's file; it may be missing, and is read only for what nobody else says.

    Raises
    ------
    InputError
        If nobody says the namespace, an address cannot be one, or a context that is named is not in cbctl's file.
    """
    contexts = _Contexts(config)
    place = place or McksPlace()
    said: list[Callable[[], _Said]] = [
        lambda: (url, namespace),
        lambda: contexts.named(context),
        lambda: (environment.get("MCKS_URL"), environment.get("MCKS_NAMESPACE")),
        lambda: contexts.named(environment.get("MCKS_CONTEXT")),
        lambda: (place.url, place.namespace),
        lambda: contexts.named(place.context),
        contexts.current,
    ]

    def first(which: int) -> str | None:
        values: Iterator[str | None] = (each()[which] for each in said)
        return next(filter(None, values), None)

    found = first(1)
    if found is None:
        raise InputError(
            "no namespace is named",
            where="MCKS_NAMESPACE",
            todo=f"set it to one that Tumblebug knows, or name a context of {config} with MCKS_CONTEXT",
        )
    return Server(_checked(first(0) or DEFAULT_URL), found)


class _Contexts:
    """The contexts of cbctl's file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def named(self, name: str | None) -> _Said:
        if not name:
            return _NOTHING
        contexts = self._read().get("contexts") or {}
        if name not in contexts:
            raise InputError(
                "no context has that name",
                where=str(self._path),
                seen=name,
                todo=f"allowed: {', '.join(sorted(contexts)) or 'none, there is no such file or it has no contexts'}",
            )
        context = contexts[name]
        try:
            return (context.get("urls") or {}).get("mcks"), context.get("namespace")
        except AttributeError:
            raise InputError("not a context of cbctl", where=f"{self._path}: contexts.{name}") from None

    def current(self) -> _Said:
        """The current one, or the only one: cbctl itself would take any of several."""
        read = self._read()
        contexts = read.get("contexts") or {}
        if not contexts:
            return _NOTHING
        name = read.get("current-context") or (next(iter(contexts)) if len(contexts) == 1 else None)
        if name is None:
            raise InputError(
                "it has no current-context",
                where=str(self._path),
                todo=f"name one with MCKS_CONTEXT; allowed: {', '.join(sorted(contexts))}",
            )
        return self.named(name)

    def _read(self) -> dict[str, Any]:
        try:
            read = yaml.safe_load(self._path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
            # What YAML complains of may quote a line of the file.
            raise InputError("cannot be read", where=str(self._path), seen=type(problem).__name__) from None
        if not isinstance(read, dict) or not isinstance(read.get("contexts") or {}, dict):
            raise InputError("not a file of cbctl's", where=str(self._path), todo="it has current-context and contexts")
        return read


def _checked(url: str) -> str:
    """The address without the slash at its end, if it can be one."""
    try:
        parts = urlsplit(url.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    todo = f"write it as {DEFAULT_URL} or {DEFAULT_URL}/mcks"
    if good and (parts.username or parts.password):
        raise InputError("an address with a password in it", where="MCKS_URL", seen=parts.hostname, todo=todo)
    if not good or parts.query or parts.fragment:
        raise InputError("not the address of an MCKS", where="MCKS_URL", seen=url, todo=todo)
    return url.strip().rstrip("/")
