"""Which runs of a report are compared as twins, and what is said of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ettin.report import twins
from ettin.report.collect import Run, collect
from tests.made_up_runs import start_at, write_run, write_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native pair of three phases, and three cross runs."""
    return write_suite(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture(scope="module")
def runs(suite: Path) -> tuple[Run, ...]:
    return collect([suite]).runs


def judged(pair: twins.Pair) -> dict[str, str]:
    """What a proof says of each of its points."""
    return {row["point"]: row["holds"] for row in twins.proof(pair, 1).rows}


def test_native_runs_are_paired_with_native_ones_and_cross_runs_with_each_other(
    runs: tuple[Run, ...],
) -> None:
    pairs = [(pair.encoder.role, pair.decoder.role) for pair in twins.pairs_of(runs[::-1])]
    assert pairs == [
        ("encoder", "decoder"),
        ("encoder from decoder (mlm)", "decoder from encoder"),
        ("encoder from decoder (mntp)", "decoder from encoder"),
    ]
    for pair in twins.pairs_of(runs):
        assert set(judged(pair).values()) == {"yes"}


def test_cross_runs_that_began_at_other_checkpoints_are_no_pair(
    suite: Path, tmp_path: Path
) -> None:
    for name, objective, checkpoint in (("encoder", "clm", "ext48"), ("decoder", "mlm", "decay24")):
        start = start_at(suite / name, checkpoint=checkpoint)
        write_run(tmp_path / f"from-{name}", objective, phases=("cross",), start=start)
    assert twins.pairs_of(collect([tmp_path]).runs) == []


@pytest.mark.parametrize(
    ("facts", "point"),
    [
        ({"ledger_hash": "e" * 32}, "the rows of every step, in order"),
        ({"tokens": 5}, "the text tokens consumed"),
    ],
)
def test_cross_runs_that_read_something_else_are_no_pair(
    runs: tuple[Run, ...], facts: dict[str, Any], point: str
) -> None:
    pair = twins.pairs_of(runs)[1]
    other = replace(pair.decoder, facts={**pair.decoder.facts, **facts})
    proof = judged(pair._replace(decoder=other))
    assert proof.pop(point) == "NO"
    assert set(proof.values()) == {"yes"}


def test_runs_of_different_phases_are_said_to_be_so_and_fail_in_nothing(
    suite: Path, tmp_path: Path
) -> None:
    short = write_run(tmp_path / "short", "clm")
    [pair] = twins.pairs_of(collect([suite / "encoder", short]).runs)
    rows = {row["point"]: row for row in twins.proof(pair, 1).rows}
    assert rows["the phases"]["holds"] == "different"
    assert "pretraining, extension, decay; and pretraining" in rows["the phases"]["found"]
    assert rows["pretraining: the order, the steps and the tokens"]["holds"] == "yes"
    assert rows["the text tokens consumed"]["holds"] == "not comparable"
    assert rows["the recipes"]["holds"] == "not comparable"
    assert "NO" not in {row["holds"] for row in rows.values()}
    stated = [{**pair.decoder.facts["phases"][0], "order": "e" * 32}]
    other = replace(pair.decoder, facts={**pair.decoder.facts, "phases": stated})
    changed = judged(pair._replace(decoder=other))
    assert changed["pretraining: the order, the steps and the tokens"] == "NO"


def test_rope_bases_of_recipes_as_executed_are_exempt_and_nothing_else_is(
    runs: tuple[Run, ...],
) -> None:
    def recipes_of(variant: str, key: str) -> str:
        recipes = [{**run.recipe, "variant": variant} for run in runs[:2]]
        stated = [dict(phase) for phase in recipes[1]["phases"]]
        stated[2][key] = 1e4
        recipes[1]["phases"] = stated
        encoder, decoder = (
            replace(run, recipe=recipe) for run, recipe in zip(runs[:2], recipes, strict=True)
        )
        return judged(twins.Pair(encoder, decoder))["the recipes"]

    assert recipes_of("as-executed", "local_rope_theta") == "as executed"
    assert recipes_of("as-executed", "global_rope_theta") == "NO"
    assert recipes_of("intended", "local_rope_theta") == "NO"


def test_native_runs_that_began_with_twins_are_twins_and_need_not_have_the_same_weights(
    suite: Path, tmp_path: Path
) -> None:
    for name, objective in (("encoder", "mlm"), ("decoder", "clm")):
        start = start_at(suite / name, checkpoint="ext48")
        write_run(tmp_path / name, objective, phases=("decay",), start=start)
    [pair] = twins.pairs_of(collect([tmp_path]).runs)
    assert pair.variant == "native"
    assert set(judged(pair).values()) == {"yes"}
    later = {**pair.decoder.facts, "start": {**(pair.decoder.start or {}), "tag": "ext47"}}
    other = pair._replace(decoder=replace(pair.decoder, facts=later))
    assert judged(other)["where they began"] == "NO"


def test_each_run_is_paired_with_the_one_that_went_through_the_same_phases(
    suite: Path, tmp_path: Path
) -> None:
    write_run(tmp_path / "short-decoder", "clm")
    write_run(tmp_path / "short-encoder", "mlm")
    pairs = twins.pairs_of(collect([suite / "encoder", tmp_path, suite / "decoder"]).runs)
    assert [(pair.encoder.name, pair.decoder.name) for pair in pairs] == [
        ("encoder", "decoder"),
        ("short-encoder", "short-decoder"),
    ]
