"""Long texts in pieces that are encoded like the whole, and samples of many texts.

[piece for piece, forced in pieces("one two three", limit=8)]      # ["one two", " three"]
"""

import random
import re
from collections.abc import Iterable, Iterator

PIECE_CHARACTERS = 1 << 16


class TextSample:
    """Beginnings of documents drawn evenly from a stream, the same for the same stream.

    Reservoir sampling (Vitter 1985, algorithm R): at most 256 texts of 16,384 characters.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._seen = 0
        self._random = random.Random(0)

    def add(self, text: str) -> None:
        """Offer the next document of the stream."""
        self._seen += 1
        place = len(self.texts) if self._seen <= 256 else self._random.randrange(self._seen)
        if place < 256:
            self.texts[place : place + 1] = [text[:16_384]]


# A space may be cut off whatever precedes it; a line end only from a letter or a digit, since
# the expressions of newer tokenizers let punctuation swallow the line end that follows it.
_BOUNDARY = re.compile(r"(?<=\S)[ \t]|(?<=[^\W_])[\r\n]")


def pieces(text: str, *, limit: int = PIECE_CHARACTERS) -> Iterator[tuple[str, bool]]:
    """Cut a text into pieces of at most `limit` characters that are encoded like the whole.

    Each cut stands just before a whitespace that follows something else. This is exact for
    GPT-2 style expressions: whitespace can only begin a match there, never continue one that
    has reached a letter, digit or sign; so a match ends at the cut in the whole text as well,
    and as nothing in the expression looks behind, the rest is matched the same from there on.
    (A normaliser or a prefix space may see a difference; the text comes back all the same.)

    Yields:
        A piece, and whether its end had to be cut inside an unbroken stretch.
    """
    start = 0
    while len(text) - start > limit:
        end = start + limit
        # Near the end there is nearly always one; only then is the whole piece searched.
        cut = _last_boundary(text, max(start + 1, end - 4096), end)
        cut = cut or _last_boundary(text, start + 1, end)
        yield text[start : cut or end], cut is None
        start = cut or end
    yield text[start:], False


def split_inside(text: str, literals: Iterable[str]) -> list[str]:
    """Cut a text in the middle of each literal in it, so that no part contains one."""
    found = [re.escape(literal) for literal in sorted(literals, key=len, reverse=True)]
    if not found:
        return [text]
    parts, start = [], 0
    for match in re.finditer(f"(?=({'|'.join(found)}))", text):
        middle = match.start() + max(1, len(match[1]) // 2)
        if middle > start:
            parts.append(text[start:middle])
            start = middle
    return [*parts, text[start:]]


def _last_boundary(text: str, begin: int, end: int) -> int | None:
    last = None
    for match in _BOUNDARY.finditer(text, begin, end + 1):
        last = match.start()
    return last
