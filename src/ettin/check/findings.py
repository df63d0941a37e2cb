"""What a check found: problems and notes, in words that are safe to print."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ettin.errors import InputError

_LONGEST_REASON = 300


@dataclass
class Findings:
    """Sentences about directories.

    Attributes:
        problems: what is wrong; none when all is well.
        notes: what could not be compared, which is no problem.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, sentence: str) -> None:
        """Add a problem, once."""
        _add(self.problems, sentence)

    def note(self, sentence: str) -> None:
        """Add a note, once."""
        _add(self.notes, sentence)

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn whatever goes wrong while content is read into a problem of `path`.

        What stands in the files may be anything: missing keys, other types, numbers out of all
        bounds. None of it may end the check.
        """
        try:
            yield
        except InputError as error:
            self.problem(_about(path, str(error)))
        except KeyError as error:
            self.problem(f"{path}: it lacks {error}, which ettin writes there")
        except OSError as error:
            self.problem(f"{path}: cannot be read: {error.strerror or error}")
        except RecursionError:
            self.problem(f"{path}: its content is nested too deeply")
        except Exception as error:  # noqa: BLE001 - the content is anyone's
            reason = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
            self.problem(f"{path}: its content is not as ettin writes it ({reason})")


def _about(path: Path, reason: str) -> str:
    return reason if str(path) in reason else f"{path}: {reason}"


def _add(sentences: list[str], sentence: str) -> None:
    shown = _printable(sentence)
    if shown not in sentences:
        sentences.append(shown)


def _printable(text: str) -> str:
    """Text in which what a terminal would obey, or no encoding has, stands as an escape."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
