from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler

from profi.method.ddim import (
    sigma_cumulative,
    sigma_per_step,
    sigma_schedule,
    step_pairs,
    trailing_timesteps,
)
from profi.models.schedule import CLEAN, Schedule
from profi.types import UserError


@pytest.fixture
def schedule(scheduler_config: dict[str, object]) -> Schedule:
    return Schedule.from_config(scheduler_config)


@pytest.mark.parametrize("n", [1, 3, 7, 20, 49, 50, 100, 999, 1000])
def test_timesteps_are_those_of_diffusers_trailing(n: int) -> None:
    peer = DDIMScheduler(timestep_spacing="trailing")
    peer.set_timesteps(n)
    assert trailing_timesteps(1000, n) == tuple(peer.timesteps.tolist())


def test_fifty_steps_are_999_to_19() -> None:
    assert trailing_timesteps(1000, 50) == tuple(range(999, 0, -20))
    assert step_pairs((999, 19)) == ((999, 19), (19, CLEAN))


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_an_impossible_number_of_steps_is_refused(n: int) -> None:
    with pytest.raises(UserError, match="num_inference_steps"):
        trailing_timesteps(1000, n)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_alphas_equal_those_of_diffusers(name: str) -> None:
    config = {"beta_schedule": name, "beta_start": 0.00085, "beta_end": 0.012}
    peer = DDIMScheduler(**config)
    alphas = Schedule.from_config(config).alphas_cumprod
    assert alphas.dtype == torch.float64
    torch.testing.assert_close(alphas.float(), peer.alphas_cumprod, rtol=1e-4, atol=1e-6)


def test_trained_betas_are_taken_as_they_are() -> None:
    schedule = Schedule.from_config({"trained_betas": [0.1, 0.2, 0.5], "beta_schedule": "odd"})
    assert schedule.num_train_timesteps == 3
    expected = torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64)
    torch.testing.assert_close(schedule.alphas_cumprod, expected)


@pytest.mark.parametrize(
    "change",
    [{"beta_schedule": "cosine"}, {"prediction_type": "flow"}, {"rescale_betas_zero_snr": True}],
)
def test_an_unknown_schedule_is_refused(
    scheduler_config: dict[str, object], change: dict[str, object]
) -> None:
    with pytest.raises(UserError, match="scheduler config"):
        Schedule.from_config({**scheduler_config, **change})


# The values that eq. 11 gives for 50 steps of this schedule, in both readings of its alphas.
@pytest.mark.parametrize(
    ("sigma", "eta", "t", "value", "digits"),
    [
        (sigma_cumulative, 0.15, 999, 0.069, 3),
        (sigma_cumulative, 0.15, 599, 0.049, 3),
        (sigma_cumulative, 0.15, 39, 0.015, 3),
        (sigma_per_step, 0.25, 999, 0.0046, 4),
        (sigma_per_step, 0.25, 599, 0.0039, 4),
        (sigma_per_step, 0.25, 39, 0.0024, 4),
    ],
)
def test_sigma_has_the_known_values(
    schedule: Schedule, sigma: object, eta: float, t: int, value: float, digits: int
) -> None:
    assert callable(sigma)
    assert round(sigma(schedule, t, t - 20, eta), digits) == value


def test_sigma_by_hand() -> None:
    schedule = Schedule.from_config({"trained_betas": [0.1, 0.2]})
    # Cumulative alphas 0.9, 0.72.
    by_hand = 0.5 * math.sqrt(0.1 / 0.28) * math.sqrt(1 - 0.72 / 0.9)
    assert sigma_cumulative(schedule, 1, 0, 0.5) == pytest.approx(by_hand)
    by_hand = 0.5 * math.sqrt(0.1 / 0.2) * math.sqrt(1 - 0.8 / 0.9)
    assert sigma_per_step(schedule, 1, 0, 0.5) == pytest.approx(by_hand)


@pytest.mark.parametrize("formula", ["cumulative", "per_step"])
def test_sigma_vanishes_in_the_last_step_only(schedule: Schedule, formula: str) -> None:
    sigmas = sigma_schedule(schedule, trailing_timesteps(1000, 50), formula, 0.2)  # type: ignore[arg-type]
    assert sigmas[-1] == 0.0
    assert all(sigma > 0.0 for sigma in sigmas[:-1])


def test_full_eta_is_ddpm(schedule: Schedule) -> None:
    """eta = 1 over neighbouring timesteps is the posterior variance of DDPM (Ho et al. 2020)."""
    t = 500
    alphas, beta = schedule.alphas_cumprod, float(schedule.betas[t])
    posterior = beta * float((1 - alphas[t - 1]) / (1 - alphas[t]))
    assert sigma_cumulative(schedule, t, t - 1, 1.0) ** 2 == pytest.approx(posterior)


@pytest.mark.parametrize("eta", [-0.1, math.nan, 50.0])
def test_an_eta_outside_the_family_is_refused(schedule: Schedule, eta: float) -> None:
    with pytest.raises(UserError, match="eta"):
        sigma_schedule(schedule, trailing_timesteps(1000, 50), "cumulative", eta)
