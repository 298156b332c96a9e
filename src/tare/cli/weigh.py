"""``weigh``: what an image weighs, where the bytes are, and what could be saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, shorten
from tare.cli.units import human_size
from tare.client.client import Client

_SHOWN = 12
_WIDTH = 76  # characters of an instruction
_DRAWINGS = (".svg", ".html")


@click.command(short_help="Show what an image weighs, where the bytes are, and what could be saved.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE")
@click.option("--compare", is_flag=True, help="Compare two images: FAT LEAN.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Components of the directories listed (2).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every row.")
@click.option("--top", type=click.IntRange(min=1), default=10, metavar="N", help="Rows of each listing (10).")
@click.option("--treemap", type=click.Path(dir_okay=False, path_type=Path), help="Draw into a .svg or .html file.")
@pass_session
def weigh(
    session: Session,
    images: tuple[str, ...],
    *,
    compare: bool,
    depth: int | None,
    as_json: bool,
    top: int,
    treemap: Path | None,
) -> None:
    """Show the bytes of an image by layer, stage, instruction, package and directory, and what could be saved."""
    if compare and len(images) != 2:
        raise click.UsageError(f"--compare takes two images, the fat one and the lean one, not {len(images)}")
    if not compare and len(images) != 1:
        raise click.UsageError(f"one image is weighed at a time, not {len(images)}; see --compare")
    if treemap is not None and (compare or treemap.suffix not in _DRAWINGS):
        raise click.UsageError("--treemap draws one image into a file that ends with .svg or .html")

    async def work(client: Client) -> list[dict[str, Any]]:
        return [await client.images.weigh(name, depth=depth) for name in images]

    found = session.run(work)
    if treemap is not None:
        from tare.cli.treemap import draw_html, draw_svg

        draw = draw_svg if treemap.suffix == ".svg" else draw_html
        try:
            treemap.write_text(draw(found[0]), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"--treemap {treemap}: {error.strerror}") from error
    if compare:
        from tare.cli.weigh_comparison import compare_weights, comparison_lines

        if as_json:
            print(json.dumps(compare_weights(*found), indent=2))
        else:
            print("\n".join(comparison_lines(*found, names=images, top=top)))
    elif as_json:
        print(json.dumps(found[0], indent=2))
    else:
        print("\n".join(weight_lines(found[0], top=top)))


def weight_lines(found: dict[str, Any], *, top: int) -> list[str]:
    """The weighing for people; ``top`` is how many rows of each listing are shown."""
    rows = (
        ("image", found["id"]),
        ("names", ", ".join(found["tags"]) or "<none>"),
        ("size", f"{human_size(found['size'])}: {human_size(found['shipped'])} in files, the rest are tar headers"),
        ("transfer size", f"{human_size(found['compressed'])} (gzip)"),
        ("layers", found["layers"]),
        ("visible", human_size(found["visible"])),
        ("files", found["files"]),
        ("directories", found["directories"]),
        ("written twice", human_size(found["replaced"])),
        ("deleted later", human_size(found["deleted"])),
        ("duplicates", human_size(found["duplicates"])),
        ("packages", found["packages"]),
        ("shells", _listed(found["shells"])),
        ("package managers", _listed(found["package_managers"])),
        ("setuid/setgid files", _listed(found["setuid"])),
    )
    lines = [f"{name + ':':<21}{value}" for name, value in rows]
    by = found["by"]
    lines += _table(
        ["LAYER", "BYTES", "UNSEEN", "STAGE", "INSTRUCTION"],
        ([str(row["layer"]), *_sizes(row), row["stage"] or "-", _instruction(row)] for row in by["layer"]),
        len(by["layer"]),
    )
    if len(by["stage"]) > 1:
        lines += _table(
            ["STAGE", "BYTES", "UNSEEN", "LEFT BEHIND"],
            ([row["stage"], *_sizes(row), human_size(row["left"]) if row["left"] else "-"] for row in by["stage"]),
            top,
        )
    lines += _table(
        ["PACKAGE", "BYTES", "UNSEEN", "FILES", "VERSION"],
        ([row["package"], *_sizes(row), str(row["files"]), _version(row)] for row in by["package"]),
        top,
    )
    lines += _table(
        ["DIRECTORY", "BYTES", "UNSEEN", "FILES"],
        ([row["path"], *_sizes(row), str(row["files"])] for row in by["directory"]),
        top,
    )
    lines += _table(
        ["LARGEST FILES", "BYTES", "UNSEEN", "LAYER"],
        ([row["path"], *_sizes(row), str(row["layer"])] for row in found["largest"]),
        top,
    )
    return lines + suggestion_lines(found["suggestions"], top=top)


def suggestion_lines(suggestions: Sequence[dict[str, Any]], *, top: int) -> list[str]:
    """What could be saved, with examples."""
    if not suggestions:
        return ["", "nothing to save was found"]
    lines = ["", f"{human_size(sum(one['bytes'] for one in suggestions))} could be saved:"]
    for one in suggestions[:top]:
        lines.append(f"{human_size(one['bytes']):>8}  {one['what']} [{one['code']}]")
        lines.append(f"{'':8}  {_example(one)}")
        lines.append(f"{'':8}  fix: {one['fix']}")
    return lines + _more(len(suggestions), top)


def _example(one: dict[str, Any]) -> str:
    return f"{one['files']} file{'s' if one['files'] != 1 else ''}, such as {one['paths'][0]}"


def _sizes(row: dict[str, Any]) -> tuple[str, str]:
    return human_size(row["bytes"]), human_size(row["hidden"]) if row["hidden"] else "-"


def _version(row: dict[str, Any]) -> str:
    return row["version"] if row["kind"] in ("", "deb") else f"{row['version']} ({row['kind']})"


def _instruction(row: dict[str, Any]) -> str:
    place = f"{row['file']}:{row['line']} " if row["line"] else ""
    return place + shorten(" ".join(row["instruction"].split()), _WIDTH)


def _table(titles: list[str], rows: Iterable[list[str]], top: int) -> list[str]:
    cells = list(rows)
    if not cells:
        return []
    lines = align([titles, *cells[:top]], min_width=6).splitlines()
    return ["", *(line.rstrip() for line in lines), *_more(len(cells), top)]


def _more(count: int, top: int) -> list[str]:
    return [f"… and {count - top} more (--top, --json)"] if count > top else []


def _listed(paths: list[str]) -> str:
    if not paths:
        return "none"
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)}: {', '.join(paths[:_SHOWN])}{more}"
