"""Methods: the values of `ablation=`, and what they add to the sampling of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from profi.catalogue import catalogue
from profi.method.attention import AttentionControl
from profi.method.attention_objective import AttentionClue
from profi.method.sampling import Denoise, StepNoise
from profi.method.similarity_maps import SelfAttentionObserver, SimilarityObserver, unobserved
from profi.method.sites import Kind, Site, sites_at
from profi.models.schedule import Schedule
from profi.settings.fields import recorded
from profi.settings.method import Reading
from profi.types import UserError

Wrapper = Callable[[Denoise[AttentionClue | None]], Denoise[AttentionClue | None]]


@dataclass(frozen=True)
class MethodBatch:
    """The data of a batch of B pictures for a method.

    Fields:
        masks: per down-factor of the latents, [B, h, w] bool, True = inpaint. 1 is the UNet's mask
            channel; the others are the levels at which the UNet has attention (see `level`).
        timesteps: of the run, descending.
        schedule: the forward process of the model's training.
        generators: B CPU generators for the method's random draws. Generator i depends only on
            sample i's start noise, so a picture is the same in every batch.
        find_words: computes ind(tau) of the batch, see `words`.
        sites: the UNet's attention sites.
        on_self_attention, on_similarity, on_gradient: observers of every self-attention, of
            PAIntA's c, and of the objective's gradient.
    """

    masks: Mapping[int, Tensor]
    timesteps: tuple[int, ...]
    schedule: Schedule
    find_words: Callable[[], Tensor]
    sites: Sequence[Site] = ()
    generators: Sequence[torch.Generator] = ()
    on_self_attention: SelfAttentionObserver = unobserved
    on_similarity: SimilarityObserver | None = None
    on_gradient: Callable[[Tensor], None] | None = None

    @cached_property
    def words(self) -> Tensor:
        """ind(tau), [B, L] bool: the prompt's words and its first EOT.

        Raises UserError for an empty prompt; a method that does not use it accepts empty prompts.
        """
        return self.find_words()

    def level(self, down_factor: int, kind: Kind) -> Tensor:
        """The mask of a level; UserError if the UNet has no such attention there."""
        sites_at(self.sites, kind, down_factor)
        return self.masks[down_factor]


@dataclass(frozen=True)
class MethodParts:
    """The parts that a method adds to the sampling of one batch; all are optional.

    Fields:
        self_attention, cross_attention: controls of all self- or cross-attention of the UNet.
        step_noise: gives the tensor that sigma_t multiplies in eq. 3.
        sigmas: sigma_t of every step, for example from `sigma_schedule`; () is zero in every step.
        reads: the down-factor of the latents at which cross-attention is recorded, with its graph
            from x_t. The step noise gets it (as `state.clue`) in the steps with sigma_t > 0; `wrap`
            gets it in every step. None: nothing is recorded, the clue is None, and there is no
            gradient.
        wrap: wraps the denoiser, for methods that change eps.
    """

    self_attention: AttentionControl | None = None
    step_noise: StepNoise[AttentionClue | None] | None = None
    sigmas: tuple[float, ...] = ()
    reads: int | None = None
    cross_attention: AttentionControl | None = None
    wrap: Wrapper | None = None

    def sigmas_of(self, num_steps: int) -> tuple[float, ...]:
        """One sigma_t per step.

        Raises UserError if their number is wrong, or if there is a step noise and all are zero.
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


# Called once for every batch.
Build = Callable[[MethodBatch], MethodParts]


@dataclass(frozen=True)
class Method:
    """A method in a reading.

    Fields:
        name: its value of `ablation=`.
        reading: gives the masks' rules and the method's choices.
        build: gives the parts for a batch.
        identity: its settings that change a picture, as JSON values; None for a user's function,
            whose settings are not known.
    """

    name: str
    reading: Reading
    build: Build
    identity: Mapping[str, Any] | None = field(default=None, compare=False)

    def parts(self, batch: MethodBatch) -> MethodParts:
        """The method's parts for a batch; UserError if it returns something else."""
        parts = self.build(batch)
        if not isinstance(parts, MethodParts):
            raise UserError(
                f"the method {self.name} returned {type(parts).__name__}; "
                "return a profi.MethodParts"
            )
        return parts


def compose(
    ablation: str | Build, reading: Reading, sections: Mapping[str, Any] | None = None
) -> Method:
    """The method of a catalogue name or of a function, in a reading.

    Args:
        ablation: the name, or a function from `MethodBatch` to `MethodParts`.
        reading: how the paper is read.
        sections: the methods' own settings by the section's name (`rasg`); missing ones are the
            defaults.

    Raises:
        UserError: an unknown name, or neither a name nor a function.
    """
    if not isinstance(ablation, str):
        if not callable(ablation):
            raise UserError(
                f"ablation={ablation!r}: give a name such as profi, or a function from "
                "MethodBatch to MethodParts"
            )
        return Method(getattr(ablation, "__name__", type(ablation).__name__), reading, ablation)
    entry = catalogue.methods.get(ablation)
    given = {
        name: (sections or {}).get(name) or section() for name, section in entry.sections().items()
    }
    differing = recorded(reading)
    kept = {
        name: differing[name]
        for name in ("mask_resizing", "masked_image", *entry.reads)
        if name in differing
    }
    own = {name: recorded(section) for name, section in given.items() if recorded(section)}
    identity = {"name": entry.name, "reading": kept, **own}
    return Method(entry.name, reading, entry.load()(reading, **given), identity)


def together(*builds: Build) -> Build:
    """Combine several methods; UserError if two of them have the same part."""

    def build(batch: MethodBatch) -> MethodParts:
        parts = MethodParts()
        for one in builds:
            other = one(batch)
            for spec in fields(MethodParts):
                value = getattr(other, spec.name)
                if value in (None, ()):
                    continue
                if getattr(parts, spec.name) not in (None, ()):
                    raise UserError(f"two methods have a {spec.name}: they cannot work together")
                parts = replace(parts, **{spec.name: value})
        return parts

    return build


def base(reading: Reading) -> Build:
    """The plain model: no parts."""
    return lambda batch: MethodParts()


def generators_of(x_T: Tensor) -> list[torch.Generator]:
    """One CPU generator per sample of start noise [B, C, h, w], seeded by a hash of the noise."""
    found = []
    for noise in x_T:
        digest = hashlib.sha256(noise.detach().float().cpu().numpy().tobytes()).digest()
        found.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))
    return found
