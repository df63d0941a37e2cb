"""What reading documents means: the records, how defects are treated, and the count of all that.

A defect is skipped and counted with its reason and place (`notes.jsonl:17`), or, with
`on_error="fail"`, ends the reading at once. An empty text is no defect.
"""

import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ettin.data.reading.remote_files import open_remote
from ettin.errors import InputError

OnError = Literal["skip", "fail"]

EXAMPLES_KEPT = 5


class Document(NamedTuple):
    """One text.

    Attributes:
        id: the same in every corpus.
        text: what to train on.
        origin: the place it was read from: `path` or `path:row`.
    """

    id: str
    text: str
    origin: str


class SourceFile(NamedTuple):
    """A file to read.

    Attributes:
        source: name of its source.
        location: where it is: a path on this machine, or else a URL.
        relative: its path below the folder that was given, with `/`; unique in its source.
        size: bytes on disk.
        version: changes with the content: the time of the last change in nanoseconds, or what a
            store says of a file elsewhere; empty when it says nothing.
    """

    source: str
    location: Path | str
    relative: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """Its own name, which ends in its format."""
        if isinstance(self.location, Path):
            return self.location.name
        return self.location.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine, so that reading it twice costs little."""
        return isinstance(self.location, Path)

    @property
    def path(self) -> Path:
        """Its path on this machine.

        Raises:
            InputError: it lies elsewhere.
        """
        if isinstance(self.location, Path):
            return self.location
        raise InputError(f"{self.location} lies elsewhere; this takes files of this machine only")

    def open(self) -> io.BufferedReader:
        """Open it for reading; seekable.

        Raises:
            OSError: a file of this machine cannot be opened.
            SourceUnavailableError: one elsewhere cannot, or is not what was listed.
        """
        if isinstance(self.location, Path):
            return self.location.open("rb")
        return open_remote(self.location, size=self.size, version=self.version)


class Span(NamedTuple):
    """A stretch of a file that can be read without the rest of it.

    Attributes:
        begin: the first byte of lines, or the first row group of a parquet file.
        end: one more than the last; None for the end of the file.
        first: lines or rows before it, so that its records keep their numbers.
    """

    begin: int = 0
    end: int | None = None
    first: int = 0


WHOLE = Span()
"""All of a file."""


@dataclass
class Tally:
    """What reading met: counts, with a few examples of the places.

    Attributes:
        documents: documents read.
        text_bytes: their UTF-8 bytes.
        bytes_read: bytes of files read so far, as they lie on disk.
        skipped: how many files, lines or rows were left out, by reason.
        noted: how often something was read but changed, by reason.
        examples: the first places of each reason.
    """

    documents: int = 0
    text_bytes: int = 0
    bytes_read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, place: str) -> None:
        """Count something that was left out."""
        self.skipped[reason] += 1
        self._remember(reason, place)

    def note(self, reason: str, place: str, times: int = 1) -> None:
        """Count something that was read, but not as it stands."""
        self.noted[reason] += times
        self._remember(reason, place)

    def describe(self) -> str:
        """All reasons with their counts and first examples, for a message; empty when none."""
        both = [*self.skipped.items(), *self.noted.items()]
        return "; ".join(
            f"{reason}: {count:,} ({', '.join(self.examples[reason][:2])}"
            f"{', …' if count > 2 else ''})"
            for reason, count in both
        )

    def _remember(self, reason: str, place: str) -> None:
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES_KEPT and place not in kept:
            kept.append(place)


@dataclass(frozen=True)
class Reading:
    """How records are read: the columns, what to do about defects, and where to count.

    Attributes:
        text_column: the column or key that holds the text.
        id_column: the column or key that holds the id; None for the place.
        on_error: `skip` and count, or `fail` at the first defect.
        tally: where to count.
    """

    text_column: str
    id_column: str | None
    on_error: OnError
    tally: Tally

    def empty(self, reason: str, place: str) -> None:
        """Leave out something that holds no text; never an error."""
        self.tally.skip(reason, place)

    def defect(self, reason: str, place: str, detail: str = "") -> None:
        """Leave out something broken.

        Raises:
            InputError: defects are to fail.
        """
        self._refuse(reason, place, detail)
        self.tally.skip(reason, f"{place} {detail}".strip())

    def note(self, reason: str, place: str, times: int = 1) -> None:
        """Count a defect that could be mended.

        Raises:
            InputError: defects are to fail.
        """
        self._refuse(reason, place, "")
        self.tally.note(reason, place, times)

    def decode(self, data: bytes, place: str) -> str:
        """Bytes to text; invalid ones become U+FFFD and are counted."""
        try:
            return data.decode()
        except UnicodeDecodeError:
            invalid = len(data) - len(data.decode(errors="ignore").encode())
            self.note("invalid UTF-8 bytes", place, invalid)
            return data.decode(errors="replace")

    def require_columns(self, found: list[str], place: str) -> None:
        """Raise `InputError` unless a table has the columns asked for."""
        for name, option in ((self.text_column, "--text-column"), (self.id_column, "--id-column")):
            if name is not None and name not in found:
                raise InputError(
                    f"{place} has no column {name!r}; it has: {', '.join(found)}. "
                    f"Name the right one with {option}"
                )

    def _refuse(self, reason: str, place: str, detail: str) -> None:
        if self.on_error == "fail":
            raise InputError(f"{place}: {reason} {detail}".strip() + " (--on-error fail)")
