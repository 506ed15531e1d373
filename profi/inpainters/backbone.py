"""A pre-trained inpainting model, loaded from the diffusers folder layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from profi.attention.tokens import encode
from profi.diffusion.schedule import Schedule
from profi.types import UserError, digest

WEIGHT_FOLDERS = ("unet", "vae", "text_encoder")
REQUIRED_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
HUB_TIMEOUT_SECONDS = 10.0
# The second is the base class of the HTTP library's own errors (which one depends on the version
# of huggingface_hub): failures to connect are among them and not always OSErrors.
HUB_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    cast(type[Exception], HfHubHTTPError.__bases__[0]),
    ValueError,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Backbone:
    """The parts of a latent inpainting model, ready to run.

    The UNet may be in half precision; the VAE and the text encoder are float32 always (they run
    once per image). `weights` maps each weight file to its SHA-256 and is empty for parts that
    never were files.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: Schedule
    weights: Mapping[str, str]

    @classmethod
    def from_parts(
        cls,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        schedule: Schedule,
        weights: Mapping[str, str] | None = None,
    ) -> Backbone:
        """Check that the parts belong together and set them to inference.

        Puts the models in eval mode and turns their parameters' gradients off (RASG
        differentiates with respect to the latents alone). Raises UserError for a UNet that is
        not an inpainting one or a tokenizer that is not the text encoder's.
        """
        channels, latent_channels = unet.config.in_channels, vae.config.latent_channels
        if channels != 2 * latent_channels + 1:
            raise UserError(
                f"the UNet takes {channels} input channels, not {2 * latent_channels + 1} "
                "(latents, mask, masked image); use an inpainting model"
            )
        words, vocabulary = len(tokenizer), text_encoder.config.vocab_size
        # A tokenizer whose files are missing loads as one of two special tokens.
        if not 2 < words <= vocabulary:
            raise UserError(
                f"the tokenizer knows {words} tokens and the text encoder {vocabulary}; "
                "check the model's tokenizer/ folder (vocab.json, merges.txt)"
            )
        positions = text_encoder.config.max_position_embeddings
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        for model in (unet, vae, text_encoder):
            model.eval().requires_grad_(False)
        return cls(unet, vae, text_encoder, tokenizer, schedule, dict(weights or {}))

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.unet.device

    @property
    def latent_factor(self) -> int:
        """Image pixels per latent, 8 in Stable Diffusion."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this, so that every UNet level halves evenly."""
        return self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def digest(self) -> str:
        """One digest of all weight files."""
        return digest(dict(self.weights))

    @property
    def tokenizer_digest(self) -> str:
        """One digest of what turns a text into tokens: vocabulary, merges and normalisation."""
        tokenizer: Any = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            # transformers 4 tokenizes in Python, its normalisation is in its code.
            merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
            return digest({"vocabulary": tokenizer.get_vocab(), "merges": merges})
        state: dict[str, Any] = json.loads(backend.to_str())
        # These two are of the last call.
        return digest({k: v for k, v in state.items() if k not in ("padding", "truncation")})

    @torch.no_grad()
    def encode_ids(self, input_ids: Tensor) -> Tensor:
        """Text embeddings [B, L, D], in the UNet's dtype, of token ids [B, L]."""
        embeddings = self.text_encoder(input_ids.to(self.device))[0]
        return embeddings.to(self.unet.dtype)

    def encode_text(self, text: str, batch: int) -> Tensor:
        """Text embeddings [batch, L, D] of one text for all samples; "" is unconditional."""
        return self.encode_ids(encode(self.tokenizer, [text])).expand(batch, -1, -1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [B, 4, h, w], float32: the VAE's mean (no sample) of images in [-1, 1]."""
        images = images.to(self.device, torch.float32)
        mean: Tensor = self.vae.encode(images).latent_dist.mean
        return mean * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1], float32, of latents [B, 4, h, w]."""
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (images / 2 + 0.5).clamp(0.0, 1.0)


def load_backbone(
    model: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Backbone:
    """Load a model from a local folder in the diffusers layout, or by its Hub id.

    Args:
        model: an existing folder, or an id: stable-diffusion-v1-5/stable-diffusion-inpainting.
        device: of all parts.
        dtype: of the UNet: float32, bfloat16 or float16.
        memory_format: of the UNet; torch.channels_last is faster on most devices.

    Only safetensors are loaded. Raises UserError, soon, for what cannot be loaded.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; choose {', '.join(DTYPES)}")
    folder = Path(model) if Path(model).is_dir() else _from_hub(str(model))
    for name in REQUIRED_FILES:
        if not (folder / name).is_file():
            raise UserError(
                f"model folder {folder}: {name} is missing; "
                "point model.path=... at a complete folder in the diffusers layout"
            )
    unet = _load(folder, "unet", UNet2DConditionModel.from_pretrained)
    vae = _load(folder, "vae", AutoencoderKL.from_pretrained)
    text_encoder = _load(folder, "text_encoder", CLIPTextModel.from_pretrained)
    if not (folder / "tokenizer").is_dir():
        raise UserError(f"model folder {folder}: tokenizer/ is missing; complete the folder")
    tokenizer = _loading(
        folder, "tokenizer", lambda: CLIPTokenizer.from_pretrained(folder / "tokenizer")
    )
    schedule_config = _loading(
        folder,
        "scheduler",
        lambda: json.loads((folder / "scheduler/scheduler_config.json").read_text("utf-8")),
    )
    return Backbone.from_parts(
        unet.to(device, dtype=DTYPES[dtype], memory_format=memory_format),
        vae.to(device),
        text_encoder.to(device),
        tokenizer,
        Schedule.from_config(schedule_config),
        weight_hashes(folder),
    )


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file that is loaded, by its path within the folder."""
    hashes = {}
    for part in WEIGHT_FOLDERS:
        for path in sorted((folder / part).glob("*.safetensors")):
            # Variants such as diffusion_pytorch_model.fp16.safetensors are not what is loaded.
            if ".fp16." in path.name or ".non_ema." in path.name:
                continue
            with path.open("rb") as file:
                hashes[f"{part}/{path.name}"] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def weights_digest(folder: Path) -> str:
    """One digest of the weight files of a folder in the diffusers layout."""
    return digest(weight_hashes(folder))


def _load(folder: Path, part: str, load: Callable[..., T]) -> T:
    return _loading(
        folder,
        part,
        lambda: load(
            folder / part, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
        ),
    )


def _loading(folder: Path, part: str, load: Callable[[], Any]) -> Any:
    """Run a loader; what it says of missing or damaged files becomes one line."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"model folder {folder}: {part}/ cannot be loaded ({type(error).__name__}: {reason}); "
            "point model.path=... at a complete folder in the diffusers layout with safetensors"
        ) from error


