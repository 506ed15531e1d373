"""The seam of methods: what `ablation=` names, and what it adds to the sampling of a batch."""

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
from profi.settings.fields import changed
from profi.settings.reading import Reading
from profi.types import UserError

Wrapper = Callable[[Denoise[AttentionClue | None]], Denoise[AttentionClue | None]]


@dataclass(frozen=True)
class MethodBatch:
    """What a method may use of a batch of B pictures.

    Fields:
        masks: per down-factor of the latents, [B, h, w] bool, True = inpaint; 1 is the UNet's own
            mask channel, the others are the levels at which the UNet attends (see `level`).
        timesteps: of the run, descending.
        schedule: the forward process that the model was trained with.
        generators: B CPU generators, for whatever the method draws: sample i's depends on its own
            start noise alone, so a picture is the same in any batch.
        find_words: ind(tau) of the batch, see `words`.
        sites: where the UNet attends.
        on_self_attention, on_similarity, on_gradient: who looks on: at every self-attention, at
            PAIntA's c, at the objective's gradient.
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

        Raises UserError for an empty prompt: only a method that reads no prompt takes one.
        """
        return self.find_words()

    def level(self, down_factor: int, kind: Kind) -> Tensor:
        """The mask of a level; UserError where the UNet has no such attention there."""
        sites_at(self.sites, kind, down_factor)
        return self.masks[down_factor]


@dataclass(frozen=True)
class MethodParts:
    """What a method adds to the sampling of one batch; what is left out stays plain.

    Fields:
        self_attention, cross_attention: each controls all such attention of the UNet.
        step_noise: what sigma_t multiplies in eq. 3.
        sigmas: sigma_t of every step, such as `sigma_schedule` gives; () is zero in every step.
        reads: the down-factor of the latents at which cross-attention is read, with its graph down
            to x_t: for the step noise (its `state.clue`) in the steps whose sigma_t is above zero,
            for `wrap` in every step. None reads nothing: the clue is None, and there is no
            gradient.
        wrap: a denoiser around the denoiser, for methods that change eps.
    """

    self_attention: AttentionControl | None = None
    step_noise: StepNoise[AttentionClue | None] | None = None
    sigmas: tuple[float, ...] = ()
    reads: int | None = None
    cross_attention: AttentionControl | None = None
    wrap: Wrapper | None = None

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


# Called once for every batch.
Build = Callable[[MethodBatch], MethodParts]


@dataclass(frozen=True)
class Method:
    """A method in a reading.

    Fields:
        name: what `ablation=` calls it.
        reading: its masks, and whatever the method takes of it.
        build: what it adds to a batch.
        identity: its settings that change a picture, as JSON would hold them; None for a function
            of a user's, of which nothing is known.
    """

    name: str
    reading: Reading
    build: Build
    identity: Mapping[str, Any] | None = field(default=None, compare=False)

    def parts(self, batch: MethodBatch) -> MethodParts:
        """What the method gives for a batch; UserError where it gives something else."""
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
    """The method of a name of the catalogue, or of a function, in a reading.

    Args:
        ablation: the name, or a function from `MethodBatch` to `MethodParts`.
        reading: how the paper is read.
        sections: the settings of the methods that have their own, by the section's name (`rasg`);
            absent ones are the defaults.

    Raises:
        UserError: an unknown name, or something else.
    """
    if not isinstance(ablation, str):
        if not callable(ablation):
            raise UserError(
                f"ablation={ablation!r}: give a name such as profi, or a function from "
                "MethodBatch to MethodParts"
            )
        return Method(getattr(ablation, "__name__", type(ablation).__name__), reading, ablation)
    entry = catalogue.method(ablation)
    given = {
        name: (sections or {}).get(name) or section() for name, section in entry.sections().items()
    }
    differing = changed(reading)
    kept = {
        name: differing[name]
        for name in ("mask_resizing", "masked_image", *entry.reads)
        if name in differing
    }
    own = {name: changed(section) for name, section in given.items() if changed(section)}
    identity = {"name": entry.name, "reading": kept, **own}
    return Method(entry.name, reading, entry.load()(reading, **given), identity)


def together(*builds: Build) -> Build:
    """Several methods at once; UserError where two of them want the same part."""

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
    """The model alone: nothing is added."""
    return lambda batch: MethodParts()


def generators_of(x_T: Tensor) -> list[torch.Generator]:
    """A CPU generator per sample of start noise [B, C, h, w], which follows from it alone."""
    found = []
    for noise in x_T:
        digest = hashlib.sha256(noise.detach().float().cpu().numpy().tobytes()).digest()
        found.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))
    return found
