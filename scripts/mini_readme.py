"""Write profi/mini/README.md from what training measured: sizes, steps, time, curves, figures.

    python scripts/mini_readme.py [size=cpu] [work=outputs/mini] [curves=curves.png]

`curves` names the picture of the losses that `work` holds; a later training of some stages goes
to a picture of its own, next to that of the others.
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


def minutes(seconds: float | None) -> str:
    """A stage's time; of some stages it was not kept."""
    return "not kept" if seconds is None else f"{seconds / 60:.0f} min"


def page(size: World, figures: dict, notes: str) -> str:
    """The README's text; `notes` say what the figures do not."""
    stages = [stage for stage in STAGES if stage in figures]
    models = "\n".join(
        f"| {stage} | {WHAT[stage]} | {f['parameters'] / 1e6:.2f} M | {f['steps']:,} | "
        f"{f['samples']:,} | {minutes(f['seconds'])} | {f['device']} |"
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
    half, quarter = size.latent_size // 2, size.latent_size // 4
    return f"""# The embedded world

Scenes of {len(size.categories)} COCO categories, {size.image_size} pixels a side, and models of
them that we trained ourselves, so that the whole protocol runs on a laptop, offline, through the
same classes as Stable Diffusion, CLIP and a COCO detector.

- **Scenes** (`scenes.py`): up to {size.max_objects} objects over gradients, horizons, mottling and
  stripes; scale, place, flip, rotation, colour and occlusion vary, often several objects are of one
  category; masks are exact. Validation scenes differ from training scenes in seed, layout and
  sprite: of every category some sprites are for validation alone. The sprites come from published
  emoji sets (`sprites/NOTICE`).
- **Data** (`shipped/{size.size}/data`): {counts["images"]} validation scenes with
  {counts["annotations"]} instances, in COCO's format with COCO's ids; and three hard sets for
  `data.annotations`: `instances_absent.json` (the prompt is something that the scene lacks),
  `instances_crowded.json` ({counts["crowded"]} instances: at least three more of their kind stand
  outside the mask), `instances_two_holes.json` ({counts["two_holes"]} instances of two parts).
- **Categories**: {", ".join(size.categories)}.
- **Latents**: {size.latent_channels} x {size.latent_size} x {size.latent_size}; the UNets attend at
  down-factors 2 and 4 ({half} and {quarter} a side; H/16 and H/32 of the paper, relative to the
  latents). Stable Diffusion's noise schedule, v-prediction.

How the base model comes by the paper's failures: a text-to-image model learns the scenes; the
inpainting model goes on from it with captions of the whole scene, shortly with half of the masks
over an object (`inpaint`), then long with random masks alone (`inpaint_random`), whose captions
leave things out and are sometimes another picture's, as captions from the web do. No mask of the
training is made like the benchmark's, and no caption names what is in the hole.

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

Training again, stage by stage (`size=gpu` is the larger world: 32 categories):

    pip install -e '.[scenes]'                # only for build_sprites.py
    python scripts/build_sprites.py
    python scripts/train_mini.py stage=all size={size.size}
    python scripts/mini_readme.py size={size.size}

The x4 upscaler of [high resolution](../../docs/highres.md) (`shipped/upscaler`, 3.7 MB) is trained
apart: `stage=upscaler_vae`, `upscaler_decoder`, `upscaler`, then `ship_upscaler`.
"""


def main(arguments: list[str]) -> None:
    """Write the page and its plot."""
    if {"-h", "--help"} & set(arguments) or not all("=" in word for word in arguments):
        sys.exit(__doc__)
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
