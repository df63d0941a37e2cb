"""What is published, under which name, and what is refused before anything is built."""

import shutil
from pathlib import Path

import pytest

from ettin import files
from ettin.errors import InputError, ProblemsFound
from ettin.publish.models import Thinning
from ettin.publish.names import check_template, name_models, without_fields
from tests.publishing import SUITE, dry_run, rewritten, states
from tests.runs import tags


def test_one_export_and_a_name_are_enough(exports: Path, tmp_path: Path) -> None:
    report = dry_run([exports / "decoder"], tmp_path / "out", repo="org/it")
    assert states(report) == {"org/it": {"decay6": "planned", "main": "planned"}}
    with pytest.raises(InputError, match="expected org/name"):
        dry_run([exports / "decoder"], tmp_path / "out", repo="it")


def test_all_roles_get_names_of_their_own(exports: Path, tmp_path: Path) -> None:
    report = dry_run([exports], tmp_path / "out", repo="org/{role}-{size}-{seed}")
    seed = files.read_json(exports / "decoder/decay6/config.json")["ettin"]["seed"]
    assert list(states(report)) == [
        f"org/{role}-nano-{seed}"
        for role in ("encoder", "decoder", "encoder-from-decoder", "decoder-from-encoder")
    ]


def test_several_models_under_one_name_are_refused_with_a_template(
    exports: Path, tmp_path: Path
) -> None:
    proposal = r"--repo org/it names 4 different models.*--repo 'org/it-\{role\}'"
    with pytest.raises(InputError, match=proposal):
        dry_run([exports], tmp_path / "out", repo="org/it")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("it", "expected org/name"),
        ("org/a/b", "expected org/name"),
        ("org/{rol}", "did you mean 'role'"),
        ("org/{role.real}", "is no field"),
        ("org/{", "--repo org/{"),
        ("org/{role!r}", "is no field"),
    ],
)
def test_a_template_that_names_nothing_is_refused(template: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        check_template(template)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["org/../x", "org/a--b", "org/.hidden", "org/a b", "org/<script>"])
def test_names_that_the_hub_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(InputError, match="the hub does not allow the name"):
        name_models(name, [{"role": "encoder", "size": "nano", "seed": "1", "objective": "mlm"}])


def test_the_proposed_template_tells_the_models_apart() -> None:
    models = [
        {"role": role, "size": size, "seed": "1", "objective": "mlm"}
        for role in ("encoder", "decoder")
        for size in ("nano", "micro")
    ]
    with pytest.raises(InputError, match=r"'org/it-\{role\}-\{size\}'"):
        name_models("org/it-{role}", models)
    assert len(set(name_models("org/it-{role}-{size}", models))) == 4
    with pytest.raises(InputError, match="cannot be told apart"):
        name_models("org/it-{role}", [models[0], models[0]])
    assert without_fields("org/suite-{role}-{size}") == "org/suite"
    assert without_fields("org/{role}") == "org/suite"


def test_thinning_keeps_the_first_checkpoint_and_the_last_of_each_phase() -> None:
    ordered = ["step0", "step5", "step10", "step14", "ext5", "ext8", "decay4", "decay6"]
    shuffled = [*ordered[4:], *ordered[:4]]
    assert Thinning().choose(shuffled) == ordered
    assert Thinning(every=3).choose(shuffled) == ["step0", "step14", "ext8", "decay4", "decay6"]
    assert Thinning(tags=("decay6", "step0")).choose(shuffled) == ["step0", "decay6"]


def test_two_ways_to_thin_are_refused() -> None:
    with pytest.raises(InputError, match="give one of them"):
        Thinning(every=2, tags=("step0",))


def test_thinned_exports_are_left_out(exports: Path, phased_runs: Path, tmp_path: Path) -> None:
    given = [exports / "encoder", phased_runs / "encoder"]
    report = dry_run(given, tmp_path / "out", repo="org/it", thinning=Thinning(every=100))
    assert list(states(report)["org/it"]) == ["step0", "step14", "ext8", "decay6", "main"]
    report = dry_run(given, tmp_path / "out", repo="org/it", thinning=Thinning(tags=("ext8",)))
    assert list(states(report)["org/it"]) == ["ext8", "main"]
    with pytest.raises(InputError, match="--tags ext9: no such checkpoint; did you mean 'ext8'"):
        dry_run(given, tmp_path / "out", repo="org/it", thinning=Thinning(tags=("ext9",)))


