"""Stage `clip_vision`: a new vision tower against the text tower that the UNets already read.

For when the scenes changed after `clip`: the text tower stays (the UNets were trained on it),
and no weight that ever saw the old scenes takes part in the scores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPTokenizer

from profi.mini import models
from profi.mini.training.clip import PLANS, contrast
from profi.mini.world import World


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train, measure and replace `work/models/clip`; its text tower's weights stay as they are."""
    folder = work / "models" / "clip"
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    trained = CLIPModel.from_pretrained(folder, torch_dtype=torch.float32)
    torch.manual_seed(seed + 2)
    sot, eot = tokenizer.bos_token_id, tokenizer.eos_token_id
    model = models.clip(world, len(tokenizer), sot, eot)
    for name in ("text_model", "text_projection"):
        part = getattr(model, name)
        part.load_state_dict(getattr(trained, name).state_dict())
        part.requires_grad_(False)
    plan = replace(PLANS[world.size], minutes=minutes)
    return contrast(model.to(device), tokenizer, world, device, work, "clip_vision", plan, seed)
