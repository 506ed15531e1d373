"""Rows of Table 1 through the runners: from files on the disk to pictures in a store."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from experiment_calls import folder_of, resolved
from rich.console import Console
from tiny_pipelines import make_pipeline

from profi.harness.experiment import run
from profi.harness.rows import load_rows
from profi.harness.run_folder import RunFolder, run_record
from profi.harness.runs import Command, context_of, methods_of
from profi.inpainter import Row
from profi.models.backbone import Backbone
from profi.models.unet_role import TEXT_TO_IMAGE
from profi.settings import (
    BlendedLatentDiffusionConfig,
    Config,
    ControlNetConfig,
    ModelConfig,
    Sampling,
    SDXLInpaintingConfig,
)
from profi.store.generations import read_generations
from profi.types import UserError

Settings = Callable[..., Config]
KINDS = ("blended_latent_diffusion", "sdxl_inpainting", "controlnet")


@pytest.fixture
def model_of(
    tmp_path: Path, new_backbone: Callable[..., Backbone], save_model: Callable[..., Path]
) -> Callable[[str], ModelConfig]:
    """`model_of(kind)`: a tiny model of random weights for it, saved as diffusers does."""

    def make(kind: str) -> ModelConfig:
        folder = tmp_path / "weights"
        more: dict[str, object] = {}
        if kind == "sdxl_inpainting":
            make_pipeline("sdxl").save_pretrained(folder)
        else:
            backbone = new_backbone(3, "epsilon", TEXT_TO_IMAGE)
            save_model(folder, backbone)
        if kind == "controlnet":
            torch.manual_seed(5)
            added = ControlNetModel.from_unet(
                backbone.unet, conditioning_embedding_out_channels=(8, 8, 8)
            )
            added.controlnet_mid_block.weight.data.normal_()
            added.save_pretrained(tmp_path / "controlnet")
            more["controlnet"] = ControlNetConfig(str(tmp_path / "controlnet"))
        return ModelConfig(
            id=f"tiny-{kind}",
            path=str(folder),
            inpainter=kind,
            device="cpu",
            long_side=64,
            pad_multiple=16,
            batch_size=2,
            **more,  # type: ignore[arg-type]
        )

    return make


def go(config: Config) -> str:
    shown = io.StringIO()
    result = run(Command(config, "here", "a: 1\n"), Console(file=shown, width=160))
    if result is not None:
        result.print(Console(file=shown, width=160))
    return shown.getvalue()


def only_run(config: Config) -> RunFolder:
    ((ablation, seed),) = config.methods_and_seeds
    return folder_of(config, ablation, seed)


def base_row(config: Config) -> Row:
    return load_rows(context_of(config), list(methods_of(config).values()))["base"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_painted_scored_and_reported(
    kind: str, settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    # Of a list of ablations a baseline has base alone.
    config = settings(
        model=model_of(kind),
        ablations=["profi", "base"],
        sampling=Sampling(num_inference_steps=3),
    )
    assert "base" in go(config)
    first = only_run(config)
    assert len(list(read_generations(first.generations))) == 10
    assert list(first.scores.glob("clip_score-*"))
    pixels = run_record(first)["pixels"]
    assert kind in pixels
    assert "method" not in pixels

    # The reading is of the paper's modules: the run is the same one, and nothing is left to do.
    files = list(first.generations.iterdir())
    before = [path.stat().st_mtime_ns for path in files]
    go(replace(config, reading=replace(config.reading, eta=0.1)))
    assert only_run(replace(config, reading=replace(config.reading, eta=0.1))) == first
    assert [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_of_a_row_is_another_run(
    kind: str, settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    model = model_of(kind)
    changed = {
        "blended_latent_diffusion": BlendedLatentDiffusionConfig(skip=0.5),
        "sdxl_inpainting": SDXLInpaintingConfig(strength=1.0),
        "controlnet": replace(model.controlnet, scale=0.5),
    }
    config = settings(model=model, ablations=["base"])
    others = [replace(model, **{kind: changed[kind]})]  # type: ignore[arg-type]
    other = next(name for name in KINDS if name != kind and name != "controlnet")
    same = replace(model, **{other: changed[other]})  # type: ignore[arg-type]
    rows = [base_row(replace(config, model=one)) for one in (model, *others, same)]
    assert rows[0].identity != rows[1].identity
    assert rows[0].identity == rows[2].identity
    configs = [replace(config, model=one) for one in (model, *others, same)]
    found = [resolved(one)["base", 0].settings for one in configs]
    assert found[0] != found[1]
    assert found[0] == found[2]


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_paints_nearly_the_same(
    kind: str, settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    """All parts get along with the UNet's dtype; bfloat16 has 8 bits, as a picture has."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, 10:40, 20:50] = True
    model, painted = model_of(kind), []
    for dtype in ("float32", "bfloat16"):
        config = settings(model=replace(model, dtype=dtype), ablations=["base"])
        painted.append(base_row(config)(images, masks, ["cat", "dog"], [1, 2]))
    assert torch.isfinite(painted[1]).all()
    assert 0.0 < float((painted[0] - painted[1]).abs().mean()) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_base_alone(
    kind: str, settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    with pytest.raises(UserError, match=rf"model tiny-{kind} has no ablation profi.*=base"):
        settings(model=model_of(kind), ablations=["profi"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_missing_weights_are_reported_in_one_line(
    kind: str, lost: str, settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    model = model_of(kind)
    assert model.path is not None
    (Path(model.path) / lost).unlink()
    with pytest.raises(UserError, match=rf"{lost.partition('/')[0]}/.*model\.path") as caught:
        base_row(settings(model=model, ablations=["base"]))
    assert "\n" not in str(caught.value)


def test_a_padding_or_folder_that_does_not_fit_is_refused(
    settings: Settings, model_of: Callable[[str], ModelConfig]
) -> None:
    model = model_of("blended_latent_diffusion")
    for changes, message in (
        ({"pad_multiple": 8}, r"model\.pad_multiple=8"),
        ({"path": "/no/such/folder"}, r"no folder /no/such/folder.*model\.path"),
        ({"unet": "/no/such/folder"}, r"no folder /no/such/folder.*model\.unet"),
        ({"path": "nobody/nothing"}, r"nobody/nothing.*Hub"),
    ):
        changed = replace(model, **changes)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message):
            base_row(settings(model=changed, ablations=["base"]))


def test_a_unet_of_another_folder_takes_the_model_s_place(
    settings: Settings, model_of: Callable[[str], ModelConfig], tmp_path: Path, new_unet: Callable
) -> None:
    """Its weights and its schedule are in the identity, the replaced ones are not."""
    model = model_of("blended_latent_diffusion")
    assert model.path is not None
    tuned = tmp_path / "tuned"
    new_unet(9, 4).save_pretrained(tuned / "unet")
    (tuned / "scheduler").mkdir()
    config = (Path(model.path) / "scheduler" / "scheduler_config.json").read_text()
    changed = config.replace('"epsilon"', '"v_prediction"')
    assert changed != config
    (tuned / "scheduler" / "scheduler_config.json").write_text(changed)
    own = base_row(settings(model=model, ablations=["base"])).identity
    other = replace(model, unet=str(tuned))
    found = base_row(settings(model=other, ablations=["base"])).identity
    assert found["backbone"]["weights"] != own["backbone"]["weights"]
    assert found["backbone"]["schedule"] != own["backbone"]["schedule"]
    # Without the UNet that is replaced the model's own folder need not paint text alone.
    new_unet(1, 9).save_pretrained(Path(model.path) / "unet")
    again = base_row(settings(model=other, ablations=["base"])).identity
    assert again == found


def test_of_several_models_one_that_is_not_there_is_skipped_and_logged(
    settings: Settings, model_of: Callable[[str], ModelConfig], caplog: pytest.LogCaptureFixture
) -> None:
    there = model_of("blended_latent_diffusion")
    gone = replace(there, id="gone", path="/no/such/folder")
    config = settings(models={"gone": gone, "there": there}, ablations=["base"], name="two")
    shown = go(config)
    assert "gone skipped: gone: there is no folder /no/such/folder" in caplog.text
    assert "gone: base, seed 0: 10 of 10 images are not painted" in shown
    assert len(list(read_generations(only_run(config.per_model[1]).generations))) == 10
    # Without a report there is only the exit status that shows it.
    with pytest.raises(UserError, match=r"^1 of 2 models cannot be loaded \(see above\): gone$"):
        go(replace(config, stage="generate"))
    with pytest.raises(UserError, match=r"^2 of 2 models .*: gone, gone too$"):
        go(replace(config, models={"gone": gone, "too": replace(gone, id="gone too")}))
