"""A folder on a web server of this machine, with index pages and range requests, that can fail.

with web_folder(tmp_path) as web:
    web.faults.cut_at = 5_000
    … f"{web.url}/books/" …
    web.requests                       # ["HEAD /books/a.jsonl", "GET /books/a.jsonl 0-4095", …]
"""

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


@dataclass
class Faults:
    """What goes wrong.

    Attributes:
        cut_at: the connection ends when it has sent the byte with this number in the file.
        cuts: how often it does.
        status: told the method and path of each request; a number that it returns is the answer.
        redirect: where every request is sent on to.
        without_ranges: a range is answered by the whole file.
        without_length: nobody is told how long a file is.
        without_version: no ETag.
        short_by: so many bytes of each range are missing, though it says that it is whole.
        authorization: what every request must state.
    """

    cut_at: int | None = None
    cuts: int = 1 << 30
    status: Callable[[str, str], int | None] = lambda _method, _path: None
    redirect: str | None = None
    without_ranges: bool = False
    without_length: bool = False
    without_version: bool = False
    short_by: int = 0
    authorization: str | None = None


@dataclass
class WebFolder:
    """What the server serves, and what it was asked for."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    encodings: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    bytes_sent: int = 0


@contextlib.contextmanager
def web_folder(folder: Path) -> Iterator[WebFolder]:
    """Serve a folder on a free port of 127.0.0.1, for the block."""
    web = WebFolder(folder)
    handler = type("BoundHandler", (_Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebFolder

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        asked = f" {wanted[1]}-{wanted[2]}" if wanted else ""
        self.web.requests.append(f"{self.command} {path}{asked}")
        faults = self.web.faults
        file = self.web.folder / path.lstrip("/")
        if wanted:
            self.web.encodings.add(self.headers.get("Accept-Encoding", ""))
        if faults.authorization not in (None, self.headers.get("Authorization")):
            self._answer(401, b"")
        elif status := faults.status(self.command, path):
            self._answer(status, b"")
        elif faults.redirect:
            self._answer(302, b"", {"Location": faults.redirect})
        elif file.is_dir():
            self._answer(200, _index(file), {"Content-Type": "text/html"})
        elif not file.is_file():
            self._answer(404, b"")
        else:
            self._file(file.read_bytes(), wanted)

    def _file(self, content: bytes, wanted: re.Match[str] | None) -> None:
        faults = self.web.faults
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if faults.without_version:
            headers = {}
        if wanted is None or faults.without_ranges:
            self._answer(200, content, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        part = content[first : last + 1 - faults.short_by]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        cut = faults.cut_at
        if cut is not None and first <= cut <= last and faults.cuts:
            faults.cuts -= 1
            self._answer(206, part, headers, sent=cut - first)
        else:
            self._answer(206, part, headers)

    def _answer(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        *,
        sent: int | None = None,
    ) -> None:
        headers = headers or {}
        self.send_response(status)
        if self.web.faults.without_length:
            self.close_connection = True
        else:
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:sent])
            self.web.bytes_sent += len(content[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True


def _index(folder: Path) -> bytes:
    """An index page as Apache makes them: with the way up, and ways to sort."""
    names = [f"{each.name}/" if each.is_dir() else each.name for each in sorted(folder.iterdir())]
    links = ['<a href="?C=M;O=A">Modified</a>', '<a href="../">up</a>', '<a href="/">top</a>']
    links += [f'<a href="{quote(name)}">{escape(name)}</a>' for name in names]
    return "\n".join(links).encode()
