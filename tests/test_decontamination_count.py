"""Counting what was dropped: the same however the work was split, and true to what was found."""

import json
import random
from typing import Any

import pytest

from ettin.data.clean.decontamination import Decontamination
from ettin.data.clean.decontamination_count import DecontaminationCount, report, summary
from ettin.data.reading.tally import Document

WORDS = [f"word{number}" for number in range(400)]
RECORDS = [" ".join(WORDS[start : start + 13]) for start in range(0, 400, 13)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Decontamination:
    folder = tmp_path_factory.mktemp("evaluation")
    for name, ours in (("a", RECORDS[:10]), ("b", RECORDS[5:]), ("c", [" ".join(WORDS[::-1])])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in ours))
    return Decontamination.load(sorted(folder.iterdir()))


def documents() -> list[tuple[str, Document]]:
    """Twenty of a file, some clean; and some of another source."""
    made = []
    for row in range(1, 21):
        text = f"é {RECORDS[row % 12]} and {RECORDS[7]}" if row % 3 else "nothing of it"
        made.append(("books", Document(f"id{row}", text, f"b.jsonl:{row}")))
    made += [("web", Document(f"w{row}", RECORDS[0], f"w.parquet:{row}")) for row in range(12)]
    return made


def counted(sets: Decontamination, some: list[tuple[str, Document]]) -> DecontaminationCount:
    count = DecontaminationCount()
    for source, document in some:
        if matches := sets.matches(document.text):
            count.add(source, document, matches)
    return count


def everything(sets: Decontamination, count: DecontaminationCount) -> tuple[Any, ...]:
    facts = report(sets, count)
    return facts, count.as_lines(), count.as_json(), summary(facts)


@pytest.mark.parametrize("seed", range(5))
def test_neither_the_split_nor_the_order_of_the_work_shows(
    sets: Decontamination, seed: int
) -> None:
    expected = everything(sets, counted(sets, documents()))
    draw = random.Random(seed)
    shuffled = documents()
    draw.shuffle(shuffled)
    cuts = sorted(draw.choices(range(len(shuffled)), k=3))
    merged = DecontaminationCount()
    for first, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True):
        part = counted(sets, shuffled[first:end])
        merged.merge(DecontaminationCount.from_json(json.loads(json.dumps(part.as_json()))))
    assert everything(sets, merged) == expected


def test_the_report_says_what_was_dropped_and_for_what(sets: Decontamination) -> None:
    count = counted(sets, documents())
    dropped = [each for each in documents() if "nothing" not in each[1].text]
    facts = report(sets, count)
    assert len(count) == facts["documents"] == len(dropped) == 26
    size = sum(len(document.text.encode()) for _, document in dropped)
    assert count.bytes == facts["bytes"] == size
    assert facts["sources"]["web"] == {"documents": 12, "bytes": 12 * len(RECORDS[0])}
    assert facts["fingerprint"] == sets.fingerprint
    first, second, third = facts["sets"].values()
    assert (first["records"], first["looked_for"], first["ngrams"]) == (10, 10, 10)
    met = {row % 12 for row in range(1, 21) if row % 3} | {0, 7}
    assert first["met"] == len([number for number in met if number < 10])
    assert first["share"] == first["met"] / 10
    assert second["met"] == len([number for number in met if number >= 5])
    assert second["documents"] == 14
    assert (third["documents"], third["bytes"], third["met"], third["examples"]) == (0, 0, 0, [])
    assert first["examples"][0] == {
        "source": "books", "document": "id1", "place": "a.jsonl:2", "ngram": RECORDS[1],
    }  # fmt: skip
    assert [each["document"] for each in first["examples"]] == ["id1", "id2", "id4", "id5", "id7"]


def test_words_that_many_documents_were_dropped_for_are_told(sets: Decontamination) -> None:
    facts = report(sets, counted(sets, documents()))
    assert facts["sets"]["a.jsonl"]["frequent"][0] == {
        "ngram": RECORDS[0], "place": "a.jsonl:1", "documents": 12,
    }  # fmt: skip
    lines = summary(facts)
    assert lines[0].startswith("decontamination dropped 26 documents (")
    boilerplate = [line for line in lines if "boilerplate" in line]
    assert len(boilerplate) == 1
    assert RECORDS[0] in boilerplate[0]


def test_the_list_holds_every_dropped_document_once_by_place(sets: Decontamination) -> None:
    lines = [json.loads(line) for line in counted(sets, documents()).as_lines().splitlines()]
    dropped = [(s, each) for s, each in documents() if "nothing" not in each.text]
    assert [(line["source"], line["document"], line["origin"]) for line in lines] == [
        (source, document.id, document.origin) for source, document in dropped
    ]
    assert lines[0]["matches"] == [
        {"set": "a.jsonl", "place": "a.jsonl:2", "ngram": RECORDS[1], "records": 2},
        {"set": "b.jsonl", "place": "b.jsonl:3", "ngram": RECORDS[7], "records": 1},
    ]


def test_nothing_dropped_is_a_report_too(sets: Decontamination) -> None:
    facts, lines, stored, told = everything(sets, DecontaminationCount())
    assert (facts["documents"], lines, len(told)) == (0, "", 1)
    assert DecontaminationCount.from_json(stored).as_json() == stored
