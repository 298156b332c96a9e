"""Containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tare.client.archives import Archives
from tare.client.caller import Document, Documents, Filters, Values, filters_text
from tare.client.http import Response, segment
from tare.client.streams import STDOUT, Attached, demultiplex


class Waiting:
    """A wait that the engine has taken note of."""

    def __init__(self, response: Response) -> None:
        self._response = response

    async def result(self) -> Document:
        """The API's ContainerWaitResponse, when the condition holds."""
        async with self._response as response:
            document: Document = await response.json()
            return document

    def close(self) -> None:
        """Give up waiting."""
        self._response.close()


class Containers(Archives):
    """Containers; ``name`` is a name, an identifier or a unique beginning of one."""

    async def create(self, document: Document, *, name: str = "", platform: str = "") -> Document:
        """Create a container from the API's ContainerCreateRequest; the answer has ``Id`` and ``Warnings``."""
        query: Values = {"name": name, "platform": platform}
        created: Document = await self._caller.call("POST", "/containers/create", query=query, document=document)
        return created

    async def list(
        self, *, everything: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None
    ) -> Documents:
        """The running containers, or all; newest first."""
        query: Values = {"all": everything, "limit": limit or None, "size": size, "filters": filters_text(filters)}
        found: Documents = await self._caller.call("GET", "/containers/json", query=query)
        return found

    async def inspect(self, name: str, *, size: bool = False) -> Document:
        """Everything about one container."""
        found: Document = await self._caller.call("GET", self._path(name, "json"), query={"size": size})
        return found

    async def start(self, name: str) -> None:
        """Start it; raises NotModified when it runs."""
        await self._caller.call("POST", self._path(name, "start"))

    async def stop(self, name: str, *, seconds: int | None = None, signal: str = "") -> None:
        """Send its stop signal, after ``seconds`` SIGKILL."""
        await self._caller.call("POST", self._path(name, "stop"), query={"t": seconds, "signal": signal})

    async def restart(self, name: str, *, seconds: int | None = None, signal: str = "") -> None:
        """Stop and start."""
        await self._caller.call("POST", self._path(name, "restart"), query={"t": seconds, "signal": signal})

    async def kill(self, name: str, *, signal: str = "") -> None:
        """Send a signal (default SIGKILL)."""
        await self._caller.call("POST", self._path(name, "kill"), query={"signal": signal})

    async def pause(self, name: str) -> None:
        """Freeze all its processes."""
        await self._caller.call("POST", self._path(name, "pause"))

    async def unpause(self, name: str) -> None:
        """Let its processes go on."""
        await self._caller.call("POST", self._path(name, "unpause"))

    async def rename(self, name: str, new_name: str) -> None:
        """Give it another name."""
        await self._caller.call("POST", self._path(name, "rename"), query={"name": new_name})

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        """Remove it; ``force`` kills it first, ``volumes`` removes its anonymous volumes."""
        query: Values = {"force": force, "v": volumes, "link": link}
        await self._caller.call("DELETE", self._path(name), query=query)

    async def resize(self, name: str, height: int, width: int) -> None:
        """Tell its terminal the new size in characters."""
        await self._caller.call("POST", self._path(name, "resize"), query={"h": height, "w": width})

    async def top(self, name: str, ps_args: str = "") -> Document:
        """Its processes: ``Titles`` and ``Processes``."""
        found: Document = await self._caller.call("GET", self._path(name, "top"), query={"ps_args": ps_args})
        return found

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove all that have stopped."""
        query: Values = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/containers/prune", query=query)
        return removed

    async def unpersisted(self, name: str, *, entries: int | None = None) -> Document:
        """Data in its writable layer, and what would keep it; at most ``entries`` directory entries are looked at."""
        path = f"/tare{self._path(name, 'unpersisted')}"
        found: Document = await self._caller.call("GET", path, query={"entries": entries})
        return found

    async def wait(self, name: str, condition: str = "not-running") -> Waiting:
        """Begin to wait for ``not-running``, ``next-exit`` or ``removed``."""
        return Waiting(await self._caller.open("POST", self._path(name, "wait"), query={"condition": condition}))

    async def attach(
        self,
        name: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> Attached:
        """Connect to its streams; ``detach_keys`` as ``ctrl-p,ctrl-q``, the default."""
        query: Values = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "logs": logs}
        if detach_keys:
            query = {**query, "detachKeys": detach_keys}
        return Attached(await self._caller.open("POST", self._path(name, "attach"), query=query, upgrade=True))

    async def logs(
        self,
        name: str,
        *,
        tty: bool,
        follow: bool = False,
        tail: str = "",
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        details: bool = False,
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Its output so far as ``(stream, data)``, with ``follow`` also what comes; ``tty`` as in its configuration."""
        query: Values = {"stdout": True, "stderr": True, "follow": follow, "tail": tail, "timestamps": timestamps}
        query |= {"since": since, "until": until, "details": details}
        async with await self._caller.open("GET", self._path(name, "logs"), query=query) as response:
            if tty:
                async for data in response.chunks():
                    yield STDOUT, data
                return
            async for piece in demultiplex(response.chunks()):
                yield piece

    async def changes(self, name: str) -> Documents:
        """What it has changed in its image's files."""
        found: Documents | None = await self._caller.call("GET", self._path(name, "changes"))
        return found or []

    async def export(self, name: str) -> Response:
        """The answer that carries a tar of its files; close it."""
        return await self._caller.open("GET", self._path(name, "export"))

    async def commit(
        self,
        name: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> str:
        """Make an image of it; returns its identifier."""
        query: Values = {"container": name, "repo": repository, "tag": tag, "author": author, "comment": comment}
        query |= {"changes": [*changes], "pause": None if pause else "0"}
        made: Document = await self._caller.call("POST", "/commit", query=query)
        return str(made["Id"])

    async def update(self, name: str, document: Document) -> Sequence[str]:
        """Change its limits (the API's ContainerUpdate); returns warnings."""
        answer: Document = await self._caller.call("POST", self._path(name, "update"), document=document)
        return answer.get("Warnings") or []

    async def stats(self, name: str, *, stream: bool = False) -> AsyncIterator[Document]:
        """What it uses: once, reckoned over a second, or each second."""
        query: Values = {"stream": "1" if stream else "0"}
        async with await self._caller.open("GET", self._path(name, "stats"), query=query) as response:
            async for document in response.documents():
                yield document

    def _archive_path(self, name: str) -> str:
        return self._path(name, "archive")

    @staticmethod
    def _path(name: str, action: str = "") -> str:
        return f"/containers/{segment(name).replace('/', '%2F')}" + (f"/{action}" if action else "")
