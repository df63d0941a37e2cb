"""Where the data of a retrieval task are: in a folder, one's own or fetched, or on the hub."""

from dataclasses import dataclass
from pathlib import Path

from ettin.errors import InputError, nearest
from ettin.evaluation.retrieval import collections, mteb_tasks
from ettin.evaluation.retrieval.training_pairs import MSMARCO_FOLDER
from ettin.evaluation.task import Request

FAMILY = "retrieval"
RETRIEVAL_TASKS, ALL_TASKS = "mteb", "mteb-all"


@dataclass(frozen=True)
class Place:
    """Where one collection is.

    Attributes:
        name: what it is called in records.
        folder: a collection, or data that were fetched; None: the hub.
        task: name in `mteb`; None for collections of one's own.
        identity: fingerprint of the files, or the revision on the hub.
    """

    name: str
    folder: Path | None
    task: str | None
    identity: str


def names() -> tuple[str, ...]:
    """The tasks that are known by name; `mteb` has more, by its own names."""
    return (*mteb_tasks.TASKS, RETRIEVAL_TASKS, ALL_TASKS)


def places_of(name: str, request: Request) -> list[Place]:
    """The collections that a task is made of: one, but for the benchmark's retrieval tasks.

    Args:
        name: of the task.
        request: its `path` wins over a folder of that name in its `data`, and this over the hub.

    Raises:
        InputError: there is no such task.
    """
    if request.path is not None:
        return [_local(request.path)]
    if name == ALL_TASKS:
        import mteb

        identity = f"{mteb_tasks.BENCHMARK} of mteb {mteb.__version__}"
        return [Place(ALL_TASKS, None, ALL_TASKS, identity)]
    if name == RETRIEVAL_TASKS:
        return [_named(each, request) for each in retrieval_of_benchmark()]
    return [_named(name, request)]


def retrieval_of_benchmark() -> list[str]:
    """Our names of the retrieval tasks of the English benchmark."""
    tasks = mteb_tasks.benchmark_tasks()
    retrieval = [task for task in tasks if task.metadata.type == "Retrieval"]
    return [mteb_tasks.short_name(task.metadata.name) for task in retrieval]


def triples_of(request: Request) -> Path | None:
    """The folder with the published training triples, if they were fetched."""
    folder = request.data / MSMARCO_FOLDER if request.data is not None else None
    return folder if folder is not None and folder.is_dir() else None


def _named(name: str, request: Request) -> Place:
    folder = request.data / FAMILY / name if request.data is not None else None
    if folder is not None and folder.is_dir():
        return _local(folder)
    try:
        task = mteb_tasks.from_hub(name)
    except InputError as error:
        beside = folder.parent.iterdir() if folder is not None and folder.parent.is_dir() else ()
        known = [*names(), *(each.name for each in beside)]
        raise InputError(f"there is no task {FAMILY}/{name}; {nearest(name, known)}") from error
    return Place(name, None, task.metadata.name, mteb_tasks.revision(task))


def _local(folder: Path) -> Place:
    name = folder.absolute().name
    description = collections.description_of(folder)
    if "task" in description:
        # Fetched from the hub and not to be changed, so that it is the same task as there.
        return Place(name, folder, str(description["task"]), str(description["revision"]))
    return Place(name, folder, None, collections.fingerprint(folder))
