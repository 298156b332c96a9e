"""The states of a container and what each of them allows."""

from __future__ import annotations

from enum import StrEnum


class ContainerStatus(StrEnum):
    """A container's status, with Docker's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"

    @property
    def is_live(self) -> bool:
        """Whether a process of the container exists."""
        return self in (ContainerStatus.RUNNING, ContainerStatus.PAUSED)

    @property
    def can_start(self) -> bool:
        """Whether ``start`` may be called."""
        return self in (ContainerStatus.CREATED, ContainerStatus.EXITED)

    @property
    def can_exec(self) -> bool:
        """Whether ``exec`` may be called."""
        return self is ContainerStatus.RUNNING

    @property
    def can_remove(self) -> bool:
        """Whether ``rm`` may be called without force."""
        return self in (ContainerStatus.CREATED, ContainerStatus.EXITED, ContainerStatus.DEAD)
