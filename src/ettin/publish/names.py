"""What repositories are called: one name, or a template with fields that tell models apart.

    org/suite-{role}-{size}     →  org/suite-encoder-nano, org/suite-decoder-from-encoder-nano, …

Beside a model stand its order (`-order`) and its resumable checkpoints (`-checkpoints`); corpora
belong to no model and take the name without its fields (`org/suite-corpus`).
"""

import re
import string

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ettin.errors import InputError, nearest

FIELDS = ("role", "size", "seed", "objective")
"""What a template may hold, in the order in which a proposal names them."""
ORDER, CORPUS, CHECKPOINTS = "-order", "-corpus", "-checkpoints"


def check_template(template: str) -> None:
    """Refuse a `--repo` that can name nothing.

    Raises:
        InputError: no `org/name`, unknown fields, or unbalanced braces.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"--repo {template}: {error}") from error
    for _, field, specification, conversion in parsed:
        if field is not None and (field not in FIELDS or specification or conversion):
            raise InputError(
                f"--repo {template}: {{{field}}} is no field; {nearest(field, FIELDS)}"
            )
    if template.count("/") != 1:
        raise InputError(
            f"--repo {template}: expected org/name, such as my-name/my-model; for several models a "
            "template such as my-name/my-suite-{role}-{size}"
        )


def name_models(template: str, models: list[dict[str, str]]) -> list[str]:
    """A repository's name for each model.

    Args:
        template: checked by `check_template`.
        models: the value of each field, one dictionary a model.

    Raises:
        InputError: two models get the same name, with the template that would tell them apart;
            or a name that the hub does not allow.
    """
    names = [template.format(**fields) for fields in models]
    if len(set(names)) < len(names):
        telling = _telling_fields(models)
        if not telling:
            raise InputError(
                "two of the models cannot be told apart: same role, size, seed and objective, "
                "other recipes; publish each under its own --repo"
            )
        proposal = "-".join([without_fields(template), *(f"{{{each}}}" for each in telling)])
        raise InputError(
            f"--repo {template} names {len(names)} different models; give a template that tells "
            f"them apart: --repo '{proposal}'"
        )
    for name in names:
        check_name(name)
    return names


def _telling_fields(models: list[dict[str, str]]) -> list[str]:
    """The first fields that together tell all models apart; none when nothing does."""
    chosen: list[str] = []
    for field in FIELDS:
        if len({each[field] for each in models}) > 1:
            chosen.append(field)
        if len({tuple(each[key] for key in chosen) for each in models}) == len(models):
            return chosen
    return []


def without_fields(template: str) -> str:
    """A template as a name of what belongs to no model in particular.

    Example:
        >>> without_fields("org/suite-{role}-{size}")
        'org/suite'
    """
    owner, _, name = re.sub(r"\{\w*\}", "", template).partition("/")
    return f"{owner}/{re.sub(r'[-_.]{2,}', '-', name).strip('-_.') or 'suite'}"


def check_name(name: str) -> None:
    """Raise `InputError` for a name that the hub does not allow."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--repo: the hub does not allow the name {name!r}: {error}") from error
