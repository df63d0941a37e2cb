"""What goes wrong while a corpus is prepared: damaged parts, wrong places, a missing guard."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ettin import files
from ettin.console import Progress
from ettin.data.preparation.summary import PreparedSummary
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import InputError


def write_lines(folder: Path, *, files_of: int = 6, lines: int = 40) -> Source:
    folder.mkdir()
    for number in range(files_of):
        records = [{"text": f"kala mi toki {number} {line} " * 5} for line in range(lines)]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{number}.jsonl").write_text(text)
    return Source("lines", (folder,))


def make(source: Source, out: Path, tokenizer: Path, **options: object) -> PreparedSummary:
    return prepare([source], tokenizer=tokenizer, out=out, part_bytes=1000, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tokens-00000.arrow", "hashes.npy", "part.json"])
def test_a_damaged_part_is_made_again(tmp_path: Path, tokenizer_directory: Path, name: str) -> None:
    source = write_lines(tmp_path / "text")
    make(source, tmp_path / "whole", tokenizer_directory)
    make(source, tmp_path / "out", tokenizer_directory, task=(0, 2))
    damaged = min((tmp_path / "out.parts").glob(f"*/{name}"))
    os.truncate(damaged, damaged.stat().st_size - 8)
    make(source, tmp_path / "out", tokenizer_directory)
    made = [files.read_manifest(tmp_path / each)["files"] for each in ("whole", "out")]
    assert made[0] == made[1]
    assert files.verify(tmp_path / "out") == []


def test_a_part_without_documents_is_finished(tmp_path: Path, tokenizer_directory: Path) -> None:
    source = write_lines(tmp_path / "text")
    (tmp_path / "text/0.jsonl").write_text('{"text": ""}\n' * 200)
    assert make(source, tmp_path / "out", tokenizer_directory, task=(0, 2)).parts_left
    assert make(source, tmp_path / "out", tokenizer_directory, task=(1, 2)).parts_left == 0


def test_places_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_lines(tmp_path / "text")
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "a").touch()
    (tmp_path / "file").touch()
    for out, said in [
        (occupied, "is not empty"),
        (tmp_path / "file", "is a file"),
        (Path("/proc/corpus"), "cannot write in /proc"),
    ]:
        for task in (None, (0, 2)):
            with pytest.raises(InputError, match=said):
                make(source, out, tokenizer_directory, task=task)
    assert {path.name for path in tmp_path.iterdir()} >= {"text", "occupied", "file"}
    assert not [*tmp_path.glob("*.parts"), *tmp_path.glob("*.lock")]


@pytest.mark.parametrize("task", [(5, 3), (0, 0), (-1, 3)])
def test_tasks_that_there_are_not_are_refused(
    tmp_path: Path, tokenizer_directory: Path, task: tuple[int, int]
) -> None:
    source = write_lines(tmp_path / "text")
    with pytest.raises(InputError, match=r"task \(.*expected \(i, n\)"):
        make(source, tmp_path / "out", tokenizer_directory, task=task)


def test_the_last_task_waits_for_another_that_puts_the_corpus_together(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_lines(tmp_path / "text")
    out = tmp_path / "out"
    make(source, out, tokenizer_directory, task=(0, 2))
    with files.locked(out):
        last = threading.Thread(target=make, args=(source, out, tokenizer_directory), kwargs={
            "task": (1, 2)
        })  # fmt: skip
        last.start()
        time.sleep(0.5)
        assert last.is_alive()
        assert not out.exists()
    last.join(30)
    assert files.verify(out) == []


def test_the_first_defect_is_told_whoever_meets_one_earlier(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    source = write_lines(tmp_path / "text", lines=3)
    slow = tmp_path / "text/0.jsonl"
    slow.write_text(json.dumps({"text": "kala mi "}) + "\n")
    with slow.open("a") as file:
        file.writelines(json.dumps({"text": f"kala {n}"}) + "\n" for n in range(40_000))
        file.write("{\n")
    (tmp_path / "text/1.jsonl").write_text("{\n")
    with pytest.raises(InputError, match=r"^0\.jsonl:40002: broken JSON line"):
        prepare([source], tokenizer=tokenizer_directory, out=tmp_path / "out", workers=2,
                on_error="fail", part_bytes=slow.stat().st_size)  # fmt: skip


UNGUARDED = """
from pathlib import Path
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source

prepare([Source("a", (Path("text"),))], tokenizer={tokenizer!r}, out=Path("out"), workers=2,
        part_bytes=1000)
"""


def test_a_script_without_its_guard_is_told_to_have_one(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    write_lines(tmp_path / "text")
    (tmp_path / "script.py").write_text(UNGUARDED.format(tokenizer=str(tokenizer_directory)))
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, text=True, capture_output=True, timeout=60
    )
    assert ended.returncode == 1
    assert 'needs the guard `if __name__ == "__main__":`' in ended.stderr


def test_ctrl_c_while_workers_start_leaves_no_trace_of_calls(
    tmp_path: Path, tokenizer_directory: Path
) -> None:
    write_lines(tmp_path / "text")
    process = subprocess.Popen(
        [sys.executable, "-m", "ettin", "prepare", "--source", "a=text/0.jsonl", "--source",
         "b=text/1.jsonl", "--tokenizer", str(tokenizer_directory), "--out", "out", "--workers",
         "2"], cwd=tmp_path, text=True, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while b"spawn_main" not in _arguments_of_group(process.pid):
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert said.startswith("ettin: stopped by SIGINT")
    assert "Traceback" not in said


def _arguments_of_group(group: int) -> bytes:
    found = b""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                found += (path / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def test_what_was_done_before_tells_nothing_about_the_rate() -> None:
    shown = Progress("preparing", 1000.0, "B")
    shown.begin_at(900)
    shown.started -= 10
    shown.done = 910
    assert shown.line() == "preparing:  91 %  1B/s  1 min 30 s left"
