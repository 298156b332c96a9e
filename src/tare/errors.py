"""Errors, named by what the caller can do about them.

::

    TareError
    ├── InvalidArgument    the request itself is wrong; change it
    │   └── ExecutableError    the container's command cannot be executed (exit status 126 or 127)
    ├── NotFound           the object named does not exist
    ├── Conflict           the object's state or name forbids it; change the state first
    ├── NotModified        the object is already in the state asked for
    ├── Forbidden          policy or permission forbids it
    ├── Unauthorized       credentials are missing or wrong
    ├── Unsupported        this engine, host or kernel cannot do it
    ├── Unavailable        a part outside is not there now; trying again may help
    ├── Exhausted          no space, no address, no identifier is left
    ├── DataCorrupt        bytes do not match their digest, signature or format
    └── InternalError      a fault in Tare or a program that it runs

Every message names the object, the cause and, where there is one, the fix; lower case, no full stop.
``api/errormap.py`` is the only place that turns these into HTTP status codes.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why something did not work, found out afterwards.

    ``code`` is one of ``tare.diagnosis.causes``, ``subject`` the file, name or number that it is about, ``cause`` and
    ``fix`` are sentences without a full stop.
    """

    code: str
    subject: str
    cause: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.cause}; {self.fix}" if self.fix else self.cause


class TareError(Exception):
    """Base of all errors that Tare raises on purpose.

    ``message`` says object and cause, ``hint`` the fix (may be empty), ``code`` is a stable machine-readable
    name such as ``"port-in-use"`` (may be empty). ``diagnosis`` is what looking closer has brought to light.
    """

    diagnosis: Diagnosis | None = None

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidArgument(TareError):
    """The request is wrong in itself."""


class ExecutableError(InvalidArgument):
    """The container's command cannot be executed.

    ``exit_code`` is 127 when it was not found and 126 when it was found but cannot be run, as shells have it.
    """

    def __init__(self, message: str, *, exit_code: int, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.exit_code = exit_code


class NotFound(TareError):
    """The object named does not exist."""


class Conflict(TareError):
    """The name is taken or the object's state forbids the operation."""


class NotModified(TareError):
    """The object already is in the state asked for."""


class Forbidden(TareError):
    """Policy or permission forbids the operation."""


class Unauthorized(TareError):
    """Credentials are missing or wrong."""


class Unsupported(TareError):
    """This engine, host or kernel cannot do it."""


class Unavailable(TareError):
    """Something outside the engine is not there now."""


class Exhausted(TareError):
    """No space, address or identifier is left."""


class DataCorrupt(TareError):
    """Bytes do not match their digest, signature or format."""


class InternalError(TareError):
    """A fault in Tare or in a program that it runs."""


def as_tare_error(error: BaseException) -> TareError:
    """``error`` itself, or what stands for it: a full disk is Exhausted, all else is a fault of Tare's."""
    if isinstance(error, TareError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"{error.filename}: " if error.filename else ""
        return Exhausted(f"{place}{error.strerror}", hint="free space below the data root", code="no-space")
    return InternalError(f"internal error: {type(error).__name__}: {error}")
