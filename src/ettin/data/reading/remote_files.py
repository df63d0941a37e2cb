"""Files that lie elsewhere, read in ranges: whatever `fsspec` has a filesystem for.

    with open_remote("s3://bucket/books/a.jsonl", size=81_234, version="9b2cf…") as stream:
        line = stream.readline()

A store that fails must never look like the end of a file. Every range is asked for by its ends and
counted when it comes; what is short or fails is asked for again, and then ends the command with
`SourceUnavailableError`, whatever is done about defects: a defect of a file would be there again
tomorrow, one of the way to it would silently make another corpus. For the same reason a file that
is not the one that was listed is not read.
"""

import contextlib
import io
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ettin.data.reading.places import WEB, credentials_hint, protocol_of, without_secrets
from ettin.errors import CommandFailed, InputError, nearest

READ_AHEAD_BYTES = 4 << 20
MOST_BYTES_AT_ONCE = 16 << 20
WAIT_SECONDS = (0.3, 2.0)
"""Before the second and the third attempt to get a range."""

_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
}
_VERSIONS = (
    "blob_id", "md5Hash", "ETag", "etag", "Content-MD5", "Digest", "generation", "xet_hash",
    "Last-Modified", "LastModified", "last_modified", "updated", "modified", "mtime", "created",
)  # fmt: skip
_DENIED = (401, 403)
_ABSENT = 404


