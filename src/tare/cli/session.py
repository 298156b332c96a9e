"""What every command has: the engine's address, a loop to run on, and how failures are told."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tare.client.endpoint import Endpoint
from tare.client.failures import is_answer
from tare.errors import Diagnosis, TareError

if TYPE_CHECKING:
    from tare.client.client import Client

T = TypeVar("T")


class Session:
    """One run of the command line."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host

    @property
    def endpoint(self) -> Endpoint:
        """Where the engine listens. Raises InvalidArgument for a host that is none."""
        return Endpoint.find(self.host)

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Run ``work``, one request after the other, with a client to its end.

        Without a loop: importing asyncio would be half of the command line's start-up time.
        """
        from tare.client.client import Client
        from tare.client.transport import drive

        return drive(work(Client(self.host, blocking=True)))

    def run_on_loop(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Run ``work``, which does several things at the same time, with a client to its end."""
        import asyncio

        from tare.client.client import Client

        async def main() -> T:
            async with Client(self.host) as client:
                return await work(client)

        return asyncio.run(main())

    def each(self, names: Iterable[str], act: Callable[[Client, str], Awaitable[str | None]]) -> None:
        """``act`` on each name and print what it returns; failures are told and the exit status is 1 at the end."""

        async def work(client: Client) -> bool:
            failed = False
            for name in dict.fromkeys(names):
                try:
                    said = await act(client, name)
                except TareError as error:
                    if error.code in ("engine-down", "engine-start"):
                        raise
                    tell(error)
                    failed = True
                else:
                    if said is not None:
                        print(said, flush=True)
            return failed

        if self.run(work):
            sys.exit(1)


pass_session = click.make_pass_decorator(Session)


def describe(error: TareError) -> str:
    """A failure as Docker's command line words it."""
    told_apart = error.diagnosis is not None
    hint = f" ({error.hint})" if error.hint and error.hint not in error.message and not told_apart else ""
    return f"Error response from daemon: {error.message}{hint}" if is_answer(error) else f"{error.message}{hint}"


def tell(error: TareError) -> None:
    """Print a failure on standard error."""
    text = describe(error)
    print(text if is_answer(error) else f"tare: {text}", file=sys.stderr, flush=True)
    explain(error.diagnosis)


def explain(diagnosis: Diagnosis | None) -> None:
    """Print why something did not start on standard error, if it is known."""
    if diagnosis is not None:
        print(explanation(diagnosis), file=sys.stderr, flush=True)


def explanation(diagnosis: Diagnosis) -> str:
    """A diagnosis for people, one or two lines."""
    lines = [f"cause: {diagnosis.cause} [{diagnosis.code}]"]
    if diagnosis.fix:
        lines.append(f"fix:   {diagnosis.fix}")
    return "\n".join(lines)
