"""Checkpoint → Hugging Face directory, and either class to the other, each with a proof.

An export holds what stock `transformers` needs and `parity.json`: the largest difference of fp32
logits between our model and the exported one, on held-out rows longer than the attention window.
Above the tolerance there is no export.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ettin import files
from ettin.console import log
from ettin.errors import InputError
from ettin.files import Json
from ettin.huggingface import (
    convert_config,
    kind_of_config,
    make_config,
    reach_of,
    to_decoder,
    to_encoder,
)
from ettin.identity import identity
from ettin.model.transformer import Transformer
from ettin.model_card import write_card
from ettin.recipe import Objective, visibility_of
from ettin.recipe_file import load_recipe
from ettin.records import Kind, kind_of_objective
from ettin.shape import Shape
from ettin.tokenizer import Tokenizer, load_tokenizer
from ettin.training import run_directory
from ettin.training.checkpoint import Checkpoint, load_weights
from ettin.training.pretrained import ettin_of, read_model
from ettin.training.start import locate

TOLERANCE = 1e-4
"""Largest difference of fp32 logits that an export may show."""

_OF_START = ("where", "tag", "objective", "tokens")
"""What an export says of the model that its run started from."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ExportSummary:
    """What an export says of itself.

    Attributes:
        export: its directory.
        parity: largest absolute difference of fp32 logits.
    """

    export: Path
    parity: float


def export(
    where: str, *, out: Path, objective: Objective | None, dtype: str, command: list[str]
) -> ExportSummary:
    """Export a checkpoint, or convert a Hugging Face directory to the other class.

    Args:
        where: a run (its last checkpoint), `RUN@TAG`, a checkpoint, a directory or hub id of a
            ModernBERT or ModernBertDecoder; see `training.start`.
        out: the new directory.
        objective: for a directory, what to turn it into; for a checkpoint it must be its own.
        dtype: type of the stored weights, `float32` or `bfloat16`; parity is measured in fp32.
        command: the command line, for the manifest.

    Raises:
        InputError: nothing of the kind is there, or `out` is occupied.
        RuntimeError: the exported model differs from its source by more than `TOLERANCE`.
    """
    out = out.absolute()
    if dtype not in _DTYPES:
        raise InputError(f"--dtype {dtype}: expected one of {', '.join(_DTYPES)}")
    found = locate(where)
    made_from = _made_from(found)
    if files.is_finished(out):
        manifest = files.read_manifest(out, "export")
        if manifest["made_from"] == made_from and manifest["facts"]["dtype"] == dtype:
            log.info("%s is exported already; nothing to do", out)
            return ExportSummary(out, manifest["facts"]["parity"])
    with files.staging(out) as partial:
        if isinstance(found, Checkpoint):
            facts = _export(found, partial, objective=objective, dtype=dtype)
        else:
            facts = _convert(found, partial, objective=objective, dtype=dtype)
        write_card(partial, name=out.name, command=command)
        files.write_manifest(
            partial,
            "export",
            command=command,
            made_from=made_from,
            facts={**facts, "dtype": dtype},
        )
    log.info("largest difference of logits: %.1e (allowed %.0e)", facts["parity"], TOLERANCE)
    return ExportSummary(out, facts["parity"])


def _made_from(found: Checkpoint | Path) -> Json:
    """What an export is of: a place and, of a checkpoint, all that lies there."""
    if not isinstance(found, Checkpoint):
        return {"source": str(found)}
    return {"source": str(found.path.absolute()), "checkpoint": identity(found.path)}