class SourceUnavailableError(CommandFailed):
    """A store, or the way to it, failed; nothing is wrong with what was asked for.

    Args:
        message: what failed and how.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)

    def __reduce__(self) -> tuple[type["SourceUnavailableError"], tuple[str]]:
        return type(self), (str(self),)  # it comes back from worker processes


def open_remote(url: str, *, size: int, version: str) -> io.BufferedReader:
    """A file that lies elsewhere, to be read in ranges of 4 MB or more, and seekable.

    Args:
        url: where it lies, without credentials.
        size: its bytes, as listed.
        version: its version, as listed; empty when the store tells none.

    Raises:
        SourceUnavailableError: it cannot be opened, or is no longer what was listed.
        InputError: a package is missing, or credentials.
    """
    raw = RemoteFile(url, size=size, version=version)
    return io.BufferedReader(raw, max(1, min(READ_AHEAD_BYTES, size)))


class RemoteFile(io.RawIOBase):
    """The bytes of one file elsewhere; for the arguments see `open_remote`."""

    def __init__(self, url: str, *, size: int, version: str) -> None:
        super().__init__()
        self._url, self._size, self._at = url, size, 0
        self._filesystem, self._path = filesystem_of(url)
        self._handle: Any = None
        if protocol_of(url) != "hf":  # whose URLs name a commit
            self._compare(version)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; nothing is asked for."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"{start + offset} lies before the beginning of a file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, or as much of it as is asked for at once or left in the file.

        Raises:
            SourceUnavailableError: the range did not come whole, time after time.
        """
        into = memoryview(buffer).cast("B")
        wanted = min(len(into), self._size - self._at, MOST_BYTES_AT_ONCE)
        if wanted <= 0:
            return 0
        into[:wanted] = self._range(self._at, self._at + wanted)
        self._at += wanted
        return wanted

    def readall(self) -> bytes:
        """What is left of the file, in a few large ranges; by itself Python asks for 8 KiB each."""
        content = bytearray(max(0, self._size - self._at))
        into = memoryview(content)
        while into:
            into = into[self.readinto(into) :]
        return bytes(content)

    def close(self) -> None:
        """Let go of the connection."""
        if not self.closed:
            self._hang_up()
        super().close()

    def _range(self, begin: int, end: int) -> bytes:
        for wait in (*WAIT_SECONDS, None):
            try:
                if self._handle is None:
                    self._handle = self._connect()
                self._handle.seek(begin)
                data: bytes = self._handle.read(end - begin)
                if len(data) == end - begin:
                    return data
                problem = f"{len(data):,} bytes came"
            except Exception as error:  # noqa: BLE001 - a store raises what its libraries do
                problem = reason_of(error)
            self._hang_up()
            if wait is not None:
                time.sleep(wait)
        raise SourceUnavailableError(
            f"{without_secrets(self._url)}: bytes {begin:,} to {end:,} of {self._size:,} did not "
            f"come in {len(WAIT_SECONDS) + 1} attempts ({problem}). Nothing is skipped for that; "
            "the same command goes on when the store answers"
        )

    def _connect(self) -> Any:
        options: dict[str, Any] = {"cache_type": "none"}
        protocol = protocol_of(self._url)
        if protocol in ("hf", *WEB):
            options["size"] = self._size
        if protocol in WEB:  # a server that compresses on the way would count other bytes
            given = self._filesystem.kwargs.get("headers", {})
            options["headers"] = {**given, "Accept-Encoding": "identity"}
        return self._filesystem.open(self._path, "rb", **options)

    def _hang_up(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(Exception):
                self._handle.close()
            self._handle = None

    def _compare(self, version: str) -> None:
        for wait in (*WAIT_SECONDS, None):
            try:
                found = self._filesystem.info(self._path)
                break
            except Exception as error:
                if wait is None:
                    raise explained(error, self._url) from error
                time.sleep(wait)
        # A store may say more of one file than of each in a listing: like is compared with like.
        told = version_of(found, (version.partition(" ")[0],))
        if found.get("size") != self._size or (told and told != version):
            raise SourceUnavailableError(
                f"{without_secrets(self._url)} has changed since it was listed: then "
                f"{self._size} bytes, version {version or 'unknown'}; now {found.get('size')} "
                f"bytes, version {told or 'unknown'}. Give the command again, with another --out"
            )


def filesystem_of(url: str) -> tuple[Any, str]:
    """The `fsspec` filesystem of a URL, and the path inside it.

    Raises:
        InputError: no filesystem is known by that protocol, its package is missing, or it needs
            more than a URL.
    """
    import fsspec  # type: ignore[import-untyped]

    protocol = protocol_of(url)
    known = fsspec.available_protocols()
    if protocol not in known:
        raise InputError(f"{without_secrets(url)}: {protocol}:// is unknown; "
                         f"{nearest(protocol, known)}")  # fmt: skip
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        raise InputError(
            f"{protocol}:// needs a package that is not installed: "
            + (f"pip install {package}" if package else without_secrets(str(error)))
        ) from error
    except (ValueError, TypeError, OSError) as error:
        raise explained(error, url) from error
    return filesystem, path


@contextlib.contextmanager
def asking(url: str) -> Iterator[None]:
    """Turn what a store answers into one sentence and its exit code; see `explained`."""
    try:
        yield
    except (InputError, SourceUnavailableError):
        raise
    except Exception as error:
        raise explained(error, url) from error


def explained(error: Exception, url: str) -> InputError | SourceUnavailableError:
    """What a store answered, or a failure on the way to it, as an error to raise.

    Returns:
        `InputError` where something is not there or not allowed, which the caller can mend;
        `SourceUnavailableError` for everything else.
    """
    if isinstance(error, InputError | SourceUnavailableError):
        return error
    shown, reason, status = without_secrets(url), reason_of(error), _status(error)
    denied = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    if status in _DENIED or (denied and status is None):
        hint = credentials_hint(protocol_of(url))
        return InputError(f"{shown}: no access ({reason}). {hint}")
    # That of the web calls everything "not found"; what stands behind it says more.
    certain = protocol_of(url) not in WEB or error.__cause__ is None
    absent = isinstance(error, FileNotFoundError | NotADirectoryError) and certain
    if status == _ABSENT or absent or isinstance(error, ValueError | NotImplementedError):
        return InputError(f"{shown}: there is nothing to read ({reason}); is it spelt right?")
    return SourceUnavailableError(
        f"{shown}: {reason}; the same command goes on when the store answers"
    )


def reason_of(error: BaseException) -> str:
    """What is said of a failure, in one line and without secrets."""
    # The outermost of a chain of errors is told in the words of its filesystem; some of these say
    # nothing but the URL.
    while " " not in str(error) and error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split()).rstrip(".")
    return without_secrets(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def version_of(info: dict[str, Any], kinds: tuple[str, ...] = _VERSIONS) -> str:
    """What a store says of a file that changes with its content; empty when it says nothing.

    Args:
        info: what it says of the file.
        kinds: what may tell, the most reliable first.

    Returns:
        What tells, and what it says: `ETag 9b2cf…`.
    """
    for kind in kinds:
        if told := info.get(kind):
            if isinstance(told, datetime):  # what a listing gives as seconds
                told = told.timestamp()
            return f"{kind} {told:.6f}" if isinstance(told, float) else f"{kind} {told}"
    return ""


def _status(error: BaseException | None) -> int | None:
    """The status of an answer over HTTP that stands behind an error."""
    while error is not None:
        answer = getattr(error, "response", None)
        for status in (getattr(error, "status", None), getattr(answer, "status_code", None)):
            if isinstance(status, int):
                return status
        error = error.__cause__
    return None
