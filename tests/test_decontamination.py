"""Finding evaluation text in training text: against brute force, planted, and in hostile forms."""

import json
import pickle
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin.data.clean import words as words_module
from ettin.data.clean.decontamination import Decontamination, Match
from ettin.data.clean.evaluation_ngrams import HashTable
from ettin.data.clean.words import list_words
from ettin.errors import InputError

QUESTION = (
    "Which of these ravens, perched upon a bust of Pallas, answered the student with one word only?"
)


def write_sets(folder: Path, sets: Mapping[str, Sequence[object]]) -> Path:
    """One folder a set, one line a record."""
    for name, records in sets.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / name / "test.jsonl").write_text(lines, encoding="utf-8")
    return folder


def of_records(folder: Path, *texts: str) -> Decontamination:
    """One set with a record a text."""
    return Decontamination.load([write_sets(folder, {"set": list(texts)}) / "set"])


def contains(words: list[str], part: list[str]) -> bool:
    return any(words[n : n + len(part)] == part for n in range(len(words) - len(part) + 1))


def brute(text: str, records: list[list[str]], *, n: int, shortest: int) -> dict[int, list[str]]:
    """Record → the first n-gram of a text that it has, of all its texts."""
    words, met = list_words(text), {}
    for number, fields in enumerate(records):
        firsts = []
        for field in map(list_words, fields):
            length = n if len(field) >= n else len(field)
            if length < shortest:
                continue
            grams = [field[k : k + length] for k in range(len(field) - length + 1)]
            starts = range(len(words) - length + 1)
            firsts += [k for k in starts if words[k : k + length] in grams][:1]
        if firsts:
            met[number] = words[min(firsts) :]
    return met


SENTENCE = st.lists(st.sampled_from(["a", "b", "B,", "c"]), max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(SENTENCE, max_size=3), min_size=1, max_size=6),
    st.lists(SENTENCE, min_size=1, max_size=5),
    st.sampled_from([(4, 2), (3, 3), (1, 1), (5, 4)]),
)
def test_what_is_found_is_what_brute_force_finds(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[list[str]],
    texts: list[str],
    lengths: tuple[int, int],
) -> None:
    n, shortest = lengths
    folder = write_sets(
        tmp_path_factory.mktemp("sets"), {"one": records[::2], "two": records[1::2]}
    )
    try:
        sets = Decontamination.load([folder], ngram_words=n, shortest_words=shortest)
    except InputError:
        assert all(len(list_words(text)) < shortest for fields in records for text in fields)
        return
    for text, found in zip(texts, sets.search(texts), strict=True):
        met = {match.set.rpartition("/")[2]: match for match in found}
        for name, ours in (("one", records[::2]), ("two", records[1::2])):
            expected = brute(text, ours, n=n, shortest=shortest)
            assert met[name].records == tuple(expected) if expected else name not in met
            if expected:
                ngram = met[name].ngram.split()
                assert any(words[: len(ngram)] == ngram for words in expected.values())
                row = int(met[name].place.rpartition(":")[2]) - 1
                assert expected[row][: len(ngram)] == ngram
    assert sets.search(texts) == [sets.matches(text) for text in texts]


def test_a_match_names_the_set_the_record_and_the_words(tmp_path: Path) -> None:
    folder = write_sets(tmp_path / "lm_eval", {
        "arc": [{"id": "q1", "question": "What is it?"}, {"question": QUESTION, "answers": ["No"]}],
        "copy": [{"deep": [{"down": [QUESTION]}]}],
        "piqa": [{"goal": "a question about nothing that any of these texts would ever hold"}],
    })  # fmt: skip
    sets = Decontamination.load([folder])
    ngram = "which of these ravens perched upon a bust of pallas answered the student"
    assert sets.matches(f"He asked:\n\n«{QUESTION}»") == [
        Match("lm_eval/arc", "arc/test.jsonl:2", ngram, (1,)),
        Match("lm_eval/copy", "copy/test.jsonl:1", ngram, (0,)),
    ]
    assert [each[:1] + each[2:] for each in sets.sets] == [
        ("lm_eval/arc", 2, 1, 5), ("lm_eval/copy", 1, 1, 5), ("lm_eval/piqa", 1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "\n\t "),
        QUESTION.replace(",", " ,").replace("?", " ?"),
        QUESTION.replace("a", "ａ"),
        QUESTION.replace("ravens", "ra\u00advens"),
        f"x{'—'.join(QUESTION.split())}".removeprefix("x"),
        QUESTION.replace(" only", "."),
    ],
)
def test_case_punctuation_spacing_and_forms_of_letters_do_not_hide_text(
    text: str, tmp_path: Path
) -> None:
    assert of_records(tmp_path, QUESTION).matches(f"Before. {text} After.")


@pytest.mark.parametrize(
    "text",
    [
        " ".join(QUESTION.split()[:12]),
        QUESTION.replace("bust", "busts").replace("one", "a"),
        QUESTION.replace("bust", "bu st").replace("word", "wor d"),
        " ".join(reversed(QUESTION.split())),
        "",
    ],
)
def test_twelve_common_words_are_not_enough(text: str, tmp_path: Path) -> None:
    assert of_records(tmp_path, QUESTION).matches(text) == []


def test_a_text_of_eight_words_counts_as_a_whole_and_a_shorter_one_not_at_all(
    tmp_path: Path,
) -> None:
    eight, seven = "one two three four five six seven eight", "a b c d e f g"
    sets = of_records(tmp_path, eight, seven)
    assert sets.sets[0].looked_for == 1
    assert [each.ngram for each in sets.matches(f"zero {eight} nine {seven}")] == [eight]
    assert sets.matches("one two three four five six seven") == []
    assert sets.matches("one two three four five six seven ate") == []


