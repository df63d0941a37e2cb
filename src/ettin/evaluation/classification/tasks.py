"""The classification tasks that are known by name, and where the hub has them.

GLUE (Wang et al. 2018) and SNLI (Bowman et al. 2015), at pinned revisions.
"""

from dataclasses import dataclass

from ettin.errors import InputError
from ettin.evaluation.classification.files import Row

_NLI = ("entailment", "neutral", "contradiction")
GLUE = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
SNLI = ("stanfordnlp/snli", "cdb5c3d5eed6ead6e5a341c8e56e669bb666725b")


@dataclass(frozen=True)
class Known:
    """A task that is known by name.

    Attributes:
        labels: classes in the order of their numbers on the hub; none for regression.
        metrics: what it is measured by, the main one first.
        hub: repository and revision.
        configuration: its name there.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    hub: tuple[str, str] = GLUE
    configuration: str = ""


KNOWN = {
    "mnli": Known(_NLI, ("accuracy",)),
    "cola": Known(("unacceptable", "acceptable"), ("matthews", "accuracy")),
    "sst2": Known(("negative", "positive"), ("accuracy",)),
    "mrpc": Known(("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "stsb": Known((), ("spearman", "pearson")),
    "qqp": Known(("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "qnli": Known(("entailment", "not_entailment"), ("accuracy",)),
    "rte": Known(("entailment", "not_entailment"), ("accuracy",)),
    "snli": Known(_NLI, ("accuracy",), SNLI, "plain_text"),
}
"""MNLI first: three others start from what it leaves behind."""


def download(name: str) -> dict[str, list[Row]]:
    """All labelled splits of a known task from the hub, under the names that folders use.

    Raises:
        InputError: it cannot be reached.
    """
    import datasets

    known = KNOWN[name]
    repository, revision = known.hub
    try:
        found = datasets.load_dataset(repository, known.configuration or name, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"classification/{name}: cannot get {repository} from the hub ({reason}); without a "
            "network give --data DIR, filled by `ettin prefetch` where there is one"
        ) from error
    names = {
        "validation": "dev",
        "validation_matched": "dev",
        "validation_mismatched": "mismatched",
    }
    # GLUE's test splits have no labels.
    wanted = {"train", *names, *(["test"] if known.hub == SNLI else [])}
    return {names.get(split, split): list(found[split]) for split in found if split in wanted}
