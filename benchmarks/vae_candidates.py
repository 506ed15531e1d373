"""Candidates for the embedded world's autoencoder, trained side by side for the same time.

    python -m benchmarks.vae_candidates NAME --minutes 30 [--work FOLDER]

Prints validation PSNR of the moving average every few minutes, as CSV (name, steps, samples,
minutes of one thread, dB). One thread each, so that several run at a time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from profi.mini import models
from profi.mini.training.vae_stage import LossWeights, fit, validation_psnr
from profi.mini.world import world
from profi.training.loop import Plan

PIECE = 5.0  # minutes between two measurements


@dataclass(frozen=True)
class Candidate:
    """Channels per level (it halves after all but the last), latent channels, loss, Muon's rate."""

    channels: tuple[int, ...]
    latent_channels: int = 4
    weights: LossWeights = field(default_factory=LossWeights)
    matrix_rate: float | None = 1e-2


CANDIDATES = {
    "f8c4": Candidate((8, 16, 48, 96)),
    "f8c8": Candidate((8, 16, 48, 96), latent_channels=8),
    "f8c4-wide": Candidate((16, 32, 64, 96)),
    "f8c4-no-edges": Candidate((8, 16, 48, 96), weights=LossWeights(edges=0.0)),
    "f8c4-adamw": Candidate((8, 16, 48, 96), matrix_rate=None),
}


def main() -> None:
    """Train one candidate in pieces, measuring after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CANDIDATES)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--work", type=Path, default=Path("outputs/vae_candidates"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    candidate = CANDIDATES[chosen.name]
    size = replace(
        world("cpu"),
        vae_channels=candidate.channels,
        latent_channels=candidate.latent_channels,
    )
    # A constant rate: the moving average stands for the fall at the end of a real training.
    plan = Plan(
        steps=10**6,
        batch=16,
        rate=2e-3,
        matrix_rate=candidate.matrix_rate,
        warmup=50,
        decay=0.0,
        weight_decay=0.0,
    )
    log = csv.writer(sys.stdout)
    for _ in range(round(chosen.minutes / PIECE)):
        torch.manual_seed(0)
        figures, model = fit(
            models.vae(size),
            size,
            torch.device("cpu"),
            chosen.work / chosen.name,
            0,
            plan,
            candidate.weights,
            quarters=1.0,
            minutes=PIECE,
        )
        decibel = validation_psnr(model, size, 0)
        minutes = figures["seconds"] / 60
        log.writerow(
            [chosen.name, figures["steps"], figures["samples"], f"{minutes:.1f}", f"{decibel:.2f}"]
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
