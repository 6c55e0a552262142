"""The published contract of MCKS as JSON schemas, and what an answer has that is not in it."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

_CONTRACT = yaml.safe_load(Path(__file__).with_name("mcks_contract.yaml").read_text(encoding="utf-8"))
RELEASES = list(_CONTRACT["releases"])


@cache
def types(release: str) -> dict[str, dict[str, Any]]:
    """Fields of each type in a release."""
    found: dict[str, dict[str, Any]] = {}
    for each in RELEASES[: RELEASES.index(release) + 1]:
        for name, fields in _CONTRACT["releases"][each].items():
            found.setdefault(name, {}).update(fields)
    return found


def schema(release: str, kind: object) -> dict[str, Any]:
    """The JSON schema of a type."""
    if isinstance(kind, list):
        return {"type": "string", "enum": kind}
    if isinstance(kind, dict):
        return {"type": "array", "items": schema(release, kind["list"])}
    if kind in ("string", "integer"):
        return {"type": kind}
    properties = {key: schema(release, of) for key, of in types(release)[str(kind)].items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def description(release: str, base: str) -> dict[str, Any]:
    """What ``/swagger/doc.json`` shows, as far as anybody needs it to tell the release."""
    query = ["minorversion", "patchversion"] if release == "v0.6.0" else []
    parameters = [{"name": name, "in": "query"} for name in query] + [{"name": "ClusterReq", "in": "body"}]
    package = "model" if release == "v0.5.1" else "app"
    return {
        "swagger": "2.0",
        "basePath": base,
        "definitions": {f"{package}.{name}": schema(release, name) for name in types(release)},
        "paths": {"/ns/{namespace}/clusters": {"post": {"parameters": parameters}}},
    }


def violations(release: str, route: str, status: int, text: str) -> list[str]:
    """What an answer to a route such as ``GET /healthy`` has that the contract has not."""
    answers = _CONTRACT["paths"].get(route, {})
    if status not in answers:
        return [f"{route} {status}: not published"]
    try:
        answer = json.loads(text)
    except ValueError:
        return [f"{route} {status}: no JSON"]
    found = {
        f"{route} {status}: {_place(error.absolute_path)} {error.validator}"
        for error in Draft202012Validator(schema(release, answers[status])).iter_errors(answer)
    }
    if isinstance(answer, dict) and answer.get("code", status) != status:
        found.add(f"{route} {status}: code {answer['code']}")
    return sorted(found)


def _place(path: Any) -> str:
    return re.sub(r"\.\d+", "[]", ".".join(["", *map(str, path)])).removeprefix(".") or "answer"
