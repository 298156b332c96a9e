#!/usr/bin/env python3
"""From Dockerfiles to a running three-tier application: `make demo` runs this."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from demo_parts.application import Application, free_port
from demo_parts.command import CommandError, DemoError
from demo_parts.engine import Engine
from demo_parts.images import DOCKERFILES, build_all, prove_all, weigh_all
from demo_parts.view import View
from rich.console import Console

SOURCES = Path(__file__).resolve().parent
INTERRUPTED = 130
PLAIN_WIDTH = 110


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running and print the address")
    parser.add_argument("--fresh", action="store_true", help="delete the demo's images and cache first")
    parser.add_argument("--quick", action="store_true", help="leave the multi-stage images out, which are not run")
    parser.add_argument("--port", type=int, default=8080, help="where to publish the page if it is free (8080)")
    parser.add_argument("--data-root", type=Path, default=Path("/var/lib/tare-demo"), help="the engine's data")
    parser.add_argument("--run-root", type=Path, default=Path("/run/tare-demo"), help="its sockets and mounts")
    return parser.parse_args(arguments)


def play(engine: Engine, application: Application, view: View, ways: Sequence[str]) -> None:
    """All steps but the last; the caller cleans up."""
    with view.step("0  Start an engine"):
        engine.start()
        application.remove()
    with view.step(f"1  Build each tier: {', '.join(ways)}"):
        build_all(engine.command, view, SOURCES, ways)
    with view.step("2  Weigh the images"):
        weigh_all(engine.command, view, ways)
    with view.step("3  Prove that the distroless images are"):
        prove_all(engine.command, view)
    with view.step("4  Run the distroless three and store a note"):
        application.start()
        application.show_page()
        note = application.post_note()
    with view.step("5  Replace the database container"):
        application.replace_database(note)
    with view.step("6  Run a payment service on a network of its own"):
        application.isolate_payment()


def clean(engine: Engine, application: Application, view: View) -> None:
    """Remove what runs, end the engine, and prove that nothing is left but images and cache."""
    with view.step("7  Clean up"):
        engine.command.resume()
        try:
            application.remove()
        finally:
            engine.stop()
        left = engine.leftovers()
        if left:
            raise DemoError("left on the machine:\n  " + "\n  ".join(left))
        view.say("  no container, network, mount, firewall table, cgroup or process is left")
        view.say(f"  images and build cache stay in {engine.data_root} for the next run (--fresh deletes them)")


def report(view: View, error: Exception, engine: Engine, application: Application) -> None:
    """Say what failed, with the output and the logs that explain it."""
    view.console.print("\n[bold red]The demo failed.[/bold red]", highlight=False)
    view.say(str(error))
    if isinstance(error, CommandError):
        view.say(error.output)
    engine.command.resume()
    if engine.answers():
        view.say(application.logs())
    view.say(f"The engine's log: {engine.log}")


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM like Ctrl-C, so that the clean-up runs."""
    raise KeyboardInterrupt


def run(options: argparse.Namespace, view: View) -> int:
    """Play the demo and clean up, whatever happens; returns the exit status."""
    engine = Engine(options.data_root.resolve(), options.run_root.resolve())
    application = Application(engine.command, view, engine.run_root, free_port(options.port))
    status = 1
    try:
        ways = [way for way in DOCKERFILES if way != "multi-stage" or not options.quick]
        play(engine, application, view, ways)
        status = 0
    except KeyboardInterrupt:
        engine.command.interrupt()
        view.say("\ninterrupted")
        status = INTERRUPTED
    except (DemoError, OSError, RuntimeError) as error:
        report(view, error, engine, application)
    if options.keep and status == 0:
        view.say(f"\nThe page: {application.url}    the engine: {engine.command.prefix}")
        view.say("Run the demo again without --keep to remove everything." if engine.socket.exists() else "")
        return status
    try:
        clean(engine, application, view)
    except (DemoError, OSError) as error:
        view.console.print("\n[bold red]The clean-up failed.[/bold red]", highlight=False)
        view.say(str(error) + (f"\n{error.output}" if isinstance(error, CommandError) else ""))
        status = status or 1
    return status


def main() -> int:
    """Check the surroundings and run."""
    options = parse(sys.argv[1:])
    console = Console()
    view = View(console if console.is_terminal else Console(width=PLAIN_WIDTH))
    if os.geteuid() != 0:
        view.say("demo: containers with networks need root here; run `sudo make demo`")
        return 1
    if options.fresh:
        shutil.rmtree(options.data_root, ignore_errors=True)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        status = run(options, view)
    except DemoError as error:
        view.say(f"demo: {error}")
        return 1
    view.say(f"\n{'Done' if status == 0 else 'Ended with an error'} after {view.seconds:.1f} s.")
    return status


if __name__ == "__main__":
    sys.exit(main())
