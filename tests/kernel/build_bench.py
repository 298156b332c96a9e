"""A builder with its surroundings, and questions to ask of what it built."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build_parts import ChrootExecutor, LocalSources

from tare.build.builder import Builder
from tare.build.causes import Cause
from tare.build.events import BuildEvent, Notice, PlanMade, StepExplained, VertexDone, VertexOutput
from tare.build.request import BuildRequest, BuildResult, ForecastLine
from tare.store.images import Image
from tare.store.store import Store


@dataclass
class Bench:
    store: Store
    executor: ChrootExecutor
    sources: LocalSources
    builder: Builder
    context: Path
    work: Path
    events: list[BuildEvent] = field(default_factory=list)

    async def build(self, text: str, **options: Any) -> BuildResult:
        self.events.clear()
        request = BuildRequest(context=self.context, dockerfile=text, **options)
        return await self.builder.build(request, self.events.append)

    async def forecast(self, text: str, **options: Any) -> tuple[ForecastLine, ...]:
        request = BuildRequest(context=self.context, dockerfile=text, **options)
        return await self.builder.forecast(request, lambda event: None)

    def causes(self) -> dict[str, tuple[Cause, ...]]:
        """Why each step ran that did, by its instruction's text."""
        texts = {step.id: step.text for event in self.events if isinstance(event, PlanMade) for step in event.vertices}
        return {texts[event.id]: event.causes for event in self.events if isinstance(event, StepExplained)}

    def done(self) -> dict[str, VertexDone]:
        """What came of each step, by its instruction's text."""
        plan = next(event for event in self.events if isinstance(event, PlanMade))
        texts = {step.id: step.text for step in plan.vertices}
        return {texts[event.id]: event for event in self.events if isinstance(event, VertexDone)}

    def done_all(self) -> list[tuple[str, VertexDone]]:
        """As :meth:`done`, where several steps have one text."""
        texts = {step.id: step.text for event in self.events if isinstance(event, PlanMade) for step in event.vertices}
        return [(texts[event.id], event) for event in self.events if isinstance(event, VertexDone)]

    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice) and event.level == "warning"]

    def output(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, VertexOutput))

    async def image(self, result: BuildResult) -> Image:
        return await self.store.images.resolve(str(result.image_id))

    async def layer(self, result: BuildResult, index: int = -1) -> dict[str, tarfile.TarInfo]:
        data = self.store.layers.path((await self.image(result)).diff_ids[index]).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return {member.name: member for member in archive.getmembers()}

    async def content(self, result: BuildResult, name: str, index: int = -1) -> bytes:
        data = self.store.layers.path((await self.image(result)).diff_ids[index]).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = archive.extractfile(name)
            assert found is not None
            return found.read()

    async def active(self) -> int:
        query = "SELECT count(*) FROM snapshots WHERE kind = 'active'"
        return int(await self.store.db.read(lambda db: db.execute(query).fetchone()[0]))

    async def assert_nothing_left(self) -> None:
        table = Path("/proc/self/mountinfo").read_text()
        assert str(self.work) not in table
        assert await self.active() == 0
        assert list((self.work / "roots").iterdir()) == []
        views = self.work / "cache" / "views"
        assert not views.exists() or list(views.iterdir()) == []
        leases = await self.store.db.read(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0])
        assert leases == 0
