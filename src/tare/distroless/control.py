"""Debian control files (deb-control(5), deb822(5)): paragraphs of ``Name: value`` lines."""

from __future__ import annotations

from tare.errors import DataCorrupt


def parse_paragraphs(text: str, *, what: str = "control file") -> list[dict[str, str]]:
    """Paragraphs with their fields as written; continuation lines keep their leading space after a newline.

    Raises DataCorrupt naming ``what`` and the line.
    """
    paragraphs: list[dict[str, str]] = []
    current: dict[str, str] = {}
    name = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            if current:
                paragraphs.append(current)
            current, name = {}, ""
        elif line[0] in " \t":
            if not name:
                raise DataCorrupt(f"{what}: line {number} continues nothing")
            current[name] += "\n" + line
        else:
            name, colon, value = line.partition(":")
            if not colon or not name or " " in name:
                raise DataCorrupt(f"{what}: line {number} is no field: {line[:80]!r}")
            current[name] = value.strip()
    if current:
        paragraphs.append(current)
    return paragraphs


def render_paragraph(fields: dict[str, str]) -> str:
    """The text of one paragraph, with a final newline."""
    return "".join(
        f"{name}:{value}\n" if value.startswith("\n") else f"{name}: {value}\n" for name, value in fields.items()
    )
