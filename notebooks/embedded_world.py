"""What all notebooks here share: pictures of the embedded world, its scores, how figures look.

Sizes, categories and paths are those of `conf/`; nothing of them is repeated here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from diffusers.utils import logging as diffusers_logging
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from PIL import Image
from transformers.utils import logging as transformers_logging

from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.build_data import image_root, load_triplets
from profi.harness.build_metrics import load_metrics
from profi.metrics import Metric, Sample
from profi.settings import DataConfig, MetricConfig
from profi.settings.evaluation import evaluation_of

ROOT = Path(__file__).resolve().parents[1]
#: Set (to anything but 0) where nobody can move a slider: for an export to HTML.
STATIC = "PROFI_STATIC_NOTEBOOKS"

#: Okabe and Ito's colours, which colour-blind readers tell apart, by what they stand for.
COLOURS = {
    "base": "#000000",
    "painta_only": "#0072B2",
    "rasg_only": "#E69F00",
    "profi": "#D55E00",
    "paper": "#CC79A7",
    "released": "#009E73",
    "inside": "#D55E00",
    "outside": "#0072B2",
    "own": "#009E73",
}
LABELS = {
    "base": "base",
    "painta_only": "only PAIntA",
    "rasg_only": "only RASG",
    "profi": "ProFI (both)",
}
METRIC_LABELS = {
    "clip_score": "CLIP score",
    "accuracy": "accuracy, %",
    "aesthetic": "aesthetic score",
    "known_region_psnr": "known region, dB",
}


@dataclass(frozen=True)
class Example:
    """One (picture, mask, prompt); `mask` is bool [H, W], True where to paint."""

    triplet_id: str
    image_id: int
    image: Image.Image
    mask: np.ndarray
    prompt: str


def examples(count: int) -> list[Example]:
    """The first `count` triplets of the benchmark's own sample of the embedded world."""
    data = DataConfig(**_settings("data") | {"limit": count})
    root = image_root(data)
    return [
        Example(
            triplet.triplet_id,
            triplet.image_id,
            Image.fromarray(load_image(root, triplet)),
            triplet_mask(triplet),
            triplet.prompt,
        )
        for triplet in load_triplets(data)[0]
    ]


def paint(painter: Callable, chosen: Sequence[Example], **choices: object) -> list[Image.Image]:
    """`painter` on several examples; `choices` are those of `Painter.__call__`."""
    return painter(
        [example.image for example in chosen],
        [example.mask for example in chosen],
        [example.prompt for example in chosen],
        **choices,
    )


def metrics() -> list[Metric]:
    """The three scores of the paper, by the embedded world's own CLIP, detector and predictor.

    (Not what compares with the original outside the hole: a painter keeps that to the last bit.)
    """
    settings = _settings("metric")
    for name in ("clip", "accuracy", "aesthetic"):
        kind = type(getattr(MetricConfig(), name))
        settings[name] = kind(**settings[name])
    judges = load_metrics(MetricConfig(**settings), "cpu", evaluation_of("ours"))
    return [judge for judge in judges if not judge.needs_original]


def scores(
    judges: Sequence[Metric], chosen: Sequence[Example], painted: Sequence[Image.Image]
) -> pd.DataFrame:
    """A row per picture: triplet_id, image_id, prompt, and a column per metric."""
    samples = [
        Sample(np.asarray(picture), example.mask, example.prompt, np.asarray(example.image))
        for example, picture in zip(chosen, painted, strict=True)
    ]
    frame = pd.DataFrame(
        {
            "triplet_id": [example.triplet_id for example in chosen],
            "image_id": [example.image_id for example in chosen],
            "prompt": [example.prompt for example in chosen],
        }
    )
    return frame.assign(**{judge.name: judge(samples) for judge in judges})


def _settings(group: str) -> dict:
    return yaml.safe_load((ROOT / "conf" / group / "mini.yaml").read_text())


# ---------------------------------------------------------------------------------- figures


def style() -> None:
    """Figures that can be read on a page; libraries that do not chatter."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e2e2e2",
            "lines.linewidth": 2,
            "legend.frameon": False,
        }
    )


def show_picture(axes: Axes, picture: object, title: str = "", mask: np.ndarray | None = None):
    """A picture without axes; the outline of `mask` on top, where one is given."""
    pixels = np.asarray(picture)
    axes.imshow(pixels, interpolation="nearest")
    if mask is not None:
        outline(axes, mask, pixels.shape[:2])
    _bare(axes, title)


def show_map(axes: Axes, values: object, title: str = "", mask: object = None, **choices: object):
    """A map [h, w] in colours that grow lighter with the value; returns what a colour bar needs."""
    values = np.asarray(values)
    drawn = axes.imshow(values, interpolation="nearest", **{"cmap": "cividis", **choices})
    if mask is not None:
        outline(axes, np.asarray(mask), values.shape)
    _bare(axes, title)
    return drawn


def outline(axes: Axes, mask: np.ndarray, size: Sequence[int]) -> None:
    """The border of a bool mask [h, w] in pixels of a picture of `size` (height, width)."""
    # Every cell drawn large, with a rim, so that the line follows the cells' edges.
    fine = np.kron(np.asarray(mask, dtype=float), np.ones((8, 8)))
    fine = np.pad(fine, 1)
    (H, W), (height, width) = fine.shape, size
    x = (np.arange(W) - 0.5) / (W - 2) * width - 0.5
    y = (np.arange(H) - 0.5) / (H - 2) * height - 0.5
    # White under red: seen on dark and on light.
    axes.contour(x, y, fine, [0.5], colors="white", linewidths=2.6)
    axes.contour(x, y, fine, [0.5], colors="#D55E00", linewidths=1.4)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _bare(axes: Axes, title: str) -> None:
    axes.set(xticks=[], yticks=[], title=title)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def slider(draw: Callable[[float], object], values: Sequence[float], label: str, start: float):
    """`draw(value)` under a slider over `values`; where none can be moved, at `start` alone.

    `draw` makes one figure. Returns the slider (None without one).
    """
    if os.environ.get(STATIC, "0") != "0":
        draw(start)
        plt.show()
        display(Markdown(f"*In a running notebook a slider over {label} stands here.*"))
        return None
    import ipywidgets

    def drawn(value: float) -> None:
        draw(value)
        plt.show()

    control = ipywidgets.SelectionSlider(
        options=[(f"{value:g}", value) for value in values],
        value=start,
        description=label,
        continuous_update=False,
        layout=ipywidgets.Layout(width="32em"),
        style={"description_width": "initial"},
    )
    output = ipywidgets.interactive_output(drawn, {"value": control})
    display(ipywidgets.VBox([control, output]))
    return control
