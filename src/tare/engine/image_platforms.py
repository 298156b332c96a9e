"""Which image of a name is meant, where the name stands for several platforms."""

from __future__ import annotations

from tare.errors import NotFound
from tare.model import Platform
from tare.store.images import Image, ImageStore


async def find(images: ImageStore, name: str, platform: Platform | None) -> Image:
    """The image; without a platform the one for this machine, else the one that there is.

    Raises NotFound, with Docker's words where none is for ``platform``, and Conflict for an ambiguous ID.
    """
    image = await images.resolve(name, platform)
    if platform is not None and not image.platform.satisfies(platform):
        shown = image.tags[0].familiar() if image.tags else str(image.id)
        raise NotFound(
            f"image with reference {shown} was found but its platform ({image.platform}) does not match"
            f" the specified platform ({platform})",
            hint=f"get it with pull --platform {platform}",
            code="platform-mismatch",
        )
    return image
