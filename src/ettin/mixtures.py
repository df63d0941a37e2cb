"""The published mixtures as tables: which sources a phase draws from, and how much of each.

    mixture = published("decay")
    mixture.weights()                       # {"arxiv": 30, "books": 105, "code_repos": 202, …}
    mixture.folders(Path("my-texts"))       # {"arxiv": my-texts/ArXiv, "books": my-texts/books, …}

Labels, categories, tokens and percentages are those printed in the table of training data of "Seq
vs Seq" (arXiv 2507.11412); tokens are counted after chunking, with the published tokenizer. The
names are ours: the folders of the published decay data, and the labels in the same style.

The published data are not text but MDS shards of token ids, already cut into chunks, which `ettin
prepare --mds` reads. With `--text` a mixture is resolved to folders of text of one's own, one for
each source.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ettin.console import log
from ettin.errors import InputError, nearest


class PublishedSource(NamedTuple):
    """One line of a published table.

    Attributes:
        name: the source's name in a corpus and in the mixture of a recipe.
        label: what the table calls it.
        category: the table's own grouping.
        billions: tokens in billions, as printed.
        percentage: of the mixture's tokens, as printed.
        hub_folder: its folder below `train/` in the hub data set; None where that is unknown.
    """

    name: str
    label: str
    category: str
    billions: float
    percentage: float
    hub_folder: str | None = None


@dataclass(frozen=True)
class Mixture:
    """What one phase was trained on.

    Attributes:
        phase: the phase it was published for.
        hub_data_set: where the published tokens lie, as MDS shards.
        sources: the lines of its table, the largest first.
    """

    phase: str
    hub_data_set: str
    sources: tuple[PublishedSource, ...]

    @property
    def total_tokens(self) -> int:
        """Tokens of all sources together; the table is exact to 0.1 billion a source."""
        return sum(self.weights().values()) * 10**8

    def weights(self) -> dict[str, int]:
        """Integer weights for the mixture of a recipe: tokens in units of 0.1 billion.

        Example:
            >>> published("decay").weights()["textbooks"]
            5
        """
        return {source.name: round(10 * source.billions) for source in self.sources}

    def folders(self, root: Path) -> dict[str, Path]:
        """Each source's folder directly below `root`, in the order of the table.

        Raises:
            InputError: see `find_folders`.
        """
        return find_folders(root, [self])

    def hub_folders(self) -> dict[str, str | None]:
        """Where each source's published tokens lie on the hub; None where that is unknown.

        They are MDS shards of token ids in subfolders, for `ettin prepare --mds`. Copies of a
        source that stand beside it (`…_2`, `…_dup`) repeat it, and are not listed. The folders
        of the decay data are as its card names them, that of the extension data as its listing did.

        Example:
            >>> published("decay").hub_folders()["books"]
            'hf://datasets/jhu-clsp/ettin-decay-data/train/books'
        """
        train = f"hf://datasets/{self.hub_data_set}/train"
        return {
            source.name: f"{train}/{source.hub_folder}" if source.hub_folder else None
            for source in self.sources
        }


def published(phase: str) -> Mixture:
    """The mixture that a phase was published with; `cross` reads that of `decay` again.

    Raises:
        InputError: no such phase; the nearest name is given.
    """
    if phase not in MIXTURES:
        raise InputError(f"no mixture was published for {phase!r}; {nearest(phase, MIXTURES)}")
    return MIXTURES[phase]


def find_folders(root: Path, mixtures: Sequence[Mixture]) -> dict[str, Path]:
    """The folder of every source of some mixtures, directly below `root`; by name, once each.

    Names are compared by their letters and digits alone, whatever their case, so `dclm_dolmino` is
    found as `dclm-dolmino` and as `DCLM (Dolmino)`. What no source takes is logged.

    Args:
        root: a folder that holds a folder for each source.
        mixtures: at least one; a source of several is one source.

    Raises:
        InputError: `root` is no folder, sources have no folder below it, or one has two.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; a mixture needs one that holds a folder for each source: "
            f"{', '.join(_names(mixtures))}"
        )
    there = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    names = {_letters(name): name for name in _names(mixtures)}
    found: dict[str, Path] = {}
    unused: list[str] = []
    for path in there:
        name = names.get(_letters(path.name))
        if name is None:
            unused.append(path.name)
        elif name in found:
            raise InputError(
                f"{root} has two folders for the source {name}: {found[name].name} and "
                f"{path.name}; put their files into one"
            )
        else:
            found[name] = path
    missing = [name for name in names.values() if name not in found]
    if missing:
        raise InputError(_what_is_missing(root, mixtures, missing, there, unused))
    if unused:
        log.info("not part of the %s, left out: %s", _title(mixtures), ", ".join(unused))
    return {name: found[name] for name in names.values()}


def _names(mixtures: Sequence[Mixture]) -> list[str]:
    """The sources of all mixtures, each once, in the order of the tables."""
    return list(dict.fromkeys(each.name for mixture in mixtures for each in mixture.sources))


