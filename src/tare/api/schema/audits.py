"""Audits, as the API takes and gives them."""

from __future__ import annotations

from typing import Any

import msgspec

from tare.api.params import convert, without_nulls
from tare.audit.auditing import Question
from tare.audit.findings import Report, Severity
from tare.audit.policy import Policy, read_policy, read_severity
from tare.audit.rules import RULES
from tare.engine.audits import AuditAnswer


class _Request(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    distroless: bool = False
    programs: list[str] = []
    fail_on: str = ""
    policy: dict[str, Any] | None = None


def read_audit(document: dict[str, Any]) -> tuple[Question, Severity | None]:
    """The body of an audit's request: what is asked, and from which severity on it fails. Raises InvalidArgument."""
    asked = convert(without_nulls(document), _Request)
    question = Question(
        distroless=asked.distroless,
        programs=tuple(asked.programs),
        policy=read_policy(asked.policy) if asked.policy is not None else Policy(),
    )
    return question, read_severity(asked.fail_on, "FailOn") if asked.fail_on else None


def render_audit(answer: AuditAnswer) -> dict[str, Any]:
    """The answer of an audit. ``Layer`` counts from 0, and is null where no layer is meant."""
    report = answer.report
    document: dict[str, Any] = {
        "Kind": answer.kind,
        "Id": answer.id,
        "Name": answer.name,
        "Passed": answer.passed,
        "FailOn": answer.fail_on.word,
        "Files": report.files,
        "Layers": [{"Digest": layer.digest, "CreatedBy": layer.created_by} for layer in report.layers],
        "Findings": [
            {
                "Rule": one.rule,
                "Severity": one.severity.word,
                "Path": one.path,
                "What": one.what,
                "Layer": one.layer if one.layer >= 0 else None,
                "Why": RULES[one.rule].why,
                "Fix": one.fix,
                "Ignored": one.ignored or None,
            }
            for one in report.findings
        ],
        "Notes": list(report.notes),
        "Rules": render_rules(report),
    }
    if report.proof is not None:
        document["Proof"] = {
            "Holds": report.proof.holds,
            "Entrypoint": list(report.proof.entrypoint),
            "Programs": report.proof.programs,
            "Closure": [{"Path": path, "Reason": reason} for path, reason in report.proof.closure],
        }
    return document


def render_rules(report: Report | None = None) -> list[dict[str, str]]:
    """The rules that a report refers to, or all of them."""
    used = {one.rule for one in report.findings} if report is not None else set(RULES)
    return [
        {"Id": rule.id, "Severity": rule.severity.word, "Title": rule.title, "Why": rule.why, "Fix": rule.fix}
        for rule in RULES.values()
        if rule.id in used
    ]
