"""Examples made out of a corpus: nothing leaks, nothing is guessed from the form, all is the same
the next time.
"""

import ast
import re
from pathlib import Path

import pytest

from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.evaluation.quick.data import (
    CHOICES,
    NO_FOLDER,
    continuations,
    documents,
    pairs,
    passages,
    spread,
    text_of,
)
from ettin.evaluation.quick.pairs import pairs_of
from ettin.tokenizer import load_tokenizer
from tests.python_corpus import PACKAGES, prepared, write_packages, write_prose


@pytest.fixture(scope="module")
def packages(tokenizer_directory, tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("packages")
    write_packages(folder / "text")
    return Corpus.open(
        prepared({"code": folder / "text"}, folder / "corpus", tokenizer=tokenizer_directory)
    )


@pytest.fixture(scope="module")
def prose(tokenizer_directory, tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("prose")
    write_prose(folder / "text")
    return Corpus.open(
        prepared({"prose": folder / "text"}, folder / "corpus", tokenizer=tokenizer_directory)
    )


def ids(corpus: Corpus, split) -> set[str]:
    return {document.id for document in documents(corpus, split)}


def test_training_and_held_out_documents_are_all_documents_and_share_none(packages) -> None:
    train, held_out = ids(packages, "train"), ids(packages, "held-out")
    assert train
    assert held_out
    assert not train & held_out
    assert len(train | held_out) == 210


def test_passages_are_asked_of_held_out_documents_and_taught_by_others(packages) -> None:
    found = passages(packages, train=30, test=24)
    assert set(found.labels) == set(PACKAGES)
    assert {passage.document for passage in found.train} <= ids(packages, "train")
    assert {passage.document for passage in found.test} <= ids(packages, "held-out")
    assert all(passage.document.startswith(passage.label + "/") for passage in found.test)
    assert len(found.test) == 24


def test_of_several_sources_a_passage_names_its_source(corpus_directory, tokenizer_directory,
                                                       tmp_path) -> None:  # fmt: skip
    sources = {"code": write_packages(tmp_path / "code"), "prose": write_prose(tmp_path / "prose")}
    corpus = Corpus.open(prepared(sources, tmp_path / "corpus", tokenizer=tokenizer_directory))
    found = passages(corpus, train=20, test=20)
    assert found.by == "source"
    assert set(found.labels) == {"code", "prose"}


def test_one_class_alone_is_refused_with_its_name(prose) -> None:
    with pytest.raises(InputError, match=rf"one top folder only.*{re.escape(NO_FOLDER)}"):
        passages(prose, train=20, test=20)


def test_a_continuation_follows_its_context_and_the_other_lines_do_not(packages) -> None:
    tokenizer = load_tokenizer(packages.tokenizer_directory)
    texts = {
        document.id: text_of(document, packages, tokenizer)
        for document in documents(packages, "held-out")
    }
    found = continuations(packages, count=40)
    assert len(found) == 40
    for each in found:
        assert len(set(each.lines)) == CHOICES
        follows = [each.context + line in texts[each.document] for line in each.lines]
        assert follows[each.answer]
        assert follows.count(True) == 1
        assert not [line for line in each.lines if line.strip() in each.context]
        assert all(line.strip() in texts[each.document] for line in each.lines)


def test_right_lines_stand_in_every_place(packages) -> None:
    places = [each.answer for each in continuations(packages, count=80)]
    assert {places.count(place) > 8 for place in range(CHOICES)} == {True}


def test_docstrings_are_taken_out_of_the_functions_that_they_ask_for(packages) -> None:
    found = pairs(packages, train=50, test=60)
    assert {pair.document for pair in found.test} <= ids(packages, "held-out")
    assert {pair.document for pair in found.train} <= ids(packages, "train")
    assert len(found.test) == 60
    for pair in found.test:
        assert pair.kind == "docstring"
        assert pair.question not in pair.answer
        [function] = ast.parse(pair.answer).body
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function) is None


def test_a_question_of_two_answers_is_not_asked(tokenizer_directory, tmp_path) -> None:
    text = write_packages(tmp_path / "text")
    for path in text.rglob("*.py"):
        path.write_text(re.sub('"""Give.*?"""', '"""Give what was asked for."""', path.read_text()))
    corpus = Corpus.open(prepared({"a": text}, tmp_path / "c", tokenizer=tokenizer_directory))
    with pytest.raises(InputError, match=r"0 held-out pairs.*--held-out"):
        pairs(corpus, train=50, test=50)


def test_answers_of_two_questions_are_not_searched_for(tokenizer_directory, tmp_path) -> None:
    text = write_packages(tmp_path / "text")
    for path in text.rglob("*.py"):
        word = path.stem + path.parent.name
        path.write_text(
            f'def f():\n    """Tell what is in {word}."""\n    return "{"the same " * 20}"\n'
        )
    corpus = Corpus.open(prepared({"a": text}, tmp_path / "c", tokenizer=tokenizer_directory))
    with pytest.raises(InputError, match="0 held-out pairs"):
        pairs(corpus, train=50, test=50)


def test_prose_asks_for_the_text_below_a_title(prose) -> None:
    found = pairs(prose, train=10, test=10).test
    assert {pair.kind for pair in found} == {"title"}
    assert all(pair.question.istitle() for pair in found)
    assert not [pair for pair in found if pair.question in pair.answer]


def test_prose_without_titles_asks_for_what_follows_a_first_sentence() -> None:
    rest = "And then there was another one, which went on for quite a while and said nothing new."
    text = f"It began with a sentence. {rest}\n\nToo short. {rest}"
    assert [(pair.question, pair.answer) for pair in pairs_of(text, "a.txt")] == [
        ("It began with a sentence.", rest)
    ]


@pytest.mark.parametrize(
    "source",
    [
        'def f(): "A docstring of several words"; return "x" * 100',
        'def f():\n    """A docstring of several words."""',
        'def f():\n    """Two words."""\n    return "' + "x" * 100 + '"',
        'def f():\n    """A docstring of several words."""; x = "' + "x" * 100 + '"',
    ],
)
def test_functions_that_leave_nothing_to_find_make_no_pair(source: str) -> None:
    assert pairs_of(source + "\nx = 1\n", "a.py") == []


def test_methods_are_found_and_functions_inside_functions_are_not() -> None:
    body = 'x = "' + "x" * 90 + '"'
    source = f'''class A:
    def method(self):
        """Say what a method says."""
        def inner():
            """Say what an inner one says."""
            {body}
        {body}
'''
    [pair] = pairs_of(source, "a.py")
    assert pair.question == "Say what a method says."
    assert "inner one says" in pair.answer


def test_the_same_corpus_gives_the_same_examples(packages) -> None:
    again = Corpus.open(packages.path)
    assert continuations(packages, count=20) == continuations(again, count=20)
    assert passages(packages, train=20, test=20) == passages(again, train=20, test=20)
    assert pairs(packages, train=20, test=20) == pairs(again, train=20, test=20)


def test_spread_takes_from_every_group_in_turn() -> None:
    assert spread([[1, 2, 3], [4], [5, 6]], 5) == [1, 4, 5, 2, 6]


def test_a_corpus_of_short_lines_is_refused(tokenizer_directory, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for number in range(80):
        (tmp_path / "text" / f"{number}.txt").write_text(f"a\nb\n{number}\n" * 20)
    corpus = Corpus.open(
        prepared({"a": tmp_path / "text"}, tmp_path / "c", tokenizer=tokenizer_directory)
    )
    with pytest.raises(InputError, match="no held-out document"):
        continuations(corpus, count=5)
