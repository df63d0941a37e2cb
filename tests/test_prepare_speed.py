"""The benchmark of preparing: equal work is compared within turns, and all memory is seen."""

import sys

import pytest

from benchmarks.prepare_speed import encode_in_memory, run, summarise, table


def turn(raw: float, fast: float, whole: float) -> dict:
    printed = {"bytes": 8_000_000, "documents": 3, "tokens": 2_000_000}
    memory = {"processes": 1, "largest_process_MB": 100 * whole}

    def inside(seconds: float) -> dict:
        return {**printed, "seconds": seconds, "processor_seconds": 2 * seconds}

    with_start = {"seconds": 99.0, "processor_seconds": 99.0, **memory}
    return {
        "raw": {"printed": inside(raw), **with_start},
        "raw fast": {"printed": inside(fast), **with_start},
        "prepare": {"printed": printed, "seconds": whole, "processor_seconds": whole, **memory},
    }


def test_shares_are_those_within_a_turn_and_the_start_of_raw_does_not_count() -> None:
    # The machine is busy during the second turn: everybody takes four times as long.
    summary = summarise([turn(2, 1, 2.5), turn(8, 4, 10), turn(2, 1, 4)])
    assert summary["prepare_of_raw_by_seconds"] == {"median": 0.8, "lowest": 0.5, "highest": 0.8}
    assert summary["prepare_of_raw_by_processor_seconds"]["median"] == 1.6
    assert summary["prepare_of_raw_fast_by_seconds"]["median"] == 0.4
    assert summary["raw"]["MB_per_second"] == {"median": 4.0, "lowest": 1.0, "highest": 4.0}
    assert summary["prepare"]["largest_process_MB"] == 1000
    results = {
        "summary": summary,
        "text": {"bytes": 8_000_000, "documents": 3, "tokens": 2_000_000},
        "settings": {"vocabulary": 512, "cores": 2},
    }
    assert "prepare of raw by seconds  80% [50% – 80%]" in table(results)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_of_the_largest_process_below_is_seen() -> None:
    child = "import time; held = bytearray(200 << 20); time.sleep(0.3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = run([sys.executable, "-c", parent], cores=1)
    assert found["processes"] == 2
    assert 200 < found["largest_process_MB"] < 260
    assert 0 < found["processor_seconds"] < found["seconds"] + 0.1


@pytest.mark.parametrize("fast", [False, True])
def test_raw_encodes_all_documents(text_folder, tokenizer_directory, fast) -> None:
    found = encode_in_memory([text_folder], tokenizer_directory, fast=fast)
    assert found["documents"] == len(list(text_folder.rglob("*.txt")))
    assert found["bytes"] == sum(path.stat().st_size for path in text_folder.rglob("*.txt"))
    assert found["bytes"] / 8 < found["tokens"] < found["bytes"]
