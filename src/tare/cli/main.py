"""``tare``: the command line.

Modules of commands are imported when a command is used: ``tare version`` must not wait for what only ``tare build``
needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

import click

from tare import __version__
from tare.cli.lazy import LazyGroup
from tare.cli.session import Session, tell
from tare.errors import TareError

USAGE_ERROR = 125
INTERRUPTED = 130

_CONTAINER: Mapping[str, str] = {
    "attach": "run:attach",
    "audit": "audit:audit_container",
    "commit": "changes:commit",
    "cp": "copying:copy_files",
    "create": "run:create",
    "diff": "changes:diff",
    "exec": "execs:exec_command",
    "export": "changes:export",
    "inspect": "inspection:inspect_container",
    "kill": "lifecycle:kill",
    "logs": "logs:logs",
    "ls": "listing:ps",
    "pause": "lifecycle:pause",
    "port": "listing:port",
    "prune": "prune:prune_containers",
    "rename": "lifecycle:rename",
    "restart": "lifecycle:restart",
    "rm": "lifecycle:remove",
    "run": "run:run",
    "start": "run:start",
    "stats": "usage:stats",
    "stop": "lifecycle:stop",
    "top": "listing:top",
    "unpause": "lifecycle:unpause",
    "unpersisted": "unpersisted:unpersisted",
    "update": "updating:update",
    "wait": "lifecycle:wait",
    "why": "why:why",
}
_BUILDER: Mapping[str, str] = {
    "build": "build:build",
    "du": "builder:disk_usage",
    "prune": "builder:prune",
}
_IMAGE: Mapping[str, str] = {
    "audit": "audit:audit_image",
    "build": "build:build",
    "diff": "image_diff:image_diff",
    "history": "images:history",
    "import": "images:import_image",
    "inspect": "inspection:inspect_image",
    "load": "image_archives:load",
    "ls": "images:images",
    "prune": "prune:prune_images",
    "pull": "images:pull",
    "push": "images:push",
    "referrers": "referrers:referrers",
    "rm": "images:remove",
    "save": "image_archives:save",
    "sbom": "sbom:sbom",
    "tag": "images:tag",
    "tree": "image_tree:image_tree",
    "weigh": "weigh:weigh",
}
_NETWORK: Mapping[str, str] = {
    "connect": "networks:connect",
    "create": "networks:create",
    "disconnect": "networks:disconnect",
    "explain": "network_explain:explain",
    "graph": "network_graph:graph",
    "inspect": "inspection:inspect_network",
    "ls": "networks:list_networks",
    "prune": "prune:prune_networks",
    "rm": "networks:remove",
    "verify": "network_verify:verify",
}
_VOLUME: Mapping[str, str] = {
    "backup": "volume_backups:backup",
    "clone": "volume_copies:clone",
    "cp": "copying:copy_volume_files",
    "create": "volumes:create",
    "inspect": "volumes:inspect",
    "ls": "volumes:list_volumes",
    "protect": "volume_copies:protect",
    "prune": "prune:prune_volumes",
    "restore": "volume_copies:restore",
    "rm": "volumes:remove",
    "snapshot": "volume_copies:snapshot",
    "unprotect": "volume_copies:unprotect",
}
_REGISTRY: Mapping[str, str] = {
    "serve": "registry_serve:serve",
}
_SYSTEM: Mapping[str, str] = {
    "df": "space:disk_usage",
    "events": "system:events",
    "info": "system:info",
    "prune": "prune:prune_system",
}
_TOP: Mapping[str, str] = {
    **{name: place for name, place in _CONTAINER.items() if name not in ("audit", "inspect", "ls", "prune")},
    "audit": "audit:audit",
    "build": "build:build",
    "catalogue": "catalogue:catalogue",
    "debug": "debug:debug",
    "doctor": "doctor:doctor",
    "events": "system:events",
    "exposure": "exposure:exposure",
    "fsck": "fsck:fsck",
    "history": "images:history",
    "images": "images:images",
    "import": "images:import_image",
    "info": "system:info",
    "inspect": "inspection:inspect",
    "load": "image_archives:load",
    "login": "login:login",
    "logout": "login:logout",
    "ps": "listing:ps",
    "pull": "images:pull",
    "push": "images:push",
    "rmi": "images:remove",
    "save": "image_archives:save",
    "sbom": "sbom:sbom",
    "tag": "images:tag",
    "version": "system:version",
    "weigh": "weigh:weigh",
}


@click.group(
    cls=LazyGroup,
    places=_TOP,
    help="A container engine: small images, fast starts, durable data, proven isolation.",
    context_settings={"help_option_names": ["--help"], "max_content_width": 100},
)
@click.option("-H", "--host", metavar="HOST", help="Engine to talk to: unix:///path or tcp://address:port (TARE_HOST).")
@click.option("--config", metavar="DIRECTORY", help="Where credentials and preferences are (DOCKER_CONFIG, ~/.docker).")
@click.version_option(__version__, "-v", "--version", message="Tare version %(version)s")
@click.pass_context
def cli(ctx: click.Context, host: str | None, config: str | None) -> None:
    """The top of all commands."""
    if config:
        os.environ["DOCKER_CONFIG"] = config  # credential helpers and SSH commands are told, too
    ctx.obj = Session(host)


for _name, _places, _text in (
    ("container", _CONTAINER, "Manage containers."),
    ("builder", _BUILDER, "Manage builds and what they keep."),
    ("image", _IMAGE, "Manage images."),
    ("network", _NETWORK, "Manage networks."),
    ("volume", _VOLUME, "Manage volumes."),
    ("registry", _REGISTRY, "Offer images to other clients."),
    ("system", _SYSTEM, "Manage the engine."),
):
    cli.add_command(LazyGroup(_name, places=_places, help=_text))


def main() -> NoReturn:
    """Entry point: run the command and end the process."""
    _leave(run())


def run() -> int:
    """Run the command; exit statuses are Docker's: 125 for wrong options, 1 for failures, else the command's own."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.Abort:
        status = INTERRUPTED
    except click.ClickException as error:
        status = _usage(error)
    except TareError as error:
        tell(error)
        status = 1
    except BrokenPipeError:
        # The reader has gone; closing standard output again would only repeat the complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    return status if isinstance(status, int) else 0


def _leave(status: int) -> NoReturn:
    """End at once: taking the interpreter down takes as long as a cached build does, and nothing is left to do."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):
        status = status or 1  # who reads has gone, or the stream is closed
    os._exit(status)


def _usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "tare"
    message = error.format_message()
    print(f"tare: {message[:1].lower()}{message[1:].rstrip('.')}", file=sys.stderr)
    print(f"\nRun '{path} --help' for more information", file=sys.stderr)
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
        return 1
    return 1 if error.exit_code == 1 else USAGE_ERROR


if __name__ == "__main__":
    main()
