"""CLIP models of open_clip, which has models that transformers does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from profi.metrics.base import explained, weights_digest
from profi.metrics.preprocess import Preprocessing, square_image
from profi.settings.evaluation import ClipResizing
from profi.types import UserError, digest

#: The prefix of open_clip's models in the config.
OPEN_CLIP = "open_clip:"


class OpenClipEncoder:
    """Embeds pictures and texts with a model of open_clip; float32, no gradients, unnormalised."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        preprocessing: Preprocessing,
        architecture: str,
        *,
        batch_size: int = 32,
    ) -> None:
        self._architecture = architecture
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        self._texts: dict[str, torch.Tensor] = {}

    @classmethod
    def from_name(
        cls, name: str, key: str, *, device: str = "cpu", batch_size: int = 32
    ) -> OpenClipEncoder:
        """Load a model by its name in open_clip.

        Args:
            name: `open_clip:MODEL/WEIGHTS`, such as `open_clip:ViT-H-14/laion2b_s32b_b79k`;
                WEIGHTS is a tag of open_clip's or the path of a `.safetensors` file.
            key: the config key of `name`, for error messages.
            device: a torch device.
            batch_size: images per forward pass.

        Raises:
            UserError: open_clip is not installed, or the model or its weights are not available.
        """
        try:
            import open_clip
        # A torchvision for another torch raises RuntimeError at import.
        except (ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{key}={name} needs open_clip ({reason}): install the extra clip with a "
                "torchvision that fits your torch (`make vision`), or give a model of transformers"
            ) from error
        architecture, slash, weights = name.removeprefix(OPEN_CLIP).partition("/")
        if architecture not in open_clip.list_models() or not (slash and weights):
            raise UserError(
                f"{key}={name}: write {OPEN_CLIP}MODEL/WEIGHTS with a model of "
                "open_clip.list_models(), such as open_clip:ViT-H-14/laion2b_s32b_b79k"
            )
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if weights not in tags:
            file = Path(weights).expanduser()
            if file.suffix != ".safetensors" or not file.is_file():
                raise UserError(
                    f"{key}={name}: {architecture} has no weights '{weights}', choose among "
                    f"{', '.join(tags) or 'none of its own'}, or give a .safetensors file"
                )
            weights = str(file)
        # Some weights need another activation than the architecture's; open_clip only warns.
        quick_gelu = bool(open_clip.get_pretrained_cfg(architecture, weights).get("quick_gelu"))
        with explained("CLIP model", name, key):
            model = open_clip.create_model(
                architecture,
                pretrained=weights,
                device=device,
                force_quick_gelu=quick_gelu,
                require_pretrained=True,
            )
            tokenizer = open_clip.get_tokenizer(architecture)
        given = open_clip.get_model_preprocess_cfg(model)
        preprocessing = Preprocessing(
            size=_pair(given["size"]),
            shorter_side=None,
            longest_side=None,
            crop_size=None,
            resample=3,
            rescale_factor=1 / 255,
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
        )
        label = f"{architecture}, quick_gelu" if quick_gelu else architecture
        return cls(model, tokenizer, preprocessing, label, batch_size=batch_size)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The architecture, hashes of weights and preprocessing, and the tokenizer's class."""
        return {
            "library": "open_clip",
            "architecture": self._architecture,
            "weights": weights_digest(self._model),
            "tokenizer": type(self._tokenizer).__name__,
            "preprocessing": digest(vars(self._preprocessing)),
        }

    def embed_squares(
        self, images: Sequence[np.ndarray], resizing: ClipResizing = "antialiased"
    ) -> torch.Tensor:
        """Square pictures (uint8 [S, S, 3], RGB), resized bicubically: [N, D] on the CPU."""
        tensors = [square_image(image, self._preprocessing, resizing) for image in images]
        return self._embed(tensors, self._model.encode_image)

    def embed_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompts, cut at the model's context length: [N, D] on the CPU; cached."""
        # One at a time, see `ClipEncoder.embed_texts`.
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._texts:
                tokens = list(self._tokenizer([prompt]))
                (self._texts[prompt],) = self._embed(tokens, self._model.encode_text)
        if not prompts:
            return torch.empty(0, 0)
        return torch.stack([self._texts[prompt] for prompt in prompts])

    @torch.inference_mode()
    def _embed(self, tensors: Sequence[torch.Tensor], encode: Any) -> torch.Tensor:
        device = next(self._model.parameters()).device
        parts = [
            encode(torch.stack(list(tensors[start : start + self._batch_size])).to(device)).cpu()
            for start in range(0, len(tensors), self._batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, 0)


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
