"""Tokens of prompts, and ind(tau), the positions of the prompt's words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from profi.types import UserError


def encode(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids [B, L], SOT ... EOT and padding, L the tokenizer's model_max_length.

    An empty prompt is the unconditional one. Raises UserError for a prompt that is too long;
    prompts are never cut off.
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
    """ind(tau) [B, L] bool of prompts that guide the painting.

    True at the prompt's words and the first EOT. False at the SOT and the padding (CLIP's padding
    may be EOTs too). With a `positive` suffix the encoded text is "prompt, positive", and ind(tau)
    has the words of the prompt alone and the first EOT of the full text. Raises UserError for an
    empty prompt (there are no words to guide by) and for one that is too long.
    """
    for i, prompt in enumerate(prompts):
        if not prompt.strip():
            raise UserError(f"prompt {i} is empty; say what to paint, or use the ablation base")
    input_ids = encode(tokenizer, [with_suffix(prompt, positive) for prompt in prompts])
    is_eot = input_ids == tokenizer.eos_token_id
    # Not position 0: a tokenizer may use the same token for start and end.
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
    """ "prompt, positive"; without a suffix the prompt alone."""
    return f"{prompt}, {positive}" if positive else prompt
