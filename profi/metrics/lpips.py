"""LPIPS, and its formula on the features of a detector."""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.util import find_spec

import torch
from torch import nn
from transformers.backbone_utils import BackboneMixin

from profi.metrics.detectors import read_detector
from profi.metrics.preprocess import Preprocessing
from profi.types import UserError
from profi.weights import UNREADABLE, verified_file, why_unreadable

_KEY = "metric.lpips.path"
#: The heads in torchmetrics; the bytes equal those of the authors' package.
_HEADS = ("functional", "image", "lpips_models", "alex.pth")
_HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
_WIDTHS = (64, 192, 384, 256, 256)
#: The layers whose five activations are used.
_TAPS = (1, 4, 7, 9, 11)
# ImageNet's mean and standard deviation, converted from [0, 1] to [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """The weighted squared difference of AlexNet's normalised activations, over five layers.

    d(x, y) = sum_l 1/(H_l W_l) sum_hw || w_l * (x^_l - y^_l) ||^2 (eq. 1 of that paper), where x^
    are activations scaled to unit length over the channels. The heads are w_l^2.

    `features` has the structure and the keys of torchvision's `alexnet().features`.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four, five = _WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(3, one, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(one, two, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(two, three, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(three, four, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(four, five, kernel_size=3, padding=1),
            nn.ReLU(),
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in _WIDTHS)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_pretrained(cls, source: str, sha256: str | None) -> LPIPS:
        """Load AlexNet's published weights at `source` (a URL or a file) and torchmetrics' heads.

        Raises:
            UserError: torchmetrics is not installed, the file has another network's weights, or
                an error of `verified_file`.
        """
        model = cls()
        path = verified_file(source, sha256, _KEY)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            prefix = "features."
            model.features.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        except (*UNREADABLE, AttributeError, TypeError) as error:
            reason = why_unreadable(error)
            raise UserError(
                f"{_KEY}={source} does not hold AlexNet's weights ({reason}): give torchvision's "
                "file"
            ) from error
        for head, weights in zip(model.heads, _published_heads(), strict=True):
            head.data.copy_(weights)
        return model.eval().requires_grad_(False)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """Distances [N] of pictures [N, 3, H, W] in [0, 1], H and W at least 32."""
        x, y = ((2 * images - 1 - self.shift) / self.scale for images in (one, two))
        distance = torch.zeros(len(one), device=one.device)
        heads = iter(self.heads)
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in _TAPS:
                distance = distance + _difference(x, y, next(heads).view(1, -1, 1, 1))
        return distance


class FeatureDistance(nn.Module):
    """LPIPS's formula on a detector's convolutional backbone, every channel with weight one.

    For data that AlexNet never saw. Values compare pictures; they are on another scale than
    LPIPS's.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_pretrained(cls, path: str) -> FeatureDistance | None:
        """Take the backbone of a detector (a folder or a repository) of transformers.

        None if it has none, such as YOLOS. Raises UserError if it cannot be loaded.
        """
        preprocessing, detector = read_detector(path)
        found = next((m for m in detector.modules() if isinstance(m, BackboneMixin)), None)
        return None if found is None else cls(found, preprocessing)

    @torch.inference_mode()
    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """Distances [N] of pictures [N, 3, H, W] in [0, 1], H and W at least 32."""
        features = [
            self.backbone((images - self.mean) / self.std, output_hidden_states=True).hidden_states
            for images in (one, two)
        ]
        pairs = [_difference(x, y) for x, y in zip(*features, strict=True)]
        return torch.stack(pairs).sum(0)


def _difference(x: torch.Tensor, y: torch.Tensor, head: torch.Tensor | float = 1.0) -> torch.Tensor:
    """[N]: weighted squares of unit x [N, C, H, W] minus unit y, averaged over H and W."""
    return ((_unit(x) - _unit(y)) ** 2 * head).sum(1).mean((1, 2))


def _unit(activations: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] scaled to unit length over C; zeros stay zeros."""
    return activations / (activations.norm(dim=1, keepdim=True) + 1e-10)


def check_heads() -> None:
    """UserError if torchmetrics, which has the heads, is not installed."""
    if find_spec("torchmetrics") is None:
        raise UserError(
            "known_region_lpips needs torchmetrics, which is not installed: "
            "pip install -c constraints.txt -e '.[lpips]', or remove the metric from metric.metrics"
        )


def _published_heads() -> list[torch.Tensor]:
    """The five heads' weights, [C] each."""
    check_heads()
    with as_file(files("torchmetrics").joinpath(*_HEADS)) as path:
        state = torch.load(
            verified_file(str(path), _HEADS_SHA256, "torchmetrics"),
            map_location="cpu",
            weights_only=True,
        )
    return [state[f"lin{index}.model.1.weight"].flatten() for index in range(len(_WIDTHS))]
