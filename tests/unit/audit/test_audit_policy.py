"""Policies: what is accepted, for how long, what must be there; wrong ones."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from audit_parts import TODAY, directory, file, report_of, told
from tare.audit.auditing import Question
from tare.audit.findings import Severity
from tare.audit.policy import read_policy
from tare.errors import InvalidArgument
from tare.oci.image import ExecutionConfig

MEMBERS = [directory("srv", 0o777), directory("srv/a", 0o777), directory("srv/a/b", 0o777), file("bin/x", b"", 0o4755)]


def judged(tmp_path: Path, document: dict[str, object]) -> tuple[set[tuple[str, str]], tuple[str, ...]]:
    report = report_of(tmp_path, MEMBERS, question=Question(policy=read_policy(document)))
    return told(report), report.notes


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("", set()),
        ("/srv", {"/srv/a", "/srv/a/b"}),
        ("/srv/*", {"/srv", "/srv/a/b"}),
        ("/srv/**", {"/srv"}),
        ("/**/b", {"/srv", "/srv/a"}),
        ("/sr?", {"/srv/a", "/srv/a/b"}),
        ("/s[r]v", {"/srv", "/srv/a", "/srv/a/b"}),
    ],
)
def test_accepted_paths(tmp_path: Path, path: str, left: set[str]) -> None:
    ignore = {"rule": "world-writable", "reason": "shared by design", **({"path": path} if path else {})}
    found, _ = judged(tmp_path, {"ignore": [ignore]})
    assert {where for rule, where in found if rule == "world-writable"} == left
    assert ("setuid", "/bin/x") in found


def test_an_exception_ends(tmp_path: Path) -> None:
    for day, counts in ((TODAY, False), (TODAY - datetime.timedelta(days=1), True)):
        ignore = {"rule": ["setuid", "shell"], "reason": "until the next release", "expires": day.isoformat()}
        found, notes = judged(tmp_path, {"ignore": [ignore]})
        assert (("setuid", "/bin/x") in found) is counts
        assert (("policy-expired", "ignore[0]") in found) is counts
        assert notes == ()


def test_what_excuses_nothing_is_told(tmp_path: Path) -> None:
    _, notes = judged(tmp_path, {"ignore": [{"rule": "shell", "reason": "busybox for backups"}]})
    assert notes == ("policy: ignore[0] (shell) fits no finding",)


def test_severities_and_requirements(tmp_path: Path) -> None:
    policy = read_policy(
        {
            "fail-on": "high",
            "severity": {"setuid": "info"},
            "require": {"labels": ["source", "missing"], "max-size": "1kB", "healthcheck": True, "distroless": True},
        }
    )
    assert policy.fail_on is Severity.HIGH
    config = ExecutionConfig(entrypoint=["/bin/x"], user="1", labels={"source": "x"})
    report = report_of(tmp_path, MEMBERS, config=config, question=Question(policy=policy))
    assert {one.path for one in report.findings if one.rule == "policy-required"} == {
        "label missing",
        "max-size",
        "healthcheck",
    }
    assert next(one for one in report.findings if one.rule == "setuid").severity is Severity.INFO
    assert report.proof is not None and not report.proof.holds


def test_what_is_ignored_does_not_break_the_proof(tmp_path: Path) -> None:
    accepted = read_policy({"ignore": [{"rule": "setuid", "path": "/bin/x", "reason": "it drops its rights"}]})
    config = ExecutionConfig(entrypoint=["/bin/x"])
    for policy, holds in ((accepted, True), (read_policy({}), False)):
        report = report_of(
            tmp_path, MEMBERS, config=config, question=Question(distroless=True, policy=policy)
        )  # fmt: skip
        assert report.proof is not None and report.proof.holds is holds


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "policy: document: expected `object`, got `array`"),
        ({"ignored": []}, "policy: document: object contains unknown field `ignored`"),
        ({"ignore": [{"rule": "setuid"}]}, r"policy: ignore\[0\]: object missing required field `reason`"),
        ({"ignore": [{"rule": "setuid", "reason": " "}]}, r"policy: ignore\[0\]: the reason is empty"),
        ({"ignore": [{"rule": "setiud", "reason": "x"}]}, r"there is no rule 'setiud' \(did you mean setuid\?\)"),
        ({"ignore": [{"rule": "setuid", "reason": "x", "expires": "soon"}]}, "expires: 'soon' is no day"),
        ({"severity": {"setuid": "bad"}}, "policy: severity.setuid: 'bad' is no severity"),
        ({"severity": {"nothing": "low"}}, "policy: severity: there is no rule 'nothing'"),
        ({"fail-on": "never"}, "policy: fail-on: 'never' is no severity"),
        ({"require": {"max-size": "big"}}, "policy: require.max-size: 'big' is no size"),
        ({"require": {"max-size": True}}, "policy: require.max-size"),
        ({"programs": "x"}, "policy: programs: expected `array`, got `str`"),
    ],
)
def test_wrong_policies(document: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        read_policy(document)
    assert caught.value.code == "policy-invalid"


@pytest.mark.parametrize(("text", "size"), [("50MB", 50_000_000), ("1.5 KiB", 1536), ("7", 7), (9, 9)])
def test_sizes(text: str | int, size: int) -> None:
    assert read_policy({"require": {"max-size": text}}).requirements.max_size == size
