"""The text encoders: from prompts to the UNet's conditioning.

Stable Diffusion 1 and 2 have one text encoder, and its last hidden states are the UNet's context.
SDXL has two (Podell et al. 2023, sec. 2.1 and 2.2). Its context joins their penultimate hidden
states; added conditions are the second encoder's pooled embedding and the picture's size.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from profi.models.tokens import encode, word_tokens
from profi.types import UserError, digest

T = TypeVar("T")


class Memo:
    """The last `capacity` results by key; the least recently used one is dropped first.

    Results are those of whole batches. A batch put together from cached single samples could differ
    by rounding, and a picture would then depend on what was painted before.
    """

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._results: OrderedDict[Hashable, object] = OrderedDict()

    def __call__(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result for `key`, computed if it is not cached."""
        if key not in self._results:
            self._results[key] = compute()
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return cast(T, self._results[key])

    def clear(self) -> None:
        """Drop all results."""
        self._results.clear()


def content(tensor: Tensor) -> Hashable:
    """A key for a tensor's values, shape, dtype and device."""
    flat = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
    digest = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
    return digest, tuple(tensor.shape), str(tensor.dtype), str(tensor.device)


@dataclass(frozen=True)
class Conditioning:
    """The UNet's text inputs for a batch.

    `context` is [B, L, D]. `added` is empty, or SDXL's: `text_embeds` [B, P], the pooled text
    embedding, and `time_ids` [B, 6], see `size_ids`.
    """

    context: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)

    def kwargs(self) -> dict[str, Any]:
        """The UNet's keyword arguments."""
        return {
            "encoder_hidden_states": self.context,
            "added_cond_kwargs": dict(self.added) or None,
        }

    def stacked(self, other: Conditioning) -> Conditioning:
        """This batch followed by another one of the same model, for one UNet run of both."""
        return Conditioning(
            torch.cat([self.context, other.context]),
            {name: torch.cat([value, other.added[name]]) for name, value in self.added.items()},
        )

    def expanded(self, batch: int) -> Conditioning:
        """The conditioning of one sample, repeated for `batch` samples."""
        added = {name: value.expand(batch, -1) for name, value in self.added.items()}
        return Conditioning(self.context.expand(batch, -1, -1), added)

    def to(self, dtype: torch.dtype) -> Conditioning:
        """The context in the UNet's dtype; the UNet casts the added conditions itself."""
        return replace(self, context=self.context.to(dtype))


@dataclass(frozen=True)
class TextTower:
    """A CLIP text encoder and its tokenizer.

    `execution_device` is that of `Backbone`. Raises UserError if the tokenizer does not fit the
    encoder.
    """

    encoder: CLIPTextModel | CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    execution_device: torch.device | None = None

    def __post_init__(self) -> None:
        words, vocabulary = len(self.tokenizer), self.encoder.config.vocab_size
        # A tokenizer whose files are missing loads with only two special tokens.
        if not 2 < words <= vocabulary:
            raise UserError(
                f"the tokenizer knows {words} tokens and the text encoder {vocabulary}; "
                "check the model's tokenizer folder (vocab.json, merges.txt)"
            )

    @property
    def token_limit(self) -> int:
        """The largest number of tokens of a prompt, start and end included."""
        return min(self.tokenizer.model_max_length, self.encoder.config.max_position_embeddings)

    @property
    def tokenizer_digest(self) -> str:
        """One digest of the tokenizer: vocabulary, merges and normalisation."""
        tokenizer: Any = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            # transformers 4 tokenizes in Python; its normalisation is code.
            merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
            return digest({"vocabulary": tokenizer.get_vocab(), "merges": merges})
        state: dict[str, Any] = json.loads(backend.to_str())
        # These two keys belong to the last call.
        return digest({k: v for k, v in state.items() if k not in ("padding", "truncation")})

    def __call__(self, prompts: Sequence[str], hidden_states: bool = False) -> Any:
        """The encoder's output for prompts, optionally with all hidden states."""
        device = self.execution_device or self.encoder.device
        input_ids = encode(self.tokenizer, prompts).to(device)
        return self.encoder(input_ids, output_hidden_states=hidden_states)