@pytest.mark.parametrize(
    ("record", "long", "short"),
    [
        ("乌鸦栖在雅典娜的半身像上，只用一个词回答了那位彻夜读书的学生：永不复还。", 26, 25),
        (
            "昔々あるところにおじいさんとおばあさんが住んでいましたとさ。めでたし、めでたし。",
            26,
            25,
        ),
        ("กาตัวหนึ่งเกาะอยู่บนรูปปั้นครึ่งตัวของเทพีและตอบนักเรียนผู้อ่านหนังสือ", 52, 51),
    ],
)
def test_scripts_without_spaces_are_compared_by_characters(
    record: str, long: int, short: int, tmp_path: Path
) -> None:
    sets = of_records(tmp_path, record)
    letters = "".join(list_words(record))
    assert sets.matches(f"x {letters[2 : long + 2]} y")
    assert sets.matches(f"x{letters[2:short]}y") == []


def test_texts_of_one_batch_and_of_one_set_do_not_run_into_each_other(tmp_path: Path) -> None:
    half = len(QUESTION) // 2
    sets = of_records(tmp_path, QUESTION)
    assert sets.search([QUESTION[:half], QUESTION[half:], ""]) == [[], [], []]
    apart = of_records(tmp_path / "apart", QUESTION[:half], QUESTION[half:])
    assert apart.matches(" ".join(list_words(QUESTION)[3:16])) == []


@pytest.mark.parametrize("block", [64, 1 << 14])
def test_everything_planted_in_big_texts_is_found_and_nothing_else(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words_module, "_BLOCK_CHARACTERS", block)
    monkeypatch.setattr(words_module, "_WINDOW_STARTS", block)
    draw = random.Random(0)
    vocabulary = [f"w{number}" for number in range(500)]
    records = [" ".join(draw.choices(vocabulary, k=draw.randint(8, 40))) for _ in range(60)]
    sets = of_records(tmp_path, *records)
    texts, planted = [], []
    for number in range(40):
        words = draw.choices(vocabulary, k=draw.choice([5, 300, 9_000]))
        planted.append(draw.randrange(len(records)) if number % 3 == 0 else None)
        if planted[-1] is not None:
            ours = records[planted[-1]].split()
            start = draw.randint(0, max(len(ours) - 13, 0))
            place = draw.randint(0, len(words))
            words[place:place] = ours[start : start + 13]
        texts.append(" ".join(words))
    found = sets.search(texts)
    assert [each[0].records if each else None for each in found] == [
        None if number is None else (number,) for number in planted
    ]


def test_equal_hashes_of_other_words_are_no_match(tmp_path: Path) -> None:
    sets = of_records(tmp_path, QUESTION)
    other = "twelve other words and one more that nobody ever asked any student at all"
    hashes = Decontamination.load([write_sets(tmp_path / "b", {"o": [other]})]).ngrams.whole.hashes
    everything = np.concatenate([sets.ngrams.whole.hashes, hashes])
    sets.ngrams.whole.__init__(everything, np.zeros(len(everything), int))  # type: ignore[misc]
    assert sets.matches(other) == []
    assert [each.ngram for each in sets.matches(f"{other} {QUESTION}")] == [
        "which of these ravens perched upon a bust of pallas answered the student"
    ]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=30),
    st.lists(st.integers(0, 25), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_a_table_finds_every_hash_with_all_its_texts(
    entries: list[tuple[int, int]], asked: list[int]
) -> None:
    spread = 0x9E3779B97F4A7C15
    hashes = np.array([number * spread % 2**64 for number, _ in entries], np.uint64)
    table = HashTable(hashes, np.array([text for _, text in entries], int))
    wanted = np.array([number * spread % 2**64 for number in asked], np.uint64)
    there = {number for number, _ in entries}
    places = table.find(wanted).tolist()
    assert places == [place for place, number in enumerate(asked) if number in there]
    which, texts = table.texts_of(wanted[places])
    pairs = [(asked[places[a]], b) for a, b in zip(which.tolist(), texts.tolist(), strict=True)]
    expected = [
        (asked[place], text)
        for place in places
        for text in sorted({text for number, text in entries if number == asked[place]})
    ]
    assert pairs == expected


def test_a_worker_finds_the_same_with_what_it_was_sent(tmp_path: Path) -> None:
    sets = of_records(tmp_path, QUESTION)
    sent = pickle.loads(pickle.dumps(sets))
    assert sent.matches(QUESTION) == sets.matches(QUESTION) != []
    assert sent.fingerprint == sets.fingerprint


def test_the_fingerprint_follows_the_content_and_the_rule(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for folder, text in zip(folders, (QUESTION, QUESTION, QUESTION + "!"), strict=True):
        write_sets(folder, {"set": [text]})
    prints = [Decontamination.load([folder / "set"]).fingerprint for folder in folders]
    assert prints[0] == prints[1] != prints[2]
    longer = Decontamination.load([folders[0] / "set"], ngram_words=14)
    assert longer.fingerprint != prints[0]


def test_settings_and_sets_that_find_nothing_are_refused(tmp_path: Path) -> None:
    folder = write_sets(tmp_path, {"set": ["too short", {"label": 1}]})
    with pytest.raises(InputError, match=r"no text in .* has the 8 words"):
        Decontamination.load([folder])
    with pytest.raises(InputError, match="expected 1 ≤ shortest ≤ n-gram"):
        Decontamination.load([folder], ngram_words=7)


def test_sets_without_a_long_text_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_sets(tmp_path, {"long": [QUESTION], "labels": ["yes", "no"]})
    with caplog.at_level("INFO"):
        Decontamination.load([folder])
    assert "0 of 2 records (none has a text of 8 words)" in caplog.text
