"""An S3 protocol server on loopback as a process of its own (moto), which takes all keys: prints its port."""

from __future__ import annotations

import threading

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
