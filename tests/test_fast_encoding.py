"""Which library encodes a corpus: chosen by comparison, recorded, and compared on the way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ettin.errors import InputError
from ettin.fast_encoding import (
    HARD_TEXTS,
    SPOT_CHARACTERS,
    SPOT_SHARE,
    Encoder,
    SpotCheck,
    choose_encoder,
    open_encoder,
    parity,
)
from ettin.gigatoken_encoding import gigatoken_version
from ettin.text_pieces import PIECE_CHARACTERS
from ettin.tokenizer import TokenArray, Tokenizer, library_version, load_tokenizer

absent = pytest.mark.skipif(gigatoken_version() is not None, reason="gigatoken is installed")
present = pytest.mark.skipif(gigatoken_version() is None, reason="gigatoken is not installed")

DOCUMENTS = ["bada kebi, nolu 12 tera.\n\nfoza dine", "naïve ... [MASK] Ωμέγα  x" * 3, *HARD_TEXTS]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture
def truncating(tokenizer_directory: Path) -> Tokenizer:
    """A tokenizer whose library has been told to cut, which nobody else knows."""
    tokenizer = load_tokenizer(tokenizer_directory)
    tokenizer.backend.enable_truncation(5)
    return tokenizer


class Wrong:
    """An encoder that gives the last token of every text with a `!` another id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.seen: list[str] = []
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        self.seen += texts
        found = self._tokenizer.encode(texts)
        for text, ids in zip(texts, found, strict=True):
            if "!" in text:
                ids[-1] += 1
        return found


def equal(one: list[TokenArray], other: list[TokenArray]) -> bool:
    return [each.tolist() for each in one] == [each.tolist() for each in other]


def test_the_first_difference_of_each_document_is_named(tokenizer: Tokenizer) -> None:
    texts = ["bada kebi", "bada kebi!", "", "nolu!"]
    found = parity(Wrong(tokenizer).encode, tokenizer, texts)
    assert [each.document for each in found] == [1, 3]
    lengths = [len(ids) for ids in tokenizer.encode(texts)]
    assert [each.token for each in found] == [lengths[1] - 1, lengths[3] - 1]
    assert found[0].expected.endswith("|!")
    assert found[0].found != found[0].expected
    assert "is '" in str(found[0])
    assert parity(tokenizer.encode, tokenizer, texts) == []


def test_missing_tokens_at_the_end_are_a_difference(
    tokenizer: Tokenizer, truncating: Tokenizer
) -> None:
    (found,) = parity(truncating.encode, tokenizer, [DOCUMENTS[0]])
    assert (found.document, found.token) == (0, 5)


def test_a_comparison_counts_no_cuts(tokenizer: Tokenizer) -> None:
    before = tokenizer.forced_cuts
    assert parity(tokenizer.encode, tokenizer, ["x" * (PIECE_CHARACTERS + 1)]) == []
    assert tokenizer.forced_cuts == before


def test_tokenizers_can_be_insisted_upon(tokenizer: Tokenizer) -> None:
    encoder = choose_encoder(tokenizer, DOCUMENTS, wanted="tokenizers")
    assert encoder.identity == f"tokenizers {library_version()}"
    assert (encoder.checked_documents, encoder.checked_bytes) == (0, 0)
    assert equal(encoder.encode(DOCUMENTS), tokenizer.encode(DOCUMENTS))
    again = open_encoder(tokenizer, encoder.identity)
    assert equal(again.encode(DOCUMENTS), tokenizer.encode(DOCUMENTS))


def test_an_unknown_library_is_refused_with_the_nearest_name(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="did you mean 'gigatoken'"):
        choose_encoder(tokenizer, [], wanted="gigatokens")  # type: ignore[arg-type]


@absent
def test_without_gigatoken_tokenizers_does_it(
    tokenizer: Tokenizer, told: pytest.LogCaptureFixture
) -> None:
    assert choose_encoder(tokenizer, DOCUMENTS).name == "tokenizers"
    assert told.text == ""
    with pytest.raises(InputError, match=r"gigatoken is not installed; pip install 'ettin\[fast\]"):
        choose_encoder(tokenizer, DOCUMENTS, wanted="gigatoken")


