"""The network of the LAION aesthetic predictor.

Source: github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

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
