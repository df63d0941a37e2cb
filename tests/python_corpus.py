"""A small corpus of made-up Python modules in packages, and of made-up prose with titles.

Every package has words of its own, and functions have docstrings that use words of their names, so
that something can be learned from it. Numbers stand in every line, so that no two are the same.
"""

import random
from pathlib import Path

from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source

PACKAGES = ("alpha", "beta", "gamma")
HELD_OUT = 0.1


def write_packages(folder: Path, *, modules: int = 70) -> Path:
    """Folders `alpha/`, `beta/`, `gamma/` of modules with four functions each; returns it."""
    for place, package in enumerate(PACKAGES):
        (folder / package).mkdir(parents=True)
        own = random.Random(package)
        lexicon = [f"{package[:2]}{_word(own)}" for _ in range(30)]
        for number in range(modules):
            draw = random.Random(100 * place + number)
            words = draw.sample(lexicon, 8)
            text = f"import {package}\n\n" + "\n\n".join(_function(draw, words) for _ in range(4))
            (folder / package / f"module_{number:02d}.py").write_text(text + "\n")
    return folder


def write_prose(folder: Path, *, documents: int = 100) -> Path:
    """Documents of three titles with a paragraph each; returns the folder."""
    folder.mkdir(parents=True)
    for number in range(documents):
        draw = random.Random(number)
        parts = []
        for _ in range(3):
            words = [_word(draw) for _ in range(40)]
            parts += [" ".join(words[:4]).title(), f"{' '.join(words[4:20])}.\n{' '.join(words)}."]
        (folder / f"{number:02d}.txt").write_text("\n\n".join(parts))
    return folder


def prepared(sources: dict[str, Path], out: Path, *, tokenizer: Path) -> Path:
    """A corpus of folders, with rows of 64 tokens."""
    prepare(
        [Source(name, (path,)) for name, path in sources.items()],
        tokenizer=tokenizer,
        out=out,
        context_lengths=(64,),
        held_out=HELD_OUT,
    )
    return out


def _function(draw: random.Random, words: list[str]) -> str:
    verb, noun, other = draw.sample(words, 3)
    return (
        f"def {verb}_{noun}_{_word(draw)}({other}, {_word(draw)}):\n"
        f'    """Give the {verb} of a {noun} and its {other} {_word(draw)}."""\n'
        f"    {noun} = {verb}({other})\n"
        f"    for {_word(draw)} in {noun}:\n"
        f"        {other} += {_word(draw)} * {draw.randrange(1000)}\n"
        f"    return {noun}, {other}\n"
    )


def _word(draw: random.Random) -> str:
    return "".join(draw.choice("bdfgklmnprst") + draw.choice("aeiou") for _ in range(3))
