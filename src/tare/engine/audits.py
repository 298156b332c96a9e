"""Audits of images and containers: what is stored goes to :mod:`tare.audit`, nothing is changed."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass

from tare.audit.auditing import Question, Subject, audit
from tare.audit.findings import Report, Severity
from tare.engine.records import ContainerRecords
from tare.errors import NotFound
from tare.store.images import Image
from tare.store.store import Store

FAIL_ON = Severity.MEDIUM
"""From which severity on a finding makes an audit fail, when neither request nor policy says."""

AT_ONCE = 2
"""Audits that run at the same time: they take a processor each, and the threads are everybody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAnswer:
    """A report, of what, and whether it passes. ``name`` is the container's name or one of the image's."""

    kind: str
    id: str
    name: str
    report: Report
    distroless: bool
    fail_on: Severity
    passed: bool


class Audits:
    """Looks for what should not be in images and containers."""

    def __init__(self, *, store: Store, records: ContainerRecords) -> None:
        self._store = store
        self._records = records
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def image(self, reference: str, question: Question, fail_on: Severity | None = None) -> AuditAnswer:
        """Audit an image. Raises NotFound, DataCorrupt, Exhausted."""
        image = await self._store.images.resolve(reference)
        report = await self._audit(self._subject(image), question)
        name = image.tags[0].familiar() if image.tags else str(image.id)
        return _answer(("image", str(image.id), name), report, question, fail_on)

    async def container(self, reference: str, question: Question, fail_on: Severity | None = None) -> AuditAnswer:
        """Audit a container: its image, what it has written, and how it is set to run. Raises as :meth:`image`."""
        container = await self._records.get(reference)
        try:
            image = await self._store.images.resolve(container.image_id)
        except NotFound as error:
            raise NotFound(
                f"the image of container {container.name} has been removed", hint="audit the container's new image"
            ) from error
        plain = self._subject(image)
        subject = Subject(
            image=plain.image,
            tars=plain.tars,
            size=plain.size,
            container=container,
            upper=await self._store.snapshots.upper_path(container.id),
        )
        report = await self._audit(subject, question)
        return _answer(("container", container.id, container.name.lstrip("/")), report, question, fail_on)

    async def _audit(self, subject: Subject, question: Question) -> Report:
        async with self._at_once:
            return await asyncio.to_thread(audit, subject, question, _today())

    def _subject(self, image: Image) -> Subject:
        tars = tuple(self._store.layers.path(diff_id) for diff_id in image.diff_ids)
        return Subject(image=image.config, tars=tars, size=image.size)


def _answer(what: tuple[str, str, str], report: Report, question: Question, asked: Severity | None) -> AuditAnswer:
    told = asked if asked is not None else question.policy.fail_on
    fail_on = FAIL_ON if told is None else told
    counted = [one for one in report.findings if not one.ignored and one.severity >= fail_on]
    proven = report.proof is None or report.proof.holds
    return AuditAnswer(
        kind=what[0],
        id=what[1],
        name=what[2],
        report=report,
        distroless=question.distroless,
        fail_on=fail_on,
        passed=proven and not counted,
    )


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
