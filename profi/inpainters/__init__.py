"""Inpainters: `(images, masks, prompts, seeds) -> images`, one file per kind of model."""
