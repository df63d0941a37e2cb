"""Plans: the published suite in a second, jobs in an order in which they can be typed."""

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ettin import files
from ettin.cli import app
from ettin.errors import InputError
from ettin.presets import SIZES
from ettin.schedules import saved_steps
from ettin.shape import Shape
from ettin.suite.job import Job
from ettin.suite.listing import describe
from ettin.suite.plan import Plan, make_plan
from ettin.suite.plan_file import write_plan
from ettin.suite.trajectories import chosen_tags
from tests.test_suite_file import written

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "recipes" / "ettin.yaml"
HOURS = {"17m": 141, "32m": 212, "68m": 300, "150m": 470, "400m": 950}
"""Published hours for 2T tokens on four H100; those of 1b are for another budget."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(PUBLISHED, out=tmp_path_factory.mktemp("published") / "suite")


def jobs_of(plan: Plan, kind: str) -> list[Job]:
    return [job for job in plan.jobs if job.kind == kind]


def job_named(plan: Plan, name: str) -> Job:
    return next(job for job in plan.jobs if job.name == name)


def test_the_published_suite_has_24_models_and_236_checkpoints_a_native_run(
    published: Plan,
) -> None:
    totals = published.facts["totals"]
    native = [job for job in jobs_of(published, "train") if "-from-" not in job.name]
    crossed = [job for job in jobs_of(published, "train") if "-from-" in job.name]
    assert totals["models"] == 24
    assert {len(job.checkpoints) for job in native} == {236}
    assert len(native) == len(crossed) == 12
    assert totals["checkpoints"] == 12 * 236 + sum(len(job.checkpoints) for job in crossed)


def test_the_published_suite_costs_the_published_hours(published: Plan) -> None:
    for size, hours in HOURS.items():
        seconds = job_named(published, f"train-encoder-{size}").seconds
        assert seconds == pytest.approx(3600 * hours, rel=0.005)
    totals = published.facts["totals"]
    assert totals["device_hours"] == pytest.approx(4 * totals["seconds"] / 3600)


def test_the_published_suite_is_planned_in_a_second_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; started = time.process_time();"
        "from ettin.suite.plan import make_plan; from ettin.suite.listing import describe;"
        f"describe(make_plan(Path({str(PUBLISHED)!r}), out=Path({str(tmp_path)!r})));"
        "assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules);"
        "print(time.process_time() - started)"
    )
    done = [
        float(
            subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
        )
        for _ in range(3)
    ]
    assert min(done) < 1.0


def test_every_job_stands_after_what_it_reads_and_writes_inside(published: Plan) -> None:
    finished: set[Path] = set()
    for job in published.jobs:
        assert set(job.inputs) <= finished, job.name
        assert job.output not in finished, job.name
        finished.add(job.output)
        for path in (job.output, *job.scratch):
            assert path.is_relative_to(published.out)
    assert len({job.name for job in published.jobs}) == len(published.jobs)


def test_every_command_is_one_that_the_command_line_knows(published: Plan) -> None:
    import typer.main

    root: Any = typer.main.get_command(app)
    for job in published.jobs:
        for typed in job.command.split(" && "):
            words = shlex.split(typed)
            if words[0] == "rm":
                assert [Path(word) for word in words[2:]] == list(job.scratch)
                continue
            command, rest = root, words[1:]
            while rest[0] in getattr(command, "commands", {}):
                command, rest = command.commands[rest[0]], rest[1:]
            known = {option for each in command.params for option in each.opts}
            assert {word for word in rest if word.startswith("--")} <= known


def test_cross_runs_start_from_the_run_of_their_twin(tmp_path: Path) -> None:
    path = written(tmp_path, sizes=["nano"], cross=["mntp", "clm", "mlm"], seeds=[21, 22])
    plan = make_plan(path, out=tmp_path / "out")
    names = [job.name for job in jobs_of(plan, "train")]
    assert names[:5] == [
        "train-encoder-nano",
        "train-decoder-nano",
        "train-encoder-from-decoder-mntp-nano",
        "train-decoder-from-encoder-nano",
        "train-encoder-from-decoder-mlm-nano",
    ]
    assert names[5:] == [f"{name}-seed22" for name in names[:5]]
    crossed = job_named(plan, "train-decoder-from-encoder-nano-seed22")
    assert crossed.inputs == (plan.out / "corpus", plan.out / "runs" / "encoder-nano-seed22")
    assert "--phase cross --from" in crossed.command
    assert "seed=22" in crossed.command


def test_the_plan_of_a_run_is_that_of_its_recipe(tmp_path: Path) -> None:
    plan = make_plan(written(tmp_path, sizes=["nano"]), out=tmp_path / "out")
    job = job_named(plan, "train-encoder-nano")
    assert (job.tokens, job.steps) == (8192, 32)
    assert job.checkpoints == ("step16", "step32")
    row = SIZES["nano"]
    shape = Shape(
        vocab_size=1024,
        num_hidden_layers=row.num_hidden_layers,
        hidden_size=row.hidden_size,
        intermediate_size=row.intermediate_size,
        num_attention_heads=row.num_attention_heads,
    )
    a_token = shape.flops_per_token(context_length=64, labelled=0.3, visibility="bidirectional")
    assert job.flops == pytest.approx(8192 * a_token)
    assert job.disk_bytes == 3 * 12 * shape.parameters
    assert job.seconds is None


def test_a_stated_throughput_tells_the_time_and_none_tells_nothing(tmp_path: Path) -> None:
    stated = written(tmp_path, sizes=["nano"], tokens_per_second={"nano": "1k"}, devices=2)
    totals = make_plan(stated, out=tmp_path / "out").facts["totals"]
    assert totals["seconds"] == pytest.approx(2 * 8192 / 1000)
    assert totals["device_hours"] == pytest.approx(2 * totals["seconds"] / 3600)
    assert "time unknown" in describe(make_plan(written(tmp_path), out=tmp_path / "out"))


def test_tasks_of_the_corpus_and_others_are_measured_apart(tmp_path: Path) -> None:
    path = written(tmp_path, sizes=["nano"], tasks=["quick", "glue"], data="benchmarks", limit=9)
    plan = make_plan(path, out=tmp_path / "out")
    of_corpus = job_named(plan, "evaluate-encoder-nano")
    others = job_named(plan, "evaluate-encoder-nano-benchmarks")
    assert f"--tasks quick --data {plan.out / 'corpus'}" in of_corpus.command
    assert f"--tasks glue --data {Path('benchmarks').absolute()} --limit 9" in others.command
    assert of_corpus.inputs == (plan.out / "exports" / "encoder-nano", plan.out / "corpus")
    assert others.inputs == (plan.out / "exports" / "encoder-nano",)


@pytest.mark.parametrize(
    ("rule", "tags"),
    [
        ("all", ["step0", "step1", "step2", "step4", "step8", "step16", "step32"]),
        ({"every": 3}, ["step0", "step4", "step32"]),
        ({"every": 50}, ["step0", "step32"]),
        ({"log": 3}, ["step0", "step1", "step4", "step32"]),
        ({"log": 1}, ["step0", "step32"]),
        ({"log": 10**12}, ["step0", "step1", "step2", "step4", "step8", "step16", "step32"]),
    ],
)
def test_trajectories_take_the_checkpoints_asked_for(
    tmp_path: Path, rule: object, tags: object
) -> None:
    phases = [{"name": "pretraining", "tokens": "8k", "context_length": 64, "batch_rows": 4,
               "save_every_tokens": "4k", "save_early": True}]  # fmt: skip
    trajectories = {"checkpoints": rule, "tasks": ["quick/likelihood"]}
    path = written(tmp_path, sizes=["nano"], phases=phases, trajectories=trajectories)
    plan = make_plan(path, out=tmp_path / "out")
    measured = [job for job in jobs_of(plan, "evaluate") if job.scratch and "encoder" in job.name]
    assert [job.name.rpartition("-")[2] for job in measured] == tags
    assert all(job.command.endswith(f"rm -r {job.scratch[0]}") for job in measured)


def test_the_final_model_is_not_measured_twice_and_exports_can_be_kept(tmp_path: Path) -> None:
    trajectories = {"tasks": ["quick"]}
    kept = written(tmp_path, sizes=["nano"], trajectories=trajectories, keep_exports=True)
    plan = make_plan(kept, out=tmp_path / "out")
    names = [job.name for job in jobs_of(plan, "evaluate") if "encoder" in job.name]
    assert names == [
        "evaluate-encoder-nano",
        "evaluate-encoder-nano-step0",
        "evaluate-encoder-nano-step16",
    ]
    assert not any(job.scratch for job in plan.jobs)


def test_relative_paths_belong_to_the_folder_that_the_suite_was_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out = written(tmp_path), tmp_path / "out"
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    begun = make_plan(suite, out=out)
    monkeypatch.chdir(there)
    assert str(there / "texts") in make_plan(suite, out=out).jobs[0].command
    write_plan(begun)
    assert make_plan(suite, out=out).jobs == begun.jobs
    assert str(here / "texts") in begun.jobs[0].command
    out.rename(tmp_path / "moved")
    moved = make_plan(suite, out=tmp_path / "moved")
    fingerprints = [[job.fingerprint(plan.out) for job in plan.jobs] for plan in (begun, moved)]
    assert fingerprints[0] == fingerprints[1]
    (moved.out / "plan.json").write_text('{"suite": ')
    with pytest.raises(InputError, match="remove it and go on in the folder"):
        make_plan(suite, out=moved.out)


def test_the_report_waits_for_everything(tmp_path: Path) -> None:
    plan = make_plan(written(tmp_path), out=tmp_path / "out")
    report = plan.jobs[-1]
    assert report.kind == "report"
    others = {job.output for job in plan.jobs if job.kind in {"train", "export", "evaluate"}}
    assert set(report.inputs) == others


def test_an_existing_corpus_is_not_prepared_again(tmp_path: Path) -> None:
    path = written(tmp_path, text=None, tokenizer=None, corpus=str(tmp_path / "there"))
    plan = make_plan(path, out=tmp_path / "out")
    assert not jobs_of(plan, "prepare")
    assert not jobs_of(plan, "tokenizer")
    assert jobs_of(plan, "train")[0].inputs == (tmp_path / "there",)


def test_what_a_job_does_is_told_apart_by_recipe_and_not_by_place(tmp_path: Path) -> None:
    def prints(out: str, **changes: object) -> dict[str, str]:
        plan = make_plan(written(tmp_path, **changes), out=tmp_path / out)
        return {job.name: job.fingerprint(plan.out) for job in plan.jobs}

    here = prints("here")
    assert here == prints("there")
    other = prints("here", per_size={"nano": ["peak_lr=1e-3"]})
    changed = {name for name in here if here[name] != other[name]}
    assert changed == {"train-encoder-nano", "train-decoder-nano"}


def test_what_only_begins_like_the_suite_s_directory_is_not_taken_for_a_part_of_it(
    tmp_path: Path,
) -> None:
    def printed(out: str, text: str) -> str:
        words = ("ettin", "prepare", "--source", f"a={text}", "--out", f"{tmp_path / out}/corpus")
        return Job("prepare", "prepare", (words,), tmp_path / out).fingerprint(tmp_path / out)

    assert printed("one", f"{tmp_path}/one/texts") == printed("two", f"{tmp_path}/two/texts")
    beside = f"{tmp_path}/one-texts"
    assert printed("one", beside) == printed("two", beside)
    assert printed("one", beside) != printed("one", "-texts")


def test_finished_runs_tell_the_time_of_others_of_their_size(tmp_path: Path) -> None:
    path, out = written(tmp_path), tmp_path / "out"
    for name, objective, seconds in (("encoder-nano", "mlm", 8.0), ("decoder-nano", "clm", 4.0)):
        (out / "runs" / name).mkdir(parents=True)
        facts = {"size": "nano", "objective": objective, "tokens": 8000, "seconds": seconds}
        files.write_manifest(out / "runs" / name, "run", command=[], made_from={}, facts=facts)
    plan = make_plan(path, out=out)
    told = {job.name: job.seconds for job in jobs_of(plan, "train")}
    assert told["train-encoder-nano"] == pytest.approx(8192 / 1000)
    assert told["train-decoder-nano"] == pytest.approx(8192 / 2000)
    assert told["train-encoder-micro"] is told["train-decoder-micro"] is None


def test_a_long_plan_is_told_in_few_lines(tmp_path: Path) -> None:
    text = describe(make_plan(PUBLISHED, out=tmp_path))
    assert "evaluate 13 checkpoints of encoder-17m" in text
    assert len(text.splitlines()) < 300
    started = time.perf_counter()
    run = next(iter(make_plan(PUBLISHED, out=tmp_path).jobs))
    assert run.kind == "tokenizer"
    assert time.perf_counter() - started < 2


def test_log_spacing_never_leaves_the_run(published: Plan) -> None:
    from ettin.suite.runs import runs_of
    from ettin.suite_file import load_suite

    run = runs_of(load_suite(PUBLISHED))[0]
    assert len(run.tags) == len(run.clocks) == 237
    assert run.clocks[-1] == job_named(published, "train-encoder-17m").tokens
    assert sum(len(saved_steps(phase)) for phase in run.recipe.phases) == 236
    for count in (2, 7, 500):
        chosen = chosen_tags(run, {"log": count})
        assert chosen[0] == "step0"
        assert chosen[-1] == run.tags[-1]
        assert set(chosen) <= set(run.tags)
