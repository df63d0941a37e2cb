"""Where the other side of a link is: recorded as a path, or found beside, where a folder was moved.

    neighbours = Neighbours(all_finished_directories_in_the_checked_folder)
    neighbours.at("/data/suite/corpus", "corpus")       # there now, or moved along

Of directories elsewhere the manifest alone is read here.
"""

from functools import cached_property
from pathlib import Path

from ettin.check.directories import Directory, read_directory
from ettin.errors import InputError
from ettin.files import is_finished
from ettin.records import fingerprint_of_weights

_NAMES_IN_COMMON = {"checkpoint": 3, None: 2}
"""Every run has a checkpoint of some name, and a run and its export are called alike."""


class Neighbours:
    """Finished directories in the checked folder, and others that are recorded by their path.

    Args:
        inside: all that were found, in order.
    """

    def __init__(self, inside: list[Directory]) -> None:
        self.inside = inside
        self._elsewhere: dict[Path, Directory | None] = {}

    def at(self, recorded: str, kind: str | None) -> list[Directory]:
        """Directories that may be meant by a recorded path: itself, and what was moved along.

        Args:
            recorded: a path; one that is not absolute is from an unknown place, and is looked for
                inside alone.
            kind: what is expected there; None for anything.
        """
        path = Path(recorded)
        found = [self._here(path)] if path.is_absolute() and "\0" not in recorded else []
        found.append(self._moved(path, kind))
        known = [each for each in found if each is not None and kind in (None, each.kind)]
        return list({each.path.resolve(): each for each in known}.values())

    def of(self, kind: str) -> list[Directory]:
        """All of a kind in the checked folder."""
        return [each for each in self.inside if each.kind == kind]

    @cached_property
    def exports_by_weights(self) -> dict[str, Directory]:
        """Fingerprint of the weights → the export in the checked folder that has them."""
        return {weights_of(each): each for each in self.of("export")}

    def _here(self, path: Path) -> Directory | None:
        if path not in self._elsewhere:
            found = None
            if is_finished(path):
                try:
                    found = read_directory(path)
                except (InputError, OSError):
                    # A damaged one inside is told where it lies; others are not what is checked.
                    found = None
            self._elsewhere[path] = found
        return self._elsewhere[path]

    def _moved(self, path: Path, kind: str | None) -> Directory | None:
        """The one directory inside whose path ends most like the recorded one."""
        likeness = [
            (_common_end(each.path.absolute(), path), each)
            for each in self.inside
            if kind in (None, each.kind)
        ]
        best = max((count for count, _ in likeness), default=0)
        if best < _NAMES_IN_COMMON.get(kind, 1):
            return None
        closest = [each for count, each in likeness if count == best]
        return closest[0] if len(closest) == 1 else None


def is_corpus(found: Directory, fingerprint: str) -> bool:
    """Whether a run or a record that names a fingerprint means this corpus.

    Older ones name the digest of its manifest, which identifies more than what it holds.
    """
    return fingerprint in (found.identity, found.digest)


def weights_of(export: Directory) -> str:
    """The fingerprint of an export's weights, by the hashes that its manifest lists."""
    names = sorted(name for name in export.files if "/" not in name)
    hashes = [str(export.hash_of(name)) for name in names if name.endswith(".safetensors")]
    return fingerprint_of_weights(hashes)


def _common_end(one: Path, other: Path) -> int:
    """How many parts, from the last one on, two paths have in common."""
    count = 0
    for left, right in zip(reversed(one.parts), reversed(other.parts), strict=False):
        if left != right:
            break
        count += 1
    return count
