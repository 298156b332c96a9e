"""Walk a program's libraries as the dynamic loader would (ld.so(8); musl ``ldso/dynlink.c``) and say what it misses."""

from __future__ import annotations

import posixpath
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tare.base.elf import Elf, ElfError, read_elf
from tare.diagnosis.ldcache import MAX_SIZE, read_cache
from tare.diagnosis.tree import Outcome, Tree

_MAX_OBJECTS = 1000
_MAX_LOOKS = 20_000
"""Places that are looked at for one program; search paths of hostile files multiply."""
_MAX_PATH = 200
_GLIBC_DIRECTORIES = ("/lib/{triple}", "/usr/lib/{triple}", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
_TRIPLES = {
    "amd64": "x86_64-linux-gnu", "i386": "i386-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf",
    "riscv64": "riscv64-linux-gnu", "ppc64le": "powerpc64le-linux-gnu", "s390x": "s390x-linux-gnu",
    "loong64": "loongarch64-linux-gnu",
}  # fmt: skip
_ELSEWHERE = ("/usr/local/lib", "/usr/local/lib64", "/opt", "/opt/lib", "/usr/lib", "/usr/lib64", "/lib", "/lib64")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingLibrary:
    """A library that is nowhere where the loader looks. ``wrong`` says what is wrong with one that is there."""

    library: str
    needed_by: str
    elsewhere: str = ""
    other_version: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingVersion:
    """A library that is there, without a version of its symbols that is needed; ``newest`` is what it has."""

    library: str
    version: str
    needed_by: str
    newest: str = ""


Missing = MissingLibrary | MissingVersion


@dataclass(slots=True)
class _Object:
    """A loaded file; ``parents`` are the search paths (RPATH) of what loaded it."""

    path: str
    elf: Elf
    inherited: tuple[str, ...] = ()


@dataclass(slots=True)
class Loader:
    """The loader of one program. ``environment`` is the container's."""

    tree: Tree
    environment: Mapping[str, str]
    _cache: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _looks: int = 0

    def missing(self, path: str, elf: Elf) -> Missing | None:
        """The first thing that stops the program ``path`` from being loaded; None when all is there."""
        musl = "ld-musl" in posixpath.basename(elf.interpreter)
        self._cache = {} if musl else self._read_cache()
        loaded: dict[str, _Object] = {posixpath.basename(elf.interpreter): _Object(elf.interpreter, elf)}
        first = _Object(path, elf, self._directories(elf.rpath, path) if not elf.runpath else ())
        waiting, order = deque([first]), [first]
        while waiting and len(loaded) < _MAX_OBJECTS:
            current = waiting.popleft()
            for name in current.elf.needed:
                if name in loaded or (musl and name in ("libc.so", posixpath.basename(elf.interpreter))):
                    continue
                found, wrong = self._find(name, current, musl=musl)
                if self._looks > _MAX_LOOKS:
                    return None  # what was not looked at is not called missing
                if found is None:
                    return self._describe(name, current, wrong)
                loaded[name] = found
                loaded.setdefault(found.elf.soname or name, found)
                waiting.append(found)
                order.append(found)
        return None if musl else self._versions(order, loaded)

    def _versions(self, order: list[_Object], loaded: Mapping[str, _Object]) -> MissingVersion | None:
        for user in order:
            for library, versions in user.elf.needs:
                provider = loaded.get(library)
                if provider is None or not provider.elf.defines:
                    continue
                lacking = [version for version in versions if version not in provider.elf.defines]
                if lacking:
                    wanted = max(lacking, key=_version_key)
                    family = wanted.rpartition("_")[0]
                    have = [one for one in provider.elf.defines if one.rpartition("_")[0] == family]
                    have = [one for one in have if one.rpartition("_")[2][:1].isdigit()]
                    return MissingVersion(
                        library=library,
                        version=wanted,
                        needed_by=user.path,
                        newest=max(have, key=_version_key, default=""),
                    )
        return None

    def _find(self, name: str, user: _Object, *, musl: bool) -> tuple[_Object | None, str]:
        """The object that the loader would take; else why the last candidate was not taken."""
        if "/" in name:
            candidates: Iterator[str] = iter([name])
        else:
            candidates = (posixpath.join(directory, name) for directory in self._search(user, name, musl=musl))
        wrong = ""
        for candidate in candidates:
            self._looks += 1
            if self._looks > _MAX_LOOKS:
                break
            if not self.tree.look(candidate).is_file:
                continue
            try:
                with self.tree.open(candidate) as fd:
                    elf = read_elf(fd)
            except (ElfError, OSError) as error:
                wrong = f"{candidate} is damaged: {error}"
                continue
            if (elf.bits, elf.machine) != (user.elf.bits, user.elf.machine):
                wrong = f"{candidate} is for {elf.architecture}"
                continue
            rpath = () if elf.runpath else self._directories(elf.rpath, candidate)
            return _Object(candidate, elf, (*rpath, *user.inherited)[:_MAX_PATH]), ""
        return None, wrong

    def _search(self, user: _Object, name: str, *, musl: bool) -> Iterator[str]:
        """The directories in the loader's order; the cache's answer stands for the directory that it is in."""
        if not user.elf.runpath:
            yield from user.inherited
        yield from (item for item in self.environment.get("LD_LIBRARY_PATH", "").split(":") if item)
        if musl and not user.elf.runpath:
            yield from self._directories(user.elf.rpath, user.path)
        yield from self._directories(user.elf.runpath, user.path)
        if musl:
            yield from self._musl_path(user.elf)
            return
        for path in self._cache.get(name, ()):
            yield posixpath.dirname(path)
        triple = _TRIPLES.get(user.elf.architecture, "")
        yield from (item.format(triple=triple) for item in _GLIBC_DIRECTORIES if triple or "{" not in item)

    def _musl_path(self, elf: Elf) -> list[str]:
        name = posixpath.basename(elf.interpreter).removeprefix("ld-musl-").partition(".")[0]
        try:
            text = self.tree.read(f"/etc/ld-musl-{name}.path", 4096).decode(errors="replace")
        except OSError:
            return ["/lib", "/usr/local/lib", "/usr/lib"]
        return [item for item in re.split(r"[:\n]", text) if item]

    def _directories(self, text: str, path: str) -> tuple[str, ...]:
        """An RPATH or RUNPATH with its tokens replaced."""
        origin = posixpath.dirname(self.tree.look(path).path)
        words = [item for item in text.split(":", _MAX_PATH)[:_MAX_PATH] if item]
        return tuple(
            re.sub(r"\$(ORIGIN|\{ORIGIN\})", lambda _: origin, word).replace("$LIB", "lib64").replace("${LIB}", "lib64")
            for word in words
        )

    def _read_cache(self) -> dict[str, tuple[str, ...]]:
        try:
            return read_cache(self.tree.read("/etc/ld.so.cache", MAX_SIZE))
        except OSError:
            return {}

    def _describe(self, name: str, user: _Object, wrong: str) -> MissingLibrary:
        stem = name.partition(".so")[0] + ".so"
        triple = _TRIPLES.get(user.elf.architecture, "")
        near = posixpath.dirname(user.path)
        places = (near, posixpath.join(posixpath.dirname(near), "lib"), *_ELSEWHERE)
        places = (*places, *((f"/lib/{triple}", f"/usr/lib/{triple}") if triple else ()))
        elsewhere = other = ""
        for place in dict.fromkeys(places):
            if not elsewhere and self.tree.look(posixpath.join(place, name)).outcome is Outcome.FOUND:
                elsewhere = posixpath.join(place, name)
            if not other:
                matches = (item for item in self.tree.names(place) if item.startswith(stem) and item != name)
                other = next((posixpath.join(place, item) for item in sorted(matches)), "")
        return MissingLibrary(
            library=name,
            needed_by=user.path,
            wrong=wrong,
            elsewhere="" if wrong else elsewhere,
            other_version=other,
        )


def _version_key(version: str) -> tuple[int, ...]:
    numbers = version.rpartition("_")[2].split(".")
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)
