"""Models as text embedders: how a text becomes one vector, and how that is trained.

The vector is pooled from the hidden states of the last layer: their mean for encoders, the last
one for decoders, unless told otherwise. Texts are tokenized by the model's own tokenizer, with what
it adds, in training as in measuring: an exported decoder's adds its beginning token and nothing
at the end, so its last token is the last of the text. Padding stands on the right.

Training is contrastive: of all documents of a batch, a query is to find its own (cosine
similarity × 20 as logits). Memory stays that of a mini-batch (gradient caching, Gao et al. 2021,
arXiv 2101.06983), so that the batch, which holds the negatives, can be large.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ettin import files
from ettin.console import log
from ettin.errors import InputError, nearest
from ettin.evaluation.libraries import quiet
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import halving
from ettin.files import Json
from ettin.records import file_name

POOLINGS = {"mean": "mean", "last": "lasttoken", "weightedmean": "weightedmean", "cls": "cls"}
"""Our names, by those of sentence-transformers. `weightedmean` weighs a token by its position."""
DEFAULT_POOLING = {"encoder": "mean", "decoder": "last"}
_UNLIMITED = 1_000_000
"""Tokenizers without a longest text state numbers beyond this."""


def pooling_of(model: EvaluatedModel, asked: str | None) -> str:
    """The pooling that was asked for, or the default of the model's kind.

    Raises:
        InputError: there is none of that name, or it would read nothing of the text.
    """
    pooling = DEFAULT_POOLING[model.kind] if asked is None else asked
    if pooling not in POOLINGS:
        raise InputError(f"there is no pooling {pooling!r}; {nearest(pooling, POOLINGS)}")
    if pooling == "cls" and model.kind == "decoder":
        raise InputError(
            f"{model.where} is a decoder, whose first token sees no other: pooling `cls` would "
            "give all texts one vector; choose last, mean or weightedmean"
        )
    return pooling


def longest_text(model: EvaluatedModel) -> int:
    """Tokens of the longest text that a model takes, by its configuration and its tokenizer's."""
    stated = [model.config.get(key) for key in ("max_position_embeddings", "n_positions")]
    tokenizer = model.path / "tokenizer_config.json"
    if tokenizer.is_file():
        stated.append(files.read_json(tokenizer).get("model_max_length"))
    lengths = [int(each) for each in stated if isinstance(each, int) and 0 < each < _UNLIMITED]
    return min(lengths, default=512)


def load(path: Path, *, pooling: str, max_tokens: int, device: str) -> Any:
    """A directory of `transformers` as a `SentenceTransformer` that gives fp32 weights one vector.

    Args:
        path: a model with its tokenizer.
        pooling: one of `POOLINGS`.
        max_tokens: longer texts are cut at the end.
        device: where it computes.
    """
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with quiet():  # or it would list the weights of the head, which embeddings do not need
        body = Transformer(
            str(path),
            model_kwargs={"dtype": torch.float32, "local_files_only": True},
            config_kwargs={"local_files_only": True},
            processor_kwargs={"local_files_only": True, "model_max_length": max_tokens},
        )
    tokenizer = body.tokenizer
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        # What stands behind the text is hidden by the attention mask, whatever it is.
        tokenizer.pad_token = tokenizer.eos_token
    pool = Pooling(body.get_embedding_dimension(), pooling_mode=POOLINGS[pooling])
    model = SentenceTransformer(modules=[body, pool], device=device, similarity_fn_name="cosine")
    return model.eval()