def _from_hub(repo_id: str) -> Path:
    """The local snapshot of a Hub repository, downloaded where needed and possible."""
    patterns = ["tokenizer/*", "scheduler/*"]
    patterns += [f"{part}/{ext}" for part in WEIGHT_FOLDERS for ext in ("*.json", "*.safetensors")]
    variants = ["*.fp16.*", "*.non_ema.*"]
    try:
        cached = Path(snapshot_download(repo_id, allow_patterns=patterns, local_files_only=True))
        if all((cached / name).is_file() for name in REQUIRED_FILES) and all(
            any((cached / part).glob("*.safetensors")) for part in WEIGHT_FOLDERS
        ):
            return cached
    except (OSError, ValueError):
        pass  # Not in the cache (or no id at all, which the Hub is about to say).
    try:
        # A short question first: a download from an unreachable Hub retries for minutes.
        HfApi().model_info(repo_id, timeout=HUB_TIMEOUT_SECONDS)
        return Path(snapshot_download(repo_id, allow_patterns=patterns, ignore_patterns=variants))
    except HUB_ERRORS as error:
        raise UserError(
            f"the model {repo_id!r} is neither a local folder nor to be had from the Hugging Face "
            f"Hub ({type(error).__name__}); "
            "point model.path=... at a local folder in the diffusers layout"
        ) from error
