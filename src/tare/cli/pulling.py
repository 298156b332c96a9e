"""Pull and push images and show how it goes."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tare.cli.registry_auth import stored_auth
from tare.client.client import Client
from tare.client.progress import Progress
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from tare.cli.transfer_views import TransferView
    from tare.model import Reference


def split_name(name: str, digest_refused: str = "refusing to create a tag with a digest reference") -> tuple[str, str]:
    """Repository and tag (``latest`` when there is none) of a name that an image shall get.

    Raises InvalidArgument, with the words ``digest_refused`` for a digest.
    """
    from tare.model import Reference

    reference = Reference.parse(name)
    if reference.digest is not None:
        raise InvalidArgument(digest_refused, hint="a digest follows from the content; give a tag")
    return _parts(reference)


def read_name(name: str, *, all_tags: bool, quiet: bool) -> Reference:
    """The reference that ``pull`` or ``push`` is given; says which tag is meant where there is none.

    With ``all_tags`` it is a repository. Raises InvalidArgument.
    """
    from tare.model import Reference
    from tare.model.reference import DEFAULT_TAG

    reference = Reference.parse(name, default_tag="")
    bare = not (reference.tag or reference.digest)
    if all_tags and not bare:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    if bare and not all_tags:
        reference = reference.with_tag(DEFAULT_TAG)
        if not quiet:
            print(f"Using default tag: {DEFAULT_TAG}", flush=True)
    return reference


async def pull_image(
    client: Client, name: str, *, platform: str = "", quiet: bool = False, to_stderr: bool = False
) -> None:
    """Pull ``name``, with the tag ``latest`` when it has none. Raises what the engine says when it cannot."""
    from tare.model import Reference

    await pull_reference(client, Reference.parse(name), platform=platform, quiet=quiet, to_stderr=to_stderr)


async def pull_reference(
    client: Client, reference: Reference, *, platform: str = "", quiet: bool = False, to_stderr: bool = False
) -> None:
    """Pull an image, or all of a repository. Raises what the engine says when it cannot."""
    from tare.cli.transfer_views import transfer_view

    repository, tag = _parts(reference)
    messages = client.images.pull(repository, tag, platform=platform, auth=stored_auth(reference))
    await show_transfer(messages, transfer_view(quiet=quiet, to_stderr=to_stderr), f"pull of {reference.familiar()}")


async def push_reference(client: Client, reference: Reference, *, platform: str = "", quiet: bool = False) -> None:
    """Push an image, or all of a repository. Raises InvalidArgument, what the engine says when it cannot."""
    from tare.cli.transfer_views import transfer_view

    repository, tag = _parts(reference)
    if reference.digest:
        raise InvalidArgument("cannot push a digest reference", hint="name a tag", code="transfer")
    if platform and not quiet:
        print(f"Only the manifest of {platform} is pushed, and no index.", file=sys.stderr, flush=True)
    messages = client.images.push(repository, tag, platform=platform, auth=stored_auth(reference))
    await show_transfer(messages, transfer_view(quiet=quiet), f"push of {reference.familiar()}")


async def show_transfer(messages: AsyncGenerator[Progress, None], view: TransferView, what: str) -> None:
    """Show ``messages`` until they end. When the user interrupts it, the engine stops and this is said.

    Raises what the messages' source raises.
    """
    try:
        with view:
            async with aclosing(messages):
                async for progress in messages:
                    view.show(progress)
    except KeyboardInterrupt:
        # Leaving the block has closed the connection: the engine ends what nobody waits for.
        print(f"{what} canceled", file=sys.stderr, flush=True)
        raise


def _parts(reference: Reference) -> tuple[str, str]:
    return reference.familiar_name, str(reference.digest) if reference.digest else reference.tag
