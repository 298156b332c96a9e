"""YAML data as typed structures; what does not fit is told with its place, in words of YAML."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from tare.build.assembly.yaml_nodes import DocumentError, Path, YamlFile
from tare.build.dockerfile.values import suggestion

T = TypeVar("T")

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")
_NAMES = {
    "array": "a list",
    "object": "a mapping (name: value)",
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
}


def convert(file: YamlFile, kind: type[T]) -> T:
    """``file`` as ``kind``, a structure that allows no unknown fields. Raises DocumentError at what does not fit."""
    try:
        return msgspec.convert(file.data, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(str(error), file, kind) from error


def _explained(text: str, file: YamlFile, kind: type[Any]) -> DocumentError:
    cause, _, where = text.partition(" - at `$")
    path = _resolve(list(_STEP.finditer(where.removesuffix("`"))), cause, file, kind)
    if match := _UNKNOWN.fullmatch(cause):
        known = sorted(_fields(kind, path))
        near = suggestion(match[1], known)
        return file.error(
            f"unknown field {match[1]}{near}", *path, match[1], on_key=True, hint=f"fields are {', '.join(known)}"
        )
    if match := _MISSING.fullmatch(cause):
        return file.error(f"{match[1]} is missing", *path, hint=f"add {match[1]}: …")
    if match := _TYPE.fullmatch(cause):
        expected = " or ".join(_NAMES.get(name, name) for name in match[1].split(" | "))
        return file.error(f"expected {expected}, not {_kind_of(file, path)}", *path)
    if cause.startswith("Invalid enum value"):
        options = ", ".join(_literals(kind, path))
        return file.error(f"{_at(file.data, path)!r} is not one of {options}", *path)
    return file.error(cause[:1].lower() + cause[1:].replace("`", "").replace("int", "a whole number"), *path)


def _kind_of(file: YamlFile, path: Path) -> str:
    found = _at(file.data, path)
    if isinstance(found, dict):
        return _NAMES["object"]
    return _NAMES["array"] if isinstance(found, list) else f'the text "{found}"'


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _resolve(steps: list[re.Match[str]], cause: str, file: YamlFile, kind: type[Any]) -> Path:
    """The path of msgspec's message, in which the keys of mappings are left open (``[...]``): they are tried."""
    path: list[str | int] = []
    data = file.data
    for step in steps:
        if step[1] is not None:
            path.append(step[1])
        elif step[2] != "...":
            path.append(int(step[2]))
        else:
            mapping = _at(data, tuple(path))
            while len(mapping) > 1:  # the half that has the mistake, again and again
                items = list(mapping.items())
                half = dict(items[: len(items) // 2])
                wrong = _complaint(_with(data, tuple(path), half), kind) == cause
                mapping = half if wrong else dict(items[len(items) // 2 :])
            data = _with(data, tuple(path), mapping)
            path.extend(mapping)
    return tuple(path)


def _complaint(data: Any, kind: type[Any]) -> str:
    """What is wrong with ``data``, without the place; empty if nothing is."""
    try:
        msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        return str(error).partition(" - at `$")[0]
    return ""


def _with(data: Any, path: Path, value: Any) -> Any:
    """``data`` with another value at ``path``."""
    if not path:
        return value
    copy: Any = data.copy()
    copy[path[0]] = _with(data[path[0]], path[1:], value)
    return copy


def _fields(kind: Any, path: Path) -> list[str]:
    """The fields of the structure at ``path`` of ``kind``."""
    structures = (option for option in _types(kind, path) if isinstance(option, msgspec.inspect.StructType))
    return [field.encode_name for structure in structures for field in structure.fields]


def _literals(kind: Any, path: Path) -> list[str]:
    """The values that may be at ``path`` of ``kind``."""
    literals = (option for option in _types(kind, path) if isinstance(option, msgspec.inspect.LiteralType))
    return [str(value) for literal in literals for value in literal.values]


def _types(kind: Any, path: Path) -> list[Any]:
    """What may be at ``path`` of ``kind``."""
    options = _options(msgspec.inspect.type_info(kind))
    for step in path:
        options = [inner for option in options for inner in _inner(option, step)]
    return options


def _options(kind: Any) -> list[Any]:
    """The types that a type stands for, without their descriptions."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _options(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [inner for option in kind.types for inner in _options(option)]
    return [kind]


def _inner(kind: Any, step: str | int) -> list[Any]:
    """What is at ``step`` of a value of the type."""
    if isinstance(kind, msgspec.inspect.StructType):
        return [inner for field in kind.fields if field.encode_name == step for inner in _options(field.type)]
    if isinstance(kind, msgspec.inspect.ListType) and isinstance(step, int):
        return _options(kind.item_type)
    return _options(kind.value_type) if isinstance(kind, msgspec.inspect.DictType) else []
