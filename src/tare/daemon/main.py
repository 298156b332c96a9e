"""``tared``: the engine as a process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from tare.errors import InvalidArgument, TareError

logger = logging.getLogger("tare.daemon")

SOCKET_MODE = 0o660
SOCKET_PATH_LIMIT = 107  # bytes, unix(7)
BACKLOG = 512


def main() -> None:
    """Entry point. Exits with 0 after SIGTERM or SIGINT, 1 when the engine cannot start, 2 for wrong options."""
    options = _parse(sys.argv[1:])
    from tare.base.logs import configure

    configure(debug=options.debug)
    if os.geteuid() != 0:
        sys.exit("tared: must run as root (rootless operation is not available in this version)")
    if sys.version_info < (3, 12):  # later ones wait for children by descriptor of themselves, not by a thread each
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        asyncio.run(_serve(options))
    except TareError as error:
        sys.exit(f"tared: {error}")
    except OSError as error:
        sys.exit(f"tared: {error}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tared", description="The Tare container engine.")
    parser.add_argument("--config", type=Path, help="configuration file (default: /etc/tare/tare.toml, if it exists)")
    parser.add_argument("--data-root", help="where images, volumes and containers are kept")
    parser.add_argument("--run-root", help="where sockets, pid files and mounts are kept")
    parser.add_argument("--socket", help="unix socket to listen on")
    parser.add_argument("--runtime", help="OCI runtime to use instead of crun or runc")
    parser.add_argument("--ready-fd", type=int, help="file descriptor to write 'ready' to once the engine listens")
    parser.add_argument("--debug", action="store_true", help="log every step")
    parser.add_argument(
        "--stop-containers",
        action="store_true",
        help="at the end stop all containers and remove bridges and firewall rules (default: leave them working)",
    )
    return parser.parse_args(arguments)


def _overrides(options: argparse.Namespace) -> dict[str, str | None]:
    places = {"data_root": options.data_root, "run_root": options.run_root, "socket": options.socket}
    absolute = {name: str(Path(value).absolute()) if value else None for name, value in places.items()}
    return {**absolute, "runtime": options.runtime or None}


async def _serve(options: argparse.Namespace) -> None:
    from tare.api.app import ApiServer
    from tare.base.atomic import write_atomic
    from tare.daemon.config import load_settings
    from tare.daemon.wiring import build_engine

    settings = await asyncio.to_thread(load_settings, options.config, _overrides(options))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = await build_engine(settings)
    server = ApiServer(engine)
    try:
        await engine.start()
        pid_file = settings.run_directory / "tared.pid"
        await asyncio.to_thread(write_atomic, pid_file, f"{os.getpid()}\n", durable=False)
        listener = await asyncio.to_thread(open_socket, settings.socket_path)
        await server.start([listener])
        logger.info("listening on %s, data in %s", settings.socket_path, settings.data_root)
        if options.ready_fd is not None:
            os.write(options.ready_fd, b"ready\n")
            os.close(options.ready_fd)
        await stop.wait()
        logger.info("stopping")
    finally:
        await server.close()
        await engine.stop(containers_too=options.stop_containers)
        for path in (settings.socket_path, settings.run_directory / "tared.pid"):
            await asyncio.to_thread(path.unlink, missing_ok=True)


def open_socket(path: Path) -> socket.socket:
    """A listening unix socket at ``path``; the caller owns the data root, so a socket there now is a dead engine's.

    Raises InvalidArgument when the path is too long for a socket address (unix(7)).
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise InvalidArgument(f"{path}: longer than {SOCKET_PATH_LIMIT} bytes", hint="choose a shorter --socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


if __name__ == "__main__":
    main()
