"""Cards of what models were trained on: the order of a run, and a corpus."""

from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ettin.files import Json
from ettin.model_words import fenced, plain, table
from ettin.publish.cards import Metadata, licence, link, recipe_text, render
from ettin.publish.found import Corpus
from ettin.publish.models import Model


def order_card(model: Model, *, name: str, of: str | None, metadata: Metadata) -> str:
    """The card of a run's order: what the model saw, step by step.

    Args:
        model: with a run.
        name: the data set.
        of: the model's repository, when it is published too.
        metadata: what the caller states.
    """
    assert model.run is not None
    facts = model.run.facts
    data = _data(
        metadata,
        tags=["ettin", "data-order"],
        configs=[_table("ledger"), _table("metrics")],
    )
    rows = [
        f"| {plain(phase['name'])} | {phase['steps']:,} | {phase['tokens']:,} | "
        f"{phase['context_length']:,} |"
        for phase in facts.get("phases", [])
    ]
    body = [
        f"# {name.partition('/')[2]}",
        f"The order in which the {link(of) if of else model.role} was trained on its data. "
        "Twins have equal ledgers: the hash of a step chains the hash before, its rows and their "
        "tokens.",
        table({
            "steps": facts["steps"], "tokens": facts["tokens"], "seed": model.described["seed"],
            "hash after the last step": facts["ledger_hash"],
            "fingerprint of the corpus": facts["corpus"]["fingerprint"],
        }),
        "\n".join(["| phase | steps | tokens | context |", "|---|--:|--:|--:|", *rows]),
        "- `ledger.jsonl`: a line a step: which rows of the phase's order, how many tokens, the "
        "hash of all until then.\n"
        "- `metrics.jsonl`: a line a step: loss, learning rate, gradient norm, tokens, speed.\n"
        "- `checkpoints.json`: for each tag the step, the tokens of each source and the hash.\n"
        "- `recipe.yaml`: with the corpus and the seed, all that decides the order.",
        "With the corpus at hand, `ettin order show RUN --after TAG` prints the rows and documents "
        "between two checkpoints.",
        fenced(recipe_text(model) or "", "yaml"),
    ]  # fmt: skip
    return render(data, body, DatasetCard)


def corpus_card(corpus: Corpus, *, name: str, metadata: Metadata, with_text: bool) -> str:
    """The card of a corpus: its sources, how much of each, and how it was cut into tokens.

    Args:
        corpus: the corpus.
        name: the data set.
        metadata: what the caller states; licences above all.
        with_text: whether the tokens themselves are published.
    """
    facts = corpus.manifest["facts"]
    tokenizer = facts["tokenizer"]
    rows = [
        f"| {plain(source)} | {told['documents']:,} | {told['tokens']:,} | {told['bytes']:,} | "
        f"{told['held_out_documents']:,} | {_counts(told.get('skipped', {}))} |"
        for source, told in facts["sources"].items()
    ]
    head = [
        "| source | documents | tokens | bytes of text | held out | left out |",
        "|---|--:|--:|--:|--:|---|",
    ]
    holds = (
        "It holds the tokens of every document, and the rows that runs are trained on."
        if with_text
        else "It holds this card, the manifest and the tokenizer; **no text, and no tokens**."
    )
    body = [
        f"# {name.partition('/')[2]}",
        f"A corpus prepared with ettin. {holds}",
        "\n".join([*head, *rows]),
        table({
            "tokenizer": f"{tokenizer['size']:,} entries, {tokenizer['fingerprint']}",
            "bytes a token": f"{float(tokenizer['bytes_per_token']):.3g}",
            "context lengths": ", ".join(map(str, facts["context_lengths"])),
            "packing": facts["packing"],
            "share held out": facts["held_out"],
            "fingerprint": corpus.fingerprint,
        }),
        "Runs name the corpus that they were trained on by this fingerprint.",
        *licence(
            metadata, unless_stated=" What may be done with the text is for its sources to say."
        ),
    ]  # fmt: skip
    return render(_data(metadata, tags=["ettin", "corpus"]), body, DatasetCard)


def _data(metadata: Metadata, **more: Any) -> DatasetCardData:
    """Front matter of a data set; here tags and configurations are keys like any other."""
    stated = {key: value for key, value in metadata.values().items() if value is not None}
    return DatasetCardData(**stated, source_datasets=list(metadata.datasets) or None, **more)


def _table(name: str) -> Json:
    """A file of lines as the hub's viewer shows it."""
    return {"config_name": name, "data_files": f"{name}.jsonl"}


def _counts(counts: Json) -> str:
    return ", ".join(f"{count:,} {plain(str(reason))}" for reason, count in counts.items())
