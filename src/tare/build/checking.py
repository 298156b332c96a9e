"""Builds that only look at the Dockerfile: findings and errors, targets and arguments; nothing is run or fetched."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from dataclasses import replace

from tare.build.assembly.document import DocumentFile, read_document
from tare.build.assembly.files import inside, read_file, stage_names
from tare.build.assembly.lockfile import lock_name, pins_for, read_lock
from tare.build.assembly.lowering import lower
from tare.build.assembly.placing import placed
from tare.build.checks.findings import CheckError, CheckReport, Finding
from tare.build.checks.heads import read_global_scope
from tare.build.checks.linter import Linter, StageBase
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.dockerfile.parser import parse_nodes
from tare.build.dockerfile.stages import read_stages
from tare.build.ops.context import RuleFilter, open_context
from tare.build.ops.select import Tree
from tare.build.outline import Outline, Target, Targets, outline_of, targets_of
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import NotFound, TareError
from tare.model import Digest, Platform, Reference
from tare.oci.image import ImageConfig, RootFS
from tare.store.images import Image
from tare.store.store import Store

_ABSENT = Digest.of(b"")
"""The ID of what stands for a base image that is not in the store."""


async def report_of(request: BuildRequest, store: Store) -> CheckReport:
    """Check what ``request`` would build: all stages, or the target and what it needs.

    Base images are looked up in the store only, named contexts are not opened: on top of what is not there, no variable
    is called undefined. An error in Dockerfile or context is part of the report.
    """
    if request.is_declarative:
        return await _report_of_document(request)
    linter = Linter(request, lambda _: None)
    error = None
    try:
        dockerfile = await linter.read()
        context = await asyncio.to_thread(open_context, request.context, request.ignore_text, request.dockerfile_name)

        async def resolve(reference: Reference, platform: Platform) -> Image:
            try:
                return await store.images.resolve(str(reference), platform)
            except NotFound:
                return _absent(platform)

        async def unopened(_name: str, platform: Platform) -> Image:
            return _absent(platform)

        async def inspect(bases: Mapping[int, StageBase], known: Mapping[str, str]) -> None:
            await linter.inspect(_marked(bases), known, ignore_rules(context))

        await Planner(dockerfile, request).survey(resolve, unopened, inspect)
        linter.refuse()
    except TareError as cause:
        error = CheckError.of(cause, linter.source)
    return CheckReport(file=request.dockerfile_name, text=request.dockerfile, findings=linter.findings, error=error)


async def _report_of_document(request: BuildRequest) -> CheckReport:
    """Check a declarative file with its lock file, and its Dockerfile."""
    error = None
    findings: list[Finding] = []
    try:
        read = await asyncio.to_thread(read_document, request.dockerfile, request.dockerfile_name)
        stages: dict[str, str] = {}
        if read.document.dockerfile:
            name = inside(read.document.dockerfile)
            try:
                text = await asyncio.to_thread(read_file, request.context, name, "")
            except NotFound as missing:
                raise placed(missing, read, "dockerfile") from missing
            linter = Linter(replace(request, dockerfile=text, dockerfile_name=name), findings.append)
            stages = stage_names(await linter.read())
        lower(read, "", stages=stages)
        await asyncio.to_thread(_check_lock, read, request)
    except TareError as cause:
        error = CheckError.of(cause, None)
    return CheckReport(file=request.dockerfile_name, text=request.dockerfile, findings=tuple(findings), error=error)


def _check_lock(read: DocumentFile, request: BuildRequest) -> None:
    """Raises DocumentError for a lock file that is damaged or was made for something else."""
    name, text = lock_name(request.dockerfile_name), request.lock_text
    if text is None:
        try:
            text = read_file(request.context, name, "")
        except NotFound:
            return
    if text:
        lock = read_lock(text, name)
        for architecture in read.document.architectures or lock.pins:
            pins_for(lock, read, architecture)


def _absent(platform: Platform) -> Image:
    """What stands for an image or a named context that is not looked into."""
    config = ImageConfig(architecture=platform.architecture, os=platform.os, rootfs=RootFS(diff_ids=[]))
    return Image(id=_ABSENT, config=config, tags=(), size=0, created=0.0)


def describe(request: BuildRequest) -> Targets | Outline:
    """The Dockerfile's targets, or what the target takes. Raises DockerfileError, NotFound for the target."""
    if request.is_declarative:
        return _describe_document(request)
    parsed = parse_nodes(request.dockerfile, request.dockerfile_name)
    dockerfile = read_stages(parsed)
    if request.describe == "targets":
        return targets_of(request.dockerfile, parsed, dockerfile)
    stages = Planner(dockerfile, request).stages()
    platform = request.platform or Platform.host()
    scope = read_global_scope(dockerfile, platform, request.target, request.build_args)
    return outline_of(request.dockerfile, parsed, dockerfile, stages=stages, scope=scope, build_args=request.build_args)


def _describe_document(request: BuildRequest) -> Targets | Outline:
    """A declarative file has one target, which takes nothing."""
    read = read_document(request.dockerfile, request.dockerfile_name)
    name = posixpath.basename(request.dockerfile_name).lower()
    if request.describe == "targets":
        target = Target(name=name, default=True, description="", base=read.document.base, line=1)
        return Targets(text=request.dockerfile, targets=(target,))
    return Outline(text=request.dockerfile, name=name, description="", args=(), secrets=(), ssh=())


def _marked(bases: Mapping[int, StageBase]) -> dict[int, StageBase]:
    return {index: replace(base, known=base.image is None or base.image.id != _ABSENT) for index, base in bases.items()}


def ignore_rules(context: Tree | None) -> IgnoreRules | None:
    """The ignore rules of a context; None where it leaves nothing out."""
    return context.filter.rules if context is not None and isinstance(context.filter, RuleFilter) else None
