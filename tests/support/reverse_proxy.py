"""A reverse proxy as companies have them: HTTPS outside, HTTP inside, at a path of its own or not."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
SECONDS = 20.0


class ReverseProxy:
    """Passes requests on to ``target`` (http://host:port). Use as a context manager.

    With ``strip`` it takes that prefix off the path, and says so in a header.
    """

    def __init__(self, target: str, tls: ssl.SSLContext, strip: str = "") -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.target, self._server.strip = target, strip
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="reverse proxy")

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    target: str
    strip: str


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server: _Server

    def _pass_on(self) -> None:
        path = self.path.removeprefix(self.server.strip)
        said: dict[str, str] = {
            "X-Forwarded-For": self.client_address[0], "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Prefix": self.server.strip,
        }  # fmt: skip
        theirs = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = httpx.request(
            self.command, f"{self.server.target}{path}", headers=theirs | said, content=body,
            timeout=SECONDS, trust_env=False,
        )  # fmt: skip
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name.lower() not in HOP_BY_HOP | {"content-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _pass_on  # noqa: N815 — http.server finds them by these names

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""
