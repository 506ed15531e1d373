"""Write profi/mini/README.md from what training measured: sizes, steps, time, curves, figures.

    python scripts/mini_readme.py [size=cpu] [work=outputs/mini] [curves=curves.png]

`curves` names the picture of the losses that `work` holds; a later training of some stages goes
to a picture of its own, beside that of the others.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from profi.mini.world import World, world

STAGES = (
    "vae",
    "clip",
    "clip_vision",
    "t2i",
    "inpaint",
    "inpaint_random",
    "controlnet",
    "smartbrush",
    "detector",
    "aesthetic",
)
WHAT = {
    "vae": "AutoencoderKL",
    "clip": "CLIPModel (its text tower conditions the UNets)",
    "clip_vision": "its vision tower and projection anew, text tower frozen",
    "detector": "RTDetrForObjectDetection",
    "t2i": "UNet2DConditionModel, 4 input channels",
    "inpaint": "UNet2DConditionModel, 9 input channels",
    "inpaint_random": "the same, going on with random masks alone",
    "controlnet": "ControlNetModel on the frozen t2i UNet",
    "smartbrush": "UNet2DConditionModel, 9 input and 5 output channels, from t2i",
    "aesthetic": "the LAION predictor's MLP",
}
MEASURED = {
    "psnr_db": ("VAE: PSNR on validation scenes", "{:.1f} dB"),
    "zero_shot_top1": ("CLIP: zero-shot top-1 on unedited validation crops", "{:.1%}"),
    "ceiling": ("detector: true label found in unedited validation crops (ceiling)", "{:.1%}"),
    "floor": ("detector: a random absent label reported (floor)", "{:.1%}"),
    "rank_correlation": ("aesthetic: rank correlation with the grade of corruption", "{:.2f}"),
}


def curves(work: Path, target: Path) -> None:
    """One small plot per stage: the summed loss over the steps."""
    stages = [stage for stage in STAGES if (work / stage / "loss.csv").exists()]
    rows = -(-len(stages) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(10, 2.1 * rows), layout="constrained")
    for axis in axes.flat[len(stages) :]:
        axis.set_visible(False)
    for axis, stage in zip(axes.flat, stages, strict=False):
        with (work / stage / "loss.csv").open() as file:
            logged = list(csv.reader(file))
        steps = [int(row[0]) for row in logged]
        losses = [sum(float(cell.split("=")[1]) for cell in row[2:]) for row in logged]
        axis.plot(steps, losses, linewidth=1)
        axis.set_yscale("log")
        axis.set_title(stage)
        axis.set_xlabel("step")
    figure.savefig(target, dpi=80)


def page(size: World, figures: dict, notes: str) -> str:
    """The README's text; `notes` tell what the figures do not."""
    stages = [stage for stage in STAGES if stage in figures]
    models = "\n".join(
        f"| {stage} | {WHAT[stage]} | {f['parameters'] / 1e6:.2f} M | {f['steps']:,} | "
        f"{f['samples']:,} | {f['seconds'] / 60:.0f} min | {f['device']} |"
        for stage in stages
        for f in (figures[stage],)
    )
    # A later stage's measurement replaces an earlier one's of the same thing.
    values = {key: value for stage in stages for key, value in figures[stage].items()}
    measured = "\n".join(
        f"| {text} | {form.format(values[key])} |"
        for key, (text, form) in MEASURED.items()
        if key in values
    )
    counts = figures["scenes"]
    pictures = "\n".join(
        f"![training losses](shipped/{size.size}/{path.name})"
        for path in sorted(size.folder.glob("curves*.png"))
    )
    return f"""# The embedded world

Scenes of {len(size.categories)} COCO categories, {size.image_size} pixels a side, and models of
them that we trained ourselves, so that the whole protocol runs on a laptop, offline, through the
same classes as Stable Diffusion, CLIP and a COCO detector.

- **Scenes** (`scenes.py`): 1 to 4 objects over gradients, horizons, mottling and stripes; scale,
  place, flip, rotation, colour and occlusion vary; masks are exact. Validation scenes differ from
  training scenes in seed and layout and, for categories with three or more sprites, in sprite.
  The sprites come from two published emoji sets (`sprites/NOTICE`).
- **Data** (`shipped/{size.size}/data`): {counts["images"]} validation scenes with
  {counts["annotations"]} instances, in COCO's format with COCO's ids.
- **Categories**: {", ".join(size.categories)}.
- **Latents**: 4 x {size.latent_size} x {size.latent_size}; the UNets attend at
  down-factors 2 and 4 ({size.latent_size // 2} and {size.latent_size // 4} a side;
  H/16 and H/32 of the paper, relative to the latents). Stable Diffusion's noise schedule,
  v-prediction.

| stage | class | parameters | steps | samples | time | on |
|---|---|---|---|---|---|---|
{models}

{pictures}

| what was measured, on validation scenes | |
|---|---|
{measured}

The aesthetic score here rates how clean a render is, from 0 (heavily corrupted) to 10 (untouched).
It is not a model of human taste and not on LAION's scale.

{notes}
What the base inpainting model does with prompts, and how it fails, is in
[the recorded results](../../results/README.md).

Training again, stage by stage (`size=gpu` is the larger world: 32 categories, 128x128 images):

    pip install -e '.[scenes]'                # only for build_sprites.py
    python scripts/build_sprites.py
    python scripts/train_mini.py stage=all size={size.size}
    python scripts/mini_readme.py size={size.size}
"""


def main(arguments: list[str]) -> None:
    """Write the page and its plot."""
    chosen = dict(argument.split("=", 1) for argument in arguments)
    size = world(chosen.get("size", "cpu"))
    work = Path(chosen.get("work", "outputs/mini")) / size.size
    curves(work, size.folder / Path(chosen.get("curves", "curves.png")).name)
    target = size.folder.parents[1] / "README.md"
    notes = work / "notes.md"
    figures = json.loads((work / "figures.json").read_text())
    target.write_text(page(size, figures, notes.read_text() if notes.exists() else ""))
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
