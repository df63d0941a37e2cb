"""Models as lm-eval sees them: decoders as its own class has them, encoders by our scorer."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from ettin.errors import InputError
from ettin.evaluation.lm.likelihood import Decoder, Encoder, decoder_tokenizer, language_model
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.task import Request
from ettin.tokenizer import load_tokenizer
from tests.conftest import made_up_text
from tests.stock_models import save_models
from tests.tolerances import SCORE

REQUEST = Request(
    data=None, offline=True, limit=None, seed=None, mode="ettin", preset="quick", pooling=None,
    batch_tokens=2048, device="cpu", out=Path("results"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_directory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def asked(kind: str, requests: list[tuple]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=0, metadata=("made_up", number, 1))
        for number, each in enumerate(requests)
    ]


def made_up_requests(count: int) -> list[tuple[str, str]]:
    """Contexts, some empty or ending in spaces, with two continuations each."""
    draw = random.Random(5)
    requests = []
    for number in range(count // 2):
        context = made_up_text(number, words=draw.randint(0, 12)).strip()
        context = "" if number % 6 == 0 else context + draw.choice(["", "", " "])
        requests += [(context, " " + made_up_text(900 + n, words=3).strip()) for n in (number, 7)]
    return requests


def texts_of(count: int, **kwargs) -> list[tuple[str, dict]]:
    prompts = [made_up_text(number, words=6 + number).strip() for number in range(count)]
    return [(prompt, {"until": ["\n", "."], "max_gen_toks": 8, **kwargs}) for prompt in prompts]


def theirs(path: Path, **settings) -> HFLM:
    """lm-eval's class as a person would make it."""
    return HFLM(pretrained=str(path), add_bos_token=True, device="cpu", dtype="float32", **settings)


def test_decoder_scores_equal_those_of_lm_evals_own_class_exactly(folder):
    requests = asked("loglikelihood", made_up_requests(200))
    own = language_model(open_model(str(folder / "decoder")), replace(REQUEST, batch_tokens=1))
    assert isinstance(own, Decoder)
    found = own.loglikelihood(requests)
    assert found == theirs(folder / "decoder", batch_size=1).loglikelihood(
        requests, disable_tqdm=True
    )
    assert len({round(score, 3) for score, _ in found}) > 150
    assert {type(is_greedy) for _, is_greedy in found} == {bool}


def test_decoder_scores_do_not_depend_on_the_batch(folder):
    requests = asked("loglikelihood", made_up_requests(60))
    model = open_model(str(folder / "decoder"))
    found = [
        [
            score
            for score, _ in language_model(
                model, replace(REQUEST, batch_tokens=batch_tokens)
            ).loglikelihood(requests)
        ]
        for batch_tokens in (1, 400, 100_000)
    ]
    assert found[1] == pytest.approx(found[0], abs=SCORE)
    assert found[2] == pytest.approx(found[0], abs=SCORE)


def test_decoder_continuations_equal_those_of_lm_evals_own_class(folder):
    requests = asked("generate_until", texts_of(9))
    own = language_model(open_model(str(folder / "decoder")), replace(REQUEST, batch_tokens=1))
    expected = theirs(folder / "decoder", batch_size=1).generate_until(requests, disable_tqdm=True)
    assert own.generate_until(requests) == expected
    assert len(set(expected)) > 4


def test_a_decoder_whose_tokenizer_appends_sep_is_told_and_repaired(
    folder, tokenizer_directory, tmp_path, told
):
    wrong = tmp_path / "wrong"
    shutil.copytree(folder / "decoder", wrong)
    load_tokenizer(tokenizer_directory).save(wrong, closing=True)
    model = open_model(str(wrong))
    special = model.load_tokenizer().encode("ba")
    assert (special[0], special[-1]) == (0, 1), "the export should be wrong"
    assert decoder_tokenizer(model).encode("ba") == special[:-1]
    assert "appends [SEP]" in told.text
    requests = asked("loglikelihood", made_up_requests(20))
    right = language_model(open_model(str(folder / "decoder")), REQUEST).loglikelihood(requests)
    assert language_model(model, REQUEST).loglikelihood(requests) == right


def test_a_decoder_whose_tokenizer_adds_nothing_gets_bos_and_none_twice(folder, tmp_path, told):
    bare = tmp_path / "bare"
    shutil.copytree(folder / "decoder", bare)
    written = json.loads((bare / "tokenizer.json").read_text())
    written["post_processor"] = None
    (bare / "tokenizer.json").write_text(json.dumps(written))
    model = open_model(str(bare))
    plain = model.load_tokenizer().encode("badi")
    assert plain[0] != 0, "the export should add nothing"
    assert decoder_tokenizer(model).encode("badi") == [0, *plain]
    assert told.text == ""
    requests = asked("loglikelihood", made_up_requests(20))
    right = language_model(open_model(str(folder / "decoder")), REQUEST).loglikelihood(requests)
    assert language_model(model, REQUEST).loglikelihood(requests) == right


