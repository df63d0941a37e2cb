"""Documents that come as token ids: what is taken off them, and what must not be in them.

Whoever published them has put BOS and EOS around the tokens; our chunk rule puts its own (see
`packing`). So one BOS is taken off the beginning of a sample and one EOS off its end, by the ids of
the given tokenizer, where they are there; never a second one. Each sample is a document of its own:
its last chunk ends with EOS even where the sample, a piece of a longer text, had none.

What is left must be ids that text can have. An id beyond the vocabulary means that the tokens were
made with another tokenizer, and ends the reading; a special token inside a sample (padding, a mask,
an EOS between two texts) is a defect of that sample alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ettin.data.reading.tally import Reading
from ettin.errors import InputError
from ettin.tokenizer import Tokenizer

Int64Array = npt.NDArray[np.int64]

TOKEN_COLUMNS = ("input_ids", "tokens")
"""Where tokens are looked for."""


class TokenisedDocument(NamedTuple):
    """One document whose tokens are given.

    Attributes:
        id: the same in every corpus.
        tokens: uint32 [n], without BOS and EOS.
        origin: the place it was read from: `path:sample`.
    """

    id: str
    tokens: npt.NDArray[np.uint32]
    origin: str


class Samples(NamedTuple):
    """Samples without their BOS and EOS; those left out have `end` at or before `start`.

    Attributes:
        values: uint32 [n], ids of all samples one after another.
        start: int64 [samples], where each begins in `values`.
        end: int64 [samples], where it ends.
        text_bytes: UTF-8 bytes of the text of all that are not left out; 0 where ids do not tell.
    """

    values: npt.NDArray[np.uint32]
    start: Int64Array
    end: Int64Array
    text_bytes: int


class SampleRules:
    """Takes BOS and EOS off samples and finds those that cannot be used, by a tokenizer's ids.

    Args:
        tokenizer: the one that made the tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._special, self._names = tokenizer.special, tokenizer.names
        self._size = tokenizer.size
        self._ordinary = np.zeros(tokenizer.size, bool)
        self._ordinary[tokenizer.ordinary_ids] = True
        self._bytes = _bytes_of_ids(tokenizer)

    def clean(
        self,
        values: npt.NDArray[Any],
        lengths: Int64Array,
        *,
        place: Callable[[int], str],
        reading: Reading,
    ) -> Samples:
        """Prepare samples; what is left out or changed is counted.

        Args:
            values: whole numbers [n], ids of all samples one after another.
            lengths: int64 [samples], how many each has; their sum is n.
            place: names a sample by its number in this call.
            reading: where to count, and whether defects fail.

        Raises:
            InputError: an id beyond the vocabulary, or a defect if defects are to fail.
        """
        end = np.cumsum(lengths)
        start = end - lengths
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self._size:
            wrong = int(np.flatnonzero((values < 0) | (values >= self._size))[0])
            number = int(np.searchsorted(end, wrong, "right"))
            raise InputError(
                f"{place(number)}: holds the id {int(values[wrong]):,}, but the tokenizer has ids "
                f"below {self._size:,}: these tokens were made with another one; name it with "
                "--tokenizer"
            )
        ids = values.astype(np.uint32)
        start, end = self._strip(ids, start, end, place, reading)
        empty = end <= start
        inside = self._special_inside(ids, start, end)
        text_bytes = int(self._bytes[ids].sum(dtype=np.int64))
        for number in np.flatnonzero(inside).tolist():
            found = ids[start[number] : end[number]]
            first = int(found[~self._ordinary[found]][0])
            reading.defect("special token inside a sample", place(number), f"(id {first})")
            text_bytes -= int(self._bytes[found].sum(dtype=np.int64))
        for number in np.flatnonzero(empty).tolist():
            reading.empty("sample without tokens", place(number))
        return Samples(ids, start, np.where(inside | empty, start, end), text_bytes)

    def _special_inside(
        self, ids: npt.NDArray[np.uint32], start: Int64Array, end: Int64Array
    ) -> npt.NDArray[np.bool_]:
        """Which samples hold an id that no text has."""
        places = np.flatnonzero(~self._ordinary[ids])
        first = np.searchsorted(places, start)
        return np.searchsorted(places, end) > first

    def _strip(
        self,
        ids: npt.NDArray[np.uint32],
        start: Int64Array,
        end: Int64Array,
        place: Callable[[int], str],
        reading: Reading,
    ) -> tuple[Int64Array, Int64Array]:
        """Step over one BOS at the beginning and one EOS at the end of each sample."""
        present = end > start
        begun = np.zeros(len(start), bool)
        begun[present] = ids[start[present]] == self._special.bos
        start = start + begun
        present &= end > start
        ended = np.zeros(len(end), bool)
        ended[present] = ids[end[present] - 1] == self._special.eos
        for role, there in (("bos", begun), ("eos", ended)):
            without = len(there) - int(there.sum())
            if without:
                where = "begin" if role == "bos" else "end"
                reason = f"samples that do not {where} with {self._names[role]}"
                reading.tally.note(reason, place(int(np.argmin(there))), without)
        return start, end - ended


def _bytes_of_ids(tokenizer: Tokenizer) -> npt.NDArray[np.uint32]:
    """How many bytes of text each id stands for; zeros where the vocabulary is not byte-level.

    Special ids stand for none.
    """
    counts = np.zeros(tokenizer.size, np.uint32)
    try:
        for number in tokenizer.ordinary_ids.tolist():
            counts[number] = len(tokenizer.decode_bytes([number]))
    except InputError:
        return np.zeros(tokenizer.size, np.uint32)
    return counts
