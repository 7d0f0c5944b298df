"""Check a dashboard's JSON against the types of Grafana's schema.

grafana-foundation-sdk is generated from Grafana's own schemas (CUE), and keeps their names and
types: fields, enumerations, panel options, the options of fields in each kind of panel, Prometheus
queries. It holds no bounds, no options of transformations and no values of overrides, so those are
not checked.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def read(document: dict[str, Any]) -> Dashboard:
    """Read a dashboard into the types of the schema."""
    return Dashboard.from_json(document)


def written(board: Dashboard) -> Any:
    """Write a dashboard: only what the schema knows is in it."""
    return json.loads(json.dumps(board, cls=JSONEncoder))


def type_errors(value: Any, path: str = "") -> list[str]:
    """List the fields, at any depth, whose values are not of the type that the schema says."""
    module = type(value).__module__
    if isinstance(value, list):
        return [e for i, one in enumerate(value) for e in type_errors(one, f"{path}[{i}]")]
    if not module.startswith("grafana_foundation_sdk") or isinstance(value, enum.Enum):
        return []
    errors = []
    for name, kind in typing.get_type_hints(type(value)).items():
        held = getattr(value, name, None)
        if not _is(held, kind):
            errors.append(f"{path}.{name}: {held!r} is not {kind}")
        errors += type_errors(held, f"{path}.{name}")
    return errors


def _is(value: Any, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_is(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(one, arguments[1]) for one in value.values())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value in [member.value for member in kind]
    return isinstance(value, kind)
