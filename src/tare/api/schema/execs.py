"""Execs as the API takes and gives them (ExecConfig, ExecInspectResponse)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.engine.requests import ExecConfig, ExecState
from tare.errors import InvalidArgument
from tare.model.detach_keys import parse_detach_keys


class _ExecBody(msgspec.Struct, rename="pascal", kw_only=True):
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: list[int] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = []
    cmd: list[str] = []
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


def read_exec_config(document: dict[str, Any]) -> ExecConfig:
    """The body of an exec create request; raises InvalidArgument."""
    values = without_nulls(document)
    if isinstance(values.get("Cmd"), str):
        values["Cmd"] = [values["Cmd"]]
    if "detachKeys" in values:  # docker-py's spelling; Go, which Docker is written in, takes any case
        values["DetachKeys"] = values.pop("detachKeys")
    body = convert(values, _ExecBody)
    if not body.cmd:
        raise InvalidArgument("No exec command specified")
    parse_detach_keys(body.detach_keys)
    return ExecConfig(
        cmd=tuple(body.cmd),
        user=body.user,
        privileged=body.privileged,
        tty=body.tty,
        attach_stdin=body.attach_stdin,
        attach_stdout=body.attach_stdout,
        attach_stderr=body.attach_stderr,
        detach_keys=body.detach_keys,
        env=tuple(body.env),
        working_dir=body.working_dir,
        console_size=read_size(body.console_size),
    )


def read_size(value: object) -> tuple[int, int] | None:
    """``[height, width]`` of a terminal, None where unknown (absent or zero)."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(item, int) for item in value):
        raise InvalidArgument("invalid request: ConsoleSize must be [height, width]")
    height, width = value
    return (height, width) if height and width else None


def render_exec(state: ExecState) -> dict[str, Any]:
    """ExecInspectResponse."""
    config = state.config
    return {
        "ID": state.id,
        "Running": state.running,
        "ExitCode": state.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": config.cmd[0],
            "arguments": list(config.cmd[1:]),
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,  # set by Docker five minutes after the end, when ours is gone
        "ContainerID": state.container_id,
        "DetachKeys": b64encode(keys).decode() if (keys := _own_keys(config)) else "",
        "Pid": state.pid,
    }


def _own_keys(config: ExecConfig) -> bytes:
    return parse_detach_keys(config.detach_keys) if config.detach_keys else b""
