"""One commit and one tag a checkpoint, in the order of the run, each compared before it counts.

A commit is read back before its tag is made, so that no tag ever names a damaged one; then the tag
is read back. What is there already is compared and skipped, so the same command goes on after any
end. Everything that speaks to the hub is `huggingface_hub`.
"""

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

from ettin.console import Progress, log
from ettin.errors import InputError, ProblemsFound
from ettin.publish.remote import (
    Remote,
    compare,
    explained,
    is_same,
    problems_before,
    read_remote,
    read_tree,
)
from ettin.publish.tree import Repository, Revision


def refuse_without_token(api: HfApi) -> None:
    """Say how to log in, unless somebody is.

    Raises:
        InputError: there is no token, or the hub does not know it.
    """
    if not (api.token or get_token()):
        raise InputError(
            "nobody is logged in to the hub: `hf auth login` stores a token with write access, or "
            "set HF_TOKEN; --dry-run needs none"
        )
    with explained("logging in"):
        api.whoami()


def upload(repositories: list[Repository], api: HfApi, *, private: bool, shown: Progress) -> None:
    """Bring every repository to the hub and compare every revision.

    Args:
        repositories: described by `tree.describe`; their states and commits are filled in.
        api: the hub.
        private: whether repositories that are made are private.
        shown: counts the bytes of revisions that are there and compared.

    Raises:
        ProblemsFound: a tag is there with other content, a repository is another's, or what was
            read back differs; before the first upload where it can be known then.
        InputError: no right to write.
        CommandFailed: the network or the hub failed; the same command goes on.
    """
    disable_progress_bars()
    remotes: list[Remote] = []
    problems: list[str] = []
    for repository in repositories:
        with explained(repository.name):
            remotes.append(read_remote(api, repository))
            problems += problems_before(api, repository, remotes[-1])
    if problems:
        raise ProblemsFound(
            "nothing was uploaded:\n" + "\n".join(f"  - {each}" for each in problems)
        )
    for repository, remote in zip(repositories, remotes, strict=True):
        with explained(repository.name):
            _upload_repository(repository, remote, api, private=private, shown=shown)


def _upload_repository(
    repository: Repository, remote: Remote, api: HfApi, *, private: bool, shown: Progress
) -> None:
    if not remote.exists:
        api.create_repo(
            repository.name, repo_type=repository.type, private=private or None, exist_ok=True
        )
        fresh = read_remote(api, repository)
        remote.head, remote.main = fresh.head, fresh.main
    for revision in repository.revisions:
        note = f"{repository.name} {revision.name}"
        if revision.state != "there":
            _upload_revision(repository, revision, remote, api)
            log.info("%s: %s, compared", note, revision.state)
        shown.advance(revision.bytes, note)


def _upload_revision(
    repository: Repository, revision: Revision, remote: Remote, api: HfApi
) -> None:
    """Commit what differs from `main`, compare, tag, compare."""
    changed = _operations(revision, remote)
    if changed:
        commit = api.create_commit(
            repository.name,
            changed,
            commit_message=revision.note,
            repo_type=repository.type,
            parent_commit=remote.head,
        )
        remote.head = commit.oid
    assert remote.head is not None
    remote.main = read_tree(api, repository, remote.head)
    _refuse_difference(repository, revision, remote.main)
    if revision.is_tag:
        api.create_tag(
            repository.name, tag=revision.name, revision=remote.head, repo_type=repository.type
        )
        _refuse_difference(repository, revision, read_tree(api, repository, revision.name))
    revision.state = "uploaded" if changed or revision.is_tag else "there"
    revision.commit = remote.head


def _operations(
    revision: Revision, remote: Remote
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """What turns `main` into a revision; nothing when it is that already."""
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for name, file in revision.files.items():
        found = remote.main.get(name)
        if found is None or not is_same(file, found):
            operations.append(CommitOperationAdd(name, str(file.path)))
    operations += [
        CommitOperationDelete(name, is_folder=False)
        for name in remote.main
        if name not in revision.files
    ]
    return operations


def _refuse_difference(
    repository: Repository, revision: Revision, found: dict[str, RepoFile]
) -> None:
    if differences := compare(revision.files, found):
        raise ProblemsFound(
            f"{repository.name}: what was read back as {revision.name} is not what was sent:\n"
            + "\n".join(f"  - {each}" for each in differences)
        )
