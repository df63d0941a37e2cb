"""Tokenizers: bytes that come back, special strings that stay text, special tokens by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ettin.errors import InputError
from ettin.files import verify
from ettin.text_pieces import PIECE_CHARACTERS, TextSample, pieces, split_inside
from ettin.tokenizer import Tokenizer, describe, load_tokenizer
from ettin.tokenizer_training import train_tokenizer

TEXTS = [
    "the cat sat on the mat, the cat said: don't! " * 20,
    "naïve Ωμέγα 文字 🦊 12345\r\n\t x",
] * 3


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@settings(max_examples=200, deadline=None)
@given(text=strategies.text(strategies.characters(exclude_categories=["Cs"])))
def test_every_byte_of_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.is_lossless
    assert tokenizer.decode_bytes(tokenizer.encode([text])[0]) == text.encode()


def test_a_special_string_in_text_stays_text(tokenizer: Tokenizer) -> None:
    text = "a [MASK] b [CLS][SEP] [PAD]"
    ids = tokenizer.encode([text])[0]
    assert not set(ids.tolist()) & set(tokenizer.special_ids.tolist())
    assert set(ids.tolist()) <= set(tokenizer.ordinary_ids.tolist())
    assert tokenizer.decode_bytes(ids) == text.encode()


def test_special_literals_are_cut_where_the_library_would_not_spare_them() -> None:
    parts = split_inside("a[MASK][MASK]b[PAD]", ["[MASK]", "[PAD]"])
    assert parts == ["a[MA", "SK][MA", "SK]b[P", "AD]"]
    assert split_inside("no literal", []) == ["no literal"]


@settings(max_examples=300, deadline=None)
@given(
    text=strategies.text(
        strategies.sampled_from("ab1_. \t\n\r'ß\u00a0\u2003\x1c!-,🦊"), max_size=80
    ),
    limit=strategies.integers(2, 12),
)
def test_texts_cut_into_pieces_are_encoded_like_the_whole(
    tokenizer: Tokenizer, text: str, limit: int
) -> None:
    cut = list(pieces(text, limit=limit))
    assert "".join(piece for piece, _ in cut) == text
    assert all(len(piece) <= limit for piece, _ in cut)
    if not any(forced for _, forced in cut):
        split = tokenizer.backend.pre_tokenizer.pre_tokenize_str
        words = [word for piece, _ in cut for word, _ in split(piece)]
        assert words == [word for word, _ in split(text)]


def test_long_texts_are_cut_and_forced_cuts_are_counted(tokenizer: Tokenizer) -> None:
    words, unbroken = "one two " * (PIECE_CHARACTERS // 4), "x" * (PIECE_CHARACTERS + 1)
    before = tokenizer.forced_cuts
    ids = tokenizer.encode([words, unbroken, "", words])
    assert tokenizer.forced_cuts - before == 1
    texts = [tokenizer.decode_bytes(each).decode() for each in ids]
    assert texts == [words, unbroken, "", words]
    assert ids[0].dtype == np.uint32


def test_the_same_text_gives_the_same_tokenizer_and_fingerprint(tmp_path: Path) -> None:
    first, _ = train_tokenizer(TEXTS, vocab_size=320, out=tmp_path / "a")
    second, fertility = train_tokenizer(TEXTS, vocab_size=320, out=tmp_path / "b")
    other, _ = train_tokenizer(TEXTS[:1], vocab_size=320, out=tmp_path / "c")
    one, two = ((tmp_path / name / "tokenizer.json").read_bytes() for name in "ab")
    assert one == two
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert load_tokenizer(tmp_path / "a").fingerprint == first.fingerprint
    assert verify(tmp_path / "a") == []
    assert fertility.tokens_per_word > 0.5
    assert fertility.bytes_per_token > 1


def test_sizes_are_multiples_of_64_and_small_text_is_said(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    tokenizer, _ = train_tokenizer(["a b"], vocab_size=300, out=tmp_path / "small")
    assert (tokenizer.size, tokenizer.padded_size) == (260, 320)
    assert "300 rounded up to 320" in told.text
    assert "too small for a vocabulary of 320" in told.text
    assert describe(tokenizer)["ordinary_ranges"] == [[4, 260]]
    with pytest.raises(InputError, match="260 at least"):
        train_tokenizer(["a b"], vocab_size=259, out=tmp_path / "none")
    with pytest.raises(InputError, match="no text"):
        train_tokenizer([], vocab_size=300, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_finished_tokenizer_is_kept_and_another_refused(tmp_path: Path) -> None:
    out = tmp_path / "t"
    made, _ = train_tokenizer(TEXTS, vocab_size=320, out=out, made_from={"text": "x"})
    again, _ = train_tokenizer([], vocab_size=320, out=out, made_from={"text": "x"})
    assert again.fingerprint == made.fingerprint
    with pytest.raises(InputError, match="something else"):
        train_tokenizer(TEXTS, vocab_size=320, out=out, made_from={"text": "y"})


def test_saved_files_close_a_text_for_encoders_and_leave_it_open_for_decoders(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    bos, eos = tokenizer.special.bos, tokenizer.special.eos
    text = tokenizer.encode(["kala"])[0].tolist()
    for closing, end in ((True, [eos]), (False, [])):
        tokenizer.save(tmp_path / str(closing), closing=closing, max_length=99)
        saved = Backend.from_file(str(tmp_path / str(closing) / "tokenizer.json"))
        assert saved.encode("kala").ids == [bos, *text, *end]
        config = json.loads((tmp_path / str(closing) / "tokenizer_config.json").read_bytes())
        assert config["model_max_length"] == 99
        assert (config["cls_token"], config["eos_token"]) == ("[CLS]", "[SEP]")
        assert load_tokenizer(tmp_path / str(closing)).fingerprint == tokenizer.fingerprint


def _write_foreign(directory: Path) -> None:
    """A lower-casing word-piece tokenizer that pads and truncates and has no mask token."""
    backend = Backend(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    backend.train_from_iterator(["hello world of words"] * 9, trainer)
    backend.enable_truncation(3)
    backend.enable_padding(length=8)
    directory.mkdir()
    backend.save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))


def test_special_tokens_are_known_by_name_and_missing_ones_added(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    _write_foreign(tmp_path / "foreign")
    tokenizer = load_tokenizer(tmp_path / "foreign")
    known = tokenizer.backend.token_to_id
    assert tokenizer.special[:3] == (known("<s>"), known("</s>"), known("<pad>"))
    assert tokenizer.added == ("[MASK]",)
    assert "no [MASK]: added" in told.text
    assert tokenizer.special.mask == tokenizer.size - 1
    assert tokenizer.padded_size % 64 == 0
    assert len(tokenizer.encode(["hello world hello world hello"])[0]) == 5
    assert not tokenizer.is_lossless
    with pytest.raises(InputError, match="not byte-level"):
        tokenizer.decode_bytes([1])


def test_a_normaliser_or_a_prefix_space_makes_a_tokenizer_lossy(tokenizer_directory: Path) -> None:
    described = json.loads((tokenizer_directory / "tokenizer.json").read_bytes())
    spaced = {
        **described,
        "pre_tokenizer": {**described["pre_tokenizer"], "add_prefix_space": True},
    }
    normal = {**described, "normalizer": {"type": "NFC"}}
    for changed, lossless in ((described, True), (spaced, False), (normal, False)):
        backend = Backend.from_str(json.dumps(changed))
        names = {"bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
        assert Tokenizer(backend, names).is_lossless == lossless


def test_what_is_no_tokenizer_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="neither a directory nor a tokenizer"):
        load_tokenizer("not/a/repository/name")


def test_a_sample_is_even_bounded_and_repeatable() -> None:
    samples = [TextSample(), TextSample()]
    for sample in samples:
        for number in range(2560):
            sample.add(f"{number} " + "x" * 20_000)
    assert samples[0].texts == samples[1].texts
    numbers = [int(text.split()[0]) for text in samples[0].texts]
    assert len(set(numbers)) == 256
    assert 1100 < sum(numbers) / 256 < 1460
    assert max(len(text) for text in samples[0].texts) == 16_384
