"""What of a model decides its pictures, in a few hashes."""

from __future__ import annotations

from typing import Any

from profi.inpainters.backbone import Backbone
from profi.types import digest


def backbone_identity(backbone: Backbone) -> dict[str, Any]:
    """Hashes of the weights and of what else decides a model's output; the VAE's dtype."""
    parts = {
        "unet": dict(backbone.unet.config),
        "vae": dict(backbone.vae.config),
        **backbone.text.configs,
    }
    # Where the files lay and which version wrote them changes nothing.
    kept = {
        part: {
            key: repr(value)
            for key, value in values.items()
            if not key.startswith("_") and key not in ("transformers_version", "dtype")
        }
        for part, values in parts.items()
    }
    hashes = {
        "weights": backbone.digest,
        "configs": digest(kept),
        "tokenizer": backbone.text.tokenizer_digest,
        "token_limit": str(backbone.text.token_limit),
        "schedule": digest(
            {
                "prediction_type": backbone.schedule.prediction_type,
                "alphas_cumprod": backbone.schedule.alphas_cumprod.tolist(),
            }
        ),
    }
    # As it came out: what `auto` means depends on the device.
    return {"backbone": hashes, "vae_dtype": str(backbone.vae.dtype).removeprefix("torch.")}
