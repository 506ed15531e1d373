"""The decoder fitted to one picture, of Blended Latent Diffusion (Avrahami et al. 2023)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from profi.inpainters.backbone import Backbone


@dataclass(frozen=True)
class BackgroundReconstruction:
    """Decodes z_0 so that the known part comes out as it was given, beyond what the VAE can.

    Per picture, `steps` steps of Adam at the learning rate `lr` on a copy of the decoder D minimise

        ||(D(z_0) - x_hat) * m||^2 + weight * ||(D(z_0) - x) * (1 - m)||^2

    where x is the given image and x_hat the picture as the decoder gave it. 0 steps: the decoder
    as it is. The copy is float32 and takes as much memory again as the decoder, and gradients.
    """

    steps: int = 0
    weight: float = 100.0
    lr: float = 1e-4

    def __call__(self, backbone: Backbone, z_0: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], float32 in [0, 1].

        Args:
            backbone: the VAE's; left as it is.
            z_0: latents [B, C, h, w].
            images: x, [B, 3, H, W] in [0, 1].
            masks: m, [B, H, W] bool.
        """
        decoded = backbone.decode(z_0)
        if self.steps == 0:
            return decoded
        # One by one: every picture has a decoder of its own.
        pictures = [
            self._fitted(backbone, z_0[i : i + 1], images[i], decoded[i], masks[i])
            for i in range(len(z_0))
        ]
        return torch.stack(pictures)

    def _fitted(
        self, backbone: Backbone, z_0: Tensor, x: Tensor, x_hat: Tensor, m: Tensor
    ) -> Tensor:
        vae = copy.deepcopy(backbone.vae).float().requires_grad_(False)
        theta = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
        optimizer = torch.optim.Adam([p.requires_grad_() for p in theta], lr=self.lr)
        # In the decoder's own range, [-1, 1].
        wanted = 2.0 * torch.where(m, x_hat, x) - 1.0
        factor = torch.where(m, 1.0, self.weight)
        z = z_0.float() / vae.config.scaling_factor
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                loss = (factor * (vae.decode(z).sample[0] - wanted) ** 2).mean()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            return (vae.decode(z).sample[0] / 2 + 0.5).clamp(0.0, 1.0)
