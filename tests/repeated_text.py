"""Made-up text in which a passage of random words comes again and again, and a corpus of it.

Words are drawn evenly and independently, so nothing but an earlier copy of the passage tells the
next word: a model that does not see one cannot do better than log(`WORDS`) nats a word. Every word
is one token, and every document fills one row of the long context length.

    near   passages that come again well within the old context length: copying can be learnt there
    far    passages whose copies are farther apart than the old context length
"""

import json
import random
from pathlib import Path

from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source, Tally, read_documents
from ettin.tokenizer_training import train_tokenizer

OLD_LENGTH = 32
LONG_LENGTH = 4 * OLD_LENGTH

WORDS = [consonant + vowel for consonant in "bdkmt" for vowel in "aeiou"]
DOCUMENT_WORDS = LONG_LENGTH - 2
"""BOS and EOS are the other two tokens of a row."""

PASSAGE_WORDS = {"near": (2, 14), "far": (36, 48)}
"""The shortest and the longest passage of each source."""

VOCABULARY = 320
"""256 bytes, 4 special tokens, a merge for each consonant and each word, room for the rest."""


def repeated_text(draw: random.Random, *, passage_words: tuple[int, int]) -> str:
    """A document of `DOCUMENT_WORDS` words: one fresh passage, over and over."""
    passage = draw.choices(WORDS, k=draw.randint(*passage_words))
    return "".join(" " + passage[place % len(passage)] for place in range(DOCUMENT_WORDS))


def repeated_corpus(folder: Path, *, documents: int) -> Path:
    """A corpus of that many documents of each source, with rows of both context lengths."""
    sources = []
    for seed, (name, passage_words) in enumerate(PASSAGE_WORDS.items()):
        draw, path = random.Random(seed), folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for number in range(documents):
                text = repeated_text(draw, passage_words=passage_words)
                lines.write(json.dumps({"id": f"{name}-{number}", "text": text}) + "\n")
        sources.append(Source(name, (path,)))
    texts = [document.text for document in read_documents(sources[1], tally=Tally())]
    train_tokenizer(texts[:300], vocab_size=VOCABULARY, out=folder / "tokenizer")
    lengths = (OLD_LENGTH, LONG_LENGTH)
    prepare(sources, tokenizer=folder / "tokenizer", out=folder / "corpus", context_lengths=lengths)
    return folder / "corpus"
