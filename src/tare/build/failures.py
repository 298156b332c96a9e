"""Errors of build steps."""

from __future__ import annotations

from collections.abc import Sequence

from tare.build.dockerfile.source import Source, SourceRange
from tare.errors import ExecutableError, InvalidArgument

TAIL_LINES = 20  # output lines that an error repeats


class BuildStepFailed(InvalidArgument):
    """A RUN step ended with a status other than 0.

    ``message`` is Docker's, ``exit_code`` the command's status, ``output`` its last output lines, ``place`` the
    Dockerfile's name and line and the lines themselves. ``step`` is the reference under which its file system is kept
    (``step:3f2a91c0``; empty: it is not).
    """

    def __init__(
        self, argv: Sequence[str], exit_code: int, *, output: Sequence[str], source: Source, where: SourceRange
    ) -> None:
        command = " ".join(argv)
        super().__init__(
            f'process "{command}" did not complete successfully: exit code: {exit_code}', code="build-step-failed"
        )
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.output = tuple(output)
        self.step = ""
        located = source.error(self.message, where)
        self.first_line = where.first_line
        self.last_line = where.last_line
        self.place = f"{source.name}:{where.first_line}\n{located.excerpt()}"

    def render(self) -> str:
        """Message, last output lines and place, as a person reads it."""
        tail = "".join(f"   > {line}\n" for line in self.output)
        return f"{self.message}\n{tail}{self.place}"

    def __str__(self) -> str:
        return self.render()


class StepNotStarted(ExecutableError):
    """The command of a RUN step could not be executed; ``step`` as in :class:`BuildStepFailed`."""

    def __init__(self, cause: ExecutableError) -> None:
        super().__init__(cause.message, exit_code=cause.exit_code, hint=cause.hint, code=cause.code)
        self.diagnosis = cause.diagnosis
        self.step = ""


def kept_step(error: Exception) -> str:
    """The reference under which the file system of the step that failed is kept; empty when none is."""
    return error.step if isinstance(error, BuildStepFailed | StepNotStarted) else ""
