"""The options of ``build`` as the body of ``POST /tare/build``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tare.cli.build_context import Context, is_declarative, is_remote
from tare.cli.environment import read_labels
from tare.cli.limits import read_ulimit
from tare.cli.units import parse_size, parse_weight
from tare.errors import InvalidArgument, NotFound

_SECRET_LIMIT = 500 * 1024  # bytes, as BuildKit has it
_LAYOUT = "oci-layout://"
_OUTPUTS = ("image", "local", "tar", "oci", "docker", "cacheonly")
_PUSHED = ("type=image,push=true",)


def build_request(context: Context, given: dict[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The body for the context and the options ``given``. Raises InvalidArgument, NotFound."""
    known = os.environ if environ is None else environ
    for tag in given["tags"]:
        from tare.model import Reference

        Reference.parse(tag)
    return {
        "context": context.context,
        "remote": context.remote,
        "dockerfile": context.dockerfile,
        "dockerfile_text": context.dockerfile_text,
        "tags": list(given["tags"]),
        "build_args": read_build_args(given["build_args"], known),
        "labels": read_labels(given["labels"]),
        "target": given["target"],
        "no_cache": given["no_cache"],
        "pull": given["pull"],
        "network": given["network"],
        "extra_hosts": list(given["hosts"]),
        "platform": given["platform"],
        "shm_size": parse_size(given["shm_size"], '"--shm-size"') if given["shm_size"] else 0,
        "quiet": given["quiet"],
        "contexts": read_contexts(given["contexts"]),
        "secrets": _encoded(read_secrets(given["secrets"], known)),
        "ssh": read_ssh(given["ssh"], known),
        "allow": list(given["allow"]),
        "no_cache_stages": _commas(given["no_cache_filter"]),
        "outputs": [read_output(text) for text in (*given["outputs"], *_PUSHED[: given["push"]])],
        "annotations": read_annotations(given["annotations"]),
        "ulimits": [{key.lower(): value for key, value in read_ulimit(text).items()} for text in given["ulimits"]],
        "check": given["check"],
        "plan_only": given["plan"],
        "why": given["why"],
        "keep_failed": given["debug"],
        "budget": parse_weight(given["budget"], '"--budget"') if given["budget"] else 0,
        "lock_text": context.lock_text,
        "update_lock": given["update_lock"],
    }


def _encoded(secrets: list[tuple[str, bytes]]) -> dict[str, str]:
    """Contents as JSON can hold them (RFC 4648, 4)."""
    if not secrets:
        return {}
    import base64

    return {name: base64.b64encode(value).decode() for name, value in secrets}


def read_build_args(given: Iterable[str], environ: Mapping[str, str]) -> dict[str, str | None]:
    """``NAME=VALUE``, or ``NAME`` to pass one on; SOURCE_DATE_EPOCH is passed on as buildx does."""
    found: dict[str, str | None] = {}
    if epoch := environ.get("SOURCE_DATE_EPOCH"):
        found["SOURCE_DATE_EPOCH"] = epoch
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise InvalidArgument(f'invalid argument "{text}" for "--build-arg"', hint="use NAME=VALUE")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


