from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest


def synthetic(
    n_triplets: int = 24,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    ablations: tuple[str, ...] = ("rasg_only", "base", "profi", "painta_only"),
    metrics: tuple[str, ...] = ("accuracy", "aesthetic", "clip_score"),
    model: str = "mini",
    reading: str = "paper",
) -> pd.DataFrame:
    """Scores drawn at random, the method a little better; two triplets per image."""
    rng = np.random.default_rng(7)
    gain = {"base": 0.0, "painta_only": 0.1, "rasg_only": 0.08, "profi": 0.2}
    names = ["dog", "cat", "teddy bear"]
    rows = []
    for ablation, seed, number in itertools.product(ablations, seeds, range(n_triplets)):
        lift = gain.get(ablation, 0.0)
        values = {
            "accuracy": 100.0 * (rng.random() < 0.5 + lift),
            "clip_score": rng.normal(25 + 5 * lift, 2),
            "aesthetic": rng.normal(4.9 + lift / 10, 0.3),
            "known_region_psnr": rng.normal(30, 1),
        }
        for metric in metrics:
            rows.append(
                {
                    "model": model,
                    "ablation": ablation,
                    "reading": reading,
                    "seed": seed,
                    "triplet_id": f"{number:04d}",
                    "image_id": number // 2,
                    "category": names[number % 3],
                    "metric": metric,
                    "value": values[metric],
                    "run_id": f"{ablation}-{reading}-{seed}",
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def make_scores():
    return synthetic


@pytest.fixture
def scores() -> pd.DataFrame:
    return synthetic()
