"""``registry serve``: offer the engine's images to other clients, and tell who fetches what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import short_id
from tare.cli.template import to_json
from tare.cli.units import human_size
from tare.client.client import Client
from tare.errors import InvalidArgument, Unavailable

_file = click.Path(path_type=Path, dir_okay=False)
_TEXT_LIMIT = 1 << 20  # bytes of a certificate, key or list of users


@click.command("serve", short_help="Offer the engine's images as a registry.")
@click.option("--address", default="127.0.0.1:5000", metavar="ADDRESS:PORT", help="Where to listen; port 0: any.")
@click.option("--tls-cert", "certificate", type=_file, help="Certificate (PEM), with those between it and its CA.")
@click.option("--tls-key", "key", type=_file, help="Key of the certificate (PEM).")
@click.option("--htpasswd", type=_file, help="Users and passwords (htpasswd -B).")
@click.option(
    "--image", "images", multiple=True, metavar="PATTERN", help="Offer only these, as images --filter has it."
)
@click.option("--no-virtual", is_flag=True, help="Assemble no images of tare.local.")
@click.option(
    "--platform", "platforms", multiple=True, help="Assemble for this one; several make an index (the engine's own)."
)
@click.option(
    "--compress", type=click.Choice(["none", "gzip", "zstd"]), default="none", help="How layers are sent (none)."
)
@click.option("--insecure", is_flag=True, help="Allow others to reach it without TLS.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@pass_session
def serve(
    session: Session,
    *,
    address: str,
    certificate: Path | None,
    key: Path | None,
    htpasswd: Path | None,
    images: tuple[str, ...],
    no_virtual: bool,
    platforms: tuple[str, ...],
    compress: str,
    insecure: bool,
    as_json: bool,
) -> None:
    """Offer the engine's images, and those of tare.local, read-only over OCI distribution until Ctrl-C.

    Docker, Podman, skopeo and Kubernetes can pull from it. Each request is printed.
    """
    order = {
        "address": address,
        "certificate": _text(certificate, "--tls-cert"),
        "key": _text(key, "--tls-key"),
        "htpasswd": _text(htpasswd, "--htpasswd"),
        "images": list(images),
        "virtual": not no_virtual,
        "platforms": list(platforms),
        "compression": compress,
        "insecure": insecure,
    }

    async def work(client: Client) -> None:
        async for document in client.serving.serve(order):
            print(to_json(document) if as_json else line_of(document), flush=True)

    try:
        session.run(work)
    except KeyboardInterrupt:
        return  # how it is meant to end
    raise Unavailable("the engine has closed the registry: it is stopping", code="engine-down")


def _text(path: Path | None, option: str) -> str:
    if path is None:
        return ""
    try:
        if path.stat().st_size > _TEXT_LIMIT:
            raise InvalidArgument(f"{option} {path}: more than {_TEXT_LIMIT} bytes")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise InvalidArgument(f"{option} {path}: the file is empty")
    return text


def line_of(document: dict[str, Any]) -> str:
    """One document for people."""
    match document["event"]:
        case "listening":
            layers = "as they are" if document["compression"] == "none" else f"with {document['compression']}"
            users = ", for known users" if document["authentication"] else ""
            return f"Serving on {document['scheme']}://{document['address']}, layers {layers}{users}; Ctrl-C ends it"
        case "lost":
            return f"… {document['requests']} more requests"
        case _:
            return _request_line(document)


def _request_line(visit: dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(visit["time"]))
    who = f"{visit['user']}@{visit['address']}" if visit["user"] else visit["address"]
    what = visit["kind"] if visit["object"] == visit["kind"] else f"{visit['kind']} {visit['object']}".strip()
    if visit["kind"] and "@" in what:
        name, _, digest = what.partition("@")
        what = f"{name}@{short_id(digest)}"
    line = f"{clock} {who} {visit['agent'] or '-'} {visit['method']} {what} {visit['status'] or '-'}"
    if visit["size"]:
        line += f" {human_size(visit['size'])}"
    if visit["kind"] == "manifest" and visit["digest"] and "@" not in what:
        line += f" {short_id(visit['digest'])}"
    line += f" {visit['seconds']:.2f}s"
    return f"{line} ({visit['message']})" if visit["message"] else line
