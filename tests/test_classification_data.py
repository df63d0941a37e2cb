"""Tables of examples: formats, columns, labels and splits; and each mistake with its message."""

from pathlib import Path

import pytest

from ettin.errors import InputError
from ettin.evaluation.classification.data import TaskData, locate, read_data
from ettin.evaluation.classification.family import prefetch
from ettin.evaluation.classification.files import read_rows, split_files
from ettin.evaluation.rows import write_json_rows

PAIRS = [(f"a text {number}", f"{number % 2}") for number in range(200)]


def table(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
    return path


def tsv(path: Path, rows: list[tuple[str, str]]) -> Path:
    return table(path, ["sentence\tlabel", *("\t".join(row) for row in rows)])


def read(folder: Path) -> TaskData:
    return read_data(locate("own", data=None, path=folder, offline=True))


def read_known(name: str, data: Path) -> TaskData:
    return read_data(locate(name, data=data, path=None, offline=True))


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [{"sentence": 'an "odd\u2028 text', "label": "1"}, {"sentence": "plain", "label": "0"}]
    plain = table(tmp_path / "a.tsv", ["sentence\tlabel", 'an "odd\u2028 text\t1', "plain\t0"])
    quoted = table(
        tmp_path / "b.csv", ["sentence,label\r", '"an ""odd\u2028 text",1\r', "plain,0\r"]
    )
    write_json_rows(tmp_path / "c.jsonl.gz", rows)
    assert read_rows(plain) == read_rows(quoted) == read_rows(tmp_path / "c.jsonl.gz") == rows


def test_both_dev_files_of_cola_are_its_dev_split(tmp_path):
    tsv(tmp_path / "glue_like" / "cola" / "in_domain_train.tsv", PAIRS)
    tsv(tmp_path / "glue_like" / "cola" / "in_domain_dev.tsv", PAIRS[:30])
    tsv(tmp_path / "glue_like" / "cola" / "out_of_domain_dev.tsv", PAIRS[30:50])
    data = read_known("cola", tmp_path)
    assert (len(data.train), len(data.dev), data.test) == (200, 50, data.dev)
    assert data.labels == ("unacceptable", "acceptable")


def test_glue_is_measured_on_dev_and_others_on_test(tmp_path):
    for folder in ("glue_like/sst2", "own"):
        for split, count in (("train", 100), ("dev", 20), ("test", 30)):
            tsv(tmp_path / folder / f"{split}.tsv", PAIRS[:count])
    assert len(read_known("sst2", tmp_path).test) == 20
    assert (len(read(tmp_path / "own").dev), len(read(tmp_path / "own").test)) == (20, 30)


def test_without_a_training_split_dev_is_learnt_from_and_a_tenth_of_it_set_aside(tmp_path):
    lines = [f"{text}\tb\t{('neutral', 'entailment', '-')[number % 3]}"
             for number, (text, _) in enumerate(PAIRS)]  # fmt: skip
    for split in ("dev", "test"):
        table(tmp_path / "glue_like" / "snli" / f"{split}.tsv",
              ["premise\thypothesis\tlabel", *lines])  # fmt: skip
    data = read_known("snli", tmp_path)
    assert len(data.test) == 134  # a third has no label
    assert len(data.train) + len(data.dev) == 134
    assert 5 <= len(data.dev) <= 25
    assert data.facts["splits"]["chosen_on"] == "a tenth of dev, by hash"


def test_one_split_alone_is_divided_and_equal_first_texts_stay_together(tmp_path):
    lines = [f"{text}\tanswer {number}\t{label}"
             for text, label in PAIRS for number in range(3)]  # fmt: skip
    table(tmp_path / "own" / "train.tsv", ["question\tsentence\tlabel", *lines])
    data = read(tmp_path / "own")
    parts = [{each.texts[0] for each in part} for part in (data.train, data.dev, data.test)]
    assert sum(map(len, parts)) == 200
    assert not parts[0] & parts[1] | (parts[0] | parts[1]) & parts[2]
    assert 25 <= len(parts[2]) <= 55
    assert all(len(each.texts) == 2 for each in data.test)


def test_scores_make_a_regression_and_numbers_sort_as_numbers(tmp_path):
    for name, column, values in (("a", "score", "0.5"), ("b", "label", "10")):
        rows = [f"{text}\t{values if number % 2 else 2}" for number, (text, _) in enumerate(PAIRS)]
        table(tmp_path / name / "train.tsv", [f"text\t{column}", *rows])
    assert read(tmp_path / "a").labels == ()
    assert read(tmp_path / "b").labels == ("2", "10")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.tsv": ["words\tlabel", "a\t1"]}, r"no text columns among .* words, label"),
        ({"train.tsv": ["sentence\tgold", "a\t1"]}, r"no answers among .* `label` or `score`"),
        ({"train.tsv": ["sentence\tlabel"]}, r"split train holds no examples"),
        ({"train.tsv": ["sentence\tlabel", "a\t1\t2"]}, r"example 1 has 3 fields"),
        ({"train.tsv": ["sentence\tlabel", "a\t1", "b\t1"]}, r"only '1' .* two classes"),
        ({"train.tsv": ["sentence\tscore", "a\tnan"]}, r"example 1 is 'nan', not a number"),
        ({"train.tsv": ["sentence\tlabel", "a\t1", "b\t0"],
          "dev.tsv": ["sentence\tlabel", "c\t2"]}, r"dev: label of example 1 is '2', not one of 0"),
        ({"train.jsonl": ['{"sentence": "a", "label": 1}', '{"label": 0}']}, r"2 lacks"),
        ({"train.jsonl": ["{"]}, r"line 1: not JSON"),
        ({"trian.tsv": ["sentence\tlabel"]}, r"'trian' is no split, did you mean 'train'"),
        ({"train.tsv": ["sentence"], "train.jsonl": ["{}"]}, r"both hold the train split"),
        ({"README.md": ["nothing"]}, r"holds no train, dev or test file"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_folder_has_its_message(tmp_path, files, message):
    for name, lines in files.items():
        table(tmp_path / "own" / name, lines)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "own")


def test_a_label_that_a_known_task_does_not_have_is_refused(tmp_path):
    tsv(tmp_path / "glue_like" / "sst2" / "train.tsv", [("a", "positive"), ("b", "bad")])
    with pytest.raises(InputError, match=r"example 2 is 'bad', not one of negative, positive"):
        read_known("sst2", tmp_path)


def test_what_is_not_here_is_said_with_the_way_to_it(tmp_path):
    with pytest.raises(InputError, match="did you mean 'sst2'"):
        locate("sst", data=None, path=None, offline=False)
    with pytest.raises(InputError, match=r"offline, and no --data.*ettin prefetch"):
        locate("sst2", data=None, path=None, offline=True)
    with pytest.raises(InputError, match=r"glue_like/sst2 is not there.*ettin prefetch"):
        locate("sst2", data=tmp_path, path=None, offline=True)
    with pytest.raises(InputError, match="is not a directory"):
        split_files(tmp_path / "nothing")
    with pytest.raises(InputError, match="did you mean 'sst2'"):
        prefetch("sst", tmp_path)
    assert locate("sst2", data=None, path=None, offline=False).identity.startswith("nyu-mll/glue/")
