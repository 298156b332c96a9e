"""Carry bytes between this process's standard streams and an attached process."""

from __future__ import annotations

import asyncio
import sys

from tare.cli.terminal import read_stdin, write_out
from tare.client.streams import Attached
from tare.model.detach_keys import DetachFilter, parse_detach_keys


async def relay(attached: Attached, *, tty: bool, stdin: bool, detach_keys: str | None) -> None:
    """Until the process's output ends; None for ``detach_keys`` looks for none, an empty text for the default.

    Raises Detached when they are typed.
    """
    output = asyncio.create_task(_output(attached, tty=tty))
    tasks = {output}
    if stdin:
        tasks.add(asyncio.create_task(_input(attached, keys=detach_keys)))
    try:
        while not output.done():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*tasks, output):
            task.cancel()
        await asyncio.gather(*tasks, output, return_exceptions=True)


async def _output(attached: Attached, *, tty: bool) -> None:
    async for stream, data in attached.output(tty=tty):
        write_out(stream, data)


async def _input(attached: Attached, *, keys: str | None) -> None:
    typed = DetachFilter(parse_detach_keys(keys)) if keys is not None and sys.stdin.isatty() else None
    try:
        async for data in read_stdin():
            await attached.write(typed.feed(data) if typed else data)
        attached.close_stdin()
    except ConnectionError:
        return  # the process has ended; its output says how
