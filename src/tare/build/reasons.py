"""Why a step has another key than in the build before: the inputs that differ, by name.

Pure: takes the fields of both keys and what else is known of both steps, gives causes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tare.build.causes import Cause, CauseKind
from tare.build.graph import CONTEXT, CopyStep, RunStep, Step
from tare.build.history import PastStep
from tare.build.ops.manifests import Facts, changed_files, differences

_SHOWN_PATHS = 4
_SHOWN_VALUE = 60

Manifest = Callable[[str], Mapping[str, Facts] | None]
"""The files behind a content key, None when they are not known any more."""


@dataclass(frozen=True, slots=True)
class Below:
    """What a step stands on: its name to show, and the image reference where it is one (else empty)."""

    name: str
    base: str = ""


def compare(step: Step, fields: Mapping[str, Any], past: PastStep, below: Below, manifest: Manifest) -> list[Cause]:
    """The causes why ``step`` has other key ``fields`` than ``past``; at least one where they differ."""
    causes = _instruction(step, past)
    rewritten = bool(causes)
    variables = [] if rewritten else _variables(step, past)
    causes += variables
    changed = {name for name in fields.keys() | past.fields.keys() if fields.get(name) != past.fields.get(name)}
    if isinstance(step, RunStep):
        causes += _run(step, fields, past, changed, rewritten=rewritten)
        causes += _mounted(step, fields, past, changed, manifest)
    else:
        causes += _content(step, fields, past, changed, manifest)
    rest = sorted(changed - _OWN_WORDS - (_RUN_FIELDS if isinstance(step, RunStep) else frozenset()))
    if rest and not rewritten and not variables:
        for name in rest:
            kind: CauseKind = "user" if name == "user" else "instruction"
            causes.append(Cause(kind, name, f"its {_LABELS.get(name, name)} changed"))
    if "parent" in changed:
        causes.append(_parent(past, below))
    return causes or [Cause("instruction", step.text, "the step is keyed in another way than before")]


_OWN_WORDS = frozenset({"parent", "content", "downloads", "mount_contents"})
_RUN_FIELDS = frozenset({"argv", "script", "env", "cwd", "user", "network", "mounts", "insecure"})
_LABELS = {"inline": "here-document", "user": "user", "path": "directory", "chown": "owner", "chmod": "mode"}


def _instruction(step: Step, past: PastStep) -> list[Cause]:
    if step.text == past.text:
        return []
    return [Cause("instruction", step.text, f"the instruction changed, it was: {past.text}")]


def _variables(step: Step, past: PastStep) -> list[Cause]:
    """Variables that the instruction names and that have other values; of a RUN step the environment tells."""
    if isinstance(step, RunStep):
        return []
    found = []
    for name in sorted(step.variables.keys() | past.variables.keys()):
        before, after = past.variables.get(name), step.variables.get(name)
        if before != after:
            found.append(_variable(name, before, after, step))
    return found


def _variable(name: str, before: str | None, after: str | None, step: Step) -> Cause:
    kind: CauseKind = "arg" if name in step.arguments else "env"
    shown = f"{'ARG' if kind == 'arg' else 'ENV'} {name}"
    if before is None:
        return Cause(kind, name, f"{shown} is new: {_short(after)}")
    if after is None:
        return Cause(kind, name, f"{shown} is gone, it was {_short(before)}")
    return Cause(kind, name, f"{shown} changed: {_short(before)} → {_short(after)}")


def _short(value: str | None) -> str:
    text = value or '""'
    return text if len(text) <= _SHOWN_VALUE else text[:_SHOWN_VALUE] + "…"


def _run(
    step: RunStep, fields: Mapping[str, Any], past: PastStep, changed: set[str], *, rewritten: bool
) -> list[Cause]:
    before, found = past.fields, list[Cause]()
    if "env" in changed:
        old = _environment(before.get("env", ()))
        new = _environment(fields["env"])
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                found.append(_variable(name, old.get(name), new.get(name), step))
        if not found:
            found.append(Cause("env", "environment", "the variables come in another order"))
    if "cwd" in changed:
        found.append(Cause("directory", step.cwd, f"WORKDIR changed: {before.get('cwd')} → {step.cwd}"))
    if "user" in changed:
        found.append(Cause("user", step.user, f"USER changed: {before.get('user') or 'root'} → {step.user or 'root'}"))
    if "network" in changed or "insecure" in changed:
        found.append(Cause("network", step.network, "its network or its privileges changed"))
    if rewritten:
        return found
    if "argv" in changed and tuple(before.get("argv", ()))[:-1] != step.argv[:-1]:
        shells = " → ".join(" ".join(argv[:-1]) or "none" for argv in (before.get("argv", ()), step.argv))
        found.append(Cause("shell", step.argv[0], f"SHELL changed: {shells}"))
    elif "argv" in changed or "script" in changed:
        found.append(Cause("instruction", "here-document", "its here-document changed"))
    if "mounts" in changed:
        named = [mount.target or mount.name for mount in step.mounts]
        found.append(Cause("mount", ", ".join(named), "options of its mounts changed"))
    return found


def _environment(items: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _mounted(
    step: RunStep, fields: Mapping[str, Any], past: PastStep, changed: set[str], manifest: Manifest
) -> list[Cause]:
    if "mount_contents" not in changed:
        return []
    mounts = [mount for mount in step.mounts if mount.has_origin]
    before, after = past.fields.get("mount_contents") or [], fields.get("mount_contents") or []
    found = []
    for number, mount in enumerate(mounts):
        old = before[number] if number < len(before) else ""
        if old != after[number]:
            place = f" of {mount.origin_name}" if mount.origin_name else ""
            listed = _listed(old, after[number], manifest)
            found.append(Cause("mount", mount.target, f"files{place} mounted at {mount.target} changed{listed}"))
    return found


def _listed(before: str, after: str, manifest: Manifest) -> str:
    """The paths that differ between two content keys, in words; empty when they are not known."""
    old, new = manifest(before), manifest(after)
    if old is None or new is None:
        return ""
    return ": " + differences(changed_files(old, new), _SHOWN_PATHS)


def _content(
    step: Step, fields: Mapping[str, Any], past: PastStep, changed: set[str], manifest: Manifest
) -> list[Cause]:
    found: list[Cause] = []
    if "downloads" in changed and isinstance(step, CopyStep):
        found.append(Cause("source", ", ".join(step.downloads), "what the URL gives changed"))
    if "content" not in changed or not isinstance(step, CopyStep):
        return found
    old, new = manifest(past.fields.get("content", "")), manifest(fields.get("content", ""))
    pairs = changed_files(old, new) if old is not None and new is not None else []
    if step.origin != CONTEXT:
        listed = f": {differences(pairs, _SHOWN_PATHS)}" if pairs else ""
        found.append(Cause("source", step.origin_name, f"the output of {step.origin_name} changed{listed}"))
        return found
    for path, what in pairs[:_SHOWN_PATHS]:
        found.append(Cause("path", path, f"{path or 'the context'} {'changed' if what == 'changed' else f'({what})'}"))
    if len(pairs) > _SHOWN_PATHS:
        found.append(Cause("path", "", f"and {len(pairs) - _SHOWN_PATHS} more files"))
    if not pairs:
        found.append(Cause("path", ", ".join(step.sources), f"files of {', '.join(step.sources)} changed"))
    return found


def _parent(past: PastStep, below: Below) -> Cause:
    if not below.base:
        return Cause("parent", below.name, f"the step before it is not what it was: {below.name}")
    if past.base and past.base != below.base:
        return Cause("base", below.base, f"the base image is another: {past.base} → {below.base}")
    return Cause("base", below.base, f"the base image {below.base} has other content than before")


def counterparts(now: Sequence[tuple[str, str]], past: Sequence[PastStep]) -> list[PastStep | None]:
    """For each step (its op and text) the step of the earlier build that it takes the place of.

    Equal instructions are paired first, in order; between them what has the same op, in order.
    """
    found: list[PastStep | None] = [None] * len(now)
    texts = [f"{op}\0{text}" for op, text in now]
    matcher = difflib.SequenceMatcher(a=[f"{step.op}\0{step.text}" for step in past], b=texts, autojunk=False)
    for kind, first, last, begin, end in matcher.get_opcodes():
        if kind == "equal":
            found[begin:end] = past[first:last]
            continue
        rest = list(past[first:last])
        for position in range(begin, end):
            match = next((step for step in rest if step.op == now[position][0]), None)
            if match is not None:
                found[position] = match
                del rest[: rest.index(match) + 1]
    return found