def test_encoder_scores_equal_a_reading_of_the_texts_by_hand(folder):
    model = open_model(str(folder / "encoder"))
    tokenizer, loaded = model.load_tokenizer(), model.load_language_model()
    requests = made_up_requests(24)
    encoder = language_model(model, REQUEST)
    assert isinstance(encoder, Encoder)
    assert any(context == "" for context, _ in requests)
    assert any(context.endswith(" ") for context, _ in requests)
    found = encoder.loglikelihood(asked("loglikelihood", requests))
    for (score, _), (context, continuation) in zip(found, requests, strict=True):
        stripped = context.rstrip()
        # The context with its special tokens, less the [SEP]; then the [SEP] is scored at the end.
        before = tokenizer.encode(stripped)[:-1]
        tokens = tokenizer.encode(context[len(stripped) :] + continuation, add_special_tokens=False)
        total = 0.0
        for token in [*tokens, 1]:
            row = torch.tensor([[*before, 3, 3, 3, 1]])
            with torch.no_grad():
                total += loaded(input_ids=row).logits[0, -4].log_softmax(-1)[token].item()
            before.append(token)
        assert score == pytest.approx(total, abs=SCORE)


def shifted(folder: Path, out: Path) -> EvaluatedModel:
    """The encoder as an `mntp` export: what it says of itself decides where answers are read."""
    shutil.copytree(folder / "encoder", out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "ettin": {"objective": "mntp"}}))
    return open_model(str(out))


def test_an_mntp_encoder_is_read_one_position_earlier(folder, tmp_path):
    model = shifted(folder, tmp_path / "mntp")
    (found,) = language_model(model, REQUEST).loglikelihood(
        asked("loglikelihood", [("badi gofu", " le")])
    )
    tokenizer, loaded = model.load_tokenizer(), model.load_language_model()
    before = tokenizer.encode("badi gofu")[:-1]
    total = 0.0
    for token in [*tokenizer.encode(" le", add_special_tokens=False), 1]:
        with torch.no_grad():
            logits = loaded(input_ids=torch.tensor([[*before, 3, 3, 3, 1]])).logits[0, -5]
        total += logits.log_softmax(-1)[token].item()
        before.append(token)
    assert found[0] == pytest.approx(total, abs=SCORE)


def test_words_are_the_tokenizers_own(folder):
    model = open_model(str(folder / "encoder"))
    encoder = language_model(model, replace(REQUEST, mode="pll_within_word"))
    assert isinstance(encoder, Encoder)
    pair = encoder._pair("badi", " gofulezipa, zu")
    pieces = model.load_tokenizer().convert_ids_to_tokens(list(pair.continuation))
    assert len(pair.words) == len(pieces)
    assert len(pieces) > 3, "the long word should be several tokens"
    comma = pieces.index(",")
    assert len(set(pair.words[:comma])) == 1
    assert len({pair.words[0], pair.words[comma], pair.words[comma + 1]}) == 3


def test_encoder_continuations_end_before_their_stop_strings(folder):
    encoder = language_model(open_model(str(folder / "encoder")), REQUEST)
    free = encoder.generate_until(asked("generate_until", texts_of(6, until=[])))
    assert all(free)
    letter = free[0][2]
    found = encoder.generate_until(
        asked("generate_until", [*texts_of(6, until=[letter]), *texts_of(1, until=[])])
    )
    assert found[:6] == [text.split(letter)[0] for text in free]
    assert found[6] == free[0]


def test_what_encoders_cannot_do_is_refused(folder):
    encoder = language_model(open_model(str(folder / "encoder")), REQUEST)
    with pytest.raises(InputError, match="text/perplexity"):
        encoder.loglikelihood_rolling(asked("loglikelihood_rolling", [("a text",)]))
    with pytest.raises(InputError, match="greedily"):
        encoder.generate_until(asked("generate_until", texts_of(2, do_sample=True, temperature=1)))


def test_an_encoder_without_a_mask_token_is_refused(folder, tmp_path):
    maskless = tmp_path / "maskless"
    shutil.copytree(folder / "encoder", maskless)
    config = json.loads((maskless / "tokenizer_config.json").read_text())
    del config["mask_token"]
    (maskless / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="maskless has no mask token"):
        language_model(open_model(str(maskless)), REQUEST)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_progress_reaches_the_end(kind, folder):
    shares: list[float] = []
    request = replace(REQUEST, advance=lambda share, _note: shares.append(share))
    language_model(open_model(str(folder / kind)), request).loglikelihood(
        asked("loglikelihood", made_up_requests(40))
    )
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert len(shares) > 1
