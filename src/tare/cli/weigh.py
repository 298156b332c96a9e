"""``weigh``: what an image weighs and what it carries."""

from __future__ import annotations

import json

import click

from tare.cli.session import Session, pass_session
from tare.cli.units import human_size

_SHOWN = 12


@click.command(short_help="Show what an image weighs and what it carries.")
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def weigh(session: Session, image: str, as_json: bool) -> None:
    """Show the bytes of an image and what it carries that an application does not need."""
    found = session.run(lambda client: client.images.weigh(image))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    rows = (
        ("image", found["id"]),
        ("names", ", ".join(found["tags"]) or "<none>"),
        ("size", human_size(found["size"])),
        ("transfer size", f"{human_size(found['compressed'])} (gzip)"),
        ("layers", found["layers"]),
        ("files", found["files"]),
        ("directories", found["directories"]),
        ("shells", _listed(found["shells"])),
        ("package managers", _listed(found["package_managers"])),
        ("setuid/setgid files", _listed(found["setuid"])),
    )
    for name, value in rows:
        print(f"{name + ':':<21}{value}")


def _listed(paths: list[str]) -> str:
    if not paths:
        return "none"
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)}: {', '.join(paths[:_SHOWN])}{more}"
