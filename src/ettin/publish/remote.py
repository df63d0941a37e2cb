"""A repository on the hub: what it holds, compared with what it should, and whether it is ours.

The hub states for every file its size and either the SHA-256 of its content (large files) or the
hash that git gives it (small ones). Both are computed here from the local bytes, so a comparison
needs no download.
"""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ettin.console import log
from ettin.errors import CommandFailed, InputError
from ettin.files import MANIFEST
from ettin.publish.found import WEIGHTS, is_tag, place_of_tag
from ettin.publish.tree import MAIN, File, Repository, Revision

_HUBS_OWN = {".gitattributes"}
"""The hub writes it when a repository is made."""
_CARD = "README.md"
_FRONT_MATTER = re.compile(r"\s*(---\n.*?\n---\s*)?", re.DOTALL)
_MAY_CHANGE = {_CARD, MANIFEST}
"""Of a data set: its card, and the manifest that lists the card."""
_BLOCK_BYTES = 1 << 20
_ADVICE = re.compile(r" ?For more information check: \S+")
"""What the transport adds to every answer: a dictionary's page about the number."""
_CHANGED = "somebody else changed the repository meanwhile"
_ANSWERS = {409: _CHANGED, 412: _CHANGED, 429: "the hub asks to wait, too much was asked of it"}
_SERVERS_FAULT = 500


@dataclass
class Remote:
    """A repository as the hub states it; empty when there is none yet.

    Attributes:
        exists: whether there is one.
        tags: tag → commit.
        head: the commit that `main` is at.
        main: name → file on `main`.
    """

    exists: bool
    tags: dict[str, str]
    head: str | None
    main: dict[str, RepoFile]


def read_remote(api: HfApi, repository: Repository) -> Remote:
    """Ask the hub what a repository holds."""
    try:
        refs = api.list_repo_refs(repository.name, repo_type=repository.type)
    except RepositoryNotFoundError:
        return Remote(exists=False, tags={}, head=None, main={})
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    return Remote(
        exists=True,
        tags={tag.name: tag.target_commit for tag in refs.tags},
        head=heads.get(MAIN),
        main=read_tree(api, repository, MAIN) if MAIN in heads else {},
    )


def read_tree(api: HfApi, repository: Repository, revision: str) -> dict[str, RepoFile]:
    """Name → file at a revision, but for those that are the hub's own."""
    found = api.list_repo_tree(
        repository.name, recursive=True, revision=revision, repo_type=repository.type
    )
    return {
        each.path: each
        for each in found
        if isinstance(each, RepoFile) and each.path not in _HUBS_OWN
    }


def compare(expected: dict[str, File], found: dict[str, RepoFile]) -> list[str]:
    """Every difference between what should be at a revision and what the hub says is there.

    Returns:
        One sentence each: a file missing, not expected, of another size or of another hash.
    """
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(found))]
    problems += [f"{name} is there and was not published" for name in found if name not in expected]
    for name in sorted(set(expected) & set(found)):
        if not is_same(expected[name], found[name]):
            size = f"{found[name].size:,} bytes there, {expected[name].bytes:,} here"
            equal = found[name].size == expected[name].bytes
            problems.append(f"{name} differs: {'another hash' if equal else size}")
    return problems


def is_same(file: File, found: RepoFile) -> bool:
    """Whether a file on the hub has the size and the hash of a local one."""
    if found.size != file.bytes:
        return False
    if found.lfs is not None:
        return found.lfs.sha256 == file.sha256 and found.lfs.size == file.bytes
    return bool(found.blob_id == git_hash(file.path))


