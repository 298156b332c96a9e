"""YAML data as typed structures; what does not fit is told with its place, in words of YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    return file.error(cause[:1].lower() + cause[1:].replace("`", ""), *path)


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
            for key in _at(data, tuple(path)):
                alone = _with(data, tuple(path), {key: _at(data, (*path, key))})
                if cause in _complaints(alone, kind):
                    data = alone
                    path.append(key)
                    break
    return tuple(path)


def _complaints(data: Any, kind: type[Any]) -> Iterator[str]:
    try:
        msgspec.convert(data, kind, strict=False)
    except msgspec.ValidationError as error:
        yield str(error).partition(" - at `$")[0]


def _with(data: Any, path: Path, value: Any) -> Any:
    """``data`` with another value at ``path``."""
    if not path:
        return value
    copy: Any = data.copy()
    copy[path[0]] = _with(data[path[0]], path[1:], value)
    return copy


def _fields(kind: Any, path: Path) -> list[str]:
    """The fields of the structure at ``path`` of ``kind``."""
    found = msgspec.inspect.type_info(kind)
    for step in path:
        options = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
        for option in options:
            if isinstance(option, msgspec.inspect.StructType) and isinstance(step, str):
                found = next(field.type for field in option.fields if field.encode_name == step)
                break
            if isinstance(option, msgspec.inspect.ListType) and isinstance(step, int):
                found = option.item_type
                break
            if isinstance(option, msgspec.inspect.DictType):
                found = option.value_type
                break
    options = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
    return [
        field.encode_name
        for option in options
        if isinstance(option, msgspec.inspect.StructType)
        for field in option.fields
    ]
