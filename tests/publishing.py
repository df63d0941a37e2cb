"""Exports to publish, made once a session, and the calls that publish them to a stand-in."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from ettin import files
from ettin.export import export
from ettin.files import Json
from ettin.publish.run import Settings, publish
from tests.hub import TOKEN, Hub
from tests.runs import tags

COMMAND = "from ettin import cli; cli.main()"
SUITE = "org/suite-{role}-{size}"
ENCODER = "org/suite-encoder-nano"
DECODER = "org/suite-decoder-nano"


@functools.cache
def exports_of(runs: Path) -> Path:
    """A folder with every checkpoint of the encoder, `encoder/TAG`, and the last of the others.

    Args:
        runs: what the fixture `phased_runs` makes.
    """
    folder = runs.parent / f"{runs.name}-exports"
    for name in ("encoder", "decoder", "encoder-from-decoder", "decoder-from-encoder"):
        run = runs / name
        for tag in tags(run) if name == "encoder" else tags(run)[-1:]:
            export(
                f"{run}@{tag}",
                out=folder / name / tag,
                objective=None,
                dtype="float32",
                command=["ettin", "export", f"{run}@{tag}"],
            )
    return folder


def rewritten(export: Path, out: Path, **described: object) -> Path:
    """A copy of an export that says something else of itself, with a manifest that agrees."""
    shutil.copytree(export, out, ignore=shutil.ignore_patterns("manifest.json"))
    manifest = files.read_manifest(export)
    config = files.read_json(out / "config.json")
    config["ettin"] = {**config["ettin"], **described}
    files.write_json(out / "config.json", config)
    facts = {**manifest["facts"], "ettin": config["ettin"]}
    facts |= {key: described[key] for key in ("dtype",) if key in described}
    made_from = manifest["made_from"]
    files.write_manifest(out, "export", command=[], made_from=made_from, facts=facts)
    return out


def send(hub: Hub, paths: list[Path], out: Path, **settings: Any) -> Json:
    """Publish to a stand-in, in this process."""
    with pytest.MonkeyPatch.context() as changed:
        # The stand-in speaks the protocol of large files, not that of hf_xet.
        changed.setattr(constants, "HF_HUB_DISABLE_XET", True)
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        return publish(paths, Settings(out=out, **settings), api=api)


def dry_run(paths: list[Path], out: Path, **settings: Any) -> Json:
    """Build the tree and send nothing."""
    return publish(paths, Settings(out=out, dry_run=True, **settings))


def states(report: Json) -> dict[str, dict[str, str]]:
    """Repository → revision → state, out of a report."""
    return {
        repository["repository"]: {
            each["revision"]: each["state"] for each in repository["revisions"]
        }
        for repository in report["repositories"]
    }


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Name → content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
