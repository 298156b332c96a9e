"""A volume plugin as a process of its own, written from Docker's published protocol; nothing of Tare is imported.

    volume_plugin.py SOCKET DIRECTORY

Volumes are directories below DIRECTORY; ``state.json`` beside them survives the process. The option ``behave`` of a
volume makes the plugin misbehave: ``hang-mount``, ``die-mount``, ``refuse-mount``, ``refuse-create``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

SOCKET, DIRECTORY = Path(sys.argv[1]), Path(sys.argv[2])
STATE = DIRECTORY / "state.json"
NEVER = threading.Event()
LOCK = threading.Lock()


def load() -> dict[str, Any]:
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def save(state: dict[str, Any]) -> None:
    STATE.write_text(json.dumps(state))


def answer(method: str, request: dict[str, Any]) -> dict[str, Any]:
    with LOCK:
        state = load()
        name = request.get("Name", "")
        volume = state.get(name)
        if method == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if method == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if method == "VolumeDriver.List":
            return {"Volumes": [{"Name": name, "Mountpoint": one["path"]} for name, one in state.items()]}
        if method == "VolumeDriver.Create":
            options = request.get("Opts") or {}
            if options.get("behave") == "refuse-create":
                return {"Err": "no room on the array"}
            path = DIRECTORY / f"vol-{name}"
            path.mkdir(exist_ok=True)
            state.setdefault(name, {"path": str(path), "options": options, "mounts": []})
            save(state)
            return {"Err": ""}
        if volume is None:
            return {"Err": f"no such volume {name}"}
        if method == "VolumeDriver.Get":
            return {
                "Volume": {
                    "Name": name,
                    "Mountpoint": volume["path"] if volume["mounts"] else "",
                    "Status": {"mounts": len(volume["mounts"])},
                }
            }
        if method == "VolumeDriver.Path":
            return {"Mountpoint": volume["path"]}
        if method == "VolumeDriver.Mount":
            behave = volume["options"].get("behave")
            if behave == "refuse-mount":
                return {"Err": "the array is offline"}
            if behave == "die-mount":
                os._exit(3)
            if behave != "hang-mount":
                volume["mounts"] = sorted({*volume["mounts"], request["ID"]})
                save(state)
                return {"Mountpoint": volume["path"]}
        elif method == "VolumeDriver.Unmount":
            volume["mounts"] = [one for one in volume["mounts"] if one != request["ID"]]
            save(state)
            return {}
        elif method == "VolumeDriver.Remove":
            del state[name]
            save(state)
            return {}
    NEVER.wait()
    return {}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = json.dumps(answer(self.path.strip("/"), json.loads(body or b"{}"))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.2+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "engine"

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


SOCKET.unlink(missing_ok=True)
with Server(str(SOCKET), Handler) as server:
    print("listening", flush=True)
    server.serve_forever()