def fine_tuned(
    model: EvaluatedModel,
    training: Json,
    *,
    name: str,
    examples: Callable[[], Any],
    judge: Callable[[Any], float],
    out: Path,
    device: str,
    advance: Callable[[float, str], None],
) -> tuple[Path, Json]:
    """A model trained to embed, made now or found where an earlier task left it.

    It lies in `OUT/finetuned/<model>-<8 hex of its weights>-<name>-<8 hex of the settings>`, so
    that all collections that want the same training share it.

    Args:
        model: what is trained.
        training: everything that the result depends on: `learning_rates`, `batch_rows`,
            `mini_batch_rows`, `epochs`, `steps` (None: all), `max_tokens`, `pooling`, `scale`,
            `warmup`, `seed`, `bf16`, and whatever identifies the examples.
        name: of the training data, for the folder.
        examples: gives a `datasets.Dataset` of anchor, positive and perhaps negative.
        judge: how good a trained model is, on queries that are in no test split and not among
            the examples; decides between several learning rates.
        out: the results directory.
        device: where it computes.
        advance: told the share that is done, and a few words.

    Returns:
        The directory, a model of `transformers` with its tokenizer, and what was found out.
    """
    start = f"{file_name(model.name)}-{model.weights[:8]}"
    identity = files.fingerprint([training, model.surroundings])[:8]
    folder = out / "finetuned" / f"{start}-{name}-{identity}"
    with files.locked(folder):
        if files.is_finished(folder):
            log.info("%s: trained before, in %s", model.where, folder)
            return folder, files.read_manifest(folder, "finetuned")["facts"]["found"]
        with files.staging(folder) as partial:
            found = _sweep(
                model, training, examples=examples(), judge=judge, out=partial, device=device,
                advance=advance,
            )  # fmt: skip
            files.write_manifest(
                partial,
                "finetuned",
                command=[Path(sys.argv[0]).name, *sys.argv[1:]],
                made_from={"model": model.name, "weights": model.weights},
                facts={"training": training, "found": found},
            )
    log.info("%s: trained to embed, in %s", model.where, folder)
    return folder, found


def _sweep(
    model: EvaluatedModel,
    training: Json,
    *,
    examples: Any,
    judge: Callable[[Any], float],
    out: Path,
    device: str,
    advance: Callable[[float, str], None],
) -> Json:
    """Train with every learning rate, and save the best model."""
    rates: list[float] = training["learning_rates"]
    judged: dict[str, float] = {}
    best = None
    for number, rate in enumerate(rates):

        def part(share: float, number: int = number, rate: float = rate) -> None:
            advance((number + share) / len(rates), f"training at {rate:g}")

        trained, steps, mini_batch_rows = _train(
            model, training, rate=rate, examples=examples, device=device, advance=part
        )
        if len(rates) > 1:
            judged[f"{rate:g}"] = judge(trained.eval())
            log.info("%s: %s at learning rate %g", model.where, judged[f"{rate:g}"], rate)
        if best is None or judged[f"{rate:g}"] > judged[f"{best:g}"]:
            best = rate
            trained[0].model.save_pretrained(out)
            trained.tokenizer.save_pretrained(out)
    return {
        "learning_rate": best,
        "held_out_ndcg_at_10": judged,
        "examples": len(examples),
        "steps": steps,
        "mini_batch_rows": mini_batch_rows,
    }


def _train(
    model: EvaluatedModel,
    training: Json,
    *,
    rate: float,
    examples: Any,
    device: str,
    advance: Callable[[float], None],
) -> tuple[Any, int, int]:
    """A trained `SentenceTransformer`, the steps taken, and the mini-batch that fitted."""
    import transformers

    def run(mini_batch_rows: int) -> tuple[Any, int, int]:
        transformers.set_seed(training["seed"])
        embedder = load(
            model.path,
            pooling=training["pooling"],
            max_tokens=training["max_tokens"],
            device=device,
        )
        with tempfile.TemporaryDirectory() as scratch, quiet():
            trainer = _trainer(
                embedder, training, rate=rate, examples=examples, scratch=scratch, device=device,
                mini_batch_rows=mini_batch_rows, advance=advance,
            )  # fmt: skip
            trainer.train()
        return embedder, trainer.state.global_step, mini_batch_rows

    return halving(training["mini_batch_rows"], run)  # type: ignore[no-any-return]


def _trainer(
    embedder: Any,
    training: Json,
    *,
    rate: float,
    examples: Any,
    scratch: str,
    device: str,
    mini_batch_rows: int,
    advance: Callable[[float], None],
) -> Any:
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer import losses
    from transformers import PrinterCallback, TrainerCallback

    class Trainer(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """None: a card would ask the hub about the model and the data."""

    class Advance(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - the parent's
            advance(state.global_step / state.max_steps)

    arguments: Any = SentenceTransformerTrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=training["batch_rows"],
        num_train_epochs=training["epochs"] or 1,
        max_steps=training["steps"] or -1,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=training["warmup"],
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        seed=training["seed"],
        bf16=training["bf16"],
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        # Several devices would be given a part of each batch, and with it fewer negatives.
        arguments._n_gpu = 1
    loss = losses.CachedMultipleNegativesRankingLoss(
        embedder, scale=training["scale"], mini_batch_size=mini_batch_rows
    )
    trainer = Trainer(
        model=embedder, args=arguments, train_dataset=examples, loss=loss, callbacks=[Advance()]
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
