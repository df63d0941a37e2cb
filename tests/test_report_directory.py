"""A report as a directory: replaced as a whole, whatever was left of the one before."""

from pathlib import Path

import pytest

from ettin import files
from ettin.check import check
from ettin.errors import InputError
from ettin.report.page import make_report
from tests.made_up_runs import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "encoder", "mlm")


def test_a_report_whose_manifest_was_taken_away_is_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    make_report([run], out=out, command=["ettin"])
    before = files.read_manifest(out)["digest"]
    (out / files.MANIFEST).unlink()
    (out / "figures" / "left-over.svg").write_text("")
    make_report([run], out=out, command=["ettin"])
    assert files.read_manifest(out, "report")["digest"] == before
    assert not (out / "figures" / "left-over.svg").exists()


def test_a_folder_that_is_no_report_is_left_alone(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    for name in ("index.html", "thesis.tex"):
        (out / name).write_text("dear")
    with pytest.raises(InputError, match="is not empty"):
        make_report([run], out=out, command=[])
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "thesis.tex"]


def test_a_report_between_its_two_renames_comes_back(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    make_report([run], out=out, command=["ettin"])
    out.rename(tmp_path / "report.old")
    make_report([run], out=out, command=["ettin"])
    assert check(out) == []
    assert not (tmp_path / "report.old").exists()


def test_a_report_names_the_results_that_it_was_made_from(run: Path, tmp_path: Path) -> None:
    results = tmp_path / "results" / "encoder"
    results.mkdir(parents=True)
    stated = files.write_manifest(results, "results", command=[], made_from={}, facts={})
    make_report([run, tmp_path / "results"], out=tmp_path / "report", command=[])
    made_from = files.read_manifest(tmp_path / "report")["made_from"]
    assert made_from[str(results)] == stated["digest"]


@pytest.mark.parametrize("content", ["not JSON", "[1]", '{"name": "a site", "icons": []}'])
def test_a_manifest_of_another_program_beside_results_is_none_of_ours(
    run: Path, tmp_path: Path, content: str
) -> None:
    site = tmp_path / "results" / "site"
    site.mkdir(parents=True)
    (site / "manifest.json").write_text(content)
    make_report([run, tmp_path / "results"], out=tmp_path / "report", command=[])
    assert str(site) not in files.read_manifest(tmp_path / "report")["made_from"]
