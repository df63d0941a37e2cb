"""Links between stages: whether what a directory was made from is still what it was then.

The other side may be gone: a note says so. If it is there and is another now, that is a problem,
told with both paths and with what to do.
"""

import re
from collections.abc import Callable
from pathlib import Path

from ettin import files
from ettin.check import weights
from ettin.check.directories import Directory
from ettin.check.findings import Findings
from ettin.check.neighbours import Neighbours, is_corpus
from ettin.files import Json

_OF_STATE = ("objective", "variant", "phase", "tag", "tokens", "recipe_fingerprint", "ledger_hash")

_BEFORE_ANY_STEP = re.compile("[a-z]+0")

Differs = Callable[[Directory], str | None]


def check_links(directory: Directory, neighbours: Neighbours, findings: Findings) -> None:
    """Compare a sound directory with what it was made from."""
    check = _LINKS.get(directory.kind)
    if check is not None:
        with findings.reading(directory.path):
            check(directory, neighbours, findings)


def compare(
    holder: Directory,
    recorded: str,
    candidates: list[Directory],
    findings: Findings,
    *,
    what: str,
    differs: Differs,
    repair: str,
) -> None:
    """One link.

    Args:
        holder: the directory that was made from the other one.
        recorded: where that one was.
        candidates: what may be it now.
        findings: gets a problem, or a note.
        what: how to call the other side.
        differs: how a candidate is not what it was; None when it is.
        repair: what to do when it is another now.
    """
    reasons = {each.path: differs(each) for each in candidates}
    changed = [f"{path} {reason}" for path, reason in reasons.items() if reason is not None]
    if not candidates:
        findings.note(
            f"{holder.path}: its {what}, {recorded}, is not there (any more) as a finished "
            "directory; this link is not checked"
        )
    elif len(changed) == len(candidates):
        findings.problem(
            f"{holder.path}: its {what} is another now: {' and '.join(changed)}; {repair}"
        )
    elif changed:
        findings.note(f"{holder.path}: it was not made from what lies beside it: {changed[0]}")


def _digest_differs(expected: str) -> Differs:
    return lambda found: (
        None if found.digest == expected else f"has the digest {found.digest}, not {expected}"
    )


def _identity_differs(expected: str) -> Differs:
    return lambda found: (
        None
        if found.identity == expected
        else f"has the fingerprint {found.identity}, not {expected}"
    )


def _corpus_differs(expected: str) -> Differs:
    return lambda found: (
        None if is_corpus(found, expected)
        else f"has the fingerprint {found.identity}, not {expected}"
    )  # fmt: skip


def _corpus(corpus: Directory, neighbours: Neighbours, findings: Findings) -> None:
    """A corpus and the tokenizer that was given, where it was a directory."""
    stated = corpus.made_from.get("tokenizer")
    given = _option(corpus.command, "--tokenizer")
    if stated is None or given is None:
        return
    candidates = neighbours.at(given, "tokenizer")
    if not candidates and not Path(given).is_absolute():
        return  # a name on the hub, or a path from an unknown place
    compare(
        corpus, given, candidates, findings, what="tokenizer",
        differs=lambda found: (
            None if found.facts["fingerprint"] == stated
            else f"has the fingerprint {found.facts['fingerprint']}, not {stated}"
        ),
        repair="its own copy is what counts; to use the other one, prepare into another --out",
    )  # fmt: skip


