"""Results and what they were measured on: the weights of exports, and corpora."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from ettin.check.findings import Findings
from ettin.check.neighbours import Neighbours, is_corpus, weights_of
from ettin.records import Record, read_records


def check_result_links(out: Path, neighbours: Neighbours, findings: Findings) -> None:
    """Compare records with the models and corpora that are still there.

    A record of older weights is a problem unless the same task is measured on today's too.

    Args:
        out: a directory of results, or a folder that holds records as one does.
        neighbours: what else is there.
        findings: gets one problem or note for each model, not for each record.
    """
    by_weights: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in read_records(out).values():
        # Models from the hub have a revision, which never changes.
        if isinstance(record, Record) and record.revision is None:
            by_weights[record.model, record.weights].append(record)
    for (model, stated), records in by_weights.items():
        _check_model(out, model, stated, by_weights, neighbours=neighbours, findings=findings)
        _check_corpora(out, records, neighbours=neighbours, findings=findings)


def _check_model(
    out: Path,
    model: str,
    stated: str,
    by_weights: dict[tuple[str, str], list[Record]],
    *,
    neighbours: Neighbours,
    findings: Findings,
) -> None:
    records = by_weights[model, stated]
    if stated in neighbours.exports_by_weights:
        return
    places = {word for record in records for word in _models_of(record)}
    named = [word for word in sorted(places) if Path(word).name == model]
    found = {
        each.path: weights_of(each) for word in named for each in neighbours.at(word, "export")
    }
    if not found:
        findings.note(
            f"{out}: the model {model} with the weights {stated}, measured there, is not here "
            "(any more); this link is not checked"
        )
        return
    if stated in found.values():
        return
    path, now = next(iter(found.items()))
    today = {_measured(record) for record in by_weights.get((model, now), [])}
    if {_measured(record) for record in records} <= today:
        findings.note(f"{out}: also holds results of {path} with the weights it had before")
        return
    findings.problem(
        f"{out}: its results of {model} are of the weights {stated}, but {path} has {now} now; "
        "evaluate it again with the same `ettin evaluate` command, and remove "
        f"{out / f'{model}-{stated[:8]}'} if the old weights are of no use"
    )


def _check_corpora(
    out: Path, records: list[Record], *, neighbours: Neighbours, findings: Findings
) -> None:
    """Tasks that are made out of a corpus name its fingerprint among their settings."""
    for record in records:
        stated = record.settings.get("corpus")
        given = _data_of(record)
        if not isinstance(stated, str) or given is None:
            continue
        corpora = neighbours.at(given, "corpus")
        if not corpora:
            findings.note(
                f"{out}: the corpus {given}, which tasks were made out of, is not here (any more); "
                "this link is not checked"
            )
        elif not any(is_corpus(each, stated) for each in corpora):
            findings.problem(
                f"{out}: {record.task} of {record.model} was measured on a corpus with the "
                f"fingerprint {stated}, but {corpora[0].path} has {corpora[0].identity} now; "
                "evaluate again with the same `ettin evaluate` command"
            )


def _measured(record: Record) -> tuple[str, int | None, int | None]:
    return record.task, record.seed, record.limit


def _models_of(record: Record) -> list[str]:
    """The models of an `evaluate` command: its words up to the first option."""
    words = record.command[2:]
    first = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first]


def _data_of(record: Record) -> str | None:
    return next((after for word, after in pairwise(record.command) if word == "--data"), None)
