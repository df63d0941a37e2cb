"""Where text lies, as a person writes it: a path, a pattern, or a URL; nothing is opened here.

    split_pattern("books/**/*.jsonl.gz")      # ("books", Pattern(("**", "*.jsonl.gz")))
    check_url("https://me:secret@host/a")     # InputError: credentials do not belong into a URL

A pattern names files, and folders that are read with all below, as a shell would expand it: `*`
and `?` stand for anything within a name, `[ab]` for one of these, and `**` for any folders. In a
URL of the web, `?` begins a query, which is refused: it can hold a signature, and manifests keep
the command.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ettin.errors import InputError

WEB = ("http", "https")
_THIS_MACHINE = ("file", "local")

_ANY_FOLDERS = "**"
_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"[A-Za-z0-9+.-]+(?:::[^/]*)?(?:://[^:]*)?::[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(?:[^@:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_PARAMETER = re.compile(r"\?[^/?=]+=")
_NAME_AND_PASSWORD = re.compile(r"://(?:[^\s/@]*@|[^\s/:]+:(?![0-9]+(?:/|\s|$))[^\s@]*@)")
_WEB_QUERY = re.compile(r"(?P<url>https?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_QUERY = re.compile(r"(?P<url>[A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s?'\"<>/=]+=[^\s'\"<>]*")
_NAMED_CONTAINERS = ("abfs", "abfss", "az", "adl")  # their URLs read container@account
_NAMED_USERS = ("sftp", "ssh", "ftp", "smb")


@dataclass(frozen=True)
class Pattern:
    """What follows the fixed part of a path, by its names; matched against names below that part.

    Attributes:
        parts: names with wildcards, or `**`.
    """

    parts: tuple[str, ...]

    def matches(self, names: list[str]) -> bool:
        """Whether the path of a file below the fixed part is meant, or a folder that it lies in."""
        return len(self.parts) in self._reached(names)

    def enters(self, names: list[str]) -> bool:
        """Whether files below this folder can be meant."""
        return bool(self._reached(names))

    def takes_all_below(self, names: list[str]) -> bool:
        """Whether what is meant may lie at any depth below this folder."""
        reached = self._reached(names)
        return any(
            place == len(self.parts) or self.parts[place] == _ANY_FOLDERS for place in reached
        )

    def _reached(self, names: list[str]) -> set[int]:
        """The parts that could stand for the next name; their number where all have matched."""
        reached = self._over_any_folders({0})
        for name in names:
            onward = set()
            for place in reached:
                if place == len(self.parts) or self.parts[place] == _ANY_FOLDERS:
                    onward.add(place)
                elif fnmatchcase(name, self.parts[place]):
                    onward.add(place + 1)
            reached = self._over_any_folders(onward)
        return reached

    def _over_any_folders(self, places: set[int]) -> set[int]:
        """With the places after each `**`, which may stand for no folder at all."""
        for place in sorted(places):
            while place < len(self.parts) and self.parts[place] == _ANY_FOLDERS:
                place += 1
                places.add(place)
        return places


def protocol_of(place: str) -> str:
    """What stands before `://`, in small letters; empty for a path on this machine."""
    found = _URL.match(place)
    return found["protocol"].lower() if found else ""


def local_place(place: Path | str) -> Path | None:
    """The path, or pattern of paths, that is meant on this machine; None for a URL elsewhere.

    Raises:
        InputError: a `file://` URL of another machine.
    """
    if isinstance(place, Path):
        return place
    protocol = protocol_of(place)
    if protocol not in _THIS_MACHINE:
        return None if protocol else Path(place)
    host, slash, path = place.partition("://")[2].partition("/")
    if host not in ("", "localhost"):
        raise InputError(
            f"{without_secrets(place)}: expected {protocol}:///PATH, with three slashes, for a "
            "file of this machine"
        )
    return Path(slash + path)


def check_url(url: str) -> None:
    """Refuse what must not be written down, or cannot be read, without repeating it.

    Raises:
        InputError: a URL with a name and password, with a query, or one inside another.
    """
    shown, protocol = without_secrets(url), protocol_of(url)
    if _CHAIN.match(url):
        raise InputError(
            f"{shown}: URLs inside URLs (`::`) are not read; give the innermost, which should "
            "name files that are text, tables, or these as .gz or .zst"
        )
    authority = url.partition("://")[2].partition("/")[0]
    user, at, _ = authority.rpartition("@")
    if (
        (":" in user)
        or (at and protocol not in (*_NAMED_CONTAINERS, *_NAMED_USERS))
        or (protocol in WEB and not _HOST.fullmatch(authority))
    ):
        raise InputError(
            f"{shown}: a name or password does not belong into a URL, since manifests keep the "
            f"command. {credentials_hint(protocol)}"
        )
    if (protocol in WEB and ("?" in url or "#" in url)) or _PARAMETER.search(url):
        raise InputError(
            f"{shown}: a URL with a query (after ?) or a fragment (after #) is not read: it may "
            f"hold a signature, and manifests keep the command. {credentials_hint(protocol)}"
        )


def credentials_hint(protocol: str) -> str:
    """Where credentials for a store belong, as an instruction."""
    return "Give credentials so: " + _CREDENTIALS.get(
        protocol, f"in the environment, as fsspec's filesystem for {protocol}:// expects them"
    )


def without_secrets(text: str) -> str:
    """A message with the credentials and queries of all URLs in it replaced by `…`."""
    text = _WEB_QUERY.sub(r"\g<url>?…", _NAME_AND_PASSWORD.sub("://…@", text))
    return _QUERY.sub(r"\g<url>?…", text)


def split_pattern(place: str) -> tuple[str, Pattern | None]:
    """The fixed part of a path or URL, and the pattern that follows it; None when there is none.

    Raises:
        InputError: a wildcard in the part of a URL that says which server or bucket.
    """
    protocol = protocol_of(place)
    wild = re.compile("[*[]" if protocol in WEB else "[*?[]")
    if not wild.search(place):
        return place, None
    head, slashes, rest = place.rpartition("://") if protocol else ("", "", place)
    names = rest.split("/")
    first = next(number for number, name in enumerate(names) if wild.search(name))
    if protocol and first == 0:
        raise InputError(f"{place}: wildcards can stand in the path alone, after {head}://…/")
    fixed = "/".join(names[:first])
    # A leading slash belongs to the fixed part: "/*.txt" lies in "/".
    fixed = fixed or ("/" if first else "")
    pattern = Pattern(tuple(name for name in names[first:] if name))
    return f"{head}{slashes}{fixed}", pattern


_HTTP_CREDENTIALS = (
    """FSSPEC_{}='{{"headers": {{"Authorization": "Bearer …"}}}}' in the environment"""
)
_CREDENTIALS = {
    "hf": "`hf auth login`, or HF_TOKEN in the environment",
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the environment; "
    "FSSPEC_S3_ANON=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS in the environment; FSSPEC_GS_TOKEN=anon for a public "
    "bucket",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS in the environment; FSSPEC_GCS_TOKEN=anon for a public "
    "bucket",
    "http": _HTTP_CREDENTIALS.format("HTTP"),
    "https": _HTTP_CREDENTIALS.format("HTTPS"),
}
