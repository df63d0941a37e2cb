"""What many tests share: a folder of made-up text, a tokenizer trained on it, a prepared corpus.

All are made once a session, most in about a second, and must not be changed by a test.
"""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettin.console import log
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source, Tally, read_documents
from ettin.tokenizer_training import train_tokenizer
from tests.runs import phased_run

SOURCES = {"prose": 110, "letters": 60}
"""Documents of each source."""


def made_up_text(seed: int, *, words: int) -> str:
    """Sentences of made-up words; some words are common and most are rare, as in real text."""
    draw = random.Random(seed)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    lexicon_draw = random.Random(0)
    lexicon = ["".join(lexicon_draw.choices(syllables, k=1 + n % 3)) for n in range(2000)]
    frequencies = [1 / (rank + 3) for rank in range(len(lexicon))]
    chosen = draw.choices(lexicon, frequencies, k=words)
    ends = draw.choices([" ", " ", " ", " ", ", ", ". ", ".\n", "\n\n"], k=words)
    return "".join(word + end for word, end in zip(chosen, ends, strict=True))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each source, with plain text files of very different lengths."""
    folder = tmp_path_factory.mktemp("text")
    for number, (name, count) in enumerate(SOURCES.items()):
        draw = random.Random(number)
        (folder / name).mkdir()
        for document in range(count):
            words = int(draw.lognormvariate(6.3, 0.9)) + 5
            text = made_up_text(1000 * number + document, words=words)
            (folder / name / f"{document:03d}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sources(text_folder: Path) -> list[Source]:
    """The two sources of the shared corpus."""
    return [Source(name, (text_folder / name,)) for name in SOURCES]


@pytest.fixture(scope="session")
def tokenizer_directory(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with 512 entries."""
    directory = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    texts = (each.text for source in sources for each in read_documents(source, tally=Tally()))
    train_tokenizer(texts, vocab_size=512, out=directory)
    return directory


@pytest.fixture(scope="session")
def corpus_directory(
    sources: list[Source], tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A corpus of about 200,000 tokens in two sources, with rows of 64 and of 128 tokens."""
    directory = tmp_path_factory.mktemp("corpus") / "corpus"
    prepare(sources, tokenizer=tokenizer_directory, out=directory, context_lengths=(64, 128))
    return directory


@pytest.fixture(scope="session")
def phased_runs(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both twins through all native phases, and both directions of the cross phase."""
    folder = tmp_path_factory.mktemp("phased")
    encoder = phased_run(folder / "encoder", corpus_directory, "mlm")
    decoder = phased_run(folder / "decoder", corpus_directory, "clm")
    phased_run(folder / "encoder-from-decoder", corpus_directory, "mntp", "cross", where=decoder)
    phased_run(folder / "decoder-from-encoder", corpus_directory, "clm", "cross", where=encoder)
    return folder


@pytest.fixture(scope="session")
def exports(phased_runs: Path) -> Path:
    """`encoder/TAG` for every checkpoint of the encoder, and the last one of each other run."""
    from tests.publishing import exports_of

    return exports_of(phased_runs)


@pytest.fixture(scope="session")
def publishable(exports: Path, phased_runs: Path, corpus_directory: Path) -> list[Path]:
    """Exports, the runs that they are of, and the corpus that those were trained on."""
    return [exports, phased_runs, corpus_directory]


@pytest.fixture(scope="session")
def flat_corpus(
    text_folder: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A corpus of one folder without folders in it: it has no classes to tell apart."""
    directory = tmp_path_factory.mktemp("flat") / "corpus"
    prepare(
        [Source("text", (text_folder / "prose",))],
        tokenizer=tokenizer_directory, out=directory, context_lengths=(64,), held_out=0.1,
    )  # fmt: skip
    return directory


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the log says, whatever other tests did to its handlers; read `told.text`."""
    level = log.level
    log.addHandler(caplog.handler)
    log.setLevel(logging.INFO)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(level)
