"""``tare-dns``: the name server of one engine. It outlives the engine, so that names resolve while that restarts."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path

BUSY_STATUS = 75  # EX_TEMPFAIL: another tare-dns serves this socket
PROTOCOL = 3
"""The number of the control messages' form. An engine replaces a server of another number that it finds running."""


def main() -> None:
    """Serve ``--socket``; without ``--foreground`` return (status 0) as soon as it accepts connections."""
    parser = argparse.ArgumentParser(prog="tare-dns", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="control socket of the engine")
    parser.add_argument("--resolv-conf", type=Path, default=Path("/etc/resolv.conf"))
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="end after this long without any use")
    parser.add_argument("--foreground", action="store_true")
    arguments = parser.parse_args()
    lock = os.open(f"{arguments.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(BUSY_STATUS)
    control = _bind(arguments.socket)
    if not arguments.foreground:
        _detach()
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    try:
        asyncio.run(_serve(control, arguments.resolv_conf, arguments.idle_seconds))
    finally:
        arguments.socket.unlink(missing_ok=True)


async def _serve(control: socket.socket, resolv_conf: Path, idle_seconds: float) -> None:
    from tare.network.dns.forward import Forwarder
    from tare.network.dns.responder import Responder
    from tare.network.dns.server import Server
    from tare.network.dns.zone import Zone

    zone = Zone()
    server = Server(control, zone, Responder(zone, Forwarder(resolv_conf, clock=time.monotonic)), idle_seconds)
    gc.collect()
    gc.freeze()  # what is loaded now lives as long as the process
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await server.run()
    except asyncio.CancelledError:
        return


def _bind(path: Path) -> socket.socket:
    """The listening control socket; the lock is held, so a socket file that is there belongs to nobody."""
    path.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    control.bind(os.fspath(path))
    path.chmod(0o600)
    control.listen(8)
    return control


def _detach() -> None:
    """Go on in a child with a session of its own; the parent ends, which tells its starter that all is ready."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


if __name__ == "__main__":
    main()
