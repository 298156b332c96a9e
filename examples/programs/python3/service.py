"""Notes in memory: POST /notes takes one, GET /notes gives all with the time in a zone (?zone=Europe/Berlin)."""

import json
import signal
import sqlite3
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

_lock = threading.Lock()
_notes = sqlite3.connect(":memory:", check_same_thread=False)
_notes.execute("CREATE TABLE notes (text TEXT NOT NULL, at TEXT NOT NULL)")


class Notes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        zone = ZoneInfo(parse_qs(urlsplit(self.path).query).get("zone", ["UTC"])[0])
        with _lock:
            rows = _notes.execute("SELECT text, at FROM notes").fetchall()
        self._answer(
            [{"text": text, "at": datetime.fromisoformat(at).astimezone(zone).isoformat()} for text, at in rows]
        )

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with _lock:
            _notes.execute("INSERT INTO notes VALUES (?, ?)", (text, datetime.now(UTC).isoformat()))
        self._answer({"stored": text}, 201)

    def _answer(self, document: object, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("", 8080), Notes)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening on 8080", flush=True)
server.serve_forever()
