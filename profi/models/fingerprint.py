"""Hashes of everything in a model that changes its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profi.models.backbone import Backbone
from profi.types import digest


def config_values(config: Mapping[str, Any]) -> dict[str, str]:
    """The values of a model's config that change its output."""
    # The files' place and the version that wrote them change nothing.
    return {
        key: repr(value)
        for key, value in config.items()
        if not key.startswith("_") and key not in ("transformers_version", "dtype")
    }


def backbone_identity(backbone: Backbone) -> dict[str, Any]:
    """Hashes of the weights and of all else that changes a model's output, and the VAE's dtype."""
    parts = {
        "unet": dict(backbone.unet.config),
        "vae": dict(backbone.vae.config),
        **backbone.text.configs,
    }
    kept = {part: config_values(values) for part, values in parts.items()}
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
    # The actual dtype: the meaning of `auto` depends on the device.
    return {"backbone": hashes, "vae_dtype": str(backbone.vae.dtype).removeprefix("torch.")}
