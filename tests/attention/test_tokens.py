from __future__ import annotations

import pytest

from profi.attention.tokens import encode, word_tokens
from profi.inpainters.backbone import Backbone
from profi.types import UserError


def test_words_and_first_eot_without_sot_and_padding(backbone: Backbone) -> None:
    # One token per letter: "cat" is SOT c a t EOT, then padding made of EOTs.
    tokens = word_tokens(backbone.tokenizer, ["cat", "a dog"])
    assert tokens.input_ids.shape == tokens.words.shape == (2, 24)
    assert tokens.words[0].nonzero().flatten().tolist() == [1, 2, 3, 4]
    assert tokens.words[1].nonzero().flatten().tolist() == [1, 2, 3, 4, 5]
    assert tokens.input_ids[0, 4] == tokens.input_ids[0, 5] == backbone.tokenizer.eos_token_id
    assert tokens.input_ids[0, 0] == backbone.tokenizer.bos_token_id


def test_a_suffix_adds_no_words_but_moves_the_eot(backbone: Backbone) -> None:
    tokens = word_tokens(backbone.tokenizer, ["cat"], positive="full")
    # SOT c a t , f u l l EOT
    assert tokens.words[0].nonzero().flatten().tolist() == [1, 2, 3, 9]


def test_the_longest_prompt_fits_and_one_more_token_does_not(backbone: Backbone) -> None:
    longest = word_tokens(backbone.tokenizer, ["a" * 22])
    assert longest.words[0].tolist() == [False] + [True] * 23
    with pytest.raises(UserError, match=r"'a{23}' has 25 tokens .* takes 24"):
        word_tokens(backbone.tokenizer, ["a" * 23])


def test_empty_prompts(backbone: Backbone) -> None:
    for prompt in ("", "   "):
        with pytest.raises(UserError, match="prompt 1 is empty"):
            word_tokens(backbone.tokenizer, ["cat", prompt])
    eos = backbone.tokenizer.eos_token_id
    assert encode(backbone.tokenizer, [""])[0].tolist()[1:] == [eos] * 23
