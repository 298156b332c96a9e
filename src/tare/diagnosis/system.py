"""What kind of system an image is, and what it calls the packages that would help."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tare.diagnosis.tree import Tree

_EXCEPTIONS = {
    "libz.so.1": "zlib1g", "libcrypto.so.3": "libssl3", "libcrypto.so.1.1": "libssl1.1",
    "libyaml-0.so.2": "libyaml-0-2",
    "libglib-2.0.so.0": "libglib2.0-0", "libgobject-2.0.so.0": "libglib2.0-0", "libgio-2.0.so.0": "libglib2.0-0",
    "libbz2.so.1.0": "libbz2-1.0", "libblkid.so.1": "libblkid1",
    **dict.fromkeys(("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"), "libc6"),
}  # fmt: skip
_PROGRAMS = {
    "python": "python-is-python3", "python3": "python3", "node": "nodejs", "pip": "python3-pip", "ps": "procps",
    "ip": "iproute2", "ping": "iputils-ping", "dig": "dnsutils", "nc": "netcat-openbsd", "java": "default-jre-headless",
    "psql": "postgresql-client", "mysql": "default-mysql-client", "ruby": "ruby", "php": "php-cli", "perl": "perl-base",
}  # fmt: skip
_ALPINE_PROGRAMS = {"node": "nodejs", "ps": "procps", "pip": "py3-pip", "python": "python3"}
_COMMON = {"bash", "curl", "wget", "git", "gawk", "jq", "zsh", "vim", "nano", "less", "unzip", "make", "gcc", "rsync"}


@dataclass(frozen=True, slots=True)
class System:
    """``family`` is debian, alpine or empty; ``libc`` glibc, musl or empty."""

    family: str
    libc: str

    def program_package(self, name: str) -> str:
        """How to install the program ``name``; empty when that is not known."""
        if self.family == "debian" and (package := _PROGRAMS.get(name, name if name in _COMMON else "")):
            return f"install it with apt-get install {package}"
        if self.family == "alpine":
            known = {*_ALPINE_PROGRAMS, *_PROGRAMS} - {"java", "php", "psql", "mysql", "dig", "nc", "ip", "ping"}
            if name in _COMMON or name in known:
                return f"install it with apk add {_ALPINE_PROGRAMS.get(name, name)}"
        return ""

    def library_package(self, soname: str) -> str:
        """The Debian package that a library is in by the rule for their names (Debian policy 8.1); may be empty."""
        if self.family != "debian":
            return ""
        if soname in _EXCEPTIONS:
            return _EXCEPTIONS[soname]
        matched = re.fullmatch(r"(lib[A-Za-z0-9+_.-]+?)\.so(?:\.(\d[\w.]*))?", soname)
        if matched is None or not matched[2]:
            return ""
        stem, version = matched[1].lower().replace("_", "-"), matched[2]
        return f"{stem}-{version}" if stem[-1].isdigit() else stem + version


def system_of(tree: Tree) -> System:
    """Recognise an image by what every system of its kind has."""
    if tree.look("/etc/debian_version").is_file or tree.look("/var/lib/dpkg/status").is_file:
        family = "debian"
    elif tree.look("/etc/alpine-release").is_file:
        family = "alpine"
    else:
        family = ""
    if any(name.startswith("ld-musl-") for name in tree.names("/lib")):
        return System(family, "musl")
    places = ("/lib64", "/lib", "/usr/lib64", "/usr/lib")
    if any(name.startswith("ld-linux") for place in places for name in tree.names(place)):
        return System(family, "glibc")
    return System(family, "")
