"""Files that ``build`` writes itself: the image's ID, metadata, and an archive on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tare.errors import InvalidArgument


def check_files(outputs: list[dict[str, Any]], iidfile: str) -> None:
    """Refuse combinations that mean nothing, in BuildKit's words. Raises InvalidArgument."""
    files_only = outputs and all(output["type"] in ("local", "tar") for output in outputs)
    if iidfile and files_only:
        raise InvalidArgument("local and tar exporters are incompatible with image ID file", hint="remove --iidfile")
    if sum(output["destination"] == "-" for output in outputs) > 1:
        raise InvalidArgument("only one output can go to standard output", hint="give the others dest=FILE")
    if any(output["destination"] == "-" for output in outputs) and sys.stdout.isatty():
        raise InvalidArgument("refusing to write an archive to the terminal", hint="redirect it, or add dest=FILE")


@contextmanager
def on_standard_output(outputs: list[dict[str, Any]]) -> Iterator[None]:
    """Have the engine write what is meant for standard output to a private file; pass it on when the build is done."""
    wanted = [output for output in outputs if output["destination"] == "-"]
    if not wanted:
        yield
        return
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tare-build-") as directory:
        file = Path(directory, "output")
        wanted[0]["destination"] = str(file)
        yield
        if file.exists():
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def metadata(result: dict[str, Any]) -> str:
    """The text of ``--metadata-file``: BuildKit's keys."""
    document: dict[str, Any] = {"containerimage.config.digest": result["image_id"]}
    manifest = result.get("manifest")
    if manifest:
        document["containerimage.descriptor"] = manifest
    document["containerimage.digest"] = manifest["digest"] if manifest else result["image_id"]
    if result.get("names"):
        document["image.name"] = ",".join(result["names"])
    return json.dumps(document, indent=2, sort_keys=True)
