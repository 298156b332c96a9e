"""``why``: why containers did not start, or ended at once."""

from __future__ import annotations

import sys

import click

from tare.cli.session import Session, explanation, pass_session
from tare.client.client import Client
from tare.client.failures import diagnosis_of

_NOT_KNOWN = "nothing is known beyond that; its last words may say more: tare logs --tail 20 {name}"


@click.command(short_help="Say why containers did not start, or ended at once.")
@click.argument("containers", nargs=-1, required=True)
@pass_session
def why(session: Session, containers: tuple[str, ...]) -> None:
    """Say why containers did not start, or ended at once."""

    async def act(client: Client, name: str) -> str:
        state = (await client.containers.inspect(name))["State"]
        lines = [f"{name}: {_summary(state)}"]
        diagnosis = diagnosis_of(state.get("Diagnosis"))
        if diagnosis is not None:
            lines.append(explanation(diagnosis))
        elif state["ExitCode"] and not state["Running"]:
            lines.append(_NOT_KNOWN.format(name=name))
        return "\n".join(lines)

    session.each(containers, act)
    sys.stdout.flush()


def _summary(state: dict[str, object]) -> str:
    if state["Error"]:
        return f"did not start: {state['Error']}"
    if state["Running"]:
        return f"is {state['Status']}"
    if state["Status"] == "created":
        return "was never started"
    return f"ended with exit code {state['ExitCode']} at {state['FinishedAt']}"
