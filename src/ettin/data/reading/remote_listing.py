"""The files elsewhere that a URL or a pattern means, in the order of those of a folder here.

A folder is listed with all below by one call (a store may answer in pages), and so is what follows
a `**`; names with wildcards take a call for each folder that they lead through. No file is asked
for its size or version by itself, but on web servers, whose index pages tell neither.

`hf://datasets/ORG/NAME` without a path means the data of that data set: see `hub_datasets`. What
lies on the Hugging Face hub is listed and read at one commit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

from ettin.data.reading.hub_datasets import CARD, choose_files
from ettin.data.reading.local_listing import Listed, why_unwanted
from ettin.data.reading.places import WEB, Pattern, check_url, protocol_of, split_pattern
from ettin.data.reading.remote_files import asking, filesystem_of, open_remote, version_of
from ettin.data.reading.tally import Reading
from ettin.errors import InputError

_EVERYTHING = Pattern(())
_CONNECTIONS = 8

Info = dict[str, Any]


def list_remote(url: str, *, exclude: tuple[str, ...], reading: Reading) -> list[Listed]:
    """The files that a URL means.

    Args:
        url: a file, a folder that is read with all folders below, a pattern of these, or a data set
            on the hub.
        exclude: names, or patterns of names, of files and folders to leave out.
        reading: counts what is left out, and notes files whose store tells no version.

    Raises:
        InputError: credentials in the URL, nothing there, no access, or a package that is missing.
        SourceUnavailableError: the store, or the way to it, failed.
    """
    check_url(url)
    top, pattern = split_pattern(url)
    filesystem, _ = filesystem_of(top)
    with asking(url):
        if protocol_of(url) == "hf":
            found = _on_the_hub(filesystem, top, pattern, reading)
        else:
            found = _below(filesystem, top, pattern)
    wanted = list(_wanted(found, exclude, reading))
    if protocol_of(url) in WEB:
        with asking(url):
            wanted = _asked(filesystem, wanted)
    listed = [_listed(*each, filesystem, reading) for each in wanted]
    return sorted(listed, key=lambda each: _place_in_order(each.relative))


def _below(filesystem: Any, top: str, pattern: Pattern | None) -> dict[str, tuple[str, Info]]:
    """Relative path → name in the store and what the store says, of what a URL means."""
    _, start = filesystem_of(top)
    if protocol_of(top) in WEB:
        return _on_the_web(filesystem, start, pattern)
    if pattern is None:
        info = filesystem.info(start)
        if info["type"] != "directory":
            return {start.rstrip("/").rpartition("/")[2]: (info["name"], info)}
    found: dict[str, tuple[str, Info]] = {}
    _descend(filesystem, start, [], pattern or _EVERYTHING, found)
    return found


def _descend(
    filesystem: Any,
    folder: str,
    parts: list[str],
    pattern: Pattern,
    found: dict[str, tuple[str, Info]],
) -> None:
    """Add the files below a folder that match; `parts` are its names below the beginning."""
    if pattern.takes_all_below(parts):
        for name, info in filesystem.find(folder, detail=True).items():
            below = [*parts, *_names_below(name, folder)]
            if info.get("type", "file") != "directory" and pattern.matches(below):
                found["/".join(below)] = name, info
        return
    for info in filesystem.ls(folder, detail=True):
        names = _names_below(info["name"], folder)
        if not names:
            continue  # some stores list the folder itself
        below = [*parts, *names]
        if info["type"] == "directory":
            if pattern.enters(below):
                _descend(filesystem, info["name"].rstrip("/"), below, pattern, found)
        elif pattern.matches(below):
            found["/".join(below)] = info["name"], info


def _names_below(name: str, folder: str) -> list[str]:
    return [part for part in name[len(folder.rstrip("/")) :].split("/") if part]


def _on_the_web(
    filesystem: Any, start: str, pattern: Pattern | None
) -> dict[str, tuple[str, Info]]:
    """Files that index pages link to; a URL that does not end in a slash is a file itself."""
    if pattern is None and not start.endswith("/"):
        return {unquote(start.rpartition("/")[2]): (start, {})}
    start = start.rstrip("/") + "/"
    found: dict[str, tuple[str, Info]] = {}
    folders, seen = [start], {start}
    while folders:
        folder = folders.pop()
        for link in filesystem.ls(folder, detail=False):
            parts = [unquote(part) for part in link[len(start) :].split("/") if part]
            outside = not link.startswith(folder) or ".." in parts or "?" in link or "#" in link
            if outside or not parts or link in seen:
                continue
            seen.add(link)
            if link.endswith("/"):
                if (pattern or _EVERYTHING).enters(parts):
                    folders.append(link)
            elif (pattern or _EVERYTHING).matches(parts):
                found["/".join(parts)] = link, {}
    return found


def _asked(filesystem: Any, wanted: list[tuple[str, str, Info]]) -> list[tuple[str, str, Info]]:
    """The same, with what a web server says of each file."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        infos = list(pool.map(filesystem.info, [name for _, name, _ in wanted]))
    return [(relative, name, info) for (relative, name, _), info in zip(wanted, infos, strict=True)]


