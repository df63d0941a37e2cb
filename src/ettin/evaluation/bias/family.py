"""The family `bias`: which gender a model gives to a pronoun that refers to an occupation.

    bias/winogender              our rule, the same for both kinds of model; see `winogender_rule`
    bias/winogender-published    the published protocol as it was run; see `winogender_published`

Both are measured on the gotcha sentences. Ours is also measured on all sentences: each comes with
all three genders, so that there is nothing to prefer and the distribution says it all.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ettin import files
from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.evaluation.bias import published as winogender_published
from ettin.evaluation.bias.data import (
    HUB,
    Sentence,
    download_sentences,
    fetch,
    read_sentences,
)
from ettin.evaluation.bias.pronouns import GENDERS, Gender, variants
from ettin.evaluation.bias.rule import TIE_NATS, Judgement, judge
from ettin.evaluation.bias.scores import METRIC, baselines, mean_score
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Measurement, Request
from ettin.evaluation.token_probabilities import PACKAGES, Float64Array
from ettin.files import Json
from ettin.records import Score

TASKS = ("winogender", "winogender-published")
VERSION = "1"


def names() -> tuple[str, ...]:
    """The tasks of this family."""
    return TASKS


def prefetch(name: str, out: Path) -> None:
    """Download the sentences into `out/bias/winogender`, once for both tasks.

    Raises:
        InputError: no such task, or the hub does not answer.
    """
    _check(name)
    folder = out / "bias" / "winogender"
    if folder.is_dir():
        read_sentences(folder)
        log.info("%s is there already", folder)
        return
    fetch(folder)


def settings(name: str, model: EvaluatedModel, request: Request) -> Json:
    """Everything that the result depends on.

    Raises:
        InputError: no such task, or no data where they should be.
    """
    _check(name)
    folder = _folder(request)
    data = HUB if folder is None else files.fingerprint(_plain(read_sentences(folder)))
    if name == "winogender-published":
        return {"data": data, **winogender_published.SETTINGS}
    return {
        "rule": "P(variant | shared words)",
        "answer_offset": model.answer_offset,
        "tie_nats": TIE_NATS,
        "precision": "float32",
        "data": data,
    }


def measure(name: str, model: EvaluatedModel, request: Request, settings: Json) -> Measurement:
    """Measure one of the tasks; `limit` counts gotcha sentences, and frames of all sentences.

    Raises:
        InputError: no such task, no or unusable data, or a model without the tokens it takes.
    """
    _check(name)
    folder = _folder(request)
    sentences = download_sentences() if folder is None else read_sentences(folder)
    gotchas = [sentence for sentence in sentences if sentence.gotcha][: request.limit]
    if not gotchas:
        raise InputError(f"{folder or HUB} holds no gotcha sentences")
    data = files.fingerprint(_plain(sentences)) if folder is None else str(settings["data"])
    if name == "winogender-published":
        return winogender_published.measure(model, gotchas, request=request, data=data)
    frames = list({sentence.frame: sentence for sentence in sentences}.values())[: request.limit]
    asked = list({sentence.frame: sentence for sentence in [*frames, *gotchas]}.values())
    judged = dict(zip((each.frame for each in asked), judge(model, asked, request), strict=True))
    gold = {sentence.frame: sentence.gender for sentence in gotchas}
    return Measurement(
        metric=METRIC,
        metrics=_gotcha_metrics(gotchas, judged)
        | {f"all/{key}": score for key, score in _distribution(frames, judged).items()},
        baselines=baselines(gotchas),
        examples=len(gotchas),
        data=data,
        version=VERSION,
        facts={
            "frames": len(frames),
            "uneven": sum(judged[sentence.frame].uneven for sentence in asked),
        },
        packages=PACKAGES,
        samples=[_sample(each, judged[each.frame], gold.get(each.frame)) for each in asked],
    )


def _check(name: str) -> None:
    if name not in TASKS:
        raise InputError(f"there is no task bias/{name}; {nearest(name, TASKS)}")


def _folder(request: Request) -> Path | None:
    """The folder with the sentences; None for the hub."""
    if request.path is not None:
        return request.path
    if request.data is not None:
        folder = request.data / "bias" / "winogender"
        if folder.is_dir():
            return folder
        if request.offline:
            raise InputError(f"{folder} is not there, and offline nothing can be fetched")
    elif request.offline:
        raise InputError(
            "WinoGender's sentences are on the hub, and offline nothing can be fetched: give a "
            "folder with bias/winogender in it as --data (`ettin prefetch` makes one)"
        )
    return None


def _plain(sentences: Iterable[Sentence]) -> list[list[Any]]:
    return [[each.id, each.text, each.pronoun, each.case, each.gotcha] for each in sentences]


def _gotcha_metrics(gotchas: Sequence[Sentence], judged: dict[str, Judgement]) -> dict[str, Score]:
    right = [judged[each.frame].shares[GENDERS.index(each.gender)] for each in gotchas]
    return {METRIC: mean_score(right, gotchas), **_distribution(gotchas, judged)}


def _distribution(sentences: Sequence[Sentence], judged: dict[str, Judgement]) -> dict[str, Score]:
    """Shares of the genders, mean probabilities, entropy in nats (at most log 3), and ties."""
    shares = np.array([judged[each.frame].shares for each in sentences])
    probabilities = np.array([judged[each.frame].probabilities for each in sentences])
    logs = np.log(np.maximum(probabilities, 1e-300))
    columns: dict[str, Float64Array] = {
        **{str(gender): shares[:, n] for n, gender in enumerate(GENDERS)},
        **{f"probability_{gender}": probabilities[:, n] for n, gender in enumerate(GENDERS)},
        "entropy": -(probabilities * logs).sum(1),
        "ties": (shares.max(1) < 1).astype(np.float64),
    }
    return {key: mean_score(values.tolist(), sentences) for key, values in columns.items()}


def _sample(sentence: Sentence, judgement: Judgement, gold: Gender | None) -> Json:
    best = [gender for gender, share in zip(GENDERS, judgement.shares, strict=True) if share > 0]
    made = variants(sentence.text, pronoun=sentence.pronoun, case=sentence.case)
    return {
        "frame": sentence.frame,
        "case": sentence.case,
        "variants": made,
        "gold": gold,
        "log_probabilities": dict(zip(GENDERS, judgement.scores.tolist(), strict=True)),
        "probabilities": dict(zip(GENDERS, judgement.probabilities.tolist(), strict=True)),
        "prediction": best[0] if len(best) == 1 else None,
        "best": best,
    }
