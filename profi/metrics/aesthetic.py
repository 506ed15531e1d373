"""The LAION aesthetic score of the whole image (paper, sec. 4.2), and its predictor.

Source of the predictor: github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from profi.metrics.base import Sample, weights_digest
from profi.metrics.clip_encoder import ClipEncoder
from profi.metrics.functional import l2_normalised
from profi.settings.evaluation import AestheticCrop
from profi.types import UserError
from profi.weights import UNREADABLE, verified_file, why_unreadable

_HIDDEN = (1024, 128, 64, 16)
_DROPOUTS = (0.2, 0.2, 0.1)
_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_KEY = "metric.aesthetic.path"


class AestheticPredictor(nn.Module):
    """Five linear layers from [N, D] unit embeddings to [N] scores, about 1 to 10.

    The widths are in-1024-128-64-16-1, with dropout between the layers and no activations, as the
    public weights were trained. The keys are theirs too (`layers.0.weight`, ...).
    """

    def __init__(self, input_dim: int = 768, hidden_dims: tuple[int, ...] = _HIDDEN) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.hidden_dims = tuple(hidden_dims)
        widths = [input_dim, *hidden_dims, 1]
        layers: list[nn.Module] = []
        for index, (inner, outer) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(inner, outer))
            if index < len(_DROPOUTS):
                layers.append(nn.Dropout(_DROPOUTS[index]))
        self.layers = nn.Sequential(*layers)

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """[N, D] L2-normalised image embeddings to [N] scores."""
        return self.layers(embeds).squeeze(-1)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / _WEIGHTS)
        config = {"input_dim": self.input_dim, "hidden_dims": list(self.hidden_dims)}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, path: str | Path, sha256: str | None = None) -> AestheticPredictor:
        """Load a folder written by `save_pretrained`, or the public `.pth` file for ViT-L/14.

        Args:
            path: a folder, a `.pth` file or its URL. A `.pth` file is read with
                `weights_only=True`: it gives tensors and never runs code.
            sha256: the hash of a `.pth` file, checked before the file is read; a URL needs one. It
                is not used for a folder, which has no pickle.

        Raises:
            UserError: the file is missing, is another file, or has another network's weights.
        """
        folder = Path(path)
        try:
            if folder.is_dir():
                config = json.loads((folder / _CONFIG).read_text())
                predictor = cls(config["input_dim"], tuple(config["hidden_dims"]))
                state = load_file(folder / _WEIGHTS)
            else:
                predictor = cls()
                file = verified_file(str(path), sha256, _KEY)
                state = torch.load(file, map_location="cpu", weights_only=True)
            predictor.load_state_dict(state)
        # The errors of a missing file, a broken file, and another network's weights.
        except (
            *UNREADABLE,
            KeyError,
            TypeError,
            SafetensorError,
        ) as error:
            raise UserError(
                f"aesthetic predictor '{path}' cannot be loaded ({why_unreadable(error)}): "
                f"give its folder or the public .pth file with {_KEY}=<path>"
            ) from error
        return predictor.eval().requires_grad_(False)


class AestheticScore:
    """The predictor on the L2-normalised CLIP embedding of the whole image.

    The paper's encoder is `openai/clip-vit-large-patch14`, which needs quick_gelu. Usual scores are
    4 to 6. Embeddings that are not normalised score 20 to 30; with a wrong activation scores are
    about 0.7 lower.
    """

    name = "aesthetic"
    needs_original = False

    def __init__(
        self,
        encoder: ClipEncoder,
        predictor: AestheticPredictor,
        crop: AestheticCrop = "floored",
    ) -> None:
        if encoder.embedding_dim != predictor.input_dim:
            raise UserError(
                f"the aesthetic predictor takes {predictor.input_dim} numbers, but its CLIP model "
                f"gives {encoder.embedding_dim}: set metric.aesthetic.clip_path to the CLIP model "
                "that it was trained with"
            )
        self._encoder = encoder
        self._predictor = predictor.cpu().eval()
        self._crop: AestheticCrop = crop

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        clip_path: str,
        *,
        crop: AestheticCrop = "floored",
        sha256: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> AestheticScore:
        """Load the predictor at `path` and the CLIP model at `clip_path` (a folder or a Hub id).

        See `AestheticPredictor.from_pretrained` for `path` and `sha256`, and `Evaluation` for
        `crop`.

        Raises:
            UserError: one of them cannot be loaded, or they do not fit together.
        """
        predictor = AestheticPredictor.from_pretrained(path, sha256)
        encoder = ClipEncoder.from_pretrained(
            clip_path, "metric.aesthetic.clip_path", device=device, batch_size=batch_size
        )
        return cls(encoder, predictor, crop)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Hashes of the encoder and the predictor, and how the image is cropped."""
        return {
            "clip": dict(self._encoder.identity),
            "predictor": weights_digest(self._predictor),
            "region": "whole image",
            "crop": self._crop,
        }

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample."""
        embeds = self._encoder.embed_whole([sample.image for sample in samples], self._crop)
        values: list[float] = self._predictor(l2_normalised(embeds)).tolist()
        return values
