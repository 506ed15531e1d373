"""The protocol of image-text encoders, and CLIP models of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from transformers import CLIPModel, CLIPTokenizer

from profi.metrics.base import explained, preprocessor_config, weights_digest
from profi.metrics.preprocess import Preprocessing, square_image, whole_image
from profi.settings.evaluation import AestheticCrop, ClipResizing
from profi.types import UserError, digest


class ImageTextEncoder(Protocol):
    """Embeds images and texts in one space; an embedding does not depend on others in the call."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that changes the embeddings, as JSON values."""
        ...

    def embed_squares(
        self, images: Sequence[np.ndarray], resizing: ClipResizing = "antialiased"
    ) -> torch.Tensor:
        """Square pictures (uint8 [S, S, 3], RGB), resized bicubically: [N, D] on the CPU."""
        ...

    def embed_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, D] on the CPU."""
        ...


class ClipEncoder:
    """Embeds images and texts with a `CLIPModel`; float32, no gradients.

    Embeddings are projected and *not* normalised; scores normalise them if they need to.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        preprocessing: Preprocessing,
        *,
        batch_size: int = 32,
    ) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._texts: dict[str, torch.Tensor] = {}
        self.preprocessing = preprocessing

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        key: str,
        *,
        processor: str | None = None,
        processor_key: str = "",
        device: str = "cpu",
        batch_size: int = 32,
    ) -> ClipEncoder:
        """Load a CLIP model with its tokenizer and preprocessor.

        Args:
            path: a folder or a Hub id, such as `openai/clip-vit-base-patch16`.
            key: the config key of `path`, for error messages (`metric.clip.path`).
            processor: folder or Hub id of tokenizer and preprocessor; None: those of the model.
            processor_key: the config key of `processor`.
            device: a torch device.
            batch_size: images per forward pass.

        Raises:
            UserError: the model is unreachable, incomplete or not a CLIP model.
        """
        what = "CLIP model"
        source, source_key = (path, key) if processor is None else (processor, processor_key)
        config = {"resample": 3, **preprocessor_config(source, what, source_key)}
        with explained(what, source, source_key):
            preprocessing = Preprocessing.from_config(config)
            tokenizer = CLIPTokenizer.from_pretrained(source)
        with explained(what, path, key):
            model: Any = CLIPModel.from_pretrained(path, dtype=torch.float32, weights_only=True)
        # Offline, transformers makes a tokenizer of only two special tokens and raises no error.
        if len(tokenizer) <= 2 or len(tokenizer) > model.config.text_config.vocab_size:
            raise UserError(
                f"CLIP model '{source}' has no usable tokenizer ({len(tokenizer)} tokens for "
                f"{model.config.text_config.vocab_size} embeddings): add vocab.json and "
                f"merges.txt or give a complete local folder with {source_key}=<folder>"
            )
        return cls(model.to(device), tokenizer, preprocessing, batch_size=batch_size)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Hashes of the weights, the structure, the vocabulary and the preprocessing."""
        config = self._model.config
        # These change the embeddings but no weight; the activation is a common mistake.
        used = ("hidden_act", "num_attention_heads", "layer_norm_eps")
        return {
            "weights": weights_digest(self._model),
            "structure": digest(
                [
                    [getattr(part, name) for name in used]
                    for part in (config.text_config, config.vision_config)
                ]
            ),
            "vocabulary": digest(self._tokenizer.get_vocab()),
            "preprocessing": digest(vars(self.preprocessing)),
        }

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding."""
        return int(self._model.config.projection_dim)

    @property
    def logit_scale(self) -> float:
        """exp(logit_scale), the factor of the model's cosines."""
        return float(self._model.logit_scale.exp())

    def embed_squares(
        self, images: Sequence[np.ndarray], resizing: ClipResizing = "antialiased"
    ) -> torch.Tensor:
        """Square pictures (uint8 [S, S, 3], RGB), resized bicubically: [N, D] on the CPU."""
        return self._embed([square_image(i, self.preprocessing, resizing) for i in images])

    def embed_whole(
        self, images: Sequence[np.ndarray], crop: AestheticCrop = "floored"
    ) -> torch.Tensor:
        """Images (uint8 [H, W, 3], RGB) with CLIP's own resize and crop: [N, D] on the CPU.

        `crop`: how the crop's offset is rounded.
        """
        return self._embed([whole_image(image, self.preprocessing, crop) for image in images])

    def embed_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompts, cut at the model's context length: [N, D] on the CPU; cached."""
        # One at a time: the last bits depend on the batch. With a cache the batch would depend on
        # earlier calls, and so on restarts and shards.
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._texts:
                (self._texts[prompt],) = self._forward_texts([prompt])
        if not prompts:
            return torch.empty(0, self.embedding_dim)
        return torch.stack([self._texts[prompt] for prompt in prompts])

    @torch.inference_mode()
    def _forward_texts(self, prompts: list[str]) -> torch.Tensor:
        # A fixed length, so an embedding does not depend on other prompts' lengths.
        tokens = self._tokenizer(
            prompts,
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._model.device)
        pooled = self._model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return self._model.text_projection(pooled).cpu()

    @torch.inference_mode()
    def _embed(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        # Not get_image_features: it returns a tensor in transformers 4 and an object in 5.
        parts = [torch.empty(0, self.embedding_dim)]
        for start in range(0, len(tensors), self._batch_size):
            pixels = torch.stack(tensors[start : start + self._batch_size])
            pooled = self._model.vision_model(
                pixel_values=pixels.to(self._model.device)
            ).pooler_output
            parts.append(self._model.visual_projection(pooled).cpu())
        return torch.cat(parts)
