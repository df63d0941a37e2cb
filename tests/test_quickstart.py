"""The quickstart is an ordinary suite: it writes the file, and all else is the suite's."""

from pathlib import Path

import pytest
import yaml

from ettin.errors import CommandFailed, InputError
from ettin.numbers import parse_count
from ettin.quickstart import SUITE, quickstart
from ettin.suite.plan import make_plan
from ettin.suite_file import load_suite

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "recipes" / "quickstart.yaml"


def test_the_shipped_suite_is_the_one_that_is_run(tmp_path: Path) -> None:
    assert SHIPPED.read_bytes() == SUITE.read_bytes()
    names = [job.name for job in make_plan(SHIPPED, out=tmp_path).jobs]
    assert names == [
        "tokenizer",
        "prepare",
        *(f"{kind}-{name}-nano" for kind in ("train", "export", "evaluate")
          for name in ("encoder", "decoder")),
        "report",
    ]  # fmt: skip


def test_it_writes_the_suite_for_its_text_and_budget_and_runs_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "texts"
    text.mkdir()
    (text / "empty.txt").write_text("")
    with pytest.raises(CommandFailed, match=r"`ettin suite` ended with exit code 1"):
        quickstart([text], out=tmp_path / "out", tokens=160_000)
    told = capfd.readouterr().err
    assert "tokenizer" in told
    written = yaml.safe_load((tmp_path / "out" / "quickstart.yaml").read_text())
    shipped = yaml.safe_load(SHIPPED.read_text())
    assert written.pop("text") == [str(text)]
    del shipped["text"]
    (phase,), (as_shipped,) = written.pop("phases"), shipped.pop("phases")
    assert written == shipped
    for key, value in as_shipped.items():
        scaled = parse_count(value) / 5 if key.endswith("_tokens") or key == "tokens" else value
        assert phase[key] == scaled, key
    load_suite(tmp_path / "out" / "quickstart.yaml")


def test_too_little_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--tokens 10 is too little; give at least 10,240"):
        quickstart([], out=tmp_path / "out", tokens=10)
    with pytest.raises(InputError, match="no such file or folder"):
        quickstart([tmp_path / "gone"], out=tmp_path / "out", tokens=160_000)
    assert not (tmp_path / "out").exists()
