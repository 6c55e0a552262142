"""Files that a person writes, read strictly: what is wrong is one line with file, key, value and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import InputError

__all__ = ["Part", "explain", "nearest", "read_mapping"]

E = TypeVar("E", bound=InputError)


class Part(BaseModel):
    """A mapping in such a file: frozen, and with no keys but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_mapping(path: Path, kind: type[E], what: str, todo: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Parameters
    ----------
    path : Path
    kind : type
        The error to raise.
    what : str
        What such a file is.
    todo : str
        Where to see a good one.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}, line {mark.line + 1}" if mark else path.name
        raise kind(
            "not a YAML file", where=where, seen=getattr(error, "problem", None) or str(error), todo="mend that line"
        ) from None
    if not isinstance(raw, dict):
        raise kind(f"{what} is a mapping of keys", where=path.name, seen=type(raw).__name__, todo=todo)
    return raw


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The question whether one of these was meant, where one is like the word; empty otherwise."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""


def explain(error: ValidationError, where: str, model: type[BaseModel], kind: type[E]) -> E:
    """The first of pydantic's complaints about a file of that model, on one line."""
    first, *others = error.errors()
    # A list with a wrong item is complained of once more, as too short.
    others = [other for other in others if first["loc"][: len(other["loc"])] != other["loc"]]
    more = f" ({len(others)} more after this one)" if others else ""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    place = f"{where}: {key}" if key else where
    seen: object = first["input"]
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(model, first["loc"][:-1])
        return kind(
            f"unknown key{nearest(str(first['loc'][-1]), allowed)}",
            where=place,
            seen=seen,
            todo=f"allowed: {', '.join(allowed)}{more}",
        )
    if first["type"] == "missing":
        return kind("this key is missing", where=place, todo=f"add it{more}")
    message = first["msg"].removeprefix("Value error, ")
    # A rule over several keys already says what it saw; the whole mapping would drown it.
    return kind(
        message, where=place, seen=None if isinstance(seen, Mapping | BaseModel) else seen, todo=more.strip() or None
    )


def _keys_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys that the model has at that place."""
    here: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(field for name, field in here.model_fields.items() if (field.alias or name) == part)
        here = next(kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields"))
    return [field.alias or name for name, field in here.model_fields.items()]
