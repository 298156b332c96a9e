"""Audit reports for people and as SARIF; policy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sarif_kit.validate import validation_errors

from audit_parts import directory, file, report_of
from tare.api.schema.audits import render_audit
from tare.audit.auditing import Question
from tare.audit.policy import read_policy
from tare.cli.audit import lines_of, read_policy_file
from tare.cli.audit_sarif import to_sarif
from tare.engine.audits import FAIL_ON, AuditAnswer
from tare.errors import InvalidArgument, NotFound
from tare.oci.image import ExecutionConfig


@pytest.fixture
def answer(tmp_path: Path) -> dict[str, Any]:
    """The engine's answer about an image with several findings, one of them ignored."""
    members = [directory(f"d{number:02}", 0o777) for number in range(12)]
    members += [file("bin/a b\udcff\n", b"", 0o4755), file("etc/token", b"ghp_" + b"a1B2" * 9)]
    policy = read_policy({"ignore": [{"rule": "setuid", "reason": "it drops its rights"}]})
    report = report_of(
        tmp_path,
        members,
        [file("etc/.wh.token")],
        config=ExecutionConfig(entrypoint=["/app"], env=["API_TOKEN=abcdef"]),
        question=Question(policy=policy),
        history=["COPY . /", "RUN rm /etc/token"],
    )
    return render_audit(
        AuditAnswer(
            kind="image", id="sha256:1", name="shop:1", report=report, distroless=False, fail_on=FAIL_ON, passed=False
        )
    )


def test_sarif_fits_its_schema(answer: dict[str, Any]) -> None:
    document = to_sarif(answer)
    assert validation_errors(document) == []
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])
    by_rule = {one["ruleId"]: one for one in run["results"]}
    assert by_rule["setuid"]["suppressions"] == [{"kind": "external", "justification": "it drops its rights"}]
    place = by_rule["setuid"]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "bin/a%20b%EF%BF%BD%5Cx0a", "uriBaseId": "IMAGEROOT"}
    assert by_rule["secret-token"]["level"] == "error"
    assert by_rule["secret-token"]["properties"]["createdBy"] == "COPY . /"
    assert by_rule["root-user"]["locations"] == [
        {"logicalLocations": [{"fullyQualifiedName": "USER", "kind": "member"}]}
    ]
    assert len({one["partialFingerprints"]["tareAudit/v1"] for one in run["results"]}) == len(run["results"])
    assert "abcdef" not in repr(document) and "ghp_" not in repr(document)


def test_an_empty_report_is_sarif(tmp_path: Path) -> None:
    report = report_of(tmp_path, [], config=ExecutionConfig(user="1"))
    passed = AuditAnswer(kind="image", id="1", name="x", report=report, distroless=False, fail_on=FAIL_ON, passed=True)
    assert validation_errors(to_sarif(render_audit(passed))) == []
    assert list(lines_of(render_audit(passed), everything=False)) == [
        "x: passed: 0 findings in 0 files; fails from medium on"
    ]


def test_for_people(answer: dict[str, Any]) -> None:
    lines = list(lines_of(answer, everything=False))
    assert lines[0] == "CRITICAL secret-token: a token or password"
    assert lines[1].startswith("  why: everybody") and lines[2].startswith("  fix: revoke it")
    digest = answer["Layers"][0]["Digest"].removeprefix("sha256:")[:12]
    what = "a GitHub token, deleted or replaced in a later layer but still in this one"
    assert lines[3] == f"  - /etc/token: {what} [layer 1 {digest}: COPY . /]"
    assert "  - and 2 more (--all shows them)" in lines
    assert not any("setuid" in line for line in lines)
    expected = "shop:1: failed: 15 findings (1 critical, 1 high, 13 medium), 1 ignored by the policy in 1 files"
    assert lines[-1] == f"{expected}; fails from medium on"
    everything = list(lines_of(answer, everything=True))
    assert any(line.endswith("(ignored: it drops its rights)") for line in everything)
    assert sum("/d" in line for line in everything) == 12


def test_policy_files(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text('fail-on = "high"\n[[ignore]]\nrule = "shell"\nreason = "x"\nexpires = 2027-01-31\n')
    document = read_policy_file(str(path))
    assert document["ignore"] == [{"rule": "shell", "reason": "x", "expires": "2027-01-31"}]
    assert read_policy(document).accepted[0].expires is not None


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (None, NotFound, "No such file"),
        (b"[[ignore]\n", InvalidArgument, "this is no TOML: .*line 1"),
        (b"\xff\xfe", InvalidArgument, "this is no TOML"),
        (b"#" * ((1 << 20) + 1), InvalidArgument, "more than 1048576 bytes"),
    ],
)
def test_policy_files_that_are_none(tmp_path: Path, data: bytes | None, kind: type[Exception], message: str) -> None:
    path = tmp_path / "audit.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(kind, match=message):
        read_policy_file(str(path))
