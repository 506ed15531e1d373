"""A method of one's own: what it is given for a batch, and what it may take part in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from profi.attention.control import AttentionControl
from profi.diffusion.sampling import StepNoise
from profi.diffusion.schedule import Schedule
from profi.guidance.attention_objective import AttentionClue
from profi.types import UserError


@dataclass(frozen=True)
class MethodBatch:
    """What a method may use of a batch of B pictures.

    Fields:
        masks: per down-factor of the latents, [B, h, w] bool, True = inpaint; 1 is the UNet's own
            mask channel, the others are the levels at which the UNet attends.
        words: ind(tau), [B, L] bool: the prompt's words and its first EOT.
        timesteps: of the run, descending.
        schedule: the forward process that the model was trained with.
    """

    masks: Mapping[int, Tensor]
    words: Tensor
    timesteps: tuple[int, ...]
    schedule: Schedule


@dataclass(frozen=True)
class MethodParts:
    """What a method adds to the sampling of one batch; what is left out stays plain.

    Fields:
        self_attention: rules every self-attention of the UNet.
        step_noise: what sigma_t multiplies in eq. 3.
        sigmas: sigma_t of every step, such as `sigma_schedule` gives; () is zero in every step.
        reads: the down-factor of the latents at which the step noise reads cross-attention: its
            `state.clue` then holds the logits there, with their graph down to x_t. None reads
            nothing: the clue is None, and no gradient is computed.
    """

    self_attention: AttentionControl | None = None
    step_noise: StepNoise[AttentionClue | None] | None = None
    sigmas: tuple[float, ...] = ()
    reads: int | None = None

    def sigmas_of(self, num_steps: int) -> tuple[float, ...]:
        """One sigma_t per step.

        Raises UserError where their number is another, and for a step noise without any.
        """
        if self.step_noise is not None and not any(self.sigmas):
            raise UserError(
                "the method has a step_noise and no sigmas above zero, so it would do nothing; "
                "give sigmas, one per step"
            )
        sigmas = self.sigmas or (0.0,) * num_steps
        if len(sigmas) != num_steps:
            raise UserError(
                f"the method gives {len(sigmas)} sigmas for {num_steps} steps; give one per step"
            )
        return sigmas


# A method: called once for every batch.
OwnMethod = Callable[[MethodBatch], MethodParts]


def parts_of(method: OwnMethod, batch: MethodBatch) -> MethodParts:
    """What a method gives for a batch; UserError where it gives something else."""
    parts = method(batch)
    if not isinstance(parts, MethodParts):
        name = getattr(method, "__name__", type(method).__name__)
        raise UserError(
            f"the method {name} returned {type(parts).__name__}; return a profi.MethodParts"
        )
    return parts
