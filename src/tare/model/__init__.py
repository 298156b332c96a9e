"""Values without I/O: digests, references, platforms, identifiers, states."""

from tare.model.digest import Digest
from tare.model.ids import new_id, short_id
from tare.model.platform import Platform
from tare.model.reference import Reference
from tare.model.state import ContainerStatus

__all__ = ["ContainerStatus", "Digest", "Platform", "Reference", "new_id", "short_id"]
