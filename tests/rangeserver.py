"""A web server of one folder's files that counts what it is asked for, run as ``python rangeserver.py FOLDER LOG``.

It is a process of its own, since GDAL holds Python's lock while it opens a file. The first part of a URL's path says
how the server behaves: ``good`` answers ranges, ``plain`` has none and sends whole files, ``flaky`` answers every
second request only, ``broken`` answers 503 after the first requests of a file, ``silent`` says nothing for ever,
``secret`` forbids.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    folder: Path
    log: Path
    lock = threading.Lock()
    asked: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def answer(self, *, with_body: bool) -> None:
        manner, _, name = self.path.partition("?")[0].lstrip("/").partition("/")
        file = self.folder / name
        with self.lock:
            self.asked[self.path] += 1
            times = self.asked[self.path]
        if manner == "silent":
            time.sleep(600)
        if manner == "secret":
            return self.reply(403, b"", with_body)
        if not file.is_file():
            return self.reply(404, b"", with_body)
        if (manner == "flaky" and times % 2) or (manner == "broken" and times > 4):
            return self.reply(503, b"busy", with_body)
        data = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or manner == "plain":
            return self.reply(200, data, with_body)
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first > last:
            return self.reply(416, b"", with_body)
        return self.reply(206, data[first : last + 1], with_body, f"bytes {first}-{last}/{len(data)}")

    def reply(self, status: int, data: bytes, with_body: bool, content_range: str = "") -> None:
        with self.lock, self.log.open("a") as log:
            entry = {"method": self.command, "path": self.path, "status": status, "bytes": len(data) * with_body}
            log.write(json.dumps({**entry, "range": self.headers.get("Range")}) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if not self.path.startswith("/plain"):
            self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def main() -> None:
    """Serve until the process is ended; the port is the first line of the output."""
    Handler.folder, Handler.log = Path(sys.argv[1]), Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
