"""Uploads are read back and compared; any end can be gone on from; nothing is overwritten."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettin import files
from ettin.errors import CommandFailed, InputError, ProblemsFound
from ettin.publish.models import Thinning
from tests.hub import TOKEN, Hub, serving
from tests.publishing import COMMAND, ENCODER, SUITE, bytes_below, dry_run, send, states
from tests.runs import tags

FIRST_TWO = Thinning(tags=("step0", "step5"))
LAST_TWO = Thinning(tags=("decay4", "decay6"), allow_gaps=True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as running:
        yield running


def test_a_model_is_published_with_one_commit_and_one_tag_a_checkpoint_in_order(
    hub: Hub, exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    report = send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    (repository,) = report["repositories"]
    there, run_tags = hub.repositories["model", ENCODER], tags(phased_runs / "encoder")
    assert list(there.tags) == run_tags
    assert [message.partition(":")[0] for message in there.messages[1:-1]] == run_tags
    assert there.messages[-1].startswith("Card")
    for revision in repository["revisions"]:
        assert revision["state"] == "uploaded"
        assert revision["commit"] == there.find(revision["revision"])
        assert there.files_at(revision["revision"]) == bytes_below(
            tmp_path / "out" / ENCODER / revision["revision"]
        )
    assert files.read_json(tmp_path / "out" / "publish.json") == report
    main, last = there.files_at("main"), there.files_at(run_tags[-1])
    assert {name for name in main if main[name] != last[name]} == {"README.md", "manifest.json"}


def test_the_tree_of_a_dry_run_is_what_the_hub_receives_byte_for_byte(
    hub: Hub, exports: Path, phased_runs: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    given = [exports / "decoder", phased_runs / "decoder", corpus_directory]
    wanted = {"repo": "org/it", "with_optimizer": True, "thinning": LAST_TWO}
    dry_run(given, tmp_path / "dry", **wanted)
    send(hub, given, tmp_path / "sent", **wanted)
    received = {
        f"{name}/{revision}/{path}": content
        for (_, name), repository in hub.repositories.items()
        for revision in ["main", *repository.tags]
        for path, content in repository.files_at(revision).items()
    }
    expected = bytes_below(tmp_path / "dry")
    del expected["publish.json"]
    assert received == expected
    assert {(kind, name) for kind, name in hub.repositories} == {
        ("model", "org/it"), ("dataset", "org/it-order"),
        ("model", "org/it-checkpoints"), ("dataset", "org/it-corpus"),
    }  # fmt: skip


def test_publishing_again_sends_nothing_and_says_what_is_there(
    hub: Hub, exports: Path, tmp_path: Path
) -> None:
    given = [exports / "encoder", exports / "decoder"]
    send(hub, given, tmp_path / "out", repo=SUITE)
    commits, hub.requests = hub.commits, []
    report = send(hub, given, tmp_path / "out", repo=SUITE)
    assert hub.commits == commits
    assert hub.uploads() == []
    assert {state for each in states(report).values() for state in each.values()} == {"there"}


@pytest.mark.parametrize("fault", ["cut_at_commit", "cut_after_commit"])
def test_an_upload_that_was_cut_goes_on_where_it_was(
    hub: Hub, exports: Path, tmp_path: Path, fault: str
) -> None:
    setattr(hub.faults, fault, 3)
    with pytest.raises(CommandFailed, match="the same command goes on") as failed:
        send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    assert failed.value.exit_code == 1
    there = hub.repositories["model", ENCODER]
    assert len(there.tags) == 2
    before = dict(there.tags)
    setattr(hub.faults, fault, None)
    report = send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    told = list(states(report)[ENCODER].values())
    assert told == ["there"] * 2 + ["uploaded"] * (len(told) - 2)
    assert before.items() <= there.tags.items()
    assert len(set(there.tags.values())) == len(there.tags) == len(told) - 1
    assert len(there.messages) == 1 + len(told)  # no checkpoint was committed twice


def test_a_killed_process_is_gone_on_from(hub: Hub, exports: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", COMMAND, "publish", str(exports / "encoder"), "--repo", ENCODER]
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    process = subprocess.Popen(words, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)

    def kill(commit: int) -> None:
        if commit == 2:
            os.kill(process.pid, signal.SIGKILL)

    hub.faults.at_commit = kill
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    hub.faults.at_commit = None
    done = subprocess.run(
        [*words, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    there = hub.repositories["model", ENCODER]
    for tag in there.tags:
        assert there.files_at(tag) == bytes_below(tmp_path / "ettin-publish" / ENCODER / tag)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_a_changed_bit_is_found_before_a_tag_names_it(
    hub: Hub, exports: Path, tmp_path: Path, name: str
) -> None:
    hub.faults.flip_byte_in = name
    with pytest.raises(ProblemsFound, match=f"{name} differs: another hash"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    assert hub.repositories["model", "org/it"].tags == {}
    hub.faults.flip_byte_in = None
    report = send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    assert set(states(report)["org/it"].values()) == {"uploaded"}


def test_a_file_that_the_hub_lost_is_missed(hub: Hub, exports: Path, tmp_path: Path) -> None:
    hub.faults.drop = "generation_config.json"
    with pytest.raises(ProblemsFound, match=r"generation_config\.json is missing"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")


def test_a_tag_with_other_content_is_refused_and_left_as_it_is(
    hub: Hub, exports: Path, tmp_path: Path
) -> None:
    send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER, thinning=FIRST_TWO)
    there = hub.repositories["model", ENCODER]
    other = {**there.files_at("step0"), "model.safetensors": b"other", "more.txt": b""}
    there.tags["step0"] = there.commit(other, "by hand")
    there.commit(there.files_at("step5"), "back")
    before, hub.requests = dict(there.tags), []
    with pytest.raises(ProblemsFound, match=r"never overwritten: model\.safetensors") as refused:
        send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    assert "more.txt is there and was not published" in str(refused.value)
    assert there.tags == before
    assert hub.uploads() == []


def test_a_repository_of_another_model_is_refused(hub: Hub, exports: Path, tmp_path: Path) -> None:
    send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    with pytest.raises(ProblemsFound, match="holds something else: another model"):
        send(hub, [exports / "encoder"], tmp_path / "out", repo="org/it")
    foreign = hub.make("model", "org/foreign")
    foreign.commit({**foreign.files_at("main"), "pytorch_model.bin": b"x"}, "theirs")
    with pytest.raises(ProblemsFound, match="no model of ettin; choose another --repo"):
        send(hub, [exports / "encoder"], tmp_path / "out", repo="org/foreign")
    assert hub.repositories["model", "org/foreign"].files_at("main") == {"pytorch_model.bin": b"x"}


def test_a_card_that_somebody_wrote_is_not_replaced(
    hub: Hub, exports: Path, tmp_path: Path
) -> None:
    there = hub.make("model", "org/it")
    there.commit({"README.md": b"---\nlicense: mit\n---\n\n# Mine\n"}, "by hand")
    with pytest.raises(ProblemsFound, match=r"with a README\.md that somebody wrote"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    assert there.files_at("main")["README.md"].endswith(b"# Mine\n")
    there.commit({"README.md": b"---\nlicense: mit\n---\n"}, "as the hub begins one")
    send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")


def test_a_file_that_somebody_added_is_not_removed(hub: Hub, exports: Path, tmp_path: Path) -> None:
    send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER, thinning=FIRST_TWO)
    there = hub.repositories["model", ENCODER]
    there.commit({**there.files_at("main"), "figure.png": b"drawn"}, "by hand")
    with pytest.raises(ProblemsFound, match=r"`main` holds figure\.png, which was not published"):
        send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    assert there.files_at("main")["figure.png"] == b"drawn"


def test_checkpoints_come_later_and_main_stays_the_last(
    hub: Hub, exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    run_tags = tags(phased_runs / "encoder")
    last = [exports / "encoder" / run_tags[-1]]
    send(hub, last, tmp_path / "out", repo=ENCODER)
    there = hub.repositories["model", ENCODER]
    with pytest.raises(ProblemsFound, match=f"the hub has {run_tags[-1]}, which is later"):
        send(hub, [exports / "encoder/step0"], tmp_path / "out", repo=ENCODER)
    report = send(hub, [exports / "encoder"], tmp_path / "out", repo=ENCODER)
    assert states(report)[ENCODER][run_tags[-1]] == "there"
    weights = "model.safetensors"
    assert there.files_at("main")[weights] == there.files_at(run_tags[-1])[weights]


def test_who_may_not_write_is_told_so(
    hub: Hub, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.read_only = True
    with pytest.raises(InputError, match=r"org/it: the token may not write there.*hf auth login"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    hub.make("model", "org/it")
    with pytest.raises(InputError, match="the token may not write there"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")
    monkeypatch.setattr("tests.publishing.TOKEN", "hf_wrong")
    with pytest.raises(InputError, match="does not accept the token"):
        send(hub, [exports / "decoder"], tmp_path / "out", repo="org/it")


def test_without_a_token_nothing_is_asked(hub: Hub, exports: Path, tmp_path: Path) -> None:
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "publish", str(exports / "decoder"), "--repo", "org/it"],
        env={**environment, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nobody is logged in to the hub: `hf auth login`" in done.stderr
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_said_to_be(exports: Path, tmp_path: Path) -> None:
    with serving() as gone:
        pass
    with pytest.raises(CommandFailed, match=r"logging in: (.|\n)*the same command goes on"):
        send(gone, [exports / "decoder"], tmp_path / "out", repo="org/it")


def test_private_repositories_are_made_private(hub: Hub, exports: Path, tmp_path: Path) -> None:
    send(hub, [exports / "decoder"], tmp_path / "out", repo="org/hidden", private=True)
    send(hub, [exports / "decoder"], tmp_path / "out", repo="org/shown")
    made = {name: each.private for (_, name), each in hub.repositories.items()}
    assert made == {"org/hidden": True, "org/shown": False}


def test_an_order_that_is_there_is_never_replaced(
    hub: Hub, exports: Path, phased_runs: Path, tmp_path: Path
) -> None:
    there = hub.make("dataset", "org/it-order")
    there.commit({"ledger.jsonl": b"{}\n", "manifest.json": b"{}"}, "another's")
    with pytest.raises(ProblemsFound, match="org/it-order is on the hub already"):
        send(hub, [phased_runs / "decoder"], tmp_path / "out", repo="org/it")
    assert there.files_at("main")["ledger.jsonl"] == b"{}\n"
