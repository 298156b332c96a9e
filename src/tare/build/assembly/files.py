"""The files that a declarative file is read together with: its Dockerfile and its lock file."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from tare.archive.confined import open_file_in_root
from tare.build.assembly.names import DOCUMENT_MISSING
from tare.build.dockerfile.stages import Dockerfile
from tare.errors import InvalidArgument, NotFound

_MAX_FILE = 4 << 20  # bytes; what is longer is neither of the files that are read here


def inside(name: str) -> str:
    """A path in a context without what leads out of it: ``../x`` is ``x`` there."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def stage_names(dockerfile: Dockerfile) -> dict[str, str]:
    """The stages by name (lower case) and number."""
    named = {stage.name: stage.name for stage in dockerfile.stages if stage.name}
    return named | {str(stage.index): str(stage.index) for stage in dockerfile.stages}


def read_file(directory: Path | None, name: str, context: str) -> str:
    """A text file of a context; symbolic links cannot lead out of it. Raises NotFound, InvalidArgument."""
    where = f"the build context {context}" if context else "the build context"
    if directory is None:
        raise NotFound(f"{name}: this build has no context", hint="give a directory", code=DOCUMENT_MISSING)
    try:
        with os.fdopen(open_file_in_root(directory, name), "rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "paths are relative to the build context"
        raise NotFound(f"{name}: not found in {where}", hint=hint, code=DOCUMENT_MISSING) from error
    except OSError as error:
        raise InvalidArgument(f"{name} in {where}: {error.strerror}") from error
    if len(data) > _MAX_FILE:
        raise InvalidArgument(f"{name} in {where}: larger than {_MAX_FILE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name} in {where}: not UTF-8 text: {error}") from error
