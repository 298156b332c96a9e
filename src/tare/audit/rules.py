"""The rules as data. Identifiers are stable: policies and baselines refer to them (``docs/audit.md``)."""

from __future__ import annotations

from collections.abc import Mapping

from tare.audit.findings import Rule, Severity

_LOW, _MEDIUM, _HIGH, _CRITICAL = Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL

_ROWS: tuple[tuple[str, Severity, str, str, str], ...] = (
    # What is in the image
    (
        "shell", _MEDIUM, "a shell",
        "whoever gets a command into the application has a tool to go on with",
        "build on a distroless image, or copy the application into one in a last stage; tare debug brings a shell in",
    ),
    (
        "package-manager", _MEDIUM, "a package manager",
        "it can bring any program into a running container",
        "install packages in a build stage and copy the result into an image without one",
    ),
    (
        "compiler", _MEDIUM, "a compiler or linker",
        "it makes programs of whatever text reaches the container, and it is large",
        "compile in a build stage and copy the result",
    ),
    (
        "network-tool", _LOW, "a network tool",
        "it downloads programs and sends data out",
        "leave it out; a health check can be the application's own, or Tare's http and tcp probes",
    ),
    (
        "debugger", _MEDIUM, "a debugger",
        "it reads the memory of other processes",
        "leave it out; tare debug brings one in when it is needed",
    ),
    (
        "interpreter", _LOW, "an interpreter that the entrypoint does not use",
        "it runs whatever text reaches the container",
        "leave it out, or use a base image without it",
    ),
    (
        "setuid", _HIGH, "a set-user-ID or set-group-ID program",
        "whoever runs it gets the rights of its owner: a fault in it gives them away",
        "RUN chmod a-s FILE, or run containers with --security-opt no-new-privileges",
    ),
    (
        "file-capabilities", _HIGH, "a program with file capabilities",
        "whoever runs it gets the capabilities: a fault in it gives them away",
        "RUN setcap -r FILE, or run containers with --security-opt no-new-privileges",
    ),
    (
        "world-writable", _MEDIUM, "a file or directory that everybody may write",
        "any process of any user can replace what others run or read",
        "RUN chmod o-w PATH; a directory for all is made with chmod 1777",
    ),
    (
        "device-node", _HIGH, "a device",
        "with the capability MKNOD or a device rule it reaches the host's hardware",
        "remove it: the engine makes the devices that a container needs",
    ),
    (
        "preload", _MEDIUM, "a library that is loaded into every process",
        "it can change what any program does",
        "remove LD_PRELOAD or /etc/ld.so.preload",
    ),
    (
        "packed-program", _MEDIUM, "a packed program",
        "what it is cannot be told before it runs",
        "ship the program itself",
    ),
    (
        "hidden-program", _MEDIUM, "a program inside of a file that is none",
        "it is out of sight of those who list programs, and can be unpacked and run",
        "remove it, or ignore it in a policy with the reason why it is there",
    ),
    (
        "unowned-file", _LOW, "files that no package owns",
        "nobody tells when a fault in them is found",
        "install them from a package, or ignore the application's own directory in a policy",
    ),
    (
        "modified-file", _MEDIUM, "a file that differs from its package's",
        "it is not what the distribution has published",
        "reinstall the package; put changed programs elsewhere",
    ),
    # Secrets
    (
        "secret-key", _CRITICAL, "a private key",
        "everybody who has the image has the key; to delete it in a later layer does not take it out",
        "replace the key, and give it at build time with RUN --mount=type=secret, at run time with a mount",
    ),
    (
        "secret-token", _CRITICAL, "a token or password",
        "everybody who has the image can use it; to delete it in a later layer does not take it out",
        "revoke it, and give it at build time with RUN --mount=type=secret, at run time with a mount",
    ),
    (
        "secret-file", _HIGH, "a file in which credentials are kept",
        "everybody who has the image can use them; to delete it in a later layer does not take it out",
        "revoke them, put the file's name into .dockerignore, and use RUN --mount=type=secret",
    ),
    (
        "secret-environment", _HIGH, "a secret in the image's environment or history",
        "it is in the image's configuration, which everybody who has the image can read",
        "revoke it; use RUN --mount=type=secret instead of ARG and ENV",
    ),
    # How it runs
    (
        "root-user", _MEDIUM, "runs as root",
        "a fault in the application has the rights of root in the container, and one fault less to go to the host",
        "USER with a number other than 0, such as 65532; or tare run --user",
    ),
    # The proof
    (
        "outside-closure", _HIGH, "an executable that the entrypoint cannot reach",
        "the application does not need it, whoever breaks into it may",
        "leave it out, or name it with --program when users start it by name",
    ),
    (
        "unused-library", _LOW, "a library that the entrypoint does not load",
        "it is more to keep up to date than the application needs",
        "leave its package out",
    ),
    (
        "missing-dependency", _MEDIUM, "something that the entrypoint needs and that is not there",
        "without it the closure is not known to the end, and the program may not start",
        "add it, or correct the path",
    ),
    (
        "no-entrypoint", Severity.INFO, "no entrypoint",
        "what an image is for without one is not known: every program in it counts as needless, libraries do not",
        "ENTRYPOINT, in an image that is meant to be run",
    ),
    # Containers
    (
        "privileged", _CRITICAL, "privileged",
        "it has all capabilities and all devices: root in it is root on the host",
        "--cap-add and --device with what is needed",
    ),
    (
        "engine-socket", _CRITICAL, "a socket of a container engine",
        "whoever may ask the engine for a container has the host",
        "do without, or put a proxy before it that allows only what is needed",
    ),
    (
        "host-network", _HIGH, "the host's network",
        "it reaches what listens on the host's loopback and can take any free port",
        "a network of its own and -p for the ports that it serves",
    ),
    (
        "host-namespace", _HIGH, "a namespace of the host",
        "it sees, and as root changes, what processes of the host do",
        "leave out --pid, --ipc, --uts or --userns host",
    ),
    (
        "system-mount", _HIGH, "a directory of the host's system",
        "what it writes there runs on the host",
        "mount only the data's own directory, read-only where that suffices",
    ),
    (
        "added-capability", _MEDIUM, "an added capability",
        "it can do more to the host than containers usually can",
        "leave out --cap-add, or --cap-drop ALL and add only what is needed",
    ),
    (
        "unconfined", _HIGH, "confinement that is switched off",
        "system calls that are forbidden to containers are open to it",
        "leave out --security-opt, or give a profile of its own",
    ),
    (
        "host-device", _HIGH, "a device of the host",
        "it reads and writes the device past the file system's permissions",
        "leave out --device where a volume does",
    ),
    (
        "published-everywhere", _LOW, "a port that is open on all addresses of the host",
        "whoever reaches the host reaches it, past the host's own firewall rules for local services",
        "-p 127.0.0.1:PORT:PORT behind a proxy, or --internal networks between containers",
    ),
    (
        "writable-root", _LOW, "a root file system that can be written",
        "whoever breaks in can leave programs there",
        "--read-only, with --tmpfs or volumes for what the application writes",
    ),
    (
        "new-privileges", _LOW, "programs may gain rights",
        "set-user-ID programs and file capabilities work",
        "--security-opt no-new-privileges",
    ),
    (
        "no-limits", _LOW, "no limit of memory or processes",
        "it can use up the host's memory or process table",
        "--memory and --pids-limit",
    ),
    # Policies
    (
        "policy-expired", _LOW, "an exception whose time is over",
        "the finding that it excused counts again",
        "look again, then remove it or give it a new date",
    ),
    (
        "policy-required", _HIGH, "something that the policy requires is not there",
        "whoever wrote the policy wants it",
        "do what the policy says",
    ),
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    id_: Rule(id=id_, severity=severity, title=title, why=why, fix=fix) for id_, severity, title, why, fix in _ROWS
}

PROOF_RULES = frozenset(
    (
        *("shell", "package-manager", "compiler", "network-tool", "debugger", "setuid", "file-capabilities"),
        *("device-node", "preload", "packed-program", "hidden-program"),
        *("outside-closure", "unused-library", "missing-dependency", "no-entrypoint"),
    )
)
"""The rules of ``--distroless``."""

BREAKS_PROOF = PROOF_RULES - {"unused-library", "no-entrypoint"}
"""Those of which a single finding, unless a policy ignores it, means that the proof does not hold."""