def _run(run: Directory, neighbours: Neighbours, findings: Findings) -> None:
    """A run with its corpus, its stored orders, and the model that it started from."""
    stated = run.facts["corpus"]
    corpora = neighbours.at(str(stated["path"]), "corpus")
    expected = str(stated["fingerprint"])
    equal = [each for each in neighbours.of("corpus") if is_corpus(each, expected)]
    compare(
        run, stated["path"], corpora or equal, findings, what="corpus",
        differs=_corpus_differs(expected),
        repair="bring the old corpus back, or train again into another --out",
    )  # fmt: skip
    for corpus in (each for each in (*corpora, *equal) if is_corpus(each, expected)):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            own, theirs = (each.hash_of(f"tokenizer/{name}") for each in (run, corpus))
            if own is not None and own != theirs:
                findings.problem(
                    f"{run.path / 'tokenizer' / name}: is not the corpus's, "
                    f"{corpus.path / 'tokenizer' / name}"
                )
    _first_weights(run, findings)
    for stored in run.facts.get("row_orders", {}).values():
        compare(
            run, str(stored["path"]), neighbours.at(str(stored["path"]), "row-order"), findings,
            what="row_order", differs=_identity_differs(str(stored["fingerprint"])),
            repair="bring the old order back, or train again into another --out",
        )  # fmt: skip
    start = run.facts.get("start")
    if start:
        kind = "checkpoint" if start["format"] == "checkpoint" else "export"
        if kind == "checkpoint" or neighbours.at(str(start["path"]), kind):
            compare(
                run, start["path"], neighbours.at(str(start["path"]), kind), findings,
                what="start", differs=_weights_differ(str(start["weights"])),
                repair="it was trained on meanwhile; train this run again into another --out, or "
                "bring the old weights back",
            )  # fmt: skip
        elif not Path(str(start["path"])).exists():
            findings.note(f"{run.path}: its start, {start['path']}, is gone; it is not checked")


def _first_weights(run: Directory, findings: Findings) -> None:
    """The first checkpoint holds the weights that the run says that it began with."""
    for name in run.facts["checkpoints"]:
        first = run.path / "checkpoints" / str(name)
        if not _BEFORE_ANY_STEP.fullmatch(str(name)) or not files.is_finished(first):
            continue
        found, stated = weights.fingerprint_of(first), run.facts["initial_weights_hash"]
        if found != stated:
            findings.problem(
                f"{first}: its weights are {found}, the run says that it began with {stated}"
            )


def _weights_differ(expected: str) -> Differs:
    def differs(found: Directory) -> str | None:
        fingerprint = weights.fingerprint_of(found.path)
        return None if fingerprint == expected else f"has the weights {fingerprint}, not {expected}"

    return differs


def _export(export: Directory, neighbours: Neighbours, findings: Findings) -> None:
    """An export with the checkpoint, or with the model, that it was made of."""
    source = str(export.made_from.get("source", ""))
    if "/" not in source:
        return  # a published one, which names no place
    described: Json = export.facts["ettin"]
    if "converted_from" in described:
        kind, differs = "export", _content_differs(export)
        if not neighbours.at(source, kind) and Path(source).exists():
            return  # a model from elsewhere, which nothing of ours describes
    else:
        kind, differs = "checkpoint", _checkpoint_differs(export)
    compare(
        export, source, neighbours.at(source, kind), findings, what="source", differs=differs,
        repair=f"export it again: ettin export {source} --out ANOTHER",
    )  # fmt: skip


def _checkpoint_differs(export: Directory) -> Differs:
    def differs(found: Directory) -> str | None:
        state = files.read_json(found.path / "state.json")
        described = export.facts["ettin"]
        for name in _OF_STATE:
            if name in described and name in state and described[name] != state[name]:
                return f"has {name} {state[name]!r}, not {described[name]!r}"
        return _content_differs(export)(found)

    return differs


def _content_differs(export: Directory) -> Differs:
    dtype = str(export.facts.get("dtype", "float32"))

    def differs(found: Directory) -> str | None:
        if not weights.tensors_of(found.path):
            return None
        name = weights.first_difference(export.path, found.path, dtype=dtype)
        return None if name is None else f"has another {name}"

    return differs


def _report(report: Directory, neighbours: Neighbours, findings: Findings) -> None:
    """A page with the runs, exports and results that it shows."""
    for recorded, digest in report.made_from.items():
        if isinstance(digest, str) and "/" in recorded:
            equal = [each for each in neighbours.inside if each.digest == digest]
            compare(
                report, recorded, neighbours.at(recorded, None) or equal, findings,
                what="material",
                differs=_digest_differs(digest),
                repair="draw the page again with the same `ettin report` command",
            )  # fmt: skip


def _option(command: list[str], name: str) -> str | None:
    """The word after an option, or after its equals sign."""
    for place, word in enumerate(command):
        if word == name and place + 1 < len(command):
            return command[place + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


_LINKS: dict[str, Callable[[Directory, Neighbours, Findings], None]] = {
    "corpus": _corpus,
    "run": _run,
    "export": _export,
    "report": _report,
}
