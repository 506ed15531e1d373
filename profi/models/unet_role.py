"""The role of a latent diffusion UNet, checked by its channels."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, UNet2DConditionModel

from profi.types import UserError

# Conditions of other UNets that are not given here (only the text and SDXL's size are).
FOREIGN_CONDITIONS = (
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
    "dual_cross_attention",
)
# Normalisations of the latents other than the scaling factor.
FOREIGN_LATENTS = ("shift_factor", "latents_mean", "latents_std")
ONE_PREDICTION = "a UNet that predicts eps, v or x_0 alone"


@dataclass(frozen=True)
class UNetRole:
    """The input and output channels of a UNet; C is the number of the VAE's latent channels.

    Inputs are `latents` tensors of C channels and `masks` of one channel. Outputs are C channels
    and `masks_out` masks. `inputs` describes the inputs, and `remedy` the model that the user
    should give, for error messages. `conditions` are the FOREIGN_CONDITIONS that such a UNet needs
    and its inpainter gives.
    """

    latents: int
    masks: int
    inputs: str
    remedy: str
    masks_out: int = 0
    conditions: tuple[str, ...] = ()

    def check(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
        """Raise UserError unless the UNet fits this VAE and needs no other inputs."""
        channels, C = unet.config.in_channels, vae.config.latent_channels
        expected = self.latents * C + self.masks
        if channels != expected:
            raise UserError(
                f"the UNet takes {channels} input channels, not {expected} "
                f"({self.inputs}); use {self.remedy}"
            )
        if unet.config.out_channels != C + self.masks_out:
            raise UserError(
                f"the UNet gives {unet.config.out_channels} output channels and the VAE's latents "
                f"have {C}; use {self.remedy if self.masks_out else ONE_PREDICTION}"
            )
        for name in self.conditions:
            if not unet.config.get(name):
                raise UserError(f"the UNet has no {name}; use {self.remedy}")
        foreign = [
            ("UNet", unet, name) for name in FOREIGN_CONDITIONS if name not in self.conditions
        ]
        foreign += [("VAE", vae, name) for name in FOREIGN_LATENTS]
        for part, model, name in foreign:
            value = model.config.get(name)
            if value:
                raise UserError(
                    f"the {part} has {name}={value!r}, which is not supported; "
                    "use a model of the structure of SD 1, SD 2 or SDXL"
                )


INPAINTING = UNetRole(2, 1, "latents, mask, masked image", "an inpainting model")
TEXT_TO_IMAGE = UNetRole(1, 0, "latents", "a text-to-image model")
