"""`recipes/deduplicate.py`: planted duplicates and poor text go, the rest comes back unchanged."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ettin.data.reading.sources import Source, Tally, read_documents

RECIPE = Path(__file__).parent.parent / "recipes" / "deduplicate.py"
STOP_WORDS = ["the", "of", "and", "that", "with", "have", "to", "be"]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Name → text: 24 documents, near-duplicates of 6 of them, and 6 that no rule lets pass."""
    draw = random.Random(0)
    vocabulary = ["".join(draw.choices("abcdefghij", k=5)) for _ in range(2_000)] + STOP_WORDS * 40
    made = {
        f"good{n}": ". ".join(" ".join(draw.choices(vocabulary, k=12)) for _ in range(25))
        for n in range(24)
    }
    for number in range(6):
        words = made[f"good{number}"].split()
        words[draw.randrange(len(words))] = "changed"
        made[f"twin{number}"] = "  ".join(words)
    made["short"] = "Too short to be of use."
    made["symbols"] = " ".join(f"#{draw.random()}" for _ in range(200))
    made |= {
        f"repeated{n}": f"Buy product {n} with the best price of all.\n" * 50 for n in range(4)
    }
    return made


def run(folder: Path, *options: str) -> str:
    command = [sys.executable, str(RECIPE), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_duplicates_and_poor_text_go_and_the_rest_keeps_its_ids(
    texts: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("datatrove", reason="the extra `datatrove` is not installed")
    (tmp_path / "web").mkdir()
    names = sorted(texts)
    for name in names[::2]:
        (tmp_path / "web" / f"{name}.txt").write_text(texts[name], encoding="utf-8")
    with gzip.open(tmp_path / "rest.jsonl.gz", "wt", encoding="utf-8") as rest:
        rest.writelines(json.dumps({"text": texts[name]}) + "\n" for name in names[1::2])
        rest.write("broken\n")
    sources = ["--source", "web=web", "--source", "rest=rest.jsonl.gz"]
    said = run(tmp_path, *sources, "--out", "clean", "--workers", "1")
    report = json.loads((tmp_path / "clean" / "report.json").read_text())
    assert report["dropped"]["near-duplicate"] == 6
    assert sum(report["dropped"].values()) == 12
    assert (report["read"], sum(report["kept"].values())) == (36, 24)
    assert report["not_read"] == {"broken JSON line": 1}
    assert "36 documents read, 24 kept" in said
    kept = {}
    for source, given in (("web", "web"), ("rest", "rest.jsonl.gz")):
        cleaned = Source(source, (tmp_path / "clean" / "kept" / source,))
        before = Source(source, (tmp_path / given,))
        all_ = {each.id: each.text for each in read_documents(before, tally=Tally())}
        for each in read_documents(cleaned, tally=Tally(), id_column="id"):
            assert all_[each.id] == each.text
            kept[each.text] = each.id
    for number in range(24):
        pair = [texts[f"good{number}"], texts.get(f"twin{number}")]
        assert sum(text in kept for text in pair) == 1
    run(tmp_path, *sources, "--out", "again", "--workers", "2")
    assert contents(tmp_path / "again") == contents(tmp_path / "clean")
    assert not list(tmp_path.glob("*.work"))


@pytest.mark.slow
def test_without_quality_rules_only_duplicates_go(texts: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("datatrove", reason="the extra `datatrove` is not installed")
    lines = [json.dumps({"key": name, "text": texts[name]}) + "\n" for name in sorted(texts)[:20]]
    (tmp_path / "a.jsonl").write_text("".join([*lines, lines[0]]), encoding="utf-8")
    run(tmp_path, "--text", "a.jsonl", "--id-column", "key", "--no-quality", "--out", "clean")
    report = json.loads((tmp_path / "clean" / "report.json").read_text())
    assert report["dropped"] == {"near-duplicate": 1}
    with gzip.open(next((tmp_path / "clean" / "dropped").iterdir()), "rt") as lines_of_dropped:
        (dropped,) = map(json.loads, lines_of_dropped)
    assert dropped["id"] in (sorted(texts)[0], f"{sorted(texts)[0]}#2")
