"""Suite files: a recipe's keys and a suite's in one file, and every mistake told at once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ettin.errors import InputError
from ettin.recipe_file import load_recipe
from ettin.suite_file import load_suite

ROOT = Path(__file__).parents[1]


def suite_values(**changes: Any) -> dict[str, Any]:
    """A small suite as a file holds it; None leaves a key out."""
    values: dict[str, Any] = {
        "sizes": ["nano", "micro"],
        "text": ["texts"],
        "tokenizer": {"vocab_size": 1024},
        "phases": [
            {"name": "pretraining", "tokens": "8k", "context_length": 64, "batch_rows": 4,
             "save_every_tokens": "4k"},
            {"name": "cross", "tokens": "4k", "context_length": 64, "batch_rows": 4},
        ],
        "tasks": ["quick"],
    }  # fmt: skip
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite_values(**changes)))
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(InputError) as raised:
        load_suite(path)
    return [line.removeprefix("  - ") for line in str(raised.value).splitlines()[1:]]


@pytest.mark.parametrize("name", ["ettin", "quickstart", "nano-micro"])
def test_every_shipped_suite_loads(name: str) -> None:
    file = load_suite(ROOT / "recipes" / f"{name}.yaml")
    for size in file.suite.sizes:
        assert file.recipe(size, seed=7, objective="clm").seed == 7


def test_the_recipe_of_a_size_is_what_train_reads(tmp_path: Path) -> None:
    path = written(tmp_path, per_size={"micro": ["micro_batch_rows=2"]}, seeds=[3, 4])
    file = load_suite(path)
    recipe = file.recipe("micro", seed=4, objective="clm")
    typed = ["size=micro", "seed=4", "micro_batch_rows=2"]
    assert file.overrides("micro", seed=4) == typed
    assert recipe == load_recipe(path, overrides=typed, objective="clm")
    assert (recipe.size, recipe.seed, recipe.micro_batch_rows) == ("micro", 4, 2)


def test_train_asks_which_size_of_a_suite_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(InputError, match=r"suite of nano, micro; choose one: size=nano"):
        load_recipe(path)
    assert load_recipe(path, overrides=["size=micro"]).size == "micro"
    assert load_recipe(written(tmp_path, sizes=["nano"], seeds=[5])).seed == 5


def test_all_mistakes_are_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    path = written(
        tmp_path, sizes=["nano", "mikro"], objektives=["mlm"], tasks=["quik"], seeds=[1, 1],
        trajectories={"checkpoints": {"evry": 2}, "tasks": ["quick"]},
    )  # fmt: skip
    problems = "\n".join(problems_of(path))
    assert "size: 'mikro' is unknown; did you mean 'micro'?" in problems
    assert "objektives: unknown key; did you mean 'objectives'?" in problems
    assert "trajectories.checkpoints" in problems


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tasks": ["quik"]}, "did you mean 'quick'"),
        ({"seeds": [1, 1]}, "seeds: 1 stands there twice"),
        ({"sizes": []}, "sizes"),
        ({"text": None}, "give one of text, sources and corpus; given: none"),
        ({"corpus": "there"}, "given: text and corpus"),
        ({"corpus": "there", "text": None}, "tokenizer: has no effect"),
        ({"tokenizer": None}, "tokenizer: missing"),
        ({"tokenizer": {"size": 3}}, "tokenizer"),
        ({"objectives": ["mlm"], "cross": ["mntp"]}, "starts from a run with clm"),
        ({"cross": ["clm"], "phases": suite_values()["phases"][:1]}, "have none named 'cross'"),
        ({"per_size": {"nana": []}}, "'nana' is not among the sizes; did you mean 'nano'?"),
        ({"per_size": {"nano": ["phases.pretraining.token=1"]}}, "did you mean 'tokens'"),
        ({"trajectories": {"checkpoints": {"every": 2, "log": 3}, "tasks": ["quick"]}}, "expected"),
        ({"trajectories": {"tasks": ["lm"]}}, "tasks: lm"),
        ({"keep_exports": "yes please"}, "keep_exports"),
        ({"per_size": {"nano": ["size=micro"]}}, "per_size.nano: 'size=micro'"),
        ({"per_size": {"nano": ["seed=3", "tasks=[x]"]}}, "per_size.nano: 'tasks=[x]'"),
        ({"exclude": ["x", "--out=/evil"]}, "exclude: '--out=/evil' would be taken for an option"),
        ({"text": None, "sources": {"a=b": "t"}}, "sources: 'a=b' cannot be the name"),
        ({"tasks": ["lm/piqa,quick"]}, "tasks: 'lm/piqa,quick' has a comma"),
        ({"phases": [{**suite_values()["phases"][0], "tokens": "1e15"}]}, "make more than"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, changes: Any, told: str) -> None:
    assert told in "\n".join(problems_of(written(tmp_path, **changes)))


def many_aliases() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    return "\n".join([*lines, "sizes: *a7"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (many_aliases(), "more than 100,000 values"),
        ("sizes: &a [*a]", "more than 100,000 values"),
        ("sizes: " + "[" * 5000 + "]" * 5000, "nested more deeply"),
        ("sizes: [nano]\nsizes: [micro]", "'sizes' stands here twice"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_yaml_that_would_take_for_ever_or_do_something_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        load_suite(tmp_path / "suite.yaml")


def test_a_phase_can_be_written_with_the_values_of_another(tmp_path: Path) -> None:
    path = written(tmp_path, sizes=["nano"], cross=["clm"], phases=None)
    path.write_text(
        path.read_text() + "phases:\n"
        "  - &first {name: pretraining, tokens: 8k, context_length: 64, batch_rows: 4}\n"
        "  - {<<: *first, name: cross, tokens: 4k}\n"
    )
    crossed = load_suite(path).recipe("nano", seed=1, objective="clm").phases[1]
    assert (crossed.name, crossed.tokens, crossed.batch_rows) == ("cross", 4000, 4)


def test_nothing_of_a_suite_reaches_the_recipe_of_its_runs(tmp_path: Path) -> None:
    one = written(tmp_path, sizes=["nano"], tasks=["quick"])
    fingerprint = load_recipe(one).fingerprint
    other = written(tmp_path, sizes=["nano"], tasks=["glue"], keep_exports=True)
    assert load_recipe(other).fingerprint == fingerprint