def _letters(name: str) -> str:
    """What of a name is compared: its letters and digits, in one case."""
    return "".join(each for each in name.casefold() if each.isalnum())


def _title(mixtures: Sequence[Mixture]) -> str:
    phases = list(dict.fromkeys(mixture.phase for mixture in mixtures))
    return f"{' + '.join(phases)} mixture"


def _what_is_missing(
    root: Path,
    mixtures: Sequence[Mixture],
    missing: list[str],
    there: list[Path],
    unused: list[str],
) -> str:
    listed = []
    for name in missing:
        close = difflib.get_close_matches(name, unused, n=1, cutoff=0.5)
        listed.append(f"{name} (is it '{close[0]}'?)" if close else name)
    hub = " and ".join(dict.fromkeys(mixture.hub_data_set for mixture in mixtures))
    return (
        f"{root} lacks folders for {len(missing)} of the {len(_names(mixtures))} sources of the "
        f"{_title(mixtures)}: {', '.join(listed)}. It has: "
        f"{', '.join(path.name for path in there) or 'no folders'}. Give each source a folder of "
        "text, or name sources of your own with --source NAME=PATH. The published data lie on the "
        f"hub in {hub}, as MDS shards of tokens, which --mds reads instead of --text"
    )


_PRETRAINING = Mixture("pretraining", "jhu-clsp/ettin-pretraining-data", (
    PublishedSource("dclm", "DCLM", "crawl", 837.2, 49.1),
    PublishedSource("cc_head", "CC Head", "crawl", 356.6, 20.9),
    PublishedSource("starcoder", "Starcoder", "code", 263.9, 15.5),
    PublishedSource("reddit", "Reddit", "social", 80.3, 4.7),
    PublishedSource("pes2o", "PeS2o", "scientific", 57.3, 3.4),
    PublishedSource("arxiv", "Arxiv", "scientific", 28.0, 1.6),
    PublishedSource("stackexchange", "StackExchange", "social", 19.6, 1.1),
    PublishedSource("tulu_flan", "Tulu Flan", "instruction", 16.6, 1.0),
    PublishedSource("open_web_math", "Open-Web-Math", "math", 12.7, 0.7),
    PublishedSource("algebraic_stackexchange", "Algebraic StackExchange", "math", 12.6, 0.7),
    PublishedSource("cc_news", "CC News", "news", 7.3, 0.4),
    PublishedSource("wikipedia", "Wikipedia", "reference", 7.3, 0.4),
    PublishedSource("books", "Books", "reference", 5.3, 0.3),
))  # fmt: skip

_EXTENSION = Mixture("extension", "jhu-clsp/ettin-extension-data", (
    PublishedSource("dclm_dolmino", "DCLM (Dolmino)", "crawl", 175.5, 70.4),
    PublishedSource("starcoder", "Starcoder", "code", 38.4, 15.4),
    PublishedSource("math_dolmino", "Math (Dolmino)", "math", 10.4, 4.2),
    PublishedSource("pes2o", "PeS2o", "scientific", 8.3, 3.3),
    PublishedSource("reddit", "Reddit", "social", 6.2, 2.5),
    PublishedSource("arxiv", "Arxiv", "scientific", 4.1, 1.6),
    PublishedSource("stackexchange_dolmino", "StackExchange (Dolmino)", "social", 2.7, 1.1,
                    hub_folder="stackexchange-dolmino"),
    PublishedSource("tulu_flan", "Tulu Flan", "instruction", 2.4, 1.0),
    PublishedSource("books", "Books", "reference", 0.8, 0.3),
    PublishedSource("wikipedia", "Wikipedia", "reference", 0.5, 0.2),
))  # fmt: skip

_DECAY = Mixture("decay", "jhu-clsp/ettin-decay-data", tuple(
    source._replace(hub_folder=source.name) for source in (
        PublishedSource("dclm_dolmino", "DCLM (Dolmino)", "crawl", 26.0, 34.1),
        PublishedSource("code_repos", "Code_Repos", "code", 20.2, 26.5),
        PublishedSource("books", "Books", "reference", 10.5, 13.8),
        PublishedSource("math_dolmino", "Math (Dolmino)", "math", 5.0, 6.6),
        PublishedSource("tulu_flan", "Tulu Flan", "instruction", 4.1, 5.4),
        PublishedSource("stackexchange_dolmino", "StackExchange (Dolmino)", "social", 4.0, 5.2),
        PublishedSource("arxiv", "Arxiv", "scientific", 3.0, 3.9),
        PublishedSource("wikipedia", "Wikipedia", "reference", 3.0, 3.9),
        PublishedSource("textbooks", "Textbooks", "reference", 0.5, 0.7),
    )
))  # fmt: skip

MIXTURES = {
    "pretraining": _PRETRAINING,
    "extension": _EXTENSION,
    "decay": _DECAY,
    "cross": _DECAY,
}
"""By the name of the phase. The paper calls the extension mid-training."""
