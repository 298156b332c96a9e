"""A service that only its own network may reach: answers GET /health on port 9000."""

from __future__ import annotations

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

PORT = 9000


class Handler(BaseHTTPRequestHandler):
    """Answers GET /health and nothing else."""

    def do_GET(self) -> None:
        found = self.path == "/health"
        body = b'{"status":"ok"}' if found else b'{"error":"not found"}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def stop(_number: int, _frame: FrameType | None) -> None:
    """End at once: there is no state to save, and process 1 has no default signal action."""
    sys.exit(0)


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, stop)
    with ThreadingHTTPServer(("0.0.0.0", PORT), Handler) as server:
        print(f"listening on port {PORT}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
