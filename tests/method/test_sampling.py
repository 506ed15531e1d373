from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler

from profi.method.ddim import (
    classifier_free,
    ddim_step,
    sigma_schedule,
    to_x0_eps,
    trailing_timesteps,
)
from profi.method.sampling import Denoised, StepState, sample
from profi.models.schedule import Schedule


@pytest.fixture
def schedule(scheduler_config: dict[str, object]) -> Schedule:
    return Schedule.from_config(scheduler_config)


class GaussianNoise:
    """Stochastic DDIM: N(0, 1), drawn per sample from a generator of its own."""

    def __init__(self, *seeds: int) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, state: StepState[object]) -> torch.Tensor:
        shape = state.x_t.shape[1:]
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_recovers_x0_and_eps(prediction_type: str) -> None:
    x0, eps = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    alpha = 0.3
    a, b = math.sqrt(alpha), math.sqrt(1 - alpha)
    output = {"epsilon": eps, "v_prediction": a * eps - b * x0, "sample": x0}[prediction_type]
    got = to_x0_eps(output, a * x0 + b * eps, alpha, prediction_type)  # type: ignore[arg-type]
    torch.testing.assert_close(got, (x0, eps))


def test_a_step_with_noise_keeps_the_family_s_variance() -> None:
    """Eq. 3 keeps the law of x_{t-1}: sqrt(alpha) x0 + sqrt(1 - alpha) times unit noise."""
    eps, noise = torch.randn(2, 1, 4, 200, 200, generator=torch.Generator().manual_seed(0))
    x = ddim_step(torch.zeros_like(eps), eps, alpha_prev=0.4, sigma_t=0.5, noise=noise)
    assert float(x.var()) == pytest.approx(0.6, rel=0.01)


def test_classifier_free_guidance_is_linear() -> None:
    u, c = torch.tensor([1.0]), torch.tensor([3.0])
    assert classifier_free(u, c, 0.0) == u
    assert classifier_free(u, c, 1.0) == c
    assert classifier_free(u, c, 7.5) == torch.tensor([16.0])


@pytest.mark.parametrize("n", [1, 5, 20])
def test_the_exact_denoiser_of_one_point_arrives_there(schedule: Schedule, n: int) -> None:
    """Of data that is one point the optimal x0_pred is that point: every process ends there."""
    point = torch.full((2, 4, 3, 3), 0.7)

    def denoise(x_t: torch.Tensor, t: int, step_index: int) -> Denoised[None]:
        x0, eps = to_x0_eps(point, x_t, schedule.alpha(t), "sample")
        return Denoised(x0, eps, None)

    x_T = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    timesteps = trailing_timesteps(1000, n)
    sigmas = sigma_schedule(schedule, timesteps, "cumulative", 1.0)
    for noise in (None, GaussianNoise(0, 1)):
        x_0 = sample(denoise, x_T, timesteps, schedule, sigmas, noise)
        torch.testing.assert_close(x_0, point)


def linear_denoiser(x_t: torch.Tensor, t: int, step_index: int) -> torch.Tensor:
    return 0.8 * x_t + 0.001 * t


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_the_loop_equals_diffusers_ddim(
    scheduler_config: dict[str, object], prediction_type: str, eta: float
) -> None:
    config = {**scheduler_config, "prediction_type": prediction_type}
    schedule = Schedule.from_config(config)
    peer = DDIMScheduler.from_config(
        {**config, "clip_sample": False, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    )
    peer.set_timesteps(10)
    x = x_T = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(5)
    for i, t in enumerate(peer.timesteps):
        noise = torch.randn(x.shape[1:], generator=generator)[None] if eta and i < 9 else x * 0
        x = peer.step(
            linear_denoiser(x, int(t), i), t, x, eta=eta, variance_noise=noise
        ).prev_sample

    def denoise(x_t: torch.Tensor, t: int, step_index: int) -> Denoised[None]:
        output = linear_denoiser(x_t, t, step_index)
        x0, eps = to_x0_eps(output, x_t, schedule.alpha(t), schedule.prediction_type)
        return Denoised(x0, eps, None)

    timesteps = trailing_timesteps(1000, 10)
    sigmas = sigma_schedule(schedule, timesteps, "cumulative", eta)
    step_noise = GaussianNoise(5)
    x_0 = sample(denoise, x_T, timesteps, schedule, sigmas, step_noise)
    torch.testing.assert_close(x_0, x, rtol=1e-3, atol=1e-3)


def test_a_sample_without_noise_steps_by_eq_4_and_its_neighbour_by_eq_3() -> None:
    schedule = Schedule.from_config(
        {
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "num_train_timesteps": 1000,
        }
    )
    x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise[0] = 0

    def denoise(x_t: torch.Tensor, t: int, step_index: int) -> Denoised[None]:
        return Denoised(0.5 * x_t, 0.1 * x_t, None)

    args = (denoise, x_T, (599, 19), schedule, (0.05, 0.0))
    plain, mixed = sample(*args), sample(*args, lambda state: noise)
    assert torch.equal(mixed[0], plain[0])
    assert not torch.allclose(mixed[1], plain[1], atol=1e-3)


def test_who_looks_on_sees_every_x_prev_and_may_change_it(schedule: Schedule) -> None:
    """Doubling x_{t-1} of the first step is going on from the doubled one."""

    def denoise(x_t: torch.Tensor, t: int, step_index: int) -> Denoised[None]:
        x0, eps = to_x0_eps(linear_denoiser(x_t, t, step_index), x_t, schedule.alpha(t), "epsilon")
        return Denoised(x0, eps, None)

    x_T = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, torch.Tensor]] = []

    def look(state: StepState[None], x_prev: torch.Tensor) -> torch.Tensor | None:
        seen.append((state.step_index, x_prev))
        return 2 * x_prev if state.step_index == 0 else None

    x_0 = sample(denoise, x_T, (999, 499, 199), schedule, (0.0,) * 3, after_step=look)
    assert [i for i, _ in seen] == [0, 1, 2]
    assert torch.equal(seen[-1][1], x_0)
    going_on = sample(denoise, 2 * seen[0][1], (499, 199), schedule, (0.0,) * 2)
    assert torch.equal(x_0, going_on)