def read_contexts(given: Iterable[str]) -> dict[str, str]:
    """``--build-context NAME=VALUE``: directories and declarative files become absolute, addresses stay as they are."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InvalidArgument(f"invalid context value: {text}, expected key=value", hint="use NAME=DIRECTORY|URL")
        if value.startswith(_LAYOUT):
            value = _LAYOUT + str(Path(value.removeprefix(_LAYOUT)).absolute())
        elif not is_remote(value) and not value.startswith("target:"):
            place = Path(value).absolute()
            if not (place.is_dir() or (place.is_file() and is_declarative(value))):
                cause = "is neither a directory nor a .yaml file" if place.exists() else "not found"
                raise NotFound(f"failed to get build context {name}: {value} {cause}", hint="name a directory")
            value = str(place)
        found[name] = value
    return found


def read_secrets(given: Iterable[str], environ: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """``--secret id=…[,src=FILE|env=NAME]`` with their contents. Raises NotFound, InvalidArgument."""
    return [_secret(_fields(text, "--secret"), environ, text) for text in given]


def _secret(fields: dict[str, str], environ: Mapping[str, str], text: str) -> tuple[str, bytes]:
    kind = fields.pop("type", "")
    name = fields.pop("id", "")
    source = fields.pop("src", fields.pop("source", ""))
    variable = fields.pop("env", "")
    if kind not in ("", "file", "env"):
        raise InvalidArgument(f'unsupported secret type "{kind}"', hint="use file or env")
    if fields:
        raise InvalidArgument(f'unexpected key "{next(iter(fields))}" in "{text}"', hint="use id=…,src=… or id=…,env=…")
    if not name:
        raise InvalidArgument(f'invalid argument "{text}" for "--secret": no id', hint="use id=NAME,src=FILE")
    if kind == "env" and not variable:
        variable, source = source or name, ""
    if not variable and not source:
        variable = name if name in environ and kind != "file" else ""
        source = "" if variable else name
    if variable:
        if variable not in environ:
            raise NotFound(f"secret {name}: the variable {variable} is not set", hint="set it, or give src=FILE")
        return name, os.fsencode(environ[variable])
    try:
        with Path(source).open("rb") as stream:
            data = stream.read(_SECRET_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"secret {name}: {source}: {error.strerror}", hint="src=FILE names the secret's file") from error
    if len(data) > _SECRET_LIMIT:
        raise InvalidArgument(f"secret {name}: {source} is larger than {_SECRET_LIMIT} bytes")
    return name, data


def read_ssh(given: Iterable[str], environ: Mapping[str, str]) -> dict[str, list[str]]:
    """``--ssh default|ID[=SOCKET|KEY[,KEY]]`` as absolute paths. Raises InvalidArgument, NotFound."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        paths = [item for item in value.split(",") if item] or [environ.get("SSH_AUTH_SOCK", "")]
        if not all(paths):
            raise InvalidArgument(
                f"--ssh {text}: no agent: SSH_AUTH_SOCK is not set", hint="start ssh-agent, or name a key: ID=FILE"
            )
        for path in paths:
            if not Path(path).exists():
                raise NotFound(
                    f"--ssh {text}: {path}: no such file or directory", hint="name a socket or a private key"
                )
        found[name or "default"] = [str(Path(path).absolute()) for path in paths]
    return found


def read_output(text: str) -> dict[str, Any]:
    """``--output type=…,dest=…,…``, or a directory (``local``), or ``-`` (a tar on standard output)."""
    if text == "-":
        fields = {"type": "tar", "dest": "-"}
    elif "=" not in text:
        fields = {"type": "local", "dest": text}
    else:
        fields = _fields(text, "--output")
    kind = fields.pop("type", "")
    if kind not in _OUTPUTS:
        raise InvalidArgument(f'invalid output type "{kind}" in "{text}"', hint=f"use {', '.join(_OUTPUTS)}")
    destination = fields.pop("dest", fields.pop("destination", ""))
    if kind in ("local", "tar") and not destination:
        raise InvalidArgument(f'--output {text}: type "{kind}" needs dest=', hint="add dest=PATH")
    if kind == "local" and destination == "-":
        raise InvalidArgument("dest of the local output has to be a directory", hint="use type=tar for standard output")
    shown = destination if destination in ("", "-") else str(Path(destination).absolute())
    owner = [os.getuid(), os.getgid()] if os.getuid() else None
    return {"type": kind, "destination": shown, "attributes": fields, "owner": owner}


def read_annotations(given: Iterable[str]) -> dict[str, str]:
    """``--annotation [TYPE:]KEY=VALUE``; the type stays in front of the key."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidArgument(f"invalid annotation {text!r}, expected key=value", hint="use KEY=VALUE")
        found[key] = value
    return found


def _fields(text: str, option: str) -> dict[str, str]:
    fields = {}
    import csv

    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        if not equals:
            raise InvalidArgument(f"invalid field '{item}' must be a key=value pair", hint=f"see --help of {option}")
        fields[key.strip().lower()] = value
    return fields


def _commas(given: Iterable[str]) -> list[str]:
    return [name for text in given for name in text.split(",") if name]
