"""Command groups that load a command's module when the command is used, and suggest what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

_OTHER_NAMES = {"list": "ls", "remove": "rm"}
"""What some commands of objects are called as well, in Docker, too; listings leave them out."""


class UnknownCommand(click.UsageError):
    """A command that is not there; the exit status is 1 as in Docker."""

    exit_code = 1


class LazyGroup(click.Group):
    """A group whose commands are ``name -> "module:attribute"`` (modules below ``tare.cli``)."""

    def __init__(self, *args: Any, places: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = dict(places or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*self._places, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the command."""
        place = self._places.get(cmd_name)
        if place is None and "ls" in self._places:
            place = self._places.get(_OTHER_NAMES.get(cmd_name, ""))
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(f"tare.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UnknownCommand(self._unknown(ctx, args[0]), ctx)
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self.list_commands(ctx), n=3, cutoff=0.5)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        return f"unknown command: {ctx.command_path} {name}{meant}"
