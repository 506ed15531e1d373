from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from painter_pictures import array, disc, picture, same_outside
from PIL import Image

import profi
from profi.fitting import bytes_of
from profi.inputs import blend, image_tensor, mask_tensor, pil_image
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.mini.world import SHIPPED
from profi.models.backbone import Backbone
from profi.settings import shipped_path
from profi.settings.method import PAPER, RELEASED, Sampling
from profi.settings.presets import models
from profi.types import UserError

REPOSITORY = Path(__file__).parents[1]
ONE_LEVEL = 1  # of 255: a batch's sums are added up in another order.


@pytest.fixture(scope="module")
def mini() -> profi.Painter:
    return profi.load("mini", device="cpu")


def test_three_lines_paint_a_picture_of_the_embedded_world(mini: profi.Painter) -> None:
    image = Image.open(SHIPPED / "cpu/data/images/000000000001.webp").convert("RGB")
    mask = disc(128, 128)
    painted = mini(image, mask, "a banana", steps=3)
    assert isinstance(painted, Image.Image)
    assert (painted.mode, painted.size) == ("RGB", (128, 128))
    assert same_outside(painted, image, mask)
    inside = np.asarray(mask) > 127
    assert float(np.abs(array(painted) - array(image))[inside].mean()) > 10


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_it_paints_what_the_inpainter_paints(mini: profi.Painter, reading: str) -> None:
    """Of an image in the model's size nothing is scaled: the pictures are equal bit for bit."""
    image, mask = picture(128, 96), disc(128, 96)
    got = mini(image, mask, "a bus", seed=5, reading=reading, steps=2, blended=False)
    method = compose("profi", {"paper": PAPER, "released": RELEASED}[reading])
    paint = StableInpainting(mini.backbone, method, Sampling(num_inference_steps=2))
    expected = paint(image_tensor(image)[None], mask_tensor(mask)[None], ["a bus"], [5])
    assert np.array_equal(array(got), array(pil_image(bytes_of(expected[0], "rounded"))))
    assert not same_outside(got, image, mask)


def test_every_choice_reaches_the_inpainter(painter: profi.Painter) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    usual = array(painter(image, mask, "cat", steps=2))
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"ablation": "base"},
        {"reading": "paper"},
        {"evaluation": "released"},
        {"steps": 3},
        {"guidance_scale": 2.0},
        {"positive": "sharp"},
        {"negative": "blurry"},
        {"long_side": 64},
        {"blended": False},
    ]
    for change in changes:
        changed = painter(image, mask, "cat", **{"steps": 2, **change})
        assert not np.array_equal(usual, array(changed)), change
    assert np.array_equal(usual, array(painter(image, mask, "cat", steps=2, reading=RELEASED)))


@pytest.mark.parametrize("size", [(91, 37), (37, 91), (48, 48), (200, 151), (5, 3)])
def test_any_size_comes_back_blended_to_the_last_bit(
    painter: profi.Painter, size: tuple[int, int]
) -> None:
    image, mask = picture(*size), disc(*size)
    painted = painter(image, mask, "cat", steps=1)
    assert painted.size == size
    assert same_outside(painted, image, mask)
    assert not np.array_equal(array(painted), array(image))


