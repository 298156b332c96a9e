"""``--security-opt`` as the engine understands it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tare.errors import InvalidArgument, Unsupported
from tare.model.container import HostConfig

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """What a container's options say.

    ``seccomp`` is ``default``, ``unconfined`` or a profile's JSON text; ``apparmor`` a profile's name or empty;
    ``labels`` are SELinux options as given after ``label=``.
    """

    seccomp: str = "default"
    no_new_privileges: bool = False
    writable_cgroups: bool = False
    apparmor: str = ""
    labels: tuple[str, ...] = ()


def read_security(host: HostConfig) -> SecurityOptions:
    """Read the options of a container. Raises InvalidArgument in Docker's words."""
    values: dict[str, str] = {}
    flags = {"no-new-privileges": False, "writable-cgroups": False}
    labels: list[str] = []
    for option in host.security_opt or []:
        name, separator, value = option.partition("=" if "=" in option else ":")
        if option in flags:
            flags[option] = True
        elif option == "disable":
            labels.append(option)
        elif not separator:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        elif name in flags:
            flags[name] = _boolean(value, option)
        elif name == "label":
            labels.append(value)
        elif name in ("apparmor", "seccomp"):
            values[name] = value
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    seccomp = values.get("seccomp", "unconfined" if host.privileged else "default")
    return SecurityOptions(
        seccomp="default" if seccomp == "builtin" else seccomp,
        no_new_privileges=flags["no-new-privileges"],
        writable_cgroups=flags["writable-cgroups"],
        apparmor=values.get("apparmor", ""),
        labels=tuple(labels),
    )


def check_labels(options: SecurityOptions, modules: Collection[str]) -> None:
    """Refuse SELinux labels where SELinux is on; elsewhere they mean nothing. Raises Unsupported."""
    wanted = [label for label in options.labels if label != "disable"]
    if wanted and "selinux" in modules:
        raise Unsupported(
            f"label={wanted[0]}: SELinux labels are not available in this version",
            hint="use label=disable",
            code="no-selinux",
        )


def _boolean(value: str, option: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
