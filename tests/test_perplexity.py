"""Perplexity of held-out documents: windows, bytes, masks, and what no model could do better."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ettin.data.corpus import Corpus
from ettin.data.prepare import prepare
from ettin.data.reading.sources import Source
from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.quick.data import Document
from ettin.evaluation.task import Measurement, Request
from ettin.evaluation.text import family as perplexity
from ettin.evaluation.text.held_out import TextReader, text_tokenizer
from ettin.evaluation.text.windows import (
    ask_alone,
    ask_everything,
    ask_masked,
    draw_places,
)
from ettin.evaluation.token_probabilities import (
    Surroundings,
    log_probabilities,
    surroundings_of,
)
from ettin.objectives import Vocabulary
from ettin.tokenizer import load_tokenizer
from tests.stock_models import stock
from tests.word_tokenizer import save_word_tokenizer

SCORES = 1e-4
CONTEXT = 48
V = 512
AROUND = Surroundings((0,), (1,), 3)


@pytest.fixture(scope="module")
def models(tokenizer_directory, tmp_path_factory) -> Path:
    """Random models with a short context, and models to whom everything is equally likely."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("encoder", "decoder"):
        model = stock(kind, max_position_embeddings=CONTEXT)
        save(model, folder / kind, tokenizer_directory)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        save(model, folder / f"uniform-{kind}", tokenizer_directory)
    return folder


def save(model: Any, folder: Path, tokenizer_directory: Path) -> None:
    model.save_pretrained(folder)
    load_tokenizer(tokenizer_directory).save(folder, closing="encoder" in folder.name)


def measured(model: EvaluatedModel, corpus: Path, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "data": corpus, "offline": True, "limit": 4, "seed": None, "mode": "ettin",
        "preset": "quick", "pooling": None, "batch_tokens": 2048, "device": "cpu",
        "out": Path("unused"),
    }  # fmt: skip
    request = Request(**{**values, **changes})
    settings = perplexity.settings("perplexity", model, request)
    return perplexity.measure("perplexity", model, request, settings)


@pytest.fixture(scope="module")
def texts(models, corpus_directory) -> list:
    reader = TextReader(
        Corpus.open(corpus_directory), text_tokenizer(open_model(str(models / "encoder")))
    )
    return [reader.read(document) for document in reader.held_out(None)]


# --- decoders


