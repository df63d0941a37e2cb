"""Progress as people and log files see it, and files of JSON lines."""

import json
import logging

import pytest

from ettin import console
from ettin.console import JsonLines, duration, human, progress, read_json_lines


def test_lines_after_the_step_and_a_torn_last_line_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, keep_until=-1)
    for step in range(6):
        first.write({"step": step, "loss": step / 3})
    first.close()
    before = path.read_bytes()
    path.write_bytes(before + b'{"step": 6, "lo')
    resumed = JsonLines(path, keep_until=3)
    for step in range(4, 6):
        resumed.write({"step": step, "loss": step / 3})
    resumed.close()
    assert path.read_bytes() == before


def test_values_that_json_lacks_are_written_as_text(tmp_path):
    lines = JsonLines(tmp_path / "m", keep_until=-1)
    lines.write({"step": 1, "loss": float("nan"), "norm": float("inf")})
    lines.close()
    assert read_json_lines(tmp_path / "m") == [{"step": 1, "loss": "nan", "norm": "inf"}]


def test_reading_ignores_a_torn_last_line_and_a_missing_file(tmp_path):
    (tmp_path / "m").write_text(json.dumps({"step": 1}) + "\n" + '{"step"')
    assert read_json_lines(tmp_path / "m") == [{"step": 1}]
    assert read_json_lines(tmp_path / "none") == []


def test_without_a_terminal_progress_is_plain_lines_with_rate_and_time_left(monkeypatch, caplog):
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    console.log.propagate = True
    with caplog.at_level(logging.INFO, "ettin"), progress("working", total=100, unit="B") as shown:
        shown.update(50, "loss 3.2")
    line = caplog.messages[0]
    assert line.startswith("working:  50 %")
    assert "loss 3.2" in line
    assert "B/s" in line
    assert "/s" not in console.Progress("quiet", 100, "").line()
    assert line.endswith("left")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (1234, "1.23k"), (8.5e9, "8.5B"), (1.7e12, "1.7T")]
)
def test_numbers_for_people(number, text):
    assert human(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (42, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
