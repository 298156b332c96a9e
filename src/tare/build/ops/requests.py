"""A RUN step as the executor is asked for it."""

from __future__ import annotations

from typing import Literal, cast

from tare.build.graph import RunStep
from tare.build.ops.mounts import Mounted
from tare.build.ops.operation import Inputs
from tare.model.execution import ExecRequest


def exec_request(step: RunStep, snapshot: str, around: Mounted, inputs: Inputs) -> ExecRequest:
    """The command of ``step`` in the active ``snapshot``, with what its mounts show ``around`` it."""
    settings = inputs.settings
    env = step.env + step.secret_env
    return ExecRequest(
        snapshot=snapshot,
        argv=step.argv,
        env=env + tuple(around.env),
        confidential=bool(step.secret_env) or any(mount.variable for mount in step.mounts),
        cwd=step.cwd,
        user=step.user,
        network=cast(Literal["default", "none", "host"], step.network),
        mounts=tuple(around.binds),
        tmpfs=tuple(around.tmpfs),
        files=tuple(around.files),
        limits=settings.limits,
        insecure=step.insecure,
        extra_hosts=settings.extra_hosts,
        host_ca=settings.host_ca,
        shm_size=settings.shm_size,
    )