@dataclass(frozen=True)
class PromptEncoder:
    """One text encoder, or SDXL's two.

    SDXL's tokenizers share their BPE but not their padding; both get the smaller token limit.
    `zeros_for_empty` is used only with two encoders: without a negative text the unconditional
    embeddings are zeros (SDXL's `force_zeros_for_empty_prompt`, true by default). With one encoder
    they are those of the empty text.
    """

    first: TextTower
    second: TextTower | None = None
    zeros_for_empty: bool = True

    def __post_init__(self) -> None:
        limit = min(tower.token_limit for tower in self.towers)
        for tower in self.towers:
            tower.tokenizer.model_max_length = limit

    @property
    def towers(self) -> tuple[TextTower, ...]:
        """The text encoders, in the order of the context's channels."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def token_limit(self) -> int:
        """L: the largest number of tokens of a prompt, start and end included."""
        return self.first.token_limit

    @property
    def tokenizer_digest(self) -> str:
        """One digest of all tokenizers."""
        digests = [tower.tokenizer_digest for tower in self.towers]
        return digests[0] if len(digests) == 1 else digest(digests)

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Per part, the settings that change the embeddings, without weights and vocabulary."""
        configs = {"text_encoder": self.first.encoder.config.to_dict()}
        if self.second is not None:
            configs["text_encoder_2"] = self.second.encoder.config.to_dict()
            configs["unconditional"] = {"zeros_for_empty": self.zeros_for_empty}
        return configs

    def check_fits(self, unet: UNet2DConditionModel) -> None:
        """Raise UserError unless these encoders give the conditions that the UNet needs."""
        addition = unet.config.addition_embed_type
        if addition not in (None, "text_time"):
            raise UserError(
                f"the UNet has addition_embed_type={addition!r}, which is not supported; "
                "use a model of the structure of SD 1, SD 2 or SDXL"
            )
        if (addition is not None) != (self.second is not None):
            wants = "two text encoders" if self.second is None else "one text encoder"
            raise UserError(
                f"the UNet is conditioned on {wants} and the model has {len(self.towers)}; "
                "use the text encoders that the UNet was trained with"
            )
        width = sum(tower.encoder.config.hidden_size for tower in self.towers)
        expected = unet.config.cross_attention_dim
        dims = expected if isinstance(expected, list | tuple) else [expected]
        if any(dim != width for dim in dims):
            raise UserError(
                f"the UNet reads text embeddings of {expected} channels, the text encoder's have "
                f"{width}; use the text encoders that the UNet was trained with"
            )
        if self.second is not None:
            pooled = self.second.encoder.config.projection_dim
            added = pooled + len(size_ids(0, 0)) * unet.config.addition_time_embed_dim
            expected = unet.add_embedding.linear_1.in_features
            if added != expected:
                raise UserError(
                    f"the UNet reads {expected} numbers of added conditions, not the {added} of "
                    "SDXL's base model (its refiner, which reads an aesthetic score, is not "
                    "supported); use an SDXL inpainting model"
                )

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], size: tuple[int, int]) -> Conditioning:
        """The conditioning of B prompts for pictures of `size` (height, width) in pixels.

        Raises UserError for a prompt that is too long.
        """
        if self.second is None:
            return Conditioning(self.first(prompts).last_hidden_state)
        first, second = (tower(prompts, hidden_states=True) for tower in self.towers)
        context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        time_ids = torch.tensor([size_ids(*size)] * len(prompts), dtype=torch.float32)
        added = {"text_embeds": second.text_embeds, "time_ids": time_ids.to(context.device)}
        return Conditioning(context, added)

    def unconditional(self, negative: str, size: tuple[int, int], batch: int) -> Conditioning:
        """The unconditional branch's conditioning: one negative text (or "") for all."""
        one = self([negative], size)
        if self.second is not None and self.zeros_for_empty and not negative:
            added = {**one.added, "text_embeds": torch.zeros_like(one.added["text_embeds"])}
            one = Conditioning(torch.zeros_like(one.context), added)
        return one.expanded(batch)

    def words(self, prompts: Sequence[str], positive: str = "") -> Tensor:
        """ind(tau) [B, L] bool of the prompts, see `word_tokens`.

        With two tokenizers, a position of the context is a token of both, so both must have the
        words at the same positions. Raises UserError if they do not, and as `word_tokens`.
        """
        words, *others = (word_tokens(t.tokenizer, prompts, positive) for t in self.towers)
        for other in others:
            for prompt, equal in zip(prompts, (words == other).all(dim=1), strict=True):
                if not equal:
                    raise UserError(
                        f"the model's two tokenizers cut the prompt {prompt!r} into different "
                        "numbers of tokens; write it in words, without signs such as '!!'"
                    )
        return words


def size_ids(height: int, width: int) -> tuple[int, int, int, int, int, int]:
    """SDXL's size conditions: original size, top left of the crop and target size.

    The picture is not cropped: both sizes are its own (height, width) in pixels.
    """
    return height, width, 0, 0, height, width
