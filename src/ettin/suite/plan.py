"""A suite as jobs: every command of it, in an order in which it can be typed.

    suite.yaml ─▶ tokenizer ─▶ prepare ─▶ train × runs ─▶ export, evaluate × checkpoints ─▶ report

    OUT/tokenizer  corpus  runs/encoder-17m  exports/encoder-17m  results/encoder-17m[-TAG]  report

No torch, no corpus and no text is needed to plan; a published suite plans in a second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ettin import files
from ettin.errors import InputError
from ettin.files import Json
from ettin.presets import PUBLISHED_VOCABULARY
from ettin.recipe import Suite, TrainedTokenizer
from ettin.shape import Shape
from ettin.suite.estimates import Speeds, measured_speeds, throughput, training_facts
from ettin.suite.job import Job
from ettin.suite.runs import SuiteRun, runs_of
from ettin.suite.sources import sources_of_run
from ettin.suite.trajectories import chosen_tags
from ettin.suite_file import SuiteFile, load_suite
from ettin.task_names import FROM_CORPUS, families_of

PLAN = "plan.json"
"""In a suite's directory: the plan that it is run by, as `plan_file` writes it."""


@dataclass(frozen=True)
class Plan:
    """All jobs of a suite.

    Attributes:
        suite: the suite's file; absolute.
        out: the suite's directory; absolute.
        jobs: each after the jobs whose output it reads.
        facts: what `suite plan --json` prints: `jobs`, and `totals` over them.
    """

    suite: Path
    out: Path
    jobs: tuple[Job, ...]
    facts: Json


def make_plan(suite: Path, *, out: Path) -> Plan:
    """Plan a suite.

    Args:
        suite: a suite file.
        out: where everything goes; finished runs in it tell the throughput of those to come, and a
            suite that was begun there tells the folder that its relative paths belong to.

    Raises:
        InputError: the file cannot be used; every mistake at once.
    """
    file = load_suite(suite)
    planner = _Planner(file, suite.absolute(), out.absolute())
    jobs = planner.jobs()
    totals = _totals(jobs, file.suite)
    facts = {
        "suite": str(planner.suite_path),
        "out": str(planner.out),
        "folder": str(planner.folder),
        "jobs": [job.facts() for job in jobs],
        "totals": totals,
    }
    return Plan(planner.suite_path, planner.out, tuple(jobs), facts)


def _totals(jobs: list[Job], suite: Suite) -> Json:
    training = [job for job in jobs if job.kind == "train"]
    seconds = [job.seconds for job in training if job.seconds is not None]
    known = len(seconds) == len(training)
    return {
        "models": len(training),
        "checkpoints": sum(len(job.checkpoints) for job in training),
        "tokens": sum(job.tokens for job in training),
        "steps": sum(job.steps for job in training),
        "flops": sum(job.flops for job in training),
        "seconds": sum(seconds) if known else None,
        "device_hours": sum(seconds) * suite.devices / 3600 if known else None,
        "disk_bytes": sum(job.disk_bytes for job in jobs),
        "memory_bytes": max((job.memory_bytes or 0 for job in training), default=0),
    }


