"""Audits of images and containers."""

from __future__ import annotations

from collections.abc import Sequence

from tare.client.caller import Document, Documents, Group
from tare.client.http import segment


class Audits(Group):
    """Audits. ``policy`` is a policy's document, ``programs`` count as entrypoints, ``fail_on`` is a severity."""

    async def image(
        self,
        name: str,
        *,
        distroless: bool = False,
        programs: Sequence[str] = (),
        fail_on: str = "",
        policy: Document | None = None,
    ) -> Document:
        """The report about an image; ``distroless`` asks only for the proof."""
        document = {"Distroless": distroless, "Programs": [*programs], "FailOn": fail_on, "Policy": policy}
        found: Document = await self._caller.call("POST", f"/tare/images/{segment(name)}/audit", document=document)
        return found

    async def container(
        self,
        name: str,
        *,
        distroless: bool = False,
        programs: Sequence[str] = (),
        fail_on: str = "",
        policy: Document | None = None,
    ) -> Document:
        """The report about a container: its image, what it has written, how it is set to run."""
        document = {"Distroless": distroless, "Programs": [*programs], "FailOn": fail_on, "Policy": policy}
        found: Document = await self._caller.call("POST", f"/tare/containers/{segment(name)}/audit", document=document)
        return found

    async def rules(self) -> Documents:
        """Every rule with its severity, why and fix."""
        found: Documents = await self._caller.call("GET", "/tare/audit/rules")
        return found