def test_a_corpus_is_continued_by_the_library_that_began_it(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"was begun with tokenizers 0\.1, here tokenizers"):
        open_encoder(tokenizer, "tokenizers 0.1")
    with pytest.raises(InputError, match=r"gigatoken is not installed|begun with gigatoken 0\.1,"):
        open_encoder(tokenizer, "gigatoken 0.1")


@present
def test_gigatoken_is_taken_where_it_is_equal(tokenizer: Tokenizer) -> None:
    encoder = choose_encoder(tokenizer, DOCUMENTS)
    assert encoder.identity == f"gigatoken {gigatoken_version()}"
    assert encoder.checked_documents > len(DOCUMENTS) + len(HARD_TEXTS)
    assert encoder.checked_bytes > sum(len(text.encode()) for text in DOCUMENTS)
    for each in (encoder, open_encoder(tokenizer, encoder.identity)):
        assert equal(each.encode(DOCUMENTS), tokenizer.encode(DOCUMENTS))


@present
def test_gigatoken_is_not_taken_where_it_differs(
    truncating: Tokenizer, told: pytest.LogCaptureFixture
) -> None:
    assert choose_encoder(truncating, DOCUMENTS).name == "tokenizers"
    assert "other ids than tokenizers" in told.text
    assert "in the text that begins 'bada kebi, nolu 12 tera." in told.text
    assert "token 5 is" in told.text
    with pytest.raises(InputError, match="token 5 is"):
        choose_encoder(truncating, DOCUMENTS, wanted="gigatoken")


@present
def test_a_tokenizer_that_gigatoken_cannot_follow_is_left_to_tokenizers(
    tokenizer_directory: Path, told: pytest.LogCaptureFixture
) -> None:
    from tokenizers import normalizers

    tokenizer = load_tokenizer(tokenizer_directory)
    tokenizer.backend.normalizer = normalizers.Lowercase()
    assert choose_encoder(tokenizer, DOCUMENTS).name == "tokenizers"
    assert "its normaliser is another than NFC; texts are encoded by tokenizers" in told.text


def test_a_part_is_compared_on_the_way_and_a_difference_stops_it(tokenizer: Tokenizer) -> None:
    wrong = Wrong(tokenizer)
    spot = SpotCheck(Encoder("gigatoken", "0.0", wrong.encode), tokenizer)
    spot.look(["first"], ["bada kebi " * 9])
    assert spot.checked == 90
    with pytest.raises(InputError, match=r"gigatoken 0\.0 gives document late other ids"):
        spot.look(["early", "late"], ["bada " * 30_000, "! " * 500_000])


def test_a_small_share_of_all_text_is_compared_at_the_same_places(tokenizer: Tokenizer) -> None:
    draw = np.random.default_rng(3)
    texts = ["bada kebi nolu " * int(size) for size in draw.integers(1, 2000, 300)]
    names = [str(number) for number in range(len(texts))]
    seen = []
    for step in (1, 7, len(texts)):
        wrong = Wrong(tokenizer)
        spot = SpotCheck(Encoder("gigatoken", "0.0", wrong.encode), tokenizer)
        for begin in range(0, len(texts), step):
            spot.look(names[begin : begin + step], texts[begin : begin + step])
        assert spot.checked == sum(map(len, wrong.seen))
        assert spot.checked <= sum(map(len, texts)) * SPOT_SHARE + SPOT_CHARACTERS
        assert spot.checked >= sum(map(len, texts)) * SPOT_SHARE
        seen.append(wrong.seen)
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) > 3


def test_tokenizers_itself_is_compared_with_nothing(tokenizer: Tokenizer) -> None:
    spot = SpotCheck(choose_encoder(tokenizer, [], wanted="tokenizers"), tokenizer)
    spot.look(["a"], ["bada " * 9])
    assert spot.checked == 0