def _on_the_hub(
    filesystem: Any, top: str, pattern: Pattern | None, reading: Reading
) -> dict[str, tuple[str, Info]]:
    """What a URL means on the Hugging Face hub, at the commit that its revision names now."""
    from huggingface_hub import HfApi

    resolved = filesystem.resolve_path(filesystem_of(top)[1])
    kind = getattr(resolved, "repo_type", None)
    if kind is None:  # a bucket, which has no commits
        return _below(filesystem, top, pattern)
    api = HfApi(endpoint=filesystem.endpoint, token=filesystem.token)
    commit = api.repo_info(resolved.repo_id, repo_type=kind, revision=resolved.revision).sha
    folder = {"model": "", "dataset": "datasets/", "space": "spaces/"}[kind] + resolved.repo_id
    root = f"hf://{folder}@{commit}"
    inside = resolved.path_in_repo
    if pattern is None and not inside and kind == "dataset":
        found = _below(filesystem, root, _EVERYTHING)
        return _chosen(found, root, top.rstrip("/"), reading)
    place = f"{root}/{inside}" if inside else root
    if pattern is not None:
        return _below(filesystem, place, pattern)
    name = filesystem_of(place)[1]
    listed = filesystem.find(name, detail=True)
    if name in listed:
        return {inside.rpartition("/")[2]: (name, listed[name])}
    if not listed:
        raise FileNotFoundError(f"no file {inside or 'at all'} there")
    return _below(filesystem, place, _EVERYTHING)


def _chosen(
    found: dict[str, tuple[str, Info]], root: str, url: str, reading: Reading
) -> dict[str, tuple[str, Info]]:
    """The data of a data set among all its files."""
    card = ""
    if CARD in found:
        with open_remote(f"{root}/{CARD}", size=found[CARD][1]["size"], version="") as stream:
            card = stream.read().decode(errors="replace")
    chosen, passed_over = choose_files(list(found), card=card, url=url)
    for name in passed_over:
        reading.empty("not among the data of the split", name)
    return {name: found[name] for name in chosen}


def _wanted(
    found: dict[str, tuple[str, Info]], exclude: tuple[str, ...], reading: Reading
) -> Iterator[tuple[str, str, Info]]:
    """What is neither hidden nor excluded; a folder that is counts once."""
    told: set[str] = set()
    for relative, (name, info) in found.items():
        if relative.endswith("/") or name.endswith("/"):
            continue  # how some stores keep empty folders
        parts = relative.split("/")
        for depth, part in enumerate(parts, 1):
            if reason := why_unwanted(part, exclude):
                place = "/".join(parts[:depth])
                if place not in told:
                    told.add(place)
                    reading.empty(reason, place)
                break
        else:
            yield relative, name, info


def _listed(relative: str, name: str, info: Info, filesystem: Any, reading: Reading) -> Listed:
    size, version = info.get("size"), version_of(info)
    if size is None:
        raise InputError(
            f"{relative}: the server does not say how long it is, so an end that comes early could "
            "not be told; download it and give the file"
        )
    if not version:
        reading.tally.note("no version told by the store", relative)
    return Listed(filesystem.unstrip_protocol(name), relative, int(size), version)


def _place_in_order(relative: str) -> list[tuple[bool, str]]:
    """Files of a folder before its folders, each by name."""
    *folders, name = relative.split("/")
    return [*((True, folder) for folder in folders), (False, name)]
