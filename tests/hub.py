"""A stand-in for the hub: a server on this machine that speaks its protocol, for our calls alone.

    with serving() as hub:
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        hub.faults.flip_byte_in = "model.safetensors"
        …
        hub.repositories["model", "org/name"].files_at("step5")["config.json"]

It keeps real bytes, names small files by git's hash and large ones by their SHA-256, and states
what it holds, not what it was told. Faults make it misbehave as networks and people do.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_trees import LARGE, git_hash, list_tree, stretch

TOKEN = "hf_ofTheStandInOnly0123456789"
Answer = tuple[int, Any]


@dataclass
class Faults:
    """What goes wrong.

    Attributes:
        cut_at_commit: the connection ends at the k-th commit, from 1, and nothing is kept of it.
        cut_after_commit: it ends after the k-th commit was kept, before the answer.
        flip_byte_in: files of this name lose a bit on their way.
        drop: files of this name are not kept.
        read_only: tokens may not write.
        at_request: told the number of each request, from 1; a status that it returns is the answer,
            0 ends the connection without one, and None lets the request through.
        at_commit: called with the number of each commit.
    """

    cut_at_commit: int | None = None
    cut_after_commit: int | None = None
    flip_byte_in: str | None = None
    drop: str | None = None
    read_only: bool = False
    at_request: Callable[[int], int | None] | None = None
    at_commit: Callable[[int], None] | None = None


@dataclass
class Repository:
    """Commits, each a whole tree; a branch and tags that name them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    head: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, tree: dict[str, bytes], message: str) -> str:
        """Add a commit to `main`; returns its name."""
        told = [self.head, message, *sorted(f"{name} {git_hash(tree[name])}" for name in tree)]
        self.head = hashlib.sha1("\n".join(told).encode()).hexdigest()
        self.commits[self.head] = tree
        self.messages.append(message)
        return self.head

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own name means."""
        if revision == "main":
            return self.head
        found = self.tags.get(revision, revision)
        return found if found in self.commits else None

    def files_at(self, revision: str) -> dict[str, bytes]:
        """Name → content, but for what the hub adds of its own."""
        commit = self.find(revision)
        assert commit is not None, revision
        tree = self.commits[commit]
        return {name: tree[name] for name in tree if name != ".gitattributes"}


class Hub:
    """What the server knows; `requests` lists every call, as `POST /api/…`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults = Faults()
        self.commits = 0
        self.endpoint = ""

    def make(self, kind: str, name: str, *, private: bool = False) -> Repository:
        """A repository as the hub makes it: with one file of its own."""
        made = self.repositories[kind, name] = Repository(private=private)
        made.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return made

    def write(self, folder: Path, kind: str, name: str, revision: str) -> Path:
        """Put a revision's files on the disk, as a download does."""
        for path, content in self.repositories[kind, name].files_at(revision).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def uploads(self) -> list[str]:
        """Calls that changed something."""
        reading = ("preupload", "validate-yaml", "objects/batch")
        return [
            each
            for each in self.requests
            if each.startswith(("POST", "PUT")) and not any(word in each for word in reading)
        ]


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1, for the block."""
    hub = Hub()
    handler = type("BoundHandler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Cut(Exception):  # noqa: N818 - it names what happens
    """The connection ends without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer is one packet, or the kernel waits between its halves
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        split = urlsplit(self.path)
        parts = [unquote(part) for part in split.path.split("/") if part]
        self.hub.requests.append(f"{self.command} {split.path}")
        try:
            status, answer = self._answer(parts, parse_qs(split.query), body)
        except _Cut:
            self.close_connection = True
            return
        headers = {}
        if isinstance(answer, bytes):
            content, headers = answer, {"ETag": f'"{git_hash(answer)}"', "X-Repo-Commit": "0" * 40}
        else:
            content = json.dumps(answer).encode()
            if status >= 400:
                headers = {"X-Error-Code": answer["code"], "X-Error-Message": answer["error"]}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Answer:
        at_request = self.hub.faults.at_request
        fault = at_request(len(self.hub.requests)) if at_request else None
        if fault == 0:
            raise _Cut
        if fault is not None:
            return fault, {"code": "", "error": f"{fault} for a test"}
        if parts[0] == "large":
            return self._large(parts[1], body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"code": "", "error": "Invalid credentials in Authorization header"}
        if parts == ["api", "whoami-v2"]:
            return 200, {"name": "me", "type": "user", "orgs": []}
        if parts == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        kind = "dataset" if "datasets" in parts[:2] else "model"
        parts = [part for part in parts[:2] if part not in {"api", "models", "datasets"}] + parts[
            2:
        ]
        name = "/".join(parts[:2]).removesuffix(".git")
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return 404, {"code": "RepoNotFound", "error": "Repository not found"}
        if parts[-2:] == ["objects", "batch"]:
            return self._batch(json.loads(body))
        told = parts[2:4]
        what, revision = (*told, *("revision", "main")[len(told) :])
        if what == "refs":
            tags = [_reference("tags", tag, at) for tag, at in repository.tags.items()]
            heads = [_reference("heads", "main", repository.head)]
            return 200, {"branches": heads, "converts": [], "tags": tags}
        commit = repository.find(revision)
        if commit is None:
            return 404, {"code": "RevisionNotFound", "error": "Revision not found"}
        tree, path = repository.commits[commit], "/".join(parts[4:])
        missing = {"code": "EntryNotFound", "error": "Entry not found"}
        if what == "revision":
            return 200, {"id": name, "sha": commit, "siblings": [], "tags": [], "private": False}
        if what == "tree":
            listed = list_tree(tree, path, recursive=query.get("recursive") == ["true"])
            return (404, missing) if listed is None else (200, listed)
        if what == "resolve":
            if path not in tree:
                return 404, missing
            return stretch(tree[path], self.headers.get("Range", ""))
        if what == "preupload":
            listed = json.loads(body)["files"]
            return 200, {"files": [_mode(each["path"], repository) for each in listed]}
        if self.hub.faults.read_only:
            return 403, {"code": "", "error": "Forbidden: you must have write access"}
        if what == "tag":
            tag = json.loads(body)["tag"]
            if tag in repository.tags:
                return 409, {"code": "", "error": "Tag exists"}
            repository.tags[tag] = commit
            return 200, {}
        assert what == "commit", parts
        lines = [json.loads(line) for line in body.splitlines()]
        return self._commit(repository, f"{'datasets/' if kind == 'dataset' else ''}{name}", lines)

    def _create(self, asked: dict[str, Any]) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        kind = asked.get("type", "model")
        if self.hub.faults.read_only:
            return 403, {"code": "", "error": "You don't have the rights to create a model"}
        if (kind, name) in self.hub.repositories:
            return 409, {"code": "", "error": "You already created this repo"}
        self.hub.make(kind, name, private=asked.get("visibility") == "private")
        return 200, {"url": f"{self.hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"}

    def _batch(self, asked: dict[str, Any]) -> Answer:
        if self.hub.faults.read_only:
            return 403, {"code": "", "error": "Forbidden: you must have write access"}
        objects = []
        for each in asked["objects"]:
            action = {"upload": {"href": f"{self.hub.endpoint}/large/{each['oid']}"}}
            known = each["oid"] in self.hub.objects
            objects.append(each if known else {**each, "actions": action})
        return 200, {"transfer": "basic", "objects": objects}

    def _large(self, sha256: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != sha256:
            return 400, {"code": "", "error": "the content has another hash"}
        self.hub.objects[sha256] = body
        return 200, {}

    def _commit(self, repository: Repository, place: str, lines: list[dict[str, Any]]) -> Answer:
        faults = self.hub.faults
        self.hub.commits += 1
        if faults.at_commit:
            faults.at_commit(self.hub.commits)
        if faults.cut_at_commit == self.hub.commits:
            raise _Cut
        header, *operations = lines
        if header["value"].get("parentCommit", repository.head) != repository.head:
            return 412, {"code": "", "error": "A commit has happened since. Please refresh"}
        tree = dict(repository.commits[repository.head])
        for operation in operations:
            value = operation["value"]
            name = value["path"]
            if operation["key"] == "deletedFile":
                del tree[name]
            elif name != faults.drop:
                lfs = operation["key"] == "lfsFile"
                content = (
                    self.hub.objects[value["oid"]] if lfs else base64.b64decode(value["content"])
                )
                tree[name] = _flipped(content) if name == faults.flip_byte_in else content
        oid = repository.commit(tree, header["value"]["summary"])
        if faults.cut_after_commit == self.hub.commits:
            raise _Cut
        return 200, {"commitUrl": f"{self.hub.endpoint}/{place}/commit/{oid}", "commitOid": oid}


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _mode(name: str, repository: Repository) -> dict[str, Any]:
    held = repository.commits[repository.head].get(name)
    large = name.endswith(LARGE)
    known = held and (hashlib.sha256(held).hexdigest() if large else git_hash(held))
    mode = "lfs" if large else "regular"
    return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": known}


def _reference(group: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{group}/{name}", "targetCommit": commit}
