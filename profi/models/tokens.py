"""Prompts as tokens, and ind(tau): which of them are the prompt's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from profi.types import UserError


def encode(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids [B, L], SOT ... EOT and padding, L the tokenizer's model_max_length.

    An empty prompt is the unconditional one. Raises UserError for a prompt that does not fit:
    nothing is ever cut off silently.
    """
    limit = tokenizer.model_max_length
    for prompt in prompts:
        length = len(tokenizer(prompt, verbose=False).input_ids)
        if length > limit:
            raise UserError(
                f"the prompt {prompt!r} has {length} tokens (with start and end) and the model "
                f"takes {limit}; shorten it"
            )
    encoded = tokenizer(list(prompts), padding="max_length", max_length=limit, return_tensors="pt")
    input_ids: Tensor = encoded.input_ids
    return input_ids


def word_tokens(tokenizer: CLIPTokenizer, prompts: Sequence[str], positive: str = "") -> Tensor:
    """ind(tau) [B, L] bool of prompts that guide the painting: which of their tokens are theirs.

    True at the prompt's words and the first EOT; False at the SOT and the padding (also where, as
    in CLIP, the padding is made of EOTs). With a `positive` suffix the encoded text is "prompt,
    positive", and ind(tau) the words of the bare prompt plus the first EOT of the full one.
    Raises UserError for an empty prompt (there is nothing to be faithful to) and for one that
    does not fit.
    """
    for i, prompt in enumerate(prompts):
        if not prompt.strip():
            raise UserError(f"prompt {i} is empty; say what to paint, or use the ablation base")
    input_ids = encode(tokenizer, [with_suffix(prompt, positive) for prompt in prompts])
    is_eot = input_ids == tokenizer.eos_token_id
    # Not position 0: a tokenizer may use one token for start and end.
    is_eot[:, 0] = False
    first_eot = is_eot.int().argmax(dim=1)
    positions = torch.arange(input_ids.shape[1])[None]
    lengths = [
        len(tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids)
        for prompt in prompts
    ]
    last_word = torch.minimum(torch.tensor(lengths), first_eot)[:, None]
    words = (positions >= 1) & (positions <= last_word)
    words |= positions == first_eot[:, None]
    return words


def with_suffix(prompt: str, positive: str) -> str:
    """ "prompt, positive"; the prompt alone when there is no suffix."""
    return f"{prompt}, {positive}" if positive else prompt
