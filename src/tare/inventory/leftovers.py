"""What images carry that running them does not need, as data with reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Files to be found by the pattern of their path (no leading slash)."""

    code: str
    pattern: re.Pattern[str]
    what: str
    fix: str


_HOME = r"^(?:root|home/[^/]+)/"

LEFTOVERS = (
    Leftover(
        code="package-lists",
        pattern=re.compile(r"^var/lib/apt/lists/|^var/cache/apk/|^var/cache/(?:dnf|yum)/|^var/lib/dnf/"),
        what="indexes of a package manager",
        fix="end the RUN that installs with rm -rf /var/lib/apt/lists/*, or mount a cache: RUN --mount=type=cache",
    ),
    Leftover(
        code="package-cache",
        pattern=re.compile(r"^var/cache/apt/|^var/cache/debconf/.*-old$|^var/lib/dpkg/.*-old$"),
        what="downloaded packages and caches of the package manager",
        fix="apt-get clean in the RUN that installs, or RUN --mount=type=cache,target=/var/cache/apt",
    ),
    Leftover(
        code="language-cache",
        pattern=re.compile(
            _HOME + r"(?:\.cache/|\.npm/|\.yarn/|\.gradle/|\.m2/|\.cargo/registry/|go/pkg/mod/cache/|\.gem/)"
            r"|^usr/local/share/\.cache/|^go/pkg/mod/cache/|^usr/local/cargo/registry/"
        ),
        what="caches of pip, npm, yarn, Maven, Gradle, Cargo or Go",
        fix="pip install --no-cache-dir, npm cache clean --force, or RUN --mount=type=cache on the cache's directory",
    ),
    Leftover(
        code="logs",
        pattern=re.compile(r"^var/log/|^var/cache/ldconfig/"),
        what="logs of the build",
        fix="delete them in the RUN that writes them",
    ),
    Leftover(
        code="temporary-files",
        pattern=re.compile(r"^(?:var/)?tmp/"),
        what="temporary files",
        fix="delete them in the RUN that writes them, or RUN --mount=type=tmpfs,target=/tmp",
    ),
    Leftover(
        code="version-control",
        pattern=re.compile(r"(?:^|/)\.(?:git|hg|svn)/"),
        what="history of version control",
        fix="name it in .dockerignore",
    ),
    Leftover(
        code="documentation",
        pattern=re.compile(
            r"^usr/(?:local/)?(?:share/)?(?:man|info|gtk-doc|doc-base|lintian|groff)/"
            r"|^usr/(?:local/)?share/doc/(?!.*/copyright$)"
        ),
        what="documentation and manual pages",
        fix="leave them out of packages (/etc/dpkg/dpkg.cfg.d, path-exclude), or start from an image of tare.local",
    ),
    Leftover(
        code="translations",
        pattern=re.compile(r"^usr/share/locale/(?!locale\.alias$)"),
        what="translations of messages",
        fix="leave them out of packages (/etc/dpkg/dpkg.cfg.d, path-exclude=/usr/share/locale/*)",
    ),
    Leftover(
        code="development-files",
        pattern=re.compile(
            r"^usr/(?:local/)?include/|\.a$|\.la$|^usr/(?:local/)?(?:lib|share)/(?:[^/]+/)?pkgconfig/|\.o$"
        ),
        what="headers, static libraries and other files that only building needs",
        fix="build in a stage of its own, and copy what was built into the last one",
    ),
    Leftover(
        code="bytecode",
        pattern=re.compile(r"/__pycache__/[^/]+\.pyc$"),
        what="compiled Python, which the interpreter can make again (starting takes longer without)",
        fix="PYTHONDONTWRITEBYTECODE=1 in the build, pip install --no-compile",
    ),
)
"""In the order in which they are tried."""

DEVELOPMENT_PACKAGES = re.compile(
    r"(?!gcc-\d+-base$)(?:gcc|g\+\+|cpp|gfortran|clang|llvm|binutils|cmake|make|automake|autoconf|libtool|patch|bison|flex|gdb|git|ninja-build"
    r"|meson|dpkg-dev|build-essential|pkg-config|pkgconf|linux-libc-dev|rustc|cargo|golang)(?:-.*)?|lib.*-dev|.*-dev"
)
