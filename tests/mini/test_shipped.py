"""What ships is what its README says: measured again from the files, on fresh scenes."""

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.clip_stage import zero_shot
from profi.mini.training.crops import object_crops
from profi.mini.training.detector_stage import ceiling_and_floor
from profi.mini.training.ship_stage import forget_folders
from profi.mini.training.vae_stage import psnr
from profi.mini.world import WORLDS
from profi.settings.paths import PACKAGE

shipped = pytest.mark.parametrize("size", [w for w in WORLDS.values() if w.folder.exists()])


def scenes_of(size, n, seed=987):
    sampler = SceneSampler(size, SpriteSheet.load(size, "val"))
    return sampler.sample(n, torch.Generator().manual_seed(seed))


def test_no_folder_of_the_machine_that_trained_them_ships_with_the_models(tmp_path: Path) -> None:
    for path in (PACKAGE / "mini" / "shipped").rglob("config.json"):
        assert not json.loads(path.read_text()).get("_name_or_path"), path
    kept = tmp_path / "unet" / "config.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"_name_or_path": "/home/me/unet", "layers": 2}))
    forget_folders(tmp_path)
    assert json.loads(kept.read_text()) == {"layers": 2}


def test_a_world_ships():
    assert any(size.folder.exists() for size in WORLDS.values())


@shipped
def test_it_is_small_and_has_no_pickles(size):
    files = [f for f in size.folder.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 60e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".png", ".webp"}


@shipped
def test_the_vae_reconstructs_scenes_at_31_db(size):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(size.folder / "inpaint" / "vae", torch_dtype=torch.float32)
    images = scenes_of(size, 32).image
    with torch.no_grad():
        again = vae.decode(vae.encode(images * 2 - 1).latent_dist.mean).sample / 2 + 0.5
    assert psnr(again.clamp(0, 1), images).mean() >= 31


@shipped
def test_clip_names_unedited_crops(size):
    model = CLIPModel.from_pretrained(size.folder / "clip", torch_dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(size.folder / "clip")
    g = torch.Generator().manual_seed(5)
    crops, kind = object_crops(scenes_of(size, 256), size.image_size, g, jitter=0.0)
    with torch.no_grad():
        assert zero_shot(model, tokenizer, size, crops, kind) >= 0.95


@shipped
def test_the_detector_has_a_high_ceiling_and_a_low_floor(size):
    figures = ceiling_and_floor(size.folder / "detector", size.folder / "data")
    assert figures["ceiling"] >= 0.95
    assert figures["floor"] <= 0.04


@shipped
def test_the_data_is_coco_s_format_with_coco_s_ids(size):
    document = json.loads((size.folder / "data" / "instances_val.json").read_text())
    assert {c["name"]: c["id"] for c in document["categories"]} == size.category_ids
    used = {a["category_id"] for a in document["annotations"]}
    assert used == set(size.category_ids.values())
    assert all(a["segmentation"] and not a["iscrowd"] for a in document["annotations"])
