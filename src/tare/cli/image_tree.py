"""``image tree``: images and the layers that they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, short_id, shorten
from tare.cli.units import human_size

_WIDTH = 60  # characters of an instruction


@click.command("tree", short_help="Show images and the layers that they share.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--layers", "with_layers", is_flag=True, help="Show each layer with the instruction that wrote it.")
@pass_session
def image_tree(session: Session, *, as_json: bool, with_layers: bool) -> None:
    """Show images on the layers that they share, and the bytes that each shares and has for itself."""
    found = session.run(lambda client: client.images.tree())
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(tree_lines(found, with_layers=with_layers)))


def tree_lines(found: dict[str, Any], *, with_layers: bool) -> list[str]:
    """The tree for people: a line for each branch of layers, then a table of images, then the sums."""
    images = {image["id"]: image for image in found["images"]}
    branches: list[dict[str, Any]] = found["branches"]
    children: dict[int | None, list[int]] = {}
    for number, branch in enumerate(branches):
        children.setdefault(branch["parent"], []).append(number)
    lines = []
    for number, line, below in _walk(children):
        branch = branches[number]
        names = ", ".join(_name(images[identifier]) for identifier in branch["ends"])
        lines.append(f"{line}{_heading(branch)}{'  ' + names if names else ''}")
        if with_layers:
            rail = "│ " if children.get(number) else "  "
            lines += [f"{below}{rail}{_layer(layer, branch['images'])}" for layer in branch["layers"]]
    for image in found["images"]:
        if image["branch"] is None:
            lines.append(f"0B, no layers  {_name(image)}")
    rows = [
        [_name(image), short_id(image["id"]), *(human_size(image[key]) for key in ("size", "shared", "own"))]
        for image in found["images"]
    ]
    table = align([["IMAGE", "IMAGE ID", "SIZE", "SHARED", "OWN"], *rows], min_width=6).splitlines()
    count = len(images)
    total = (
        f"{count} image{'s' if count != 1 else ''} of {human_size(found['size'])} in {human_size(found['stored'])} of "
        f"layers, {human_size(found['shared'])} of them shared"
    )
    return [*lines, *([""] if lines else []), *(line.rstrip() for line in table), "", total]


def _walk(children: dict[int | None, list[int]]) -> Iterator[tuple[int, str, str]]:
    """Branches from the bottom: number, what is drawn before it, and before lines below it."""
    pending = [(number, "", "") for number in reversed(children.get(None, []))]
    while pending:
        number, line, below = pending.pop()
        yield number, line, below
        own = children.get(number, [])
        last = len(own) - 1
        pending.extend(
            (child, below + ("└─ " if index == last else "├─ "), below + ("   " if index == last else "│  "))
            for index, child in reversed(list(enumerate(own)))
        )


def _heading(branch: dict[str, Any]) -> str:
    count = len(branch["layers"])
    return f"{human_size(branch['size'])} in {count} layer{'s' if count != 1 else ''}"


def _layer(layer: dict[str, Any], here: int) -> str:
    """``here`` is how many images have it at this place."""
    elsewhere = layer["images"] - here
    also = f"  (also in {elsewhere} image{'s' if elsewhere != 1 else ''} on other layers)" if elsewhere > 0 else ""
    step = shorten(" ".join(layer["instruction"].split()), _WIDTH)
    return f"{human_size(layer['size']):>7}  {short_id(layer['diff_id'])}  {step}{also}".rstrip()


def _name(image: dict[str, Any]) -> str:
    return ", ".join(image["tags"]) or f"<none> {short_id(image['id'])}"
