"""The published mixtures: their tables, the folders they are found in, a corpus made of one."""

import re
from pathlib import Path

import pytest

from ettin import files
from ettin.data.corpus import Corpus
from ettin.data.order import make_order
from ettin.errors import InputError
from ettin.mixtures import MIXTURES, Mixture, PublishedSource, find_folders, published
from tests.conftest import made_up_text
from tests.test_cli import ettin

PAGE = Path(__file__).parent.parent / "docs" / "mixtures.md"
TOTALS = {"pretraining": 1_704_700_000_000, "extension": 249_300_000_000, "decay": 76_300_000_000}
DECAY_FOLDERS = {
    "arxiv", "books", "code_repos", "dclm_dolmino", "math_dolmino", "stackexchange_dolmino",
    "textbooks", "tulu_flan", "wikipedia",
}  # fmt: skip


def make_folders(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


# --- the tables


@pytest.mark.parametrize("phase", TOTALS)
def test_tokens_add_up_to_the_printed_total(phase: str) -> None:
    mixture = published(phase)
    assert mixture.phase == phase
    assert mixture.total_tokens == TOTALS[phase]
    assert sum(mixture.weights().values()) * 10**8 == TOTALS[phase]


@pytest.mark.parametrize("phase", TOTALS)
def test_percentages_follow_from_tokens_to_within_rounding(phase: str) -> None:
    mixture = published(phase)
    total = mixture.total_tokens / 1e9
    rounding = 0.05 + 100 * 0.05 / total  # of the percentage, and of the tokens it was made from
    for source in mixture.sources:
        exact = 100 * source.billions / total
        assert abs(exact - source.percentage) <= rounding, source.name
    assert sum(source.percentage for source in mixture.sources) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("phase", TOTALS)
def test_names_and_labels_are_the_same_letters_and_the_largest_source_comes_first(
    phase: str,
) -> None:
    sources = published(phase).sources
    assert [each.billions for each in sources] == sorted(
        (each.billions for each in sources), reverse=True
    )
    for source in sources:
        assert re.fullmatch(r"[a-z0-9_]+", source.name)
        assert re.sub(r"\W|_", "", source.label).lower() == source.name.replace("_", "")
    assert len({source.name for source in sources}) == len(sources)


def test_one_source_has_one_label_and_one_category_in_all_mixtures() -> None:
    known: dict[str, PublishedSource] = {}
    for mixture in MIXTURES.values():
        for source in mixture.sources:
            first = known.setdefault(source.name, source)
            assert (source.label, source.category) == (first.label, first.category)
    assert len(known) == 18


def test_weights_are_tenths_of_billions_as_integers() -> None:
    weights = published("pretraining").weights()
    assert weights["dclm"] == 8372
    assert weights["books"] == 53
    assert all(type(weight) is int for weight in weights.values())


def test_cross_reads_what_decay_read() -> None:
    assert published("cross") == published("decay")


def test_an_unknown_phase_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no mixture was published for 'decai'; .*'decay'"):
        published("decai")


def test_the_page_shows_the_tables_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    cells = r"\| `(\w+)` \| ([^|]+) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|"
    for phase, total in TOTALS.items():
        (section,) = re.findall(
            rf"^### {phase}\b.*?\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE
        )
        lines = [
            PublishedSource(name, label, category, float(billions), float(percentage))
            for name, label, category, billions, percentage in re.findall(cells, section)
        ]
        assert lines == [each._replace(hub_folder=None) for each in published(phase).sources]
        assert f"{total / 1e9:,.1f} billion tokens" in section
        assert published(phase).hub_data_set in section


# --- on the hub


def test_folders_on_the_hub_are_given_where_they_are_known_and_none_where_not() -> None:
    decay = published("decay").hub_folders()
    where = "hf://datasets/jhu-clsp/ettin-decay-data/train/"
    assert decay == {name: where + name for name in DECAY_FOLDERS}
    extension = published("extension").hub_folders()
    assert {name: place for name, place in extension.items() if place} == {
        "stackexchange_dolmino": "hf://datasets/jhu-clsp/ettin-extension-data/train/"
        "stackexchange-dolmino"
    }
    assert set(published("pretraining").hub_folders().values()) == {None}


# --- in folders


@pytest.mark.parametrize("phase", TOTALS)
def test_folders_are_found_by_name_and_by_label(phase: str, tmp_path: Path) -> None:
    mixture = published(phase)
    by_label = make_folders(tmp_path / "labels", [source.label for source in mixture.sources])
    by_name = make_folders(tmp_path / "names", [source.name for source in mixture.sources])
    assert mixture.folders(by_label) == {
        source.name: by_label / source.label for source in mixture.sources
    }
    assert mixture.folders(by_name) == {
        source.name: by_name / source.name for source in mixture.sources
    }


TWO = Mixture("decay", "who/what", published("decay").sources[:2])


@pytest.mark.parametrize(
    "name", ["dclm_dolmino", "dclm-dolmino", "DCLM (Dolmino)", "DclmDolmino", "dclm dolmino"]
)
def test_case_and_signs_of_a_folders_name_do_not_matter(name: str, tmp_path: Path) -> None:
    root = make_folders(tmp_path, [name, "Code_Repos"])
    assert TWO.folders(root) == {"dclm_dolmino": root / name, "code_repos": root / "Code_Repos"}


def test_what_no_source_takes_is_said(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    make_folders(tmp_path, ["dclm_dolmino", "code_repos", "books_2", ".cache", "recipes"])
    (tmp_path / "notes.txt").write_text("not a folder")
    assert set(TWO.folders(tmp_path)) == {"dclm_dolmino", "code_repos"}
    assert "not part of the decay mixture, left out: books_2, recipes\n" in told.text


def test_all_missing_folders_are_named_at_once_with_what_is_there(tmp_path: Path) -> None:
    make_folders(tmp_path, ["dclm", "arxiv", "boks", "tulu-flan", "Wikipedia", "math_dolmino"])
    with pytest.raises(InputError) as caught:
        published("decay").folders(tmp_path)
    message = str(caught.value)
    assert "lacks folders for 5 of the 9 sources of the decay mixture" in message
    missing = "dclm_dolmino (is it 'dclm'?), code_repos, books (is it 'boks'?), "
    assert missing + "stackexchange_dolmino, textbooks" in message
    assert "It has: Wikipedia, arxiv, boks, dclm, math_dolmino, tulu-flan." in message
    assert "jhu-clsp/ettin-decay-data" in message


def test_a_root_without_folders_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 of the 2 .* It has: no folders\."):
        TWO.folders(tmp_path)
    with pytest.raises(InputError, match=r"nowhere is not a folder; .*: dclm_dolmino, code_repos"):
        TWO.folders(tmp_path / "nowhere")


def test_two_folders_for_one_source_are_refused(tmp_path: Path) -> None:
    make_folders(tmp_path, ["code_repos", "dclm-dolmino", "dclm_dolmino"])
    with pytest.raises(InputError, match=r"two folders .* dclm-dolmino and dclm_dolmino"):
        TWO.folders(tmp_path)


def test_sources_of_several_mixtures_are_found_once_each(tmp_path: Path) -> None:
    phases = [published(phase) for phase in MIXTURES]
    names = list(dict.fromkeys(each.name for phase in phases for each in phase.sources))
    make_folders(tmp_path, names)
    assert list(find_folders(tmp_path, phases)) == names
    assert len(names) == 18
    (tmp_path / "reddit").rmdir()
    with pytest.raises(InputError, match=r"1 of the 18 .* pretraining \+ extension \+ decay mix"):
        find_folders(tmp_path, phases)


# --- a corpus of one


@pytest.fixture(scope="module")
def decay_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine folders under their published labels, each with twelve short texts, and one too many."""
    root = tmp_path_factory.mktemp("decay")
    for number, source in enumerate(published("decay").sources):
        (root / source.label).mkdir()
        for document in range(12):
            text = made_up_text(100 * number + document, words=30)
            (root / source.label / f"{document}.txt").write_text(text, encoding="utf-8")
    (root / "books_2").mkdir()
    (root / "books_2" / "a.txt").write_text("repeats a book")
    return root


def test_a_root_of_folders_becomes_a_corpus_with_the_sources_of_the_mixture(
    decay_texts: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    done = ettin(
        *("prepare", "--mixture", "decay", "--text", decay_texts, "--out", corpus),
        *("--tokenizer", tokenizer_directory, "--context-length", "64", "--exclude", "11.txt"),
    )
    assert "left out: books_2" in done.stderr
    facts = files.read_manifest(corpus)["facts"]["sources"]
    assert list(facts) == list(published("decay").weights())
    assert {source["documents"] for source in facts.values()} == {11}
    rows = {name: source["rows"]["64"]["train"] for name, source in facts.items()}
    order = make_order(seed=21, phase="decay", rows=rows, mixture=published("decay").weights())
    drawn = order.rows(0, 10 * sum(rows.values()))
    for number, weight in enumerate(published("decay").weights().values()):
        expected = len(drawn.source) * weight / 763
        assert abs((drawn.source == number).sum() - expected) < len(rows)  # a row for each level


def test_a_mixture_that_is_not_found_whole_ends_with_one_message(
    decay_texts: Path, tmp_path: Path
) -> None:
    words = ["--text", decay_texts, "--tokenizer", "t", "--out", tmp_path / "c"]
    done = ettin("prepare", "--mixture", "extension", *words, expected=2)
    assert "lacks folders for 3 of the 10 sources of the extension mixture" in done.stderr
    assert "mixture: starcoder, pes2o, reddit. It has" in done.stderr
    assert "Traceback" not in done.stderr
    done = ettin("prepare", "--mixture", "decoy", *words, expected=2)
    assert "did you mean 'decay'?" in done.stderr
    assert not (tmp_path / "c").exists()


def test_shares_of_rows_are_shares_of_tokens_to_within_a_hundredth(corpus_directory: Path) -> None:
    corpus, weights = Corpus.open(corpus_directory), {"prose": 1, "letters": 3}
    tables = {name: corpus.table(name, 128) for name in weights}
    rows = {name: len(table) for name, table in tables.items()}
    order = make_order(seed=21, phase="pretraining", rows=rows, mixture=weights)
    drawn = order.rows(0, 4 * sum(rows.values()))
    tokens = dict.fromkeys(weights, 0)
    for source, row in zip(drawn.source.tolist(), drawn.row.tolist(), strict=True):
        name = order.sources[source].name
        tokens[name] += len(tables[name].tokens(row)[0])
    share = tokens["letters"] / sum(tokens.values())
    assert share == pytest.approx(3 / 4, rel=0.01)