def git_hash(path: Path) -> str:
    """The hash that git gives a file: SHA-1 of `blob <bytes>`, a zero byte, and its content."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def problems_before(api: HfApi, repository: Repository, remote: Remote) -> list[str]:
    """Why nothing may be uploaded to a repository; looked at before the first byte is sent.

    Revisions that are there as they should be get the state `there`.
    """
    name = repository.name
    if not remote.exists:
        return []
    if foreign := _foreign(api, repository, remote):
        return [foreign]
    problems = [
        f"{name}: `main` holds {each}, which was not published and would be removed; remove it "
        "there, or choose another --repo"
        for each in _in_the_way(repository, remote)
    ]
    for revision in repository.revisions:
        if revision.is_tag and revision.name in remote.tags:
            found = read_tree(api, repository, revision.name)
            differences = compare(revision.files, found)
            problems += [
                f"{name}: the tag {revision.name} is there with other content, and tags are never "
                f"overwritten: {each}"
                for each in differences
            ]
            revision.state = "planned" if differences else "there"
            revision.commit = None if differences else remote.tags[revision.name]
    return problems + _among_others(api, repository, remote)


def _foreign(api: HfApi, repository: Repository, remote: Remote) -> str | None:
    """Why a repository is not ours to write to; None when it is."""
    name, main = repository.name, remote.main
    ours = repository.revisions[-1]
    if not main:
        return None
    if set(main) == {_CARD}:
        # A repository made on the hub's site may begin with a card of front matter alone.
        if _FRONT_MATTER.fullmatch(_text_of(api, repository, _CARD).replace("\r\n", "\n")):
            return None
        return (
            f"{name} is on the hub already, with a {_CARD} that somebody wrote; remove it there, "
            "or choose another --repo"
        )
    other = f"{name} is on the hub already and holds something else"
    if repository.holds == "model":
        key = _key_of_model(api, repository) if MANIFEST in main else None
        if key == repository.key:
            return None
        return f"{other}: {'another model' if key else 'no model of ettin'}; choose another --repo"
    if repository.holds == "checkpoints":
        recipe = main.get("recipe.yaml")
        same = recipe is not None and is_same(ours.files["recipe.yaml"], recipe)
        return None if same else f"{other}: another run; choose another --repo"
    differing = [
        each
        for each in compare(ours.files, main)
        if not each.endswith("is missing") and each.partition(" ")[0] not in _MAY_CHANGE
    ]
    return f"{other}: {differing[0]}; choose another --repo" if differing else None


def _in_the_way(repository: Repository, remote: Remote) -> list[str]:
    """Files on `main` that no revision of ours has: somebody put them there."""
    known = {name for revision in repository.revisions for name in revision.files}
    return [
        name
        for name in sorted(set(remote.main) - known)
        # `main` holds one checkpoint at a time, which need not be among those given now.
        if not (repository.holds == "checkpoints" and name.startswith("checkpoints/"))
    ]


def _key_of_model(api: HfApi, repository: Repository) -> str | None:
    """The recipe's fingerprint that a repository's manifest states; None when it states none."""
    try:
        manifest = json.loads(_text_of(api, repository, MANIFEST))
        return str(manifest["facts"]["ettin"]["recipe_fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None


def _text_of(api: HfApi, repository: Repository, name: str) -> str:
    """A small file of `main`; what is no UTF-8 in it becomes `�`."""
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(
            repository.name, name, repo_type=repository.type, local_dir=folder
        )
        return Path(path).read_text(encoding="utf-8", errors="replace")


def _among_others(api: HfApi, repository: Repository, remote: Remote) -> list[str]:
    """Tags on the hub that are not among ours: none may be later, none may have our weights."""
    tags = [each for each in repository.revisions if each.is_tag]
    if not tags:
        return []
    ours = {each.name for each in tags}
    weights = {file.sha256: each.name for each in tags for file in _weights(each)}
    problems = []
    for tag in sorted((t for t in remote.tags if is_tag(t) and t not in ours), key=place_of_tag):
        if place_of_tag(tag) > place_of_tag(tags[-1].name):
            problems.append(
                f"{repository.name}: the hub has {tag}, which is later than {tags[-1].name}; give "
                f"the export of {tag} too, so that `main` stays the last"
            )
        for found in read_tree(api, repository, tag).values():
            if found.lfs is not None and found.lfs.sha256 in weights:
                same = weights[found.lfs.sha256]
                problems.append(
                    f"{repository.name}: {same} and {tag}, which is there, have identical weights"
                )
    return problems


def _weights(revision: Revision) -> list[File]:
    return [file for name, file in revision.files.items() if name == WEIGHTS]


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the hub, or the way to it, answers into one sentence and its exit code.

    Raises:
        InputError: no token, a wrong one, or one without the right to write.
        CommandFailed: anything else; the same command goes on.
    """
    try:
        yield
    except Exception as error:
        failure = _cause(error)
        if failure is None:
            raise
        log.debug("%s", error, exc_info=True)
        status = failure.response.status_code if isinstance(failure, HfHubHTTPError) else None
        if status == 401:
            raise InputError(
                f"{what}: the hub does not accept the token; `hf auth login` stores another, or "
                "set HF_TOKEN"
            ) from error
        if status == 403:
            raise InputError(
                f"{what}: the token may not write there; use one with write access to that "
                "user or organisation (`hf auth login`), or choose another --repo"
            ) from error
        raise CommandFailed(
            f"{what}: {_reason(error, failure, status)}\n"
            "what is uploaded stays; the same command goes on from there",
            exit_code=1,
        ) from error


def _reason(error: Exception, failure: Exception, status: int | None) -> str:
    """An answer of the hub, or a failure of the network, in words."""
    told = dict.fromkeys(_ADVICE.sub("", " ".join(str(each).split())) for each in (error, failure))
    said = " ".join(each for each in told if each) or type(failure).__name__
    if status in _ANSWERS:
        return f"{_ANSWERS[status]} ({said})"
    if status is not None and status >= _SERVERS_FAULT:
        return f"the hub itself failed ({said})"
    return said


def _cause(error: BaseException) -> Exception | None:
    """The hub's answer, or the failure of the network, behind an error; None when neither is."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HfHubHTTPError):
            return seen
        # The transport's errors are of a library that huggingface_hub chooses.
        if isinstance(seen, OSError | ConnectionError) or "httpx" in type(seen).__module__:
            return seen if isinstance(seen, Exception) else None
        seen = seen.__cause__
    return None