class _Planner:
    """Makes the jobs of one suite, stage by stage."""

    def __init__(self, file: SuiteFile, suite_path: Path, out: Path) -> None:
        self.file, self.suite, self.suite_path, self.out = file, file.suite, suite_path, out
        self.folder = _folder(suite_path, out)
        self.corpus = self.folder / file.corpus if file.corpus else out / "corpus"

    def jobs(self) -> list[Job]:
        runs = runs_of(self.file)
        preparing = [] if self.file.corpus else [*self._tokenizer(), self._prepare(runs)]
        training = [self._train(run) for run in runs]
        exports = [self._export(run) for run in runs]
        evaluations = [
            job for run in runs for job in (*self._evaluate(run), *self._trajectory(run))
        ]
        sources = [*training, *exports, *evaluations]
        return [*preparing, *sources, self._report(sources)]

    def _tokenizer(self) -> list[Job]:
        if not isinstance(self.suite.tokenizer, TrainedTokenizer):
            return []
        text = self.suite.text or tuple(self.suite.sources.values())
        words = ["ettin", "tokenizer", "train", "--text", *map(self._path, text), *self._reading()]
        words += ["--vocab-size", str(self.suite.tokenizer.vocab_size)]
        output = self.out / "tokenizer"
        return [Job("tokenizer", "tokenizer", (_to(words, output),), output)]

    def _prepare(self, runs: list[SuiteRun]) -> Job:
        suite = self.suite
        words = ["ettin", "prepare"]
        if suite.text:
            words += ["--text", *map(self._path, suite.text)]
        for name, path in suite.sources.items():
            words += ["--source", f"{name}={self._path(path)}"]
        trained = isinstance(suite.tokenizer, TrainedTokenizer)
        tokenizer = (
            str(self.out / "tokenizer") if trained else self._path_or_id(str(suite.tokenizer))
        )
        lengths = sorted({phase.context_length for run in runs for phase in run.recipe.phases})
        words += ["--tokenizer", tokenizer, *self._reading()]
        words += ["--context-length", ",".join(map(str, lengths))]
        given = {
            "--mixture": suite.text_mixture,
            "--id-column": suite.id_column,
            "--held-out": suite.held_out,
            "--packing": suite.packing,
        }
        words += _options(given)
        output = self.out / "corpus"
        inputs = (self.out / "tokenizer",) if trained else ()
        return Job("prepare", "prepare", (_to(words, output),), output, inputs)

    def _reading(self) -> list[str]:
        """Options with which text is read, by the tokenizer and for the corpus alike."""
        excluded = ["--exclude", *self.suite.exclude] if self.suite.exclude else []
        return [*excluded, *_options({"--text-column": self.suite.text_column})]

    def _train(self, run: SuiteRun) -> Job:
        output = self.out / "runs" / run.name
        words = ["ettin", "train", str(self.suite_path), *run.overrides]
        words += ["--objective", run.objective, "--corpus", str(self.corpus)]
        inputs = [self.corpus]
        if run.start is not None:
            start = self.out / "runs" / run.start
            words += ["--phase", run.recipe.phases[0].name, "--from", str(start)]
            inputs.append(start)
        for phase in run.recipe.phases:
            if phase.row_order is not None:
                inputs.append(Path(self._path(phase.row_order)))
                words.append(f"phases.{phase.name}.row_order={inputs[-1]}")
        shape = Shape(vocab_size=self._vocab_size, **run.recipe.shape.model_dump())
        speed = throughput(self.suite, run, measured=self._measured)
        return Job(
            f"train-{run.name}",
            "train",
            (_to(words, output),),
            output,
            tuple(inputs),
            reads=run.recipe.fingerprint,
            sources=sources_of_run(run.recipe, self._corpus) if self._corpus else {},
            **training_facts(run, shape, tokens_per_second=speed),
        )

    @cached_property
    def _measured(self) -> Speeds:
        return measured_speeds(self.out)

    @cached_property
    def _corpus(self) -> Json:
        """What the corpus states of itself; nothing while it is not prepared."""
        if not files.is_finished(self.corpus):
            return {}
        facts: Json = files.read_manifest(self.corpus, "corpus")["facts"]
        return facts

    @cached_property
    def _vocab_size(self) -> int:
        """Rows of the embedding: as prepared, as will be trained, or else as published."""
        if self._corpus:
            return int(self._corpus["tokenizer"]["padded_size"])
        if isinstance(self.suite.tokenizer, TrainedTokenizer):
            return -(-self.suite.tokenizer.vocab_size // 64) * 64
        return PUBLISHED_VOCABULARY

    def _export(self, run: SuiteRun) -> Job:
        output = self.out / "exports" / run.name
        words = ("ettin", "export", str(self.out / "runs" / run.name))
        return Job(
            f"export-{run.name}", "export", (_to(words, output),), output,
            (self.out / "runs" / run.name,),
        )  # fmt: skip

    def _evaluate(self, run: SuiteRun) -> list[Job]:
        """The last checkpoint on all tasks; tasks of the corpus and others have other data."""
        export = self.out / "exports" / run.name
        return [
            Job(f"evaluate-{name}", "evaluate", (words,), output, (export, *self._data(words)))
            for name, words, output in self._measurements(run.name, export, self.suite.tasks)
        ]

    def _trajectory(self, run: SuiteRun) -> list[Job]:
        """Checkpoints on the cheap tasks, each exported for that and removed."""
        wanted = self.suite.trajectories
        if wanted is None:
            return []
        tags = chosen_tags(run, wanted.checkpoints)
        if set(wanted.tasks) <= set(self.suite.tasks):
            tags.remove(run.tags[-1])  # measured as the final model
        trained = self.out / "runs" / run.name
        jobs = []
        for tag in tags:
            export = self.out / "exports" / f"{run.name}-{tag}"
            exported = _to(("ettin", "export", f"{trained}@{tag}"), export)
            for name, words, output in self._measurements(export.name, export, wanted.tasks):
                jobs.append(
                    Job(
                        f"evaluate-{name}",
                        "evaluate",
                        (exported, words),
                        output,
                        (trained, *self._data(words)),
                        scratch=() if self.suite.keep_exports else (export,),
                    )
                )
        return jobs

    def _measurements(
        self, name: str, export: Path, tasks: tuple[str, ...]
    ) -> list[tuple[str, tuple[str, ...], Path]]:
        """Name, command and results folder of each evaluation of an export."""
        of_corpus = [word for word in tasks if set(families_of(word)) <= FROM_CORPUS]
        others = [word for word in tasks if word not in of_corpus]
        benchmarks = self._path(self.suite.data) if self.suite.data else None
        found = []
        for ending, words, data in (
            ("", of_corpus, str(self.corpus)),
            ("-benchmarks" if of_corpus else "", others, benchmarks),
        ):
            if words:
                output = self.out / "results" / (name + ending)
                listed = ",".join(map(self._task, words))
                command = ["ettin", "evaluate", str(export), "--tasks", listed]
                command += _options({"--data": data})
                found.append((name + ending, _to([*command, *self._settings()], output), output))
        return found

    def _settings(self) -> list[str]:
        suite = self.suite
        seeds = ",".join(map(str, suite.task_seeds)) or None
        return _options({"--preset": suite.preset, "--seeds": seeds, "--limit": suite.limit})

    def _data(self, words: tuple[str, ...]) -> tuple[Path, ...]:
        """The corpus, if an evaluation reads it."""
        return (self.corpus,) if str(self.corpus) in words else ()

    def _path(self, text: str) -> str:
        if "://" in text:
            return text
        return str(self.folder / Path(text).expanduser())

    def _path_or_id(self, text: str) -> str:
        """A directory, if there is one of that name; else an id on the hub."""
        path = self._path(text)
        return path if Path(path).exists() else text

    def _task(self, word: str) -> str:
        family, equals, path = word.partition("=")
        return f"{family}={self._path(path)}" if equals else word

    def _report(self, sources: list[Job]) -> Job:
        output = self.out / "report"
        kinds = dict.fromkeys(job.output.parent for job in sources)
        words = ["ettin", "report", *map(str, kinds)]
        words += ["--published"] if self.suite.published else []
        inputs = tuple(dict.fromkeys(job.output for job in sources))
        return Job("report", "report", (_to(words, output),), output, inputs)


def _folder(suite: Path, out: Path) -> Path:
    """Where relative paths of a suite begin: where it was first run from; for a new one, here.

    So it stays when the directory is moved.
    """
    path = out / PLAN
    try:
        begun = files.read_json(path) if path.is_file() else {}
    except InputError as error:
        raise InputError(
            f"{error}; remove it and go on in the folder in which the suite was first run"
        ) from error
    same = begun.get("suite") == str(suite) and "folder" in begun
    return Path(str(begun["folder"])) if same else Path.cwd()


def _to(words: list[str] | tuple[str, ...], output: Path) -> tuple[str, ...]:
    return (*words, "--out", str(output))


def _options(given: Mapping[str, object]) -> list[str]:
    """Options with their values; those without one are left to the command."""
    return [word for option, value in given.items() if value for word in (option, str(value))]