def load_pretrained(directory: Path, kind: Kind) -> Any:
    """The stock `transformers` model of a directory, fp32, in evaluation mode, no remote code.

    Raises:
        InputError: tensors are missing, left over or of another shape.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    auto = {
        "encoder": transformers.AutoModelForMaskedLM,
        "decoder": transformers.AutoModelForCausalLM,
    }[kind]
    model, report = auto.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    unexpected = {key: sorted(map(str, report[key])) for key in report if report[key]}
    if unexpected:
        raise InputError(f"{directory} does not load cleanly in transformers: {unexpected}")
    return model.eval()


def _export(
    checkpoint: Checkpoint, partial: Path, *, objective: Objective | None, dtype: str
) -> Json:
    """Write a checkpoint of ours as a Hugging Face directory and compare the two."""
    state, run = checkpoint.state, checkpoint.path.parent.parent
    own: Objective = state["objective"]
    if objective not in (None, own):
        raise InputError(
            f"{checkpoint.path} was trained with {own}; export it as it is, then convert the export"
        )
    kind, shape = kind_of_objective(own), Shape(**state["shape"])
    tokenizer = load_tokenizer(run / run_directory.TOKENIZER)
    weights = load_weights(checkpoint)
    described = {
        "objective": own,
        "variant": state.get("variant", "native"),
        "size": state["size"],
        "phase": state["phase"],
        "tag": checkpoint.tag,
        "tokens": state["tokens"],
        "parameters": shape.parameters,
        "seed": load_recipe(run / run_directory.RECIPE).seed,
        "recipe_fingerprint": state["recipe_fingerprint"],
        "ledger_hash": state["ledger_hash"],
    }
    if start := state.get("start"):
        described["start"] = {key: start[key] for key in _OF_START}
    config = make_config(
        kind,
        shape,
        context_length=state["context_length"],
        global_rope_theta=state["global_rope_theta"],
        local_rope_theta=state["local_rope_theta"],
        special=_special(tokenizer),
        ettin=described,
    )
    named = weights if kind == "encoder" else to_decoder(weights)
    _write_model(partial, config=config, weights=named, tokenizer=tokenizer, kind=kind)
    rows = files.read_json(run / run_directory.SAMPLE)["rows"]
    ours = Transformer(
        shape,
        global_rope_theta=state["global_rope_theta"],
        local_rope_theta=state["local_rope_theta"],
    )
    ours.load_state_dict(weights)
    parity = _parity_with_ours(ours.eval(), load_pretrained(partial, kind), rows, objective=own)
    _prove(partial, parity, rows=len(rows), longest=max(map(len, rows)), window=shape.local_reach)
    _store_as(partial, config=config, weights=named, dtype=dtype)
    return {"kind": kind, "parity": parity, "ettin": described}


def _convert(directory: Path, partial: Path, *, objective: Objective | None, dtype: str) -> Json:
    """Write a Hugging Face directory as the class for `objective`, and compare the two."""
    config, weights = read_model(directory)
    source_kind = kind_of_config(config)
    source_model = load_pretrained(directory, source_kind)
    target: Objective = objective or ("clm" if source_kind == "encoder" else "mlm")
    kind = kind_of_objective(target)
    if kind == source_kind:
        raise InputError(f"{directory} is an {kind} already; --objective {target} changes nothing")
    described = {**ettin_of(config), "converted_from": source_kind}
    converted = {**convert_config(config), "ettin": described, "dtype": "float32"}
    tokenizer = load_tokenizer(directory)
    named = to_decoder(weights) if kind == "decoder" else to_encoder(weights)
    _write_model(partial, config=converted, weights=named, tokenizer=tokenizer, kind=kind)
    reach = reach_of(config)
    tokens = torch.from_numpy(tokenizer.ordinary_ids[: 3 * (reach + 1)].copy())[None]
    parity = _parity_under_masks(source_model, load_pretrained(partial, kind), tokens, reach=reach)
    _prove(partial, parity, rows=1, longest=tokens.shape[1], window=reach)
    _store_as(partial, config=converted, weights=named, dtype=dtype)
    return {"kind": kind, "parity": parity, "ettin": described}


def _special(tokenizer: Tokenizer) -> dict[str, int]:
    special = tokenizer.special
    return {"bos": special.bos, "eos": special.eos, "pad": special.pad, "mask": special.mask}


def _write_model(
    partial: Path, *, config: Json, weights: dict[str, Tensor], tokenizer: Tokenizer, kind: Kind
) -> None:
    """Everything `transformers` loads; encoders close their input with EOS, decoders do not."""
    tokenizer.save(partial, closing=kind == "encoder")
    files.write_json(partial / "config.json", config)
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    if kind == "decoder":
        ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        files.write_json(partial / "generation_config.json", ids)


@torch.no_grad()
def _parity_with_ours(
    ours: Transformer, theirs: torch.nn.Module, rows: list[list[int]], *, objective: Objective
) -> float:
    """Largest difference of fp32 logits over all positions of all rows, one row at a time."""
    largest = 0.0
    for row in rows:
        tokens = torch.tensor(row)
        boundaries = torch.tensor([0, len(row)], dtype=torch.int32)
        hidden = ours(tokens, boundaries, visibility=visibility_of(objective))
        difference = ours.logits(hidden) - theirs(input_ids=tokens[None]).logits[0]
        largest = max(largest, difference.abs().max().item())
    return largest


@torch.no_grad()
def _parity_under_masks(
    source: torch.nn.Module, target: torch.nn.Module, tokens: Tensor, *, reach: int
) -> float:
    """Largest difference of logits when both classes get the same masks, causal and not."""
    places = torch.arange(tokens.shape[1])
    distance = places[:, None] - places[None, :]
    largest = 0.0
    for full in (torch.ones_like(distance, dtype=torch.bool), distance >= 0):
        near = full & (distance.abs() <= reach)
        masks = {
            name: torch.zeros(distance.shape).masked_fill(~seen, -torch.inf)[None, None]
            for name, seen in (("full_attention", full), ("sliding_attention", near))
        }
        logits = [
            model(input_ids=tokens, attention_mask=masks).logits for model in (source, target)
        ]
        largest = max(largest, (logits[0] - logits[1]).abs().max().item())
    return largest


def _prove(partial: Path, parity: float, *, rows: int, longest: int, window: int) -> None:
    """Write `parity.json`, or refuse to export."""
    if not parity <= TOLERANCE:
        raise RuntimeError(
            f"the exported model differs from its source: logits by {parity:.1e}, allowed "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    if longest <= window + 1:
        log.warning("no row is longer than the window of %d: the window is not proved", window + 1)
    proof = {
        "largest_logit_difference": parity,
        "tolerance": TOLERANCE,
        "rows": rows,
        "longest_row_tokens": longest,
        "local_reach": window,
        "dtype": "float32",
    }
    files.write_json(partial / "parity.json", proof)


def _store_as(partial: Path, *, config: Json, weights: dict[str, Tensor], dtype: str) -> None:
    """Store the weights in another type, once they are proved."""
    if dtype == "float32":
        return
    cast = {name: tensor.to(_DTYPES[dtype]) for name, tensor in weights.items()}
    save_file(cast, partial / "model.safetensors", metadata={"format": "pt"})
    files.write_json(partial / "config.json", {**config, "dtype": dtype})
