"""A job: commands that turn finished directories into another one.

    Job(name="export-encoder-nano", kind="export",
        commands=(("ettin", "export", "/out/runs/encoder-nano", "--out", "/out/exports/…"),),
        output=Path("/out/exports/encoder-nano"), inputs=(Path("/out/runs/encoder-nano"),))

What a job has done is a directory with a manifest, as of every stage. Its commands may be typed by
hand: each skips what is finished and goes on with what was interrupted.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ettin.files import MANIFEST, Json, fingerprint

Kind = Literal["tokenizer", "prepare", "train", "export", "evaluate", "report"]


@dataclass(frozen=True)
class Job:
    """One job of a suite.

    Attributes:
        name: unique in its suite, and safe as the name of a file.
        kind: what it does.
        commands: the words of each command, run one after another until one fails.
        output: the directory that it finishes; absolute.
        inputs: directories that must be finished before, of other jobs or from elsewhere; absolute.
        scratch: directories of its own that are removed once it has finished; absolute.
        reads: identifies what the commands read that neither their words nor the inputs tell, such
            as the resolved recipe.
        tokens: nominal tokens that it trains on; 0 for all but training, like the next three.
        steps: optimiser steps.
        checkpoints: tags, in order; the untrained model is not counted.
        flops: floating-point operations.
        seconds: how long it may take; None where no throughput is stated or measured.
        memory_bytes: of one device; None where it is not estimated.
        disk_bytes: of its output; 0 where it is not estimated.
        sources: phase → source → `rows`, `tokens`, `epochs` that it reads; none where the corpus
            is not prepared yet.
    """

    name: str
    kind: Kind
    commands: tuple[tuple[str, ...], ...]
    output: Path
    inputs: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()
    reads: str = ""
    tokens: int = 0
    steps: int = 0
    checkpoints: tuple[str, ...] = ()
    flops: float = 0.0
    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int = 0
    sources: Json = field(default_factory=dict)

    @property
    def command(self) -> str:
        """All of it as one line for a shell."""
        lines = [shlex.join(words) for words in self.commands]
        lines += [f"rm -r {shlex.quote(str(path))}" for path in self.scratch]
        return " && ".join(lines)

    def fingerprint(self, out: Path) -> str:
        """Identifies what the job does, wherever the suite's directory lies.

        Args:
            out: the suite's directory.
        """
        here = re.compile(rf"(^|[=,]){re.escape(str(out))}(?=/|$)")
        words = [[here.sub(r"\1", word) for word in command] for command in self.commands]
        return fingerprint([self.kind, words, self.reads])

    def facts(self) -> Json:
        """What `suite plan --json` says of it; paths are absolute."""
        return {
            "name": self.name,
            "kind": self.kind,
            "command": self.command,
            "inputs": [str(path / MANIFEST) for path in self.inputs],
            "outputs": [str(self.output / MANIFEST)],
            "tokens": self.tokens,
            "steps": self.steps,
            "checkpoints": list(self.checkpoints),
            "flops": self.flops,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "sources": self.sources,
        }
