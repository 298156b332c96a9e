"""A registry whose answers a test decides: wrong digests, cut and oversized blobs, connections that break or wait.

What is put in is served by the names that it has, whether or not they fit; `Blob` says how its bytes are sent.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(name: str, data: bytes) -> bytes:
    """A layer with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Blob:
    """Bytes, and how they go out: ``cut`` breaks the connection after as many bytes, ``breaks`` times.

    ``gate``: nothing is sent before it is set.
    """

    data: bytes
    cut: int = -1
    breaks: int = 1
    gate: threading.Event | None = None


class FaultyRegistry:
    """A server on loopback for the time of the block."""

    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.requests: list[str] = []
        self.asked = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def put_image(
        self,
        name: str,
        layers: Sequence[bytes],
        *,
        diff_ids: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        media_type: str = OCI_LAYER,
        config_type: str = OCI_CONFIG,
    ) -> dict[str, Any]:
        """An image whose layers are these tars (as gzip) under ``repository:tag``; returns its manifest."""
        packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids or (sha256(layer) for layer in layers))},
            **(config or {}),
        }
        configuration = json.dumps(document).encode()
        for data in (configuration, *packed):
            self.blobs[sha256(data)] = Blob(data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": config_type, "size": len(configuration), "digest": sha256(configuration)},
            "layers": [{"mediaType": media_type, "size": len(data), "digest": sha256(data)} for data in packed],
        }
        self.put_manifest(name, OCI_MANIFEST, manifest)
        return manifest

    def put_manifest(self, name: str, media_type: str, document: Mapping[str, Any]) -> str:
        """A manifest under ``repository:tag`` and its digest, which is returned."""
        data = json.dumps(document).encode()
        repository = name.rpartition(":")[0]
        for reference in (name, f"{repository}:{sha256(data)}"):
            self.manifests[reference.replace(":", "/manifests/", 1)] = (media_type, data)
        return sha256(data)

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return when as many requests that contain ``text`` have come."""
        with self.asked:
            assert self.asked.wait_for(lambda: sum(text in one for one in self.requests) >= count, 30), self.requests

    def __enter__(self) -> FaultyRegistry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for blob in self.blobs.values():
            if blob.gate is not None:
                blob.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(registry: FaultyRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with registry.asked:
                registry.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
                registry.asked.notify_all()
            path = self.path.removeprefix("/v2/")
            if not path:
                self._answer(200, b"{}", "application/json")
            elif path in registry.manifests:
                media_type, data = registry.manifests[path]
                self._answer(200, data, media_type)
            elif (digest := path.rpartition("/")[2]) in registry.blobs:
                self._blob(registry.blobs[digest])
            else:
                error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {}}]}
                self._answer(404, json.dumps(error).encode(), "application/json")

        do_HEAD = do_GET  # noqa: N815 - the name that the parent looks for

        def _blob(self, blob: Blob) -> None:
            if blob.gate is not None:
                blob.gate.wait()
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            data = blob.data[begin:]
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(blob.data) - 1}/{len(blob.data)}")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if blob.cut >= 0 and blob.breaks:
                blob.breaks -= 1
                data = data[: blob.cut]
                self.close_connection = True
            if self.command == "GET":
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(data)

        def _answer(self, status: int, data: bytes, media_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the parent's name
            """Requests are noted, not printed."""

    return Handler
