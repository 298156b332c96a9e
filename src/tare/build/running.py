"""RUN instructions as steps, and command lines in general."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tare.build import defaults, phrasing
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.mounts import Mount, parse_mount
from tare.build.graph import CONTEXT, Place, RunMount, RunStep, Script
from tare.errors import Forbidden, InvalidArgument, Unsupported

if TYPE_CHECKING:
    from tare.build.interpreter import StageState

SCRIPT_DIRECTORY = "/dev/pipes"
"""Where BuildKit, too, shows the script of a heredoc that names its interpreter."""

SECRETS = "/run/secrets"
SSH_SOCKET = "/run/buildkit/ssh_agent"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """An argument vector and the script that it runs, if that is a file of its own."""

    argv: tuple[str, ...]
    script: Script | None = None


def command_line(command: ins.Command, shell: tuple[str, ...]) -> CommandLine:
    """What to execute: shell form goes through ``shell``, a lone heredoc becomes its script.

    A script that begins with ``#!`` is a file that the shell executes; several heredocs, or one beside a command, are
    put back together for the shell to read (as in BuildKit).
    """
    if not command.shell:
        return CommandLine(command.args)
    text = command.args[0]
    documents = command.heredocs
    if len(documents) == 1 and _is_marker(text):
        document = documents[0]
        if not document.content.startswith("#!"):
            return CommandLine((*shell, document.content))
        path = f"{SCRIPT_DIRECTORY}/{document.name}"
        return CommandLine((*shell, path), Script(path, document.content))
    for document in documents:
        text = f"{text}\n{document.raw}{document.name}"
    return CommandLine((*shell, text))


def _is_marker(text: str) -> bool:
    return text.strip().lstrip("0123456789").startswith("<<") and len(text.split()) == 1


def run_step(instruction: ins.Run, state: StageState, place: Place, step_id: str) -> tuple[RunStep, str]:
    """The step and its history text. Raises InvalidArgument, Forbidden (an entitlement), Unsupported."""
    if instruction.devices:
        raise Unsupported("RUN --device is not supported yet", hint="remove the flag")
    _check_entitlements(instruction, state)
    line = command_line(instruction.command, state.shell)
    variables = state.variables
    env = [f"{name}={value}" for name, value in variables.items()]
    state.count(sum(map(len, env)))
    if "PATH" not in variables:
        env.append(defaults.PATH)
    hidden = tuple(f"{name}={value}" for name, value in state.around.proxies.items() if name not in variables)
    step = RunStep(
        id=step_id,
        stage=state.output.name,
        text=phrasing.one_line(instruction.original),
        place=place,
        parent=state.output.tip,
        argv=line.argv,
        script=line.script,
        env=tuple(env),
        secret_env=hidden,
        cwd=state.config.working_dir or "/",
        user=state.config.user,
        network=instruction.network if instruction.network != "default" else state.around.network,
        insecure=instruction.security == "insecure",
        mounts=_mounts(instruction, state, place),
    )
    effective = {name: variables.get(name, value or "") for name, value in state.args.items()}
    return step, f"RUN {phrasing.run_command(line.argv, effective)}"


def _check_entitlements(instruction: ins.Run, state: StageState) -> None:
    wanted = {
        "security.insecure": instruction.security == "insecure",
        "network.host": instruction.network == "host" and state.around.network != "host",
    }
    for name, needed in wanted.items():
        if needed and name not in state.around.allow:
            flag = "--security=insecure" if name.startswith("security") else "--network=host"
            raise Forbidden(
                f"{name} is not allowed: RUN {flag} needs an entitlement",
                hint=f"build with --allow {name} if you trust this Dockerfile",
                code="entitlement",
            )


def _mounts(instruction: ins.Run, state: StageState, place: Place) -> tuple[RunMount, ...]:
    """The mounts, ssh agents numbered; a mount below another comes after it, as both must be visible."""
    found: list[RunMount] = []
    agents = 0
    for mount in instruction.mounts:
        resolved = parse_mount(mount.raw, state.word) if mount.unresolved else mount
        made = _mount(resolved, state, place, agents)
        agents += made.kind == "ssh"
        found.append(made)
    return tuple(sorted(found, key=lambda mount: mount.target.rstrip("/").count("/")))


def _mount(mount: Mount, state: StageState, place: Place, agents: int) -> RunMount:
    directory = state.config.working_dir or "/"
    source = "/" + posixpath.normpath(mount.source or "/").lstrip("/.")
    origin = state.around.origin(mount.from_, place) if mount.from_ else CONTEXT
    target, name = mount.target, mount.id
    if mount.type == "secret":
        name = mount.id or mount.source or posixpath.basename(mount.target)
        if not target and mount.env is None:
            target = f"{SECRETS}/{posixpath.basename(name)}"
    elif mount.type == "ssh":
        name = mount.id or "default"
        target = target or f"{SSH_SOCKET}.{agents}"
    if target:
        target = posixpath.normpath(posixpath.join(directory, target))
        target = "/" + target.lstrip("/")
    if target == "/" and mount.type != "ssh":
        raise InvalidArgument(f'invalid mount target "{mount.target}"', hint="name a directory below /")
    made = RunMount(
        kind=mount.type,
        target=target,
        source=source,
        origin=origin,
        origin_name=mount.from_,
        read_only=mount.readonly,
        name=name,
        sharing=mount.sharing or "shared",
        mode=mount.mode,
        uid=mount.uid,
        gid=mount.gid,
        size=mount.size,
        required=mount.required,
        variable=mount.env or "",
    )
    if mount.type == "cache":
        return replace(made, name=mount.id or target, from_image=bool(mount.from_))
    return made
