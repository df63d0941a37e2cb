"""Windows of documents, the context of a model, and errors of means over groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.text.windows import context_length, windows
from ettin.evaluation.token_probabilities import ratio_error


@given(some.integers(0, 300), some.integers(1, 50), some.integers(1, 50))
def test_windows_ask_for_every_token_once_with_context_before_it(tokens, size, stride):
    stride = min(size, stride)
    found = windows(tokens, size=size, stride=stride)
    asked = [place for each in found for place in range(each.asked, each.end)]
    assert asked == list(range(tokens))
    assert all(each.end - each.begin <= size for each in found)
    assert all(each.asked - each.begin >= size - stride for each in found[1:])


def test_a_short_document_is_one_window_whatever_the_stride():
    assert windows(20, size=20, stride=3) == windows(20, size=500, stride=500) == [(0, 0, 20)]


def test_context_length_is_that_of_the_model_s_files():
    def of(**config: Any) -> int:
        return context_length(EvaluatedModel("x", Path("x"), "x", None, config))

    assert of(max_position_embeddings=512) == 512
    assert of(n_positions=1024) == 1024
    assert of(model_type="roberta", max_position_embeddings=514, pad_token_id=1) == 512
    assert of(max_position_embeddings=131_072) == 8192
    assert of(model_type="bloom") == 1024


def test_members_of_one_group_count_as_one_when_they_are_equal():
    draw = np.random.default_rng(0)
    values = draw.normal(size=400)
    single = ratio_error(values, np.ones(400))
    assert single == pytest.approx(values.std(ddof=1) / 20)
    assert ratio_error(5 * values, np.full(400, 5.0)) == pytest.approx(single)
    assert ratio_error(np.array([1.0]), np.array([3.0])) is None