def test_a_mask_thinner_than_the_model_s_pixels_is_painted(painter: profi.Painter) -> None:
    image, mask = picture(300, 200), Image.new("L", (300, 200))
    mask.putpixel((101, 57), 255)
    painted = painter(image, mask, "cat", steps=1)
    changed = (array(painted) != array(image)).any(axis=-1)
    assert changed[57, 101]
    assert changed.sum() == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_an_image_of_any_mode(painter: profi.Painter, mode: str) -> None:
    image, mask = picture(60, 40), disc(60, 40)
    if mode == "I;16":
        image = Image.fromarray(array(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize((60, 40)))
    painted = painter(image, mask, "cat", steps=1)
    assert (painted.mode, painted.size) == ("RGB", (60, 40))
    seen = image_tensor(image)
    assert same_outside(painted, pil_image(bytes_of(seen, "rounded")), mask)
    # Painted on what is seen of it, its 8-bit copy.
    if mode != "CMYK":
        assert np.array_equal(
            array(painted),
            array(painter(pil_image(bytes_of(seen, "rounded")), mask, "cat", steps=1)),
        )


def test_arrays_and_tensors_are_painted_like_pictures(painter: profi.Painter) -> None:
    image, mask = picture(60, 40), disc(60, 40)
    expected = array(painter(image, mask, "cat", steps=1))
    pixels, hole = np.asarray(image), np.asarray(mask) > 127
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    for one, other in ((pixels, hole), (tensor, torch.from_numpy(hole)), (pixels / 255, mask)):
        assert np.array_equal(array(painter(one, other, "cat", steps=1)), expected)


def test_a_list_of_mixed_sizes_is_painted_as_each_alone(painter: profi.Painter) -> None:
    sizes = [(91, 37), (48, 48), (91, 40), (37, 91), (64, 64), (96, 96)]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    masks = [disc(*size) for size in sizes]
    prompts = ["cat", "red bus", "dog", "cup", "old clock", "cat"]
    together = painter(images, masks, prompts, seed=range(6), steps=2)
    assert [p.size for p in together] == sizes
    for i, one in enumerate(together):
        alone = painter(images[i], masks[i], prompts[i], seed=i, steps=2)
        assert np.abs(array(one) - array(alone)).max() <= ONE_LEVEL


def test_what_is_no_list_holds_for_every_picture(painter: profi.Painter) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    variants = painter(image, mask, "cat", seed=[3, 4, 3], steps=2)
    for one, seed in zip(variants, (3, 4, 3), strict=True):
        alone = painter(image, mask, "cat", seed=seed, steps=2)
        assert np.abs(array(one) - array(alone)).max() <= ONE_LEVEL
    assert np.abs(array(variants[0]) - array(variants[1])).max() > 5
    (only,) = painter([image], mask, "cat", seed=3, steps=2)
    assert np.array_equal(array(only), array(painter(image, mask, "cat", seed=3, steps=2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": disc(48, 47)}, "mask is 48x47 and image is 48x48"),
        ({"mask": Image.new("L", (48, 48))}, "mask is empty"),
        ({"mask": [disc(48, 48), Image.new("L", (48, 48))]}, "mask 1 is empty"),
        ({"image": "photo.png"}, "image: photo.png does not exist"),
        ({"prompt": " "}, "is empty"),
        ({"prompt": 3}, "prompt is of type int"),
        ({"prompt": "x" * 40}, "shorten it"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"seed": [1, 2**32]}, "seed 1 is"),
        ({"seed": [1, 2], "prompt": ["a"]}, "prompt: 1, seed: 2"),
        ({"prompt": []}, "prompt: 0"),
        ({"ablation": "best"}, "ablation=best: choose one of base"),
        ({"reading": "mine"}, "reading=mine is unknown; choose paper or released"),
        ({"evaluation": "mine"}, "evaluation=mine is unknown; choose ours or released"),
        ({"steps": 0}, "num_inference_steps=0"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"long_side": 0}, "long_side=0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_told_in_one_line(
    painter: profi.Painter, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"image": picture(48, 48), "mask": disc(48, 48), "prompt": "cat"}
    with pytest.raises(profi.UserError, match=message) as caught:
        painter(**{"steps": 1, **given, **change})
    assert "\n" not in str(caught.value)


def test_a_painter_that_does_not_fit_its_model_is_refused(backbone: Backbone) -> None:
    with pytest.raises(UserError, match="needs a multiple of 16"):
        profi.Painter(backbone, pad_multiple=8)
    with pytest.raises(UserError, match="batch_size=0"):
        profi.Painter(backbone, batch_size=0)


@pytest.mark.parametrize(
    "name", ["foo", "./nowhere", "/nowhere/at/all", "a/b/c", "~nobody-at-all/x", "../up", ""]
)
def test_an_unknown_model_is_refused_at_once(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"is unknown: choose mini, .*dreamshaper8") as caught:
        profi.load(name)
    assert time.monotonic() - start < 1.0
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_to_be_had_is_refused() -> None:
    # Tests are offline.
    with pytest.raises(UserError, match=r"dreamshaper-8-inpainting.*give a local folder"):
        profi.load("dreamshaper8", device="cpu")
    with pytest.raises(UserError, match="device=tpu: choose one of auto, cpu"):
        profi.load("mini", device="tpu")
    with pytest.raises(UserError, match="device=cuda:99: PyTorch sees no such device"):
        profi.load("mini", device="cuda:99")
    with pytest.raises(UserError, match="float32, bfloat16, float16"):
        profi.load("mini", device="cpu", dtype="int8")


def test_a_folder_is_painted_at_the_size_that_it_was_trained_at(mini: profi.Painter) -> None:
    painter = profi.load(shipped_path("shipped:cpu/inpaint"), device="cpu")
    assert (painter.long_side, painter.pad_multiple) == (mini.long_side, mini.pad_multiple)
    assert profi.load("mini", device="cpu", long_side=32).long_side == 32


def test_the_models_by_name_are_those_of_the_configuration() -> None:
    assert set(models()) == {"mini", "sd15", "sd2", "dreamshaper8", "sdxl"}
    for name, model in models().items():
        given = yaml.safe_load((REPOSITORY / "conf" / "model" / f"{name}.yaml").read_text("utf-8"))
        assert {key: value for key, value in asdict(model).items() if key in given} == given


def test_import_profi_is_light_and_names_what_there_is() -> None:
    code = (
        "import sys, profi; assert set(profi.__all__) <= set(dir(profi)); profi.UserError; "
        "print([name for name in ('torch', 'diffusers', 'PIL', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    for name in profi.__all__:
        assert getattr(profi, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        profi.paint  # type: ignore[attr-defined]  # noqa: B018


def test_loading_is_quiet_and_a_painter_shows_itself_in_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    painter = profi.load("mini", device=torch.device("cpu"))
    assert capfd.readouterr() == ("", "")
    assert repr(painter).startswith("Painter(UNet2DConditionModel of ")
    assert "\n" not in repr(painter)


def test_the_first_use_in_a_process_prints_nothing() -> None:
    """Importing diffusers without torchvision warns twice; a user of profi cannot help it."""
    code = "import profi; profi.load; profi.ProFIPainterPipeline; import transformers as t; "
    code += "print(t.logging.get_verbosity() == t.logging.WARNING)"
    # Other tests of this process may have silenced the processes that it starts.
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_VERBOSITY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    # Afterwards the library's own level is back.
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_two_painters_of_one_model_wait_for_each_other(painter: profi.Painter) -> None:
    other = profi.Painter(painter.backbone, long_side=48, pad_multiple=16)
    image, mask = picture(48, 48), disc(48, 48)
    expected = [np.asarray(painter(image, mask, "cat", seed=seed, steps=2)) for seed in (0, 1)]
    got: dict[int, np.ndarray] = {}

    def paint(which: profi.Painter, seed: int) -> None:
        got[seed] = np.asarray(which(image, mask, "cat", seed=seed, steps=2))

    threads = [
        threading.Thread(target=paint, args=(which, seed))
        for seed, which in enumerate((painter, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        assert np.abs(got[seed].astype(int) - expected[seed]).max() <= ONE_LEVEL


def test_a_model_that_gives_nan_is_refused(new_backbone: Callable[..., Backbone]) -> None:
    broken = new_backbone()
    with torch.no_grad():
        next(iter(broken.vae.decoder.parameters())).fill_(float("nan"))
    painter = profi.Painter(broken, long_side=48, pad_multiple=16)
    with pytest.raises(profi.UserError, match=r"not finite.*dtype=float32"):
        painter(picture(48, 48), disc(48, 48), "cat", steps=1)


def test_seeds_beyond_the_generator_s_32_bits_are_refused(painter: profi.Painter) -> None:
    with pytest.raises(profi.UserError, match="from 0 to 2\\^32 - 1"):
        painter(picture(48, 48), disc(48, 48), "cat", seed=2**32, steps=1)


def test_files_are_given_by_their_path(painter: profi.Painter, tmp_path: Path) -> None:
    image, mask = picture(48, 48), disc(48, 48)
    image.save(tmp_path / "a.png")
    mask.save(tmp_path / "m.png")
    expected = painter(image, mask, "cat", steps=1)
    got = painter(str(tmp_path / "a.png"), tmp_path / "m.png", "cat", steps=1)
    assert np.array_equal(np.asarray(got), np.asarray(expected))


def test_the_surroundings_of_a_mask_are_painted_as_a_picture_of_their_own(
    painter: profi.Painter,
) -> None:
    image, mask = picture(120, 90), Image.new("L", (120, 90))
    mask.paste(255, (50, 40, 70, 55))
    got = painter(image, mask, "cat", steps=1, crop=6)
    box = (44, 34, 76, 61)
    part = painter(image.crop(box), mask.crop(box), "cat", steps=1)
    expected = image.copy()
    expected.paste(part, box)
    assert np.array_equal(array(got), array(expected))
    # A margin beyond the picture is the whole of it.
    whole = painter(image, mask, "cat", steps=1, crop=500)
    assert np.array_equal(array(whole), array(painter(image, mask, "cat", steps=1)))
    with pytest.raises(profi.UserError, match="crop=-1"):
        painter(image, mask, "cat", crop=-1)


def test_a_feathered_edge_comes_in_from_the_mask_s_edge() -> None:
    image = torch.zeros(3, 20, 30)
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[:, 10:] = True  # cut off by the picture's border, which is no edge
    painted = torch.full((3, 20, 30), 240, dtype=torch.uint8)
    got = blend(painted, image, mask, feather=3)
    assert got[0, 10, 8:16].tolist() == [0, 0, 60, 120, 180, 240, 240, 240]
    assert torch.equal(got[:, 0], got[:, 10])
    assert torch.equal(blend(painted, image, mask, 0), torch.where(mask, painted, 0))
