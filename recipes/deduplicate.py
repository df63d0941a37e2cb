"""Leave out near-duplicates and poor text before `ettin prepare`, by datatrove, on this machine.

    pip install 'ettin[datatrove]'
    python recipes/deduplicate.py --source web=texts/web --source books=texts/books --out clean
    ettin prepare --source web=clean/kept/web --source books=clean/kept/books --id-column id …

In: whatever `ettin prepare` reads. Documents get the ids that it would have given them, and keep
them. Out, once all is done:

    clean/kept/<source>/00000.jsonl.gz    id, text, cluster (of near-duplicates; -1: alone)
    clean/dropped/00000-*.jsonl.gz        id, source, reason; of near-duplicates their cluster too
    clean/report.json                     documents read, kept, and dropped by reason

Quality: the rules of Gopher (Rae et al. 2021, appendix A) about length, repetition and symbols.
They are made for prose in scripts with spaces, and the one about stop words for English;
`--no-quality` leaves them out. Duplicates: MinHash over 5-grams of words, 14 bands of 8 hashes.
Two documents that share 75 % of all their 5-grams are found with a probability of 0.77, 85 % with
0.99; one of each cluster stays. All sources are looked at together.

Copy this file to change it. On a cluster, datatrove's SlurmPipelineExecutor takes the same steps.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

from ettin import files
from ettin.data.clean.words import list_words
from ettin.data.reading.sources import Source, list_files, make_unique, named_sources, read_counted
from ettin.data.reading.tally import Reading, Tally
from ettin.errors import InputError, NoSpaceError

os.environ.setdefault("TQDM_DISABLE", "1")
try:
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer
    from loguru import logger
except ImportError as error:
    sys.exit(f"this recipe needs datatrove ({error}): pip install 'ettin[datatrove]'")

logger.disable("datatrove")  # what it says of each task; its statistics are in our report

MOST_TASKS = 64

# xxhash, which datatrove prefers, takes no text since its version 4.
MINHASH = minhash.MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8,
                                hash_config=HashConfig(hash_fc="sha1"))  # fmt: skip


class Words(WordTokenizer):  # type: ignore[misc]
    """Words by a function of ours: datatrove's own of each language bring spaCy and more."""

    def __init__(self, split: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._split = split

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return self._split(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Not asked for here."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not asked for here."""
        raise NotImplementedError


class Lines:
    """Writes documents as packed JSON lines; also what datatrove calls an exclusion writer.

    Args:
        folder: where to.
        name: of each file in it, with `{rank}` and perhaps `{source}`.
        line: what to write of a document.
    """

    def __init__(self, folder: Path, name: str, line: Callable[[Any], dict[str, Any]]) -> None:
        self.folder, self.name, self.line = folder, name, line
        self.files: dict[Path, gzip.GzipFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()

    def write(self, document: Any, rank: int) -> None:
        """Write one document."""
        source = document.metadata["source"]
        path = self.folder / self.name.format(source=source, rank=f"{rank:05d}")
        if path not in self.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[path] = gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)
        self.files[path].write(files.canonical_json(self.line(document)) + b"\n")

    def __call__(self, data: Iterable[Any], rank: int, _: int) -> None:
        """Write all documents: the last step of a pipeline."""
        with self:
            for document in data:
                self.write(document, rank)


def read(
    _: None,
    rank: int,
    tasks: int,
    *,
    sources: list[Source],
    text_column: str,
    id_column: str | None,
    notes: Path,
) -> Iterator[Any]:
    """The first step of a pipeline: every so many-th file, with the ids of `ettin prepare`."""
    tally = Tally()
    reading = Reading(text_column, id_column, "skip", tally)
    seen: dict[str, dict[int, int]] = defaultdict(dict)
    for file in list_files(sources)[rank::tasks]:
        for found in read_counted(file, reading):
            name = found.id
            if id_column:
                name = make_unique(name, found.origin, seen[file.source], tally)
            yield Document(text=found.text, id=name, metadata={"source": file.source})
    files.write_json(notes / f"{rank:05d}.json", dict(tally.skipped))


def read_again(_: None, rank: int, __: int, *, folder: Path) -> Iterator[Any]:
    """The documents that the task of the same number wrote with `in_between`."""
    path = folder / f"{rank:05d}.jsonl.gz"
    for line in lines_of(path) if path.exists() else ():
        yield Document(text=line["text"], id=line["id"], metadata={"source": line["source"]})


def in_between(document: Any) -> dict[str, Any]:
    """A document on its way from the quality rules to MinHash."""
    return {"id": document.id, "text": document.text, "source": document.metadata["source"]}


def kept(document: Any) -> dict[str, Any]:
    """A document that stays."""
    return {"id": document.id, "text": document.text, "cluster": cluster_of(document)}


def poor(document: Any) -> dict[str, Any]:
    """A document that a rule about quality excluded."""
    reason = document.metadata["filter_reason"]
    return {"id": document.id, "source": document.metadata["source"], "reason": reason}


def duplicate(document: Any) -> dict[str, Any]:
    """A document that another one like it stands for."""
    reason = {"reason": "near-duplicate", "cluster": cluster_of(document)}
    return {"id": document.id, "source": document.metadata["source"], **reason}


def cluster_of(document: Any) -> int:
    """The number of the near-duplicates that a document is one of; -1 if it is alone."""
    return int(document.metadata.get("minhash_cluster_id", -1))


def deduplicate(
    sources: list[Source],
    *,
    out: Path,
    work: Path,
    text_column: str = "text",
    id_column: str | None = None,
    quality: bool = True,
    workers: int = 1,
) -> dict[str, Any]:
    """Write what stays and what does not.

    Args:
        sources: what to read.
        out: where to; see above.
        work: a folder for signatures and logs, to be removed by the caller.
        text_column: the column of tables that holds the text.
        id_column: the column that holds ids; the place of a record stands for it otherwise.
        quality: whether to apply the rules about quality.
        workers: processes.

    Returns:
        What `report.json` holds.
    """
    # As many tasks as files, whatever the number of workers, so that the same documents stay.
    tasks = max(1, min(MOST_TASKS, len(list_files(sources))))
    filtered, signatures, buckets = work / "filtered", work / "signatures", work / "buckets"
    clusters, notes = work / "clusters", work / "notes"

    def run(title: str, *steps: Any, tasks: int) -> None:
        sys.stderr.write(f"{title}\n")
        logs = work / "logs" / title.replace(" ", "-")
        LocalPipelineExecutor(
            list(steps), tasks=tasks, workers=min(workers, tasks), logging_dir=str(logs)
        ).run()

    rules = []
    for number, rule in enumerate((GopherRepetitionFilter, GopherQualityFilter) if quality else ()):
        excluded = Lines(out / "dropped", f"{{rank}}-quality-{number}.jsonl.gz", poor)
        rules.append(rule(language=Words(str.split), exclusion_writer=excluded))
    first = partial(
        read, sources=sources, text_column=text_column, id_column=id_column, notes=notes
    )
    again = partial(read_again, folder=filtered)
    run("reading", first, *rules, Lines(filtered, "{rank}.jsonl.gz", in_between), tasks=tasks)
    sign = minhash.MinhashDedupSignature(
        str(signatures), config=MINHASH, language=Words(list_words)
    )
    run("signatures", again, sign, tasks=tasks)
    find = minhash.MinhashDedupBuckets(str(signatures), str(buckets), config=MINHASH)
    run("buckets", find, tasks=MINHASH.num_buckets)
    join = minhash.MinhashDedupCluster(
        str(buckets), str(clusters), config=MINHASH, save_cluster_id=True
    )
    run("clusters", join, tasks=1)
    clusters.mkdir(exist_ok=True)
    for rank in range(tasks):  # where none is removed these are not written, and then not read
        for ending in ("remove", "clusters"):
            (clusters / f"{rank:06d}.{ending}").touch()
    run(
        "writing",
        again,
        minhash.MinhashDedupFilter(
            str(clusters),
            exclusion_writer=Lines(out / "dropped", "{rank}-duplicates.jsonl.gz", duplicate),
            load_cluster_ids=True,
        ),
        Lines(out / "kept", "{source}/{rank}.jsonl.gz", kept),
        tasks=tasks,
    )
    return report(out, notes, quality=quality)


def report(out: Path, notes: Path, *, quality: bool) -> dict[str, Any]:
    """Count what was written, and write that down too."""
    dropped = Counter(
        line["reason"] for path in (out / "dropped").glob("*.gz") for line in lines_of(path)
    )
    (out / "kept").mkdir(exist_ok=True)  # where nothing stays
    stayed = {
        folder.name: sum(1 for path in folder.glob("*.gz") for _ in lines_of(path))
        for folder in sorted((out / "kept").iterdir())
    }
    skipped: Counter[str] = Counter()
    for path in notes.glob("*.json"):
        skipped.update(files.read_json(path))
    facts = {
        "read": sum(stayed.values()) + dropped.total(),
        "kept": stayed,
        "dropped": dict(sorted(dropped.items())),
        "not_read": dict(sorted(skipped.items())),
        "quality": quality,
        "minhash": str(MINHASH),
        "versions": files.versions("datatrove"),
    }
    files.write_json(out / "report.json", facts)
    return facts


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a packed file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def main() -> None:
    """What a person types."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", nargs="+", default=[], help="files, folders, patterns, URLs")
    parser.add_argument("--source", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--id-column")
    parser.add_argument("--no-quality", action="store_true", help="near-duplicates only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    work = given.out.with_name(given.out.name + ".work")
    try:
        with files.locked(given.out), files.staging(given.out) as out:
            shutil.rmtree(work, ignore_errors=True)
            facts = deduplicate(
                named_sources(given.text, given.source),
                out=out,
                work=work,
                text_column=given.text_column,
                id_column=given.id_column,
                quality=not given.no_quality,
                workers=given.workers,
            )
    except (InputError, NoSpaceError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    total = sum(facts["kept"].values())
    print(f"{facts['read']:,} documents read, {total:,} kept in {given.out / 'kept'}")  # noqa: T201
    for reason, count in {**facts["dropped"], **facts["not_read"]}.items():
        print(f"{count:8,}  {reason}")  # noqa: T201


if __name__ == "__main__":
    main()
