"""A tiny Stable Inpainting model with random weights, built from the real classes."""

from __future__ import annotations

import importlib.util
import os
import sys

# Before any library of the Hub is imported: tests never wait for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from file_server import FileServer, serving
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import profi
from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder, TextTower
from profi.models.unet_role import INPAINTING, UNetRole

TOKEN_LIMIT = 24
SCHEDULER_CONFIG = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


def make_tokenizer() -> CLIPTokenizer:
    """Letters and a comma, no merges: one token per letter; padded with EOT, as CLIP is."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", ","]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TOKEN_LIMIT)


def make_unet(seed: int, in_channels: int = 9) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )


def make_backbone(
    seed: int = 0, prediction_type: str = "epsilon", role: UNetRole = INPAINTING
) -> Backbone:
    tokenizer = make_tokenizer()
    unet = make_unet(seed, 4 * role.latents + role.masks)
    # Random projections give nearly uniform attention; sharper ones give the laws some contrast.
    for name, parameter in unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            parameter.data *= 4.0
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        sample_size=64,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            max_position_embeddings=TOKEN_LIMIT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    schedule = Schedule.from_config({**SCHEDULER_CONFIG, "prediction_type": prediction_type})
    text = PromptEncoder(TextTower(text_encoder, tokenizer))
    return Backbone.from_parts(unet, vae, text, schedule, role=role)


@dataclass(frozen=True)
class Batch:
    images: torch.Tensor
    masks: torch.Tensor
    prompts: list[str]
    seeds: list[int]

    def only(self, i: int) -> Batch:
        one = slice(i, i + 1)
        return replace(
            self,
            images=self.images[one],
            masks=self.masks[one],
            prompts=self.prompts[one],
            seeds=self.seeds[one],
        )

    def in_cells(self, factor: int) -> Batch:
        """With masks of whole cells, which every way to the latents takes to the same ones."""
        cells = self.masks[:, ::factor, ::factor]
        whole = cells.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        return replace(self, masks=whole)

    def args(self) -> tuple[torch.Tensor, torch.Tensor, list[str], list[int]]:
        return self.images, self.masks, self.prompts, self.seeds


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return make_backbone()


@pytest.fixture(scope="session")
def new_backbone() -> Callable[..., Backbone]:
    """`new_backbone(seed=0, prediction_type="epsilon", role=INPAINTING)`: one's own model."""
    return make_backbone


@pytest.fixture(scope="session")
def new_unet() -> Callable[..., UNet2DConditionModel]:
    return make_unet


@pytest.fixture(scope="session")
def scheduler_config() -> dict[str, object]:
    return dict(SCHEDULER_CONFIG)


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Four samples with masks and prompts of different sizes."""
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    masks = torch.zeros(4, 64, 64, dtype=torch.bool)
    masks[0, 16:48, 16:48] = True
    masks[1, :40, 30:] = True
    masks[2, 8:60, 2:30] = True
    masks[3] = True
    return Batch(images, masks, ["cat", "red bus", "an old clock", "dog"], [1, 2, 3, 2**31])


@pytest.fixture
def wandb_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B keeps its own files in a folder of the tests, and finds no key and no settings there."""
    home = str(tmp_path_factory.mktemp("wandb"))
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, home)
    monkeypatch.setenv("NETRC", f"{home}/netrc")
    # Set here, so that what the code sets is undone.
    monkeypatch.setenv("WANDB_DATA_DIR", home)
    for name in ("WANDB_DATA_DIR", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """`load_script("wandb_report")`: a script of the repository as a module."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where a dataclass looks up its fields' types
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A file server of this process, with the faults it is message to have."""
    with serving() as served:
        yield served


@pytest.fixture
def painter(backbone: Backbone) -> profi.Painter:
    """A tiny random model; images of 48 pixels, padded to a multiple of 16."""
    return profi.Painter(backbone, long_side=48, pad_multiple=16, batch_size=2)
