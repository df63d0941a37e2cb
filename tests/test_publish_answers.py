"""Whatever the hub answers, and wherever an upload ends: it is said, and can be gone on from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettin.errors import CommandFailed
from tests.hub import Hub, serving
from tests.publishing import exports_of, send

NAME = "org/it"


@pytest.fixture(scope="module")
def decoder(phased_runs: Path) -> Path:
    return exports_of(phased_runs) / "decoder"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running


def content(hub: Hub) -> dict[str, dict[str, bytes]]:
    """Revision → what it holds."""
    there = hub.repositories["model", NAME]
    return {revision: there.files_at(revision) for revision in ("main", *there.tags)}


def fail_at(hub: Hub, number: int, status: int) -> None:
    """Answer one request otherwise, or not at all."""
    hub.faults.at_request = lambda request: status if request == number else None


def goes_on(decoder: Path, out: Path, *, number: int, status: int) -> bool:
    """Whether an upload with one fault, and once more without, ends as one without any.

    Returns:
        False when there are fewer requests.
    """
    with serving() as whole, serving() as cut:
        send(whole, [decoder], out, repo=NAME)
        if number > len(whole.requests):
            return False
        fail_at(cut, number, status)
        with contextlib.suppress(CommandFailed):  # the library asks again in some places
            send(cut, [decoder], out, repo=NAME)
        cut.faults.at_request = None
        send(cut, [decoder], out, repo=NAME)
        assert content(cut) == content(whole)
    return True


@pytest.mark.parametrize("number", [4, 6, 10, 12, 16])
def test_a_refused_request_is_told_and_gone_on_from(
    decoder: Path, tmp_path: Path, number: int
) -> None:
    assert goes_on(decoder, tmp_path / "out", number=number, status=404)


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 404, 500])
def test_an_upload_that_ends_at_any_request_is_gone_on_from(
    decoder: Path, tmp_path: Path, status: int
) -> None:
    number = 1
    while goes_on(decoder, tmp_path / "out", number=number, status=status):
        number += 1
    assert number > 16


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (409, "somebody else changed the repository meanwhile"),
        (412, "somebody else changed the repository meanwhile"),
        (429, "the hub asks to wait"),
        (500, "the hub itself failed"),
        (418, "418 for a test"),
    ],
)
def test_an_answer_of_the_hub_is_said_in_words(
    hub: Hub, decoder: Path, tmp_path: Path, status: int, words: str
) -> None:
    fail_at(hub, 10, status)
    with pytest.raises(CommandFailed, match=f"{words}.*\n.*the same command goes on") as failed:
        send(hub, [decoder], tmp_path / "out", repo=NAME)
    assert hub.requests[9].endswith("/commit/main")
    assert "developer.mozilla.org" not in str(failed.value)


def test_two_uploads_at_once_never_mix(hub: Hub, decoder: Path, tmp_path: Path) -> None:
    def meanwhile(commit: int) -> None:
        hub.faults.at_commit = None
        send(hub, [decoder], tmp_path / "other", repo=NAME)

    hub.faults.at_commit = meanwhile
    with pytest.raises(CommandFailed, match="somebody else changed the repository meanwhile"):
        send(hub, [decoder], tmp_path / "out", repo=NAME)
    before = content(hub)
    send(hub, [decoder], tmp_path / "out", repo=NAME)
    assert content(hub) == before