def test_gaps_are_an_error_that_lists_them(
    exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    all_tags = tags(phased_runs / "encoder")
    given = [exports / "encoder" / tag for tag in all_tags if tag not in ("step5", "ext5")]
    for paths in (given, [*given[-1:], phased_runs / "encoder"]):
        with pytest.raises(ProblemsFound, match=r"not among the exports: .*step5.*ext5") as found:
            dry_run(paths, tmp_path / "out", repo="org/it")
        assert found.value.exit_code == 1
    allowed = Thinning(allow_gaps=True)
    report = dry_run(given, tmp_path / "out", repo="org/it", thinning=allowed)
    assert "ext5" not in states(report)["org/it"]
    thinned = Thinning(tags=("step0", "decay6"))
    dry_run(given, tmp_path / "out", repo="org/it", thinning=thinned)


def test_a_gap_proposes_the_checkpoints_of_all_models(
    exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    names = ("decoder", "decoder-from-encoder")
    given = [folder / name for name in names for folder in (exports, phased_runs)]
    with pytest.raises(ProblemsFound, match="choose with --tags decay6,cross6 or"):
        dry_run(given, tmp_path / "out", repo=SUITE)
    chosen = Thinning(tags=("decay6", "cross6"))
    report = dry_run(given, tmp_path / "out", repo=SUITE, thinning=chosen)
    assert len(states(report)) == 4


def test_two_tags_with_identical_weights_are_an_error(exports: Path, tmp_path: Path) -> None:
    seen = files.read_json(exports / "encoder/step10/config.json")["ettin"]["ledger_hash"]
    double = rewritten(
        exports / "encoder/step5", tmp_path / "double", tag="step10", ledger_hash=seen
    )
    given = [exports / "encoder/step5", double]
    with pytest.raises(ProblemsFound, match="step5 and step10 have identical weights"):
        dry_run(given, tmp_path / "out", repo="org/it", thinning=Thinning(allow_gaps=True))


def test_the_same_checkpoint_twice_is_refused(exports: Path, tmp_path: Path) -> None:
    double = shutil.copytree(exports / "decoder/decay6", tmp_path / "double")
    with pytest.raises(InputError, match="are the same checkpoint, decay6"):
        dry_run([exports / "decoder", double], tmp_path / "out", repo="org/it")
    dry_run([exports / "decoder", exports], tmp_path / "out", repo=SUITE)  # one path, named twice


def test_an_export_of_other_data_than_the_run_is_refused(
    exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    other = rewritten(exports / "decoder/decay6", tmp_path / "other", ledger_hash="0" * 32)
    with pytest.raises(ProblemsFound, match="share a recipe, but saw other data until decay6"):
        dry_run([other, phased_runs / "decoder"], tmp_path / "out", repo="org/it")


def test_altered_and_unfinished_directories_are_refused(
    exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    altered = shutil.copytree(exports / "decoder/decay6", tmp_path / "altered")
    weights = bytearray((altered / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (altered / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=r"not as it was written(.|\n)*content differs"):
        dry_run([altered], tmp_path / "out", repo="org/it")
    run = shutil.copytree(phased_runs / "decoder", tmp_path / "run")
    (run / "manifest.json").unlink()
    with pytest.raises(InputError, match="unfinished"):
        dry_run([tmp_path / "run"], tmp_path / "out", repo="org/it")
    with pytest.raises(InputError, match="does not exist"):
        dry_run([tmp_path / "none"], tmp_path / "out", repo="org/it")
    without = shutil.copytree(exports / "decoder/decay6", tmp_path / "without/export")
    (without / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        dry_run([tmp_path / "without"], tmp_path / "out", repo="org/it")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to publish"):
        dry_run([tmp_path / "empty"], tmp_path / "out", repo="org/it")


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"tag": "../../x"}, "is of no checkpoint of a run"),
        ({"tag": "step05"}, "is of no checkpoint of a run"),
        ({"converted_from": "encoder"}, "was converted"),
    ],
)
def test_exports_that_are_of_no_checkpoint_are_refused(
    exports: Path, tmp_path: Path, described: dict[str, object], sentence: str
) -> None:
    odd = rewritten(exports / "decoder/decay6", tmp_path / "odd", **described)
    with pytest.raises(InputError, match=sentence):
        dry_run([odd], tmp_path / "out", repo="org/it")


def test_nothing_is_cast_and_types_are_not_mixed(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"Publish casts nothing.*ettin export RUN --dtype bfloat1"
    ):
        dry_run([exports / "decoder"], tmp_path / "out", repo="org/it", dtype="bfloat16")
    half = rewritten(exports / "encoder/decay6", tmp_path / "half", dtype="bfloat16")
    with pytest.raises(InputError, match="different types: bfloat16, float32; say which"):
        dry_run([exports / "decoder", half], tmp_path / "out", repo=SUITE)
    report = dry_run([exports / "decoder", half], tmp_path / "out", repo=SUITE, dtype="bfloat16")
    assert list(states(report)) == ["org/suite-encoder-nano"]


def test_an_output_folder_of_others_is_left_alone(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").write_text("x")
    with pytest.raises(InputError, match="is not empty"):
        dry_run([exports / "decoder"], tmp_path / "out", repo="org/it")
    assert (tmp_path / "out" / "theirs").read_text() == "x"


def test_optimiser_states_need_the_runs(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--with-optimizer: give the runs too"):
        dry_run([exports / "decoder"], tmp_path / "out", repo="org/it", with_optimizer=True)
