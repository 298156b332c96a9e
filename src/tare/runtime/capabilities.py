"""Linux capabilities by name: Docker's default set, and its rules for adding and dropping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tare.errors import InvalidArgument

ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""Index = the kernel's number (capability.h)."""

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip
"""What Docker gives a container, in its order."""


def from_mask(mask: int) -> frozenset[str]:
    """The names of the bits of a ``CapBnd``-like mask (proc(5)); unknown bits are left out."""
    return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1)


def normalise(names: Iterable[str]) -> list[str]:
    """Upper case with ``CAP_``; ``ALL`` stays. Raises InvalidArgument for a name that does not exist."""
    result: list[str] = []
    for name in names:
        upper = name.upper()
        if upper != "ALL" and not upper.startswith("CAP_"):
            upper = f"CAP_{upper}"
        if upper == "CAP_ALL":
            upper = "ALL"
        if upper != "ALL" and upper not in ALL_CAPABILITIES:
            raise InvalidArgument(f'unknown capability: "{upper}"', hint="see capabilities(7)")
        result.append(upper)
    return result


def effective(add: Sequence[str], drop: Sequence[str], *, privileged: bool, available: frozenset[str]) -> list[str]:
    """The container's capabilities, in the kernel's order when computed from ALL.

    Docker's rule: privileged has every one; ``--cap-drop ALL`` leaves what is added by name; ``--cap-add ALL`` gives
    all but those dropped by name; otherwise the defaults less the dropped plus the added. Capabilities that the engine
    itself lacks (``available``) cannot be given and are left out of computed sets; one asked for *by name* stays in, so
    that the runtime names it in its error.
    """
    added, dropped = normalise(add), normalise(drop)
    every = [name for name in ALL_CAPABILITIES if name in available]
    if privileged:
        return every
    named = [name for name in added if name != "ALL"]
    if "ALL" in added:
        return [name for name in every if name not in dropped]
    if "ALL" in dropped:
        return list(dict.fromkeys(named))
    kept = [name for name in DEFAULT_CAPABILITIES if name in available and name not in dropped]
    return list(dict.fromkeys([*kept, *named]))
