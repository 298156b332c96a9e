"""``image referrers``: what a registry has that refers to an image."""

from __future__ import annotations

import json
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, write
from tare.cli.units import human_size

_CREATED = "org.opencontainers.image.created"  # image-spec, annotations.md


@click.command("referrers", short_help="List signatures and bills of materials of an image at its registry.")
@click.argument("name")
@click.option("--artifact-type", default="", help="Only those of this kind, such as application/spdx+json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def referrers(session: Session, *, name: str, artifact_type: str, as_json: bool) -> None:
    """List what refers to an image at its registry: signatures, bills of materials, attestations."""
    found = session.run(lambda client: client.registries.referrers(name, artifact_type=artifact_type))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(found["subject"])
    if found["referrers"]:
        rows = [["TYPE", "CREATED", "SIZE", "DIGEST"], *(_row(one) for one in found["referrers"])]
        write(align(rows))


def _row(entry: dict[str, Any]) -> list[str]:
    created = (entry.get("annotations") or {}).get(_CREATED, "-")
    kind = entry.get("artifactType") or entry["mediaType"]
    cells = [kind, created, human_size(entry["size"]), entry["digest"]]
    return ["".join(char for char in cell if char.isprintable()) for cell in cells]  # whoever pushed it wrote them
