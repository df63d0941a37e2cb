"""The stage from text to corpus: read, tokenise, hold out, pack, and say what happened.

    books = Source("books", (Path("books"),))
    summary = prepare([books], tokenizer="tokenizer", out=Path("corpus"), workers=4)

The text is cut into parts of about 32 MiB, which are tokenised by as many processes as asked for,
or by tasks on several machines; each finished part lies in `<out>.parts` until all are there and
are put together (see `preparation`). An interrupted stage goes on where it was. The corpus is the
same to the byte however the work was split, and however often it was interrupted.

`facts` of the manifest:

    tokenizer           as `ettin.tokenizer.describe` gives, with fertility, and `loss` if any
    context_lengths, packing, held_out
    chunk_rules         by context length, {minimum_length, skip_below}; none where ours is taken
    decontamination     what was left out for sharing text with evaluation data, if asked for
    encoder             what made the ids: tokenizers, or gigatoken where it gives the same
    sources.<name>      documents, tokens, bytes, held_out_documents, held_out_tokens, skipped,
                        noted, examples, shards (documents of each),
                        rows.<S> = {train, held_out, tokens, fill}
"""

import tempfile
from pathlib import Path

from ettin import files
from ettin.data.chunking import ChunkRuleName
from ettin.data.chunking import chunk_rule as rule_named
from ettin.data.corpus_writing import check_source_names
from ettin.data.packing import Packing
from ettin.data.preparation.parts import PART_BYTES
from ettin.data.preparation.request import Request, Settings
from ettin.data.preparation.summary import PreparedSummary
from ettin.data.preparation.workers import stopping
from ettin.data.reading.sources import OnError, Source, local_tops
from ettin.errors import InputError, NoSpaceError
from ettin.fast_encoding import Wanted


def prepare(
    sources: list[Source],
    *,
    tokenizer: str | Path,
    out: Path,
    context_lengths: tuple[int, ...] = (1024,),
    packing: Packing = "chunks",
    chunk_rule: ChunkRuleName = "ours",
    minimum_chunk: int | None = None,
    skip_below: int | None = None,
    held_out: float = 0.01,
    text_column: str = "text",
    id_column: str | None = None,
    on_error: OnError = "skip",
    decontaminate: list[Path] | None = None,
    workers: int = 1,
    task: tuple[int, int] | None = None,
    part_bytes: int = PART_BYTES,
    encoder: Wanted = "auto",
    command: list[str] | None = None,
) -> PreparedSummary:
    """Make a corpus.

    Args:
        sources: what to read, text or token ids; each needs its own name.
        tokenizer: a directory or a hub id; of token ids that are given, the one that made them.
        out: the corpus directory.
        context_lengths: the row tables to make, in tokens.
        packing: `chunks` fills rows with whole chunks, `none` gives each a row of its own.
        chunk_rule: `ours` keeps every token where it is; for `published` see `chunking`.
        minimum_chunk: of the published rule, in text tokens, instead of its own.
        skip_below: of the published rule, in text tokens, instead of its own.
        held_out: the share of each source's tokens kept for validation; 32,768 tokens at least.
        text_column: the column of tables that holds the text.
        id_column: the column that holds ids; the place of a record stands for it otherwise (for
            MDS, a column named `id` is taken where there is one).
        on_error: `skip` and count what is broken, or `fail` at the first.
        decontaminate: evaluation data; documents of text that share an n-gram of 13 words with it
            are left out and listed (see `decontamination`).
        workers: processes that tokenise; with more than one, a calling script needs the guard
            `if __name__ == "__main__"`.
        task: (i, n): make every n-th part only; the task that finds all parts made puts the corpus
            together. i counts from 0 or from 1.
        part_bytes: about how much text is made at one go, and lost when a process is killed.
        encoder: `auto` takes gigatoken where it is installed and gives the same ids; see
            `fast_encoding`.
        command: the command line, for the manifest.

    Returns:
        What the corpus holds; or what this task has made, while parts of others are missing.

    Raises:
        InputError: no text was found, too little to hold any out, a wrong path, column or
            setting, or `out` holds something else.
        NoSpaceError: the disk is full; finished parts are kept.
        StoppedError: a signal asked for an end; finished parts are kept.
    """
    lengths = tuple(sorted(set(context_lengths)))
    rules = {
        length: rule_named(
            chunk_rule, context_length=length, minimum_length=minimum_chunk, skip_below=skip_below
        )
        for length in lengths
    }
    settings = Settings(
        lengths, packing, held_out, text_column, id_column, on_error, part_bytes, rules
    )
    check_source_names(source.name for source in sources)
    _refuse_inside(out, sources)
    if workers < 1:
        raise InputError(f"{workers} workers: at least 1 is needed")
    if task and not (task[1] >= 1 and 0 <= task[0] <= task[1]):
        raise InputError(f"task {task}: expected (i, n), such as (2, 8), with i up to n")
    if not files.is_finished(out):
        files.refuse_occupied(out)
        _refuse_unwritable(out)
    if decontaminate and any(source.form != "text" for source in sources):
        raise InputError("--decontaminate compares text; sources of tokens have none")
    request = Request(
        sources,
        settings,
        out,
        tokenizer=tokenizer,
        encoder=encoder,
        decontaminate=decontaminate or [],
    )
    if task:
        return request.run_task(*task, workers=workers, command=command or [])
    with files.locked(out):
        if files.is_finished(out):
            return request.finished()
        with stopping():
            request.make(request.parts, workers)
            return request.put_together(command or [])


def _refuse_unwritable(out: Path) -> None:
    """Say before the work that nothing can be made where `out` should come; leaves no trace."""
    parent = next(each for each in out.absolute().parents if each.exists())
    try:
        with files.space_checked(parent), tempfile.TemporaryFile(dir=parent):
            pass
    except NoSpaceError:
        raise
    except OSError as error:
        raise InputError(
            f"cannot write in {parent}: {error.strerror}; choose another --out"
        ) from error


def _refuse_inside(out: Path, sources: list[Source]) -> None:
    tops = [path for source in sources for path in local_tops(source)]
    for path in (path for path in tops if path.is_dir()):
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"--out {out} lies in the text folder {path} and would be read as text; "
                "choose a place outside"
            )