@torch.no_grad()
def test_a_long_document_is_scored_as_token_by_token_in_its_windows(models, texts):
    model = open_model(str(models / "decoder"))
    loaded = model.load_language_model()
    around = surroundings_of(model, model.load_tokenizer())
    text = max(texts[:6], key=lambda text: len(text.tokens))
    ids = text.tokens[:130]
    text = text._replace(tokens=ids)
    size, stride = CONTEXT - 1, 20
    expected = []
    for place in range(len(ids)):
        begin = 0 if place < size else -(-(place + 1 - size) // stride) * stride
        tokens = torch.tensor([[around.begin[0], *ids[begin:place]]])
        expected.append(loaded(tokens).logits[0, -1].log_softmax(-1)[ids[place]].item())
    readings = ask_everything(text, around, size=size, stride=stride)
    assert len(readings) > 3
    for batch_tokens in (1, 10_000):
        found = log_probabilities(loaded, readings, batch_tokens=batch_tokens, device="cpu")
        assert np.abs(np.concatenate(found) - expected).max() < SCORES


@torch.no_grad()
def test_a_short_document_is_scored_as_in_one_pass(models, texts):
    loaded = open_model(str(models / "decoder")).load_language_model()
    text = texts[0]._replace(tokens=texts[0].tokens[:30])
    around = Surroundings((0,), (), None)
    logits = loaded(torch.tensor([[0, *text.tokens]])).logits[0].log_softmax(-1)
    expected = logits[range(30), text.tokens].sum().item()
    for stride in (1, 10, 47):
        readings = ask_everything(text, around, size=47, stride=stride)
        found = log_probabilities(loaded, readings, batch_tokens=512, device="cpu")
        assert np.concatenate(found).sum() == pytest.approx(expected, abs=SCORES)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_model_to_which_all_tokens_are_equal_has_the_vocabulary_s_perplexity(
    kind, models, corpus_directory
):
    found = measured(open_model(str(models / f"uniform-{kind}")), corpus_directory)
    assert found.metrics[found.metric].value == pytest.approx(V)
    per_byte = found.facts["tokens"] * 9 / found.facts["bytes"]
    prefix = "" if kind == "decoder" else "pseudo_"
    assert found.metrics[f"{prefix}bits_per_byte"].value == pytest.approx(per_byte)
    assert found.baselines["uniform"] == V
    assert 1 < found.baselines["unigram"] < V


def test_sums_of_the_sources_combine_to_the_total(models, corpus_directory):
    found = measured(open_model(str(models / "decoder")), corpus_directory, limit=None)
    sources = {sample["source"] for sample in found.samples}
    assert sources == {"prose", "letters"}
    loss, tokens = 0.0, 0
    for source in sources:
        held = sum(sample["tokens"] for sample in found.samples if sample["source"] == source)
        loss += math.log(found.metrics[f"perplexity/{source}"].value) * held
        tokens += held
    assert found.metrics["perplexity"].value == pytest.approx(math.exp(loss / tokens))
    likelihood = sum(sample["perplexity"]["log_likelihood"] for sample in found.samples)
    bits = -likelihood / math.log(2) / sum(sample["bytes"] for sample in found.samples)
    assert found.metrics["bits_per_byte"].value == pytest.approx(bits)


def test_bytes_are_those_of_the_text_whatever_the_tokenizer(
    models, corpus_directory, text_folder, tmp_path
):
    """A tokenizer of words knows few of them and drops spaces; the text is still the same."""
    own = measured(open_model(str(models / "uniform-decoder")), corpus_directory, limit=None)
    text = (text_folder / "prose" / "000.txt").read_text()
    ids = save_word_tokenizer(tmp_path, text.lower().split()[:50], closing=False)
    model = transformers.ModernBertDecoderForCausalLM(
        stock("decoder", vocab_size=len(ids), max_position_embeddings=CONTEXT).config
    )
    model.save_pretrained(tmp_path)
    other = measured(open_model(str(tmp_path)), corpus_directory, limit=None)
    assert (own.facts["tokenizer"], other.facts["tokenizer"]) == ("the corpus's", "its own")
    assert (own.facts["lossless"], other.facts["lossless"]) == (True, False)
    assert other.facts["bytes"] == own.facts["bytes"]
    assert other.facts["tokens"] != own.facts["tokens"]
    assert other.facts["unknown_tokens"] > 0
    sizes = {
        (sample["source"], sample["document"]): (
            text_folder / sample["source"] / sample["document"]
        )
        .stat()
        .st_size
        for sample in own.samples
    }
    found = {(each["source"], each["document"]): each["bytes"] for each in own.samples}
    assert found == sizes


def test_bytes_are_utf_8_and_special_strings_stay_text(models, tokenizer_directory, tmp_path):
    text = "Grüße, [MASK] 語 [SEP]\n"
    (tmp_path / "text").mkdir()
    for number in range(8):
        (tmp_path / "text" / f"{number}.txt").write_text(text * (number + 1), encoding="utf-8")
    source = Source("notes", (tmp_path / "text",))
    out = tmp_path / "corpus"
    prepare([source], tokenizer=tokenizer_directory, out=out, context_lengths=(64,))
    corpus = Corpus.open(out)
    known = [Document("notes", n, corpus.documents("notes").id(n)) for n in range(8)]
    words = tmp_path / "words"
    ids = save_word_tokenizer(words, ["grüße"], closing=False)
    for tokenizer in (load_tokenizer(words), text_tokenizer(open_model(str(models / "decoder")))):
        reader = TextReader(corpus, tokenizer)
        for document in known:
            read = reader.read(document)
            times = int(document.id.removesuffix(".txt")) + 1
            assert read.bytes == times * len(text.encode())
            assert not {ids["[MASK]"], ids["[SEP]"]} & set(read.tokens.tolist())


# --- encoders


def test_masks_are_the_same_for_twins_and_for_every_context(texts):
    special = torch.zeros(V, dtype=torch.bool)
    special[:4] = True
    vocabulary = Vocabulary(3, special, torch.arange(4, V))
    text = max(texts, key=lambda text: len(text.tokens))
    count = len(text.tokens)

    def hidden(size: int, objective: Any) -> tuple[dict[int, int], list[int]]:
        readings = ask_masked(text, AROUND, size=size, objective=objective, vocabulary=vocabulary)
        inputs = np.concatenate([reading.tokens[1:-1] for reading in readings])
        shift = 1 if objective == "mntp" else 0
        asked = {}
        for number, reading in enumerate(readings):
            for position, answer in zip(reading.positions, reading.answers, strict=True):
                asked[number * size + int(position) + shift - 1] = int(answer)
        return asked, inputs.tolist()

    whole, inputs = hidden(count, "mlm")
    assert hidden(64, "mlm") == (whole, inputs) == hidden(100, "mntp")
    assert {place: int(text.tokens[place]) for place in whole} == whole
    assert abs(len(whole) / count - 0.15) < 4 * math.sqrt(0.15 * 0.85 / count)
    assert inputs.count(3) == pytest.approx(0.8 * len(whole), rel=0.15)


@torch.no_grad()
@pytest.mark.parametrize("offset", [0, 1])
def test_pseudo_perplexity_equals_a_loop(models, texts, offset):
    model = open_model(str(models / "encoder"))
    loaded, around = model.load_language_model(), surroundings_of(model, model.load_tokenizer())
    text, size = texts[0]._replace(tokens=texts[0].tokens[:70]), CONTEXT - 2
    places = np.array([0, 1, 45, 46, 69])
    expected = []
    for place in places.tolist():
        window = text.tokens[:46] if place < 46 else text.tokens[46:]
        tokens = [0, *window, 1]
        at = 1 + place % 46
        tokens[at] = 3
        logits = loaded(torch.tensor([tokens])).logits[0, at - offset]
        expected.append(logits.log_softmax(-1)[text.tokens[place]].item())
    readings = ask_alone(text, places, around, size=size, offset=offset)
    found = log_probabilities(loaded, readings, batch_tokens=100, device="cpu")
    assert np.abs(np.concatenate(found) - expected).max() < SCORES


def test_tokens_asked_alone_are_drawn_from_all_documents_together(texts):
    places = draw_places(texts, 300)
    counts = np.array([len(text.tokens) for text in texts])
    assert sum(map(len, places)) == 300
    longest = int(counts.argmax())
    share = counts[longest] / counts.sum()
    assert abs(len(places[longest]) / 300 - share) < 4 * math.sqrt(share * (1 - share) / 300)
    assert sum(map(len, draw_places(texts, 10**9))) == counts.sum()
    assert draw_places([], 10) == []


def test_an_encoder_is_measured_both_ways(models, corpus_directory, texts, monkeypatch):
    monkeypatch.setattr(perplexity, "PSEUDO_TOKENS", 60)
    found = measured(open_model(str(models / "encoder")), corpus_directory)
    assert found.metric == "pseudo_perplexity"
    assert found.facts["asked"]["pseudo_perplexity"] == 60
    assert found.facts["asked"]["masked_loss"] > 60
    assert {"masked_loss", "masked_loss/prose", "pseudo_bits_per_byte"} <= set(found.metrics)
    model = open_model(str(models / "encoder"))
    around = surroundings_of(model, model.load_tokenizer())
    known = {(text.source, text.id): text for text in texts}
    chosen = [known[sample["source"], sample["document"]] for sample in found.samples]
    readings = [
        reading
        for text, places in zip(chosen, draw_places(chosen, 60), strict=True)
        for reading in ask_alone(text, places, around, size=CONTEXT - 2, offset=0)
    ]
    logs = log_probabilities(model.load_language_model(), readings, batch_tokens=2048, device="cpu")
    expected = math.exp(-np.concatenate(logs).mean())
    assert found.metrics["pseudo_perplexity"].value == pytest.approx(expected, rel=SCORES)
    one_by_one = measured(open_model(str(models / "encoder")), corpus_directory, batch_tokens=1)
    for name, score in found.metrics.items():
        assert one_by_one.metrics[name].value == pytest.approx(score.value, rel=SCORES), name


# --- models from elsewhere, and mistakes


@pytest.mark.parametrize("name", ["bert-encoder", "gpt2-decoder"])
def test_older_models_work_with_a_tokenizer_of_their_own(
    name, tokenizer_directory, corpus_directory, tmp_path, monkeypatch
):
    monkeypatch.setattr(perplexity, "PSEUDO_TOKENS", 20)
    torch.manual_seed(0)
    if name == "bert-encoder":
        config = transformers.BertConfig(
            vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=64,
        )  # fmt: skip
        model: Any = transformers.BertForMaskedLM(config)
    else:
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=2, n_positions=64)
        )
    save(model, tmp_path / name, tokenizer_directory)
    found = measured(open_model(str(tmp_path / name)), corpus_directory, limit=2)
    # Random weights of the usual size know nothing, and are nearly even.
    assert found.metrics[found.metric].value == pytest.approx(V, rel=0.1)


def test_what_is_not_there_is_said(models, corpus_directory, tmp_path):
    model = open_model(str(models / "decoder"))
    for data in (None, tmp_path):
        with pytest.raises(InputError, match="--data CORPUS"):
            measured(model, data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'perplexity'"):
        perplexity.prefetch("perplexty", tmp_path)


def test_an_encoder_without_a_mask_token_is_refused(models, corpus_directory, tmp_path):
    for path in (models / "encoder").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["mask_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has no mask token"):
        measured(open_model(str(tmp_path)), corpus_directory)
