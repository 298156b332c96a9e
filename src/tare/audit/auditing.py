"""The audit itself: everything that is known of an image or container goes in, a report comes out."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tare.audit import secrets
from tare.audit.closure import Closure, Start, find_closure
from tare.audit.content import Examiner, Form
from tare.audit.files import check_closure, check_files, finding
from tare.audit.findings import Finding, LayerName, Proof, Report, Severity, ordered, shown
from tare.audit.layers import Layers, open_layers
from tare.audit.ownership import check_ownership, read_ownership
from tare.audit.policy import Policy
from tare.audit.rules import BREAKS_PROOF, PROOF_RULES, RULES
from tare.audit.settings import check_container, check_user
from tare.model.container import Container
from tare.oci.image import ImageConfig

_SHELL_FORM = "CMD-SHELL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited: an image, or a container with the directory of what it has written.

    ``tars`` are the image's layers, bottom first, ``size`` is their sum in bytes.
    """

    image: ImageConfig
    tars: tuple[Path, ...]
    size: int
    container: Container | None = None
    upper: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: only the proof (``distroless``) or everything; programs that count as entrypoints, too."""

    distroless: bool = False
    programs: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)

    @property
    def proves(self) -> bool:
        """Whether the proof is part of the answer."""
        return self.distroless or self.policy.distroless


def audit(subject: Subject, question: Question, today: datetime.date) -> Report:
    """Look through layers, configuration and container. Blocking: seconds for a gigabyte.

    Raises NotFound when the image is removed meanwhile, DataCorrupt for a layer that cannot be unpacked, Exhausted for
    one with too many files.
    """
    with open_layers(subject.tars, subject.upper) as layers:
        examiner = Examiner(layers)
        start = _start(subject, question)
        closure = find_closure(layers.tree, examiner, start)
        found = list(_findings(subject, question, layers, examiner, closure, has_command=bool(start.command)))
        if question.distroless:
            wanted = PROOF_RULES | {"policy-required"}
            found = [one for one in found if one.rule in wanted]
        judged, notes = question.policy.apply(found, today)
        report = Report(
            findings=ordered([replace(one, fix=one.fix or RULES[one.rule].fix) for one in judged]),
            layers=_layer_names(subject),
            files=sum(1 for _ in layers.tree.files()),
            notes=tuple(notes),
        )
        return replace(report, proof=_proof(report, layers, examiner, closure)) if question.proves else report


def _findings(
    subject: Subject, question: Question, layers: Layers, examiner: Examiner, closure: Closure, *, has_command: bool
) -> Iterator[Finding]:
    tree = layers.tree
    yield from check_files(tree, examiner, closure)
    yield from _check_preload(subject, layers)
    if question.proves:
        yield from check_closure(tree, examiner, closure, has_command=has_command)
    config = subject.image.config
    yield from question.policy.check_required(
        config.labels or {}, subject.size, healthcheck=config.healthcheck is not None
    )
    if question.distroless:
        return
    owned = read_ownership(tree, examiner)
    yield from check_ownership(tree, examiner, owned)
    visible = {id(inode): path for path, inode in tree.files()}
    yield from secrets.check_layers(layers.stored, visible, examiner, owned)
    yield from secrets.check_environment(config.env or [], "ENV")
    yield from secrets.check_labels(config.labels or {})
    yield from secrets.check_history([step.created_by for step in subject.image.history])
    container = subject.container
    if container is None:
        yield from check_user(config.user, "USER")
        return
    image_environment = set(config.env or [])
    own = [line for line in container.config.env or [] if line not in image_environment]
    yield from (replace(one, severity=Severity.LOW) for one in secrets.check_environment(own, "Env"))
    yield from check_user(container.config.user, "User", mapped=container.ids is not None)
    yield from check_container(container)


def _check_preload(subject: Subject, layers: Layers) -> Iterator[Finding]:
    if _environment(subject).get("LD_PRELOAD"):
        yield finding("preload", "LD_PRELOAD", "set in the environment")
    found = layers.tree.find_file("/etc/ld.so.preload")
    if found is not None and found[1].size:
        yield finding("preload", found[0], "read by the loader of every program", layer=found[1].layer)


def _start(subject: Subject, question: Question) -> Start:
    config, container = subject.image.config, subject.container
    if container is not None:
        command = (container.path, *container.args)
        directory = container.config.working_dir
        check = container.config.healthcheck.test if container.config.healthcheck is not None else None
    else:
        command = (*(config.entrypoint or ()), *(config.cmd or ()))
        directory = config.working_dir
        check = config.healthcheck.test if config.healthcheck is not None else None
    return Start(
        command=tuple(word for word in command if word),
        others=(_probe(check or []),),
        programs=(*question.programs, *question.policy.programs),
        directory=directory or "/",
        environment=_environment(subject),
    )


def _probe(test: Sequence[str]) -> tuple[str, ...]:
    """The words of a health check that is a program; a shell is what the other form runs."""
    if test and test[0] == "CMD":
        return tuple(test[1:])
    return ("/bin/sh",) if test and test[0] == _SHELL_FORM else ()


def _environment(subject: Subject) -> dict[str, str]:
    lines = subject.container.config.env if subject.container is not None else subject.image.config.env
    return {name: value for name, equals, value in (line.partition("=") for line in lines or []) if equals}


def _layer_names(subject: Subject) -> tuple[LayerName, ...]:
    steps = [step.created_by for step in subject.image.history if not step.empty_layer]
    steps += [""] * (len(subject.image.rootfs.diff_ids) - len(steps))
    names = [
        LayerName(digest=digest, created_by=shown(secrets.redacted(step)))
        for digest, step in zip(subject.image.rootfs.diff_ids, steps, strict=False)
    ]
    if subject.upper is not None:
        names.append(LayerName(digest="", created_by="written by the container"))
    return tuple(names)


def breaks_proof(one: Finding) -> bool:
    """Whether the proof does not hold because of a finding."""
    optional = one.rule == "missing-dependency" and one.severity < Severity.MEDIUM
    return one.rule in BREAKS_PROOF and not one.ignored and not optional


def _proof(report: Report, layers: Layers, examiner: Examiner, closure: Closure) -> Proof:
    programs = {id(inode): inode for _, inode in layers.tree.files() if examiner.examine(inode).form is Form.PROGRAM}
    breaking = [one for one in report.findings if breaks_proof(one)]
    members = sorted((shown(member.path), shown(member.reason)) for member in closure.members.values())
    return Proof(entrypoint=closure.words, closure=tuple(members), programs=len(programs), holds=not breaking)
