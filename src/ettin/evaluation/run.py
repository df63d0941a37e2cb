"""Models × tasks: each measured once, whatever happens to the others.

What is finished is read and not measured again; what fails is said, kept for the end, and does
not stop the rest. Every record is written the moment it is known.
"""

import dataclasses
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin import files
from ettin.console import Progress, duration, log, logged_to, progress
from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.quick.samples import TASK, can_show, samples
from ettin.evaluation.results_directory import measuring
from ettin.evaluation.task import Inapplicable, Measurement, Request, Task
from ettin.evaluation.tasks import SEEDED, family_module
from ettin.files import Json
from ettin.records import Record, folder_of, record_path


@dataclass(frozen=True)
class Failure:
    """A task that could not be measured.

    Attributes:
        model: as it was given.
        task: `family/name`.
        reason: what was wrong.
        by_caller: whether it was a mistake of the caller.
        left_out: the data do not allow the task, which is no failure beside others.
    """

    model: str
    task: str
    reason: str
    by_caller: bool
    left_out: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out: records in the order asked for, as plain objects with their `path`."""

    records: list[Json]
    failures: list[Failure]
    problems: list[str] = dataclasses.field(default_factory=list)
    """What was asked for and is no task."""

    @property
    def failed(self) -> list[Failure]:
        """Failures but for what is left out beside other tasks."""
        return [each for each in self.failures if not (each.left_out and self.records)]

    @property
    def is_complete(self) -> bool:
        """Whether everything asked for is there, or left out for good reasons."""
        return not self.failed and not self.problems

    @property
    def is_mistaken(self) -> bool:
        """Whether nothing came out but mistakes of the caller."""
        return not self.records and all(failure.by_caller for failure in self.failed)


def evaluate(
    models: list[str],
    tasks: list[Task],
    *,
    request: Request,
    seeds: tuple[int, ...],
    log_samples: bool,
    command: list[str],
    objective: str | None = None,
    problems: list[str] | None = None,
) -> Outcome:
    """Measure every model on every task; the directory of results is finished when all is there.

    Args:
        models: directories or hub ids.
        tasks: what to measure.
        request: how; its `seed` and `path` are set here, for each task.
        seeds: of tasks that have something random; one record each.
        log_samples: write every example with its answer beside the record.
        command: the command line, for the records.
        objective: what the models were trained with, where they do not say so themselves.
        problems: what else was asked for and is no task.

    Raises:
        InputError: the directory of results is a finished directory of another kind.
    """
    records: list[Json] = []
    failures: list[Failure] = []
    jobs = [
        (task, seed) for task in tasks for seed in (seeds if task.family in SEEDED else (None,))
    ]
    total = len(models) * len(jobs)
    with (
        measuring(request.out) as results,
        logged_to(request.out.with_name(request.out.name + ".log")),
        progress("evaluate", total=total) as shown,
    ):
        for where in models:
            model = _opened(where, jobs, failures, objective=objective)
            if model is None:
                shown.advance(len(jobs), where)
                continue
            for task, seed in jobs:
                place = shown.done
                asked = dataclasses.replace(
                    request, seed=seed, path=task.path, advance=_advance(shown, place, model, task)
                )
                with _kept(failures, where, task):
                    record = _record(
                        model,
                        task,
                        asked,
                        log_samples=log_samples,
                        command=command,
                        begin=results.begin,
                    )
                    records += [] if record is None else [record]
                shown.update(place + 1, f"{model.name} {task.full_name}")
        outcome = Outcome(records, failures, problems or [])
        if outcome.is_complete:
            results.finish(command)
        elif not outcome.is_mistaken:
            results.begin()
    return outcome


def _opened(
    where: str,
    jobs: list[tuple[Task, int | None]],
    failures: list[Failure],
    *,
    objective: str | None,
) -> EvaluatedModel | None:
    try:
        return open_model(where, objective=objective)
    except InputError as error:
        log.error("%s", error)
        failures += [Failure(where, task.full_name, str(error), by_caller=True) for task, _ in jobs]
        return None


def _advance(
    shown: Progress, place: float, model: EvaluatedModel, task: Task
) -> Callable[[float, str], None]:
    def advance(share: float, note: str) -> None:
        shown.update(place + min(1.0, max(0.0, share)), f"{model.name} {task.full_name} {note}")

    return advance


@contextmanager
def _kept(failures: list[Failure], where: str, task: Task) -> Iterator[None]:
    """Keep what goes wrong with one task, and let the others go on."""
    try:
        yield
    except Inapplicable as error:
        log.warning("%s is left out: %s", task.full_name, error)
        failures.append(Failure(where, task.full_name, str(error), by_caller=True, left_out=True))
    except InputError as error:
        log.error("%s on %s: %s", where, task.full_name, error)
        failures.append(Failure(where, task.full_name, str(error), by_caller=True))
    except ModuleNotFoundError as error:
        reason = f"it needs {error.name}: pip install 'ettin[evaluation]'"
        log.error("%s: %s", task.full_name, reason)
        failures.append(Failure(where, task.full_name, reason, by_caller=True))
    except Exception as error:  # noqa: BLE001 - whatever a library raises, other tasks go on
        log.error("%s on %s: %s: %s", where, task.full_name, type(error).__name__, error)
        log.debug("%s", traceback.format_exc())
        failures.append(
            Failure(where, task.full_name, f"{type(error).__name__}: {error}", by_caller=False)
        )


def _record(
    model: EvaluatedModel,
    task: Task,
    request: Request,
    *,
    log_samples: bool,
    command: list[str],
    begin: Callable[[], None],
) -> Json | None:
    """The record of a task: read if it is there, else measured and written, after `begin`.

    None for samples of a model that has other tokens than the corpus.
    """
    if task.full_name == TASK:
        corpus = _corpus_of(request)
        if can_show(model, corpus):
            return samples(model, corpus_path=corpus, out=request.out, command=command, begin=begin)
        log.info("%s: samples are made of ettin's exports alone", model.name)
        return None
    family = family_module(task.family)
    settings = {
        **family.settings(task.name, model, request),
        "model_files": model.surroundings,
        "objective": model.objective,
        "limit": request.limit,
        "seed": request.seed,
    }
    folder = folder_of(request.out, model=model.name, weights=model.weights, task=task.full_name)
    path = record_path(folder, settings)
    samples_path = path.with_suffix(".samples.jsonl")
    if path.exists() and (samples_path.exists() or not log_samples):
        log.info("%s on %s is measured already", model.name, task.full_name)
        return {**files.read_json(path), "path": str(path.absolute())}
    begin()
    started = time.monotonic()
    measured: Measurement = family.measure(task.name, model, request, settings)
    seconds = time.monotonic() - started
    if log_samples:
        lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in measured.samples)
        files.write_atomic(samples_path, "".join(lines))
    record = Record(
        **_model_facts(model),
        seed=request.seed,
        task=task.full_name,
        task_version=measured.version,
        data=measured.data,
        metric=measured.metric,
        value=measured.metrics[measured.metric].value,
        stderr=measured.metrics[measured.metric].stderr,
        metrics=measured.metrics,
        baselines=measured.baselines,
        examples=measured.examples,
        limit=request.limit,
        settings={**settings, **({"found": measured.facts} if measured.facts else {})},
        samples=samples_path.name if log_samples else None,
        seconds=seconds,
        versions=files.versions("torch", "transformers", *measured.packages),
        command=command,
    ).model_dump(mode="json")
    files.write_json(path, record)
    log.info(
        "%s on %s: %s %.4f%s (%s examples, %s)",
        model.name,
        task.full_name,
        measured.metric,
        record["value"],
        "" if record["stderr"] is None else f" ± {record['stderr']:.4f}",
        f"{measured.examples:,}",
        duration(seconds),
    )
    return {**record, "path": str(path.absolute())}


def _corpus_of(request: Request) -> Path:
    path = request.path or request.data
    if path is None:
        raise InputError("quick tasks are made from a corpus: give --data CORPUS")
    return path


def _model_facts(model: EvaluatedModel) -> dict[str, Any]:
    described = model.described
    return {
        "model": model.name,
        "revision": model.revision,
        "weights": model.weights,
        "kind": model.kind,
        "objective": model.objective,
        "variant": described.get("variant", "native"),
        "size": described.get("size"),
        "phase": described.get("phase"),
        "tag": described.get("tag"),
        "tokens": described.get("tokens"),
        "parameters": described.get("parameters"),
        "recipe": described.get("recipe_fingerprint"),
        "training_seed": described.get("seed"),
    }


def best_device() -> str:
    """The first there is of CUDA, MPS, CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def prefetch(tasks: list[Task], out: Path) -> list[Failure]:
    """Download what tasks need into a folder that `--data` reads, for nodes without a network.

    Args:
        tasks: what will be measured there.
        out: the folder.
    """
    failures: list[Failure] = []
    with progress("prefetch", total=len(tasks)) as shown:
        for number, task in enumerate(tasks):
            with _kept(failures, "prefetch", task):
                family_module(task.family).prefetch(task.name, out)
            shown.update(number + 1, task.full_name)
    return failures
