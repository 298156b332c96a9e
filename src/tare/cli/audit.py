"""``audit``: what should not be in an image or container; for people, as JSON, as SARIF."""

from __future__ import annotations

import datetime
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tare.cli.session import Session, pass_session, tell
from tare.cli.tables import align
from tare.client.client import Client
from tare.errors import InvalidArgument, NotFound, TareError

FOUND, NOT_AUDITED = 1, 2
"""Exit statuses: something counts as a failure; the audit could not be made."""

SEVERITIES = ("info", "low", "medium", "high", "critical")
_SHOWN = 10  # paths of one rule, unless all are asked for
_MAX_POLICY = 1 << 20

_options = (
    click.option("--distroless", is_flag=True, help="Only prove: no shell, no package manager, nothing but the app."),
    click.option("--program", "programs", multiple=True, metavar="PATH", help="Counts as an entrypoint, too."),
    click.option("--policy", "policy_file", default="", metavar="FILE", help="TOML file with exceptions and rules."),
    click.option(
        "--fail-on",
        type=click.Choice(SEVERITIES),
        default=None,
        help="From which severity on the exit status is 1 (default: medium).",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF 2.1.0."),
    click.option("-a", "--all", "everything", is_flag=True, help="Show all paths, and findings that a policy ignores."),
)


def _with_options(command: Any) -> Any:
    for option in reversed(_options):
        command = option(command)
    return command


@click.command("audit", short_help="Find what should not be in an image or container.")
@click.argument("name", required=False, default="")
@click.option("--type", "kind", type=click.Choice(["container", "image"]), default=None, help="Kind of object.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules.")
@_with_options
@pass_session
def audit(session: Session, /, name: str, kind: str | None, list_rules: bool, **given: Any) -> None:
    """Find shells, secrets, special permissions and the like in an image or a container.

    The exit status is 0 when nothing of the severity of --fail-on was found and a proof that was asked for holds,
    else 1, and 2 when the audit could not be made.
    """
    if list_rules:
        rules = session.run(lambda client: client.audits.rules())
        print(
            align([["RULE", "SEVERITY", "WHAT"], *([one["Id"], one["Severity"], one["Title"]] for one in rules)]),
            end="",
        )
        return
    _audit(session, name, kind, given)


@click.command("audit", short_help="Find what should not be in an image.")
@click.argument("name", required=False, default="")
@_with_options
@pass_session
def audit_image(session: Session, /, name: str, **given: Any) -> None:
    """Find shells, secrets, special permissions and the like in an image; see tare audit."""
    _audit(session, name, "image", given)


@click.command("audit", short_help="Find what should not be in a container.")
@click.argument("name", required=False, default="")
@_with_options
@pass_session
def audit_container(session: Session, /, name: str, **given: Any) -> None:
    """Find what a container has that it should not have; see tare audit."""
    _audit(session, name, "container", given)


def _audit(session: Session, name: str, kind: str | None, given: dict[str, Any]) -> None:
    try:
        if not name:
            raise InvalidArgument("tare audit needs an image or a container", hint="tare audit NAME")
        if given["as_json"] and given["as_sarif"]:
            raise InvalidArgument("conflicting options: --json and --sarif", hint="give one of them")
        asked: dict[str, Any] = {
            "distroless": given["distroless"],
            "programs": given["programs"],
            "fail_on": given["fail_on"] or "",
            "policy": read_policy_file(given["policy_file"]) if given["policy_file"] else None,
        }
        found = session.run(lambda client: _ask(client, name, kind, asked))
    except TareError as error:
        tell(error)
        sys.exit(NOT_AUDITED)
    if given["as_json"]:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif given["as_sarif"]:
        from tare.cli.audit_sarif import to_sarif

        print(json.dumps(to_sarif(found), indent=2, ensure_ascii=False))
    else:
        print("\n".join(lines_of(found, everything=given["everything"])))
    sys.stdout.flush()
    if not found["Passed"]:
        sys.exit(FOUND)


async def _ask(client: Client, name: str, kind: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    if kind == "image":
        return await client.audits.image(name, **asked)
    if kind == "container":
        return await client.audits.container(name, **asked)
    try:
        await client.containers.inspect(name)
    except NotFound:
        return await client.audits.image(name, **asked)
    return await client.audits.container(name, **asked)


def read_policy_file(path: str) -> dict[str, Any]:
    """The document of a policy file. Raises NotFound, InvalidArgument naming file, line and cause."""
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(_MAX_POLICY + 1)
    except OSError as error:
        raise NotFound(f"policy {path}: {error.strerror}", code="policy-invalid") from error
    if len(data) > _MAX_POLICY:
        raise InvalidArgument(f"policy {path}: it has more than {_MAX_POLICY} bytes", code="policy-invalid")
    try:
        document = tomllib.loads(data.decode())
    except ValueError as error:  # not UTF-8, or not TOML
        raise InvalidArgument(
            f"policy {path}: this is no TOML: {error}", hint="docs/audit.md has the form", code="policy-invalid"
        ) from error
    plain = _plain(document)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    """What JSON can hold: days and times of TOML as text."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def lines_of(found: dict[str, Any], *, everything: bool) -> Iterator[str]:
    """A report for people: the findings by rule, the worst first, then the verdict."""
    counted = [one for one in found["Findings"] if not one["Ignored"]]
    shown = found["Findings"] if everything else counted
    rules = {rule["Id"]: rule for rule in found["Rules"]}
    for key in dict.fromkeys((one["Severity"], one["Rule"]) for one in shown):
        group = [one for one in shown if (one["Severity"], one["Rule"]) == key]
        rule = rules[key[1]]
        yield f"{key[0].upper()} {key[1]}: {rule['Title']}"
        yield f"  why: {rule['Why']}"
        yield f"  fix: {rule['Fix']}"
        for one in group if everything else group[:_SHOWN]:
            yield f"  - {_line(one, found)}"
        if not everything and len(group) > _SHOWN:
            yield f"  - and {len(group) - _SHOWN} more (--all shows them)"
        yield ""
    yield from found["Notes"]
    yield from _verdict(found, counted)


def _line(one: dict[str, Any], found: dict[str, Any]) -> str:
    text = f"{one['Path']}: {one['What']}"
    if one["Layer"] is not None and len(found["Layers"]) > 1:
        layer = found["Layers"][one["Layer"]]
        digest = layer["Digest"].removeprefix("sha256:")[:12]
        name = f"layer {one['Layer'] + 1}" + (f" {digest}" if digest else "")
        text += f" [{name}: {layer['CreatedBy'][:60] or 'no step is known'}]"
    return f"{text} (ignored: {one['Ignored']})" if one["Ignored"] else text


def _verdict(found: dict[str, Any], counted: list[dict[str, Any]]) -> Iterator[str]:
    proof = found.get("Proof")
    if proof is not None:
        start = " ".join(proof["Entrypoint"]) or "no entrypoint"
        holds = "holds" if proof["Holds"] else "does not hold"
        yield f"distroless: the proof {holds}: {start}, {len(proof['Closure'])} files in its closure"
    numbers = [
        f"{count} {severity}"
        for severity in reversed(SEVERITIES)
        if (count := sum(one["Severity"] == severity for one in counted))
    ]
    ignored = len(found["Findings"]) - len(counted)
    said = f"{len(counted)} finding{'' if len(counted) == 1 else 's'}"
    said += f" ({', '.join(numbers)})" if numbers else ""
    said += f", {ignored} ignored by the policy" if ignored else ""
    verdict = "passed" if found["Passed"] else "failed"
    yield f"{found['Name']}: {verdict}: {said} in {found['Files']} files; fails from {found['FailOn']} on"
