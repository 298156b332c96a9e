"""What is known of the process that did not start."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tare.diagnosis.tree import Tree

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A process's surroundings. ``architecture`` is the host's, ``image_architecture`` what the image is for."""

    tree: Tree
    environment: Mapping[str, str]
    cwd: str = "/"
    architecture: str = "amd64"
    image_architecture: str = ""

    def path(self) -> list[str]:
        """The directories of PATH."""
        text = self.environment.get("PATH", DEFAULT_PATH)
        return [self.absolute(item or ".") for item in text.split(":")]

    def absolute(self, path: str) -> str:
        """``path`` as seen from the working directory."""
        return path if path.startswith("/") else posixpath.join(self.cwd or "/", path)

    def programs(self) -> Iterator[str]:
        """The names of all that is in PATH."""
        for directory in dict.fromkeys(self.path()):
            yield from self.tree.names(directory)

    def which(self, name: str) -> str:
        """Where a program is; empty when it is nowhere in PATH."""
        for directory in self.path():
            place = posixpath.join(directory, name)
            look = self.tree.look(place)
            if look.is_file and look.info is not None and look.info.st_mode & 0o111:
                return place
        return ""

    def somewhere(self, name: str) -> str:
        """Where a program is, also outside PATH."""
        if found := self.which(name):
            return found
        for directory in (*DEFAULT_PATH.split(":"), "/opt/bin", f"/opt/{name}/bin", f"/usr/local/{name}/bin", "/app"):
            place = posixpath.join(directory, name)
            if self.tree.look(place).is_file:
                return place
        return ""
