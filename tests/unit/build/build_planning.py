"""Plans from Dockerfile texts, with images that need not exist."""

from __future__ import annotations

from typing import Any

from tare.build.dockerfile.stages import parse_dockerfile
from tare.build.graph import Plan
from tare.build.planner import Planner
from tare.build.request import BuildRequest
from tare.errors import NotFound
from tare.model import Digest, Platform, Reference
from tare.oci.image import ExecutionConfig, ImageConfig, RootFS
from tare.store.images import Image

AMD64 = Platform("linux", "amd64")


def image(name: str, **config: Any) -> Image:
    document = ImageConfig(
        architecture="amd64",
        os="linux",
        config=ExecutionConfig(**config),
        rootfs=RootFS(diff_ids=[str(Digest.of(name.encode()))]),
    )
    return Image(id=Digest.of(name.encode()), config=document, tags=(), size=10, created=0.0)


async def plan(text: str, images: dict[str, Image] | None = None, **options: Any) -> Plan:
    known = images or {"base:latest": image("base", env=["PATH=/bin", "HOME=/root"], cmd=["sh"])}

    async def resolve(reference: Reference, platform: Platform) -> Image:
        if reference.familiar() not in known:
            raise NotFound(f"No such image: {reference.familiar()}")
        return known[reference.familiar()]

    request = BuildRequest(context=None, dockerfile=text, platform=AMD64, **options)
    return await Planner(parse_dockerfile(text), request).plan(resolve)
