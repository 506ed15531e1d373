from __future__ import annotations

import pytest
from transformers import CLIPTokenizer

from profi.models.backbone import Backbone
from profi.models.tokens import encode, word_tokens
from profi.types import UserError


@pytest.fixture
def tokenizer(backbone: Backbone) -> CLIPTokenizer:
    return backbone.text.first.tokenizer


def test_words_and_first_eot_without_sot_and_padding(tokenizer: CLIPTokenizer) -> None:
    # One token per letter: "cat" is SOT c a t EOT, then padding made of EOTs.
    prompts = ["cat", "a dog"]
    input_ids, words = encode(tokenizer, prompts), word_tokens(tokenizer, prompts)
    assert input_ids.shape == words.shape == (2, 24)
    assert words[0].nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert words[1].nonzero().flatten().tolist() == [1, 2, 3, 4, 5]
    assert input_ids[0, 4] == input_ids[0, 5] == tokenizer.eos_token_id
    assert input_ids[0, 0] == tokenizer.bos_token_id


def test_a_suffix_adds_no_words_but_moves_the_eot(tokenizer: CLIPTokenizer) -> None:
    words = word_tokens(tokenizer, ["cat"], positive="full")
    # SOT c a t , f u l l EOT
    assert words[0].nonzero().flatten().tolist() == [1, 2, 3, 9]


def test_the_longest_prompt_fits_and_one_more_token_does_not(tokenizer: CLIPTokenizer) -> None:
    longest = word_tokens(tokenizer, ["a" * 22])
    assert longest[0].tolist() == [False] + [True] * 23
    with pytest.raises(UserError, match=r"'a{23}' has 25 tokens .* takes 24"):
        word_tokens(tokenizer, ["a" * 23])


def test_empty_prompts(tokenizer: CLIPTokenizer) -> None:
    for prompt in ("", "   "):
        with pytest.raises(UserError, match="prompt 1 is empty"):
            word_tokens(tokenizer, ["cat", prompt])
    eos = tokenizer.eos_token_id
    assert encode(tokenizer, [""])[0].tolist()[1:] == [eos] * 23
