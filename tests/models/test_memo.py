from __future__ import annotations

import torch

from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import Backbone
from profi.models.text import Memo, content
from profi.settings.method import PAPER, Sampling


def test_the_least_recently_used_result_goes_first() -> None:
    memo, computed = Memo(capacity=2), []

    def ask(key: str) -> str:
        return memo(key, lambda: computed.append(key) or key.upper())  # type: ignore[func-returns-value]

    assert [ask(key) for key in "abacab"] == list("ABACAB")
    assert computed == ["a", "b", "c", "b"]


def test_content_tells_values_shapes_and_dtypes_apart() -> None:
    x = torch.arange(6.0)
    keys = [x, x + 1, x.view(2, 3), x.view(3, 2).T, x.half(), x.int()]
    assert len({content(key) for key in keys}) == len(keys)
    assert content(x) == content(x.clone())
    assert content(x.view(3, 2).T) == content(x.view(3, 2).T.contiguous())


def test_a_picture_painted_again_is_encoded_once_and_equal(new_backbone, batch) -> None:  # type: ignore[no-untyped-def]
    backbone: Backbone = new_backbone(2)
    calls = {"vae": 0, "text": 0}

    def counted(name: str):  # type: ignore[no-untyped-def]
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    backbone.vae.encoder.register_forward_pre_hook(counted("vae"))
    backbone.text.first.encoder.register_forward_pre_hook(counted("text"))
    paint = StableInpainting(backbone, compose("profi", PAPER), Sampling(num_inference_steps=2))
    first = paint(*batch.args())
    assert calls == {"vae": 1, "text": 2}
    again = paint(*batch.args())
    assert torch.equal(first, again)
    images, masks, prompts, seeds = batch.args()
    paint(images, masks, prompts, [s - 1 for s in seeds])
    assert calls == {"vae": 1, "text": 2}
    other = paint(images.flip(3), masks, [*prompts[:3], "bird"], seeds)
    assert calls == {"vae": 2, "text": 3}
    assert not torch.equal(other, first)
    backbone.forget()
    assert torch.equal(paint(*batch.args()), first)
    assert calls == {"vae": 3, "text": 5}


def test_a_model_that_moves_to_another_dtype_is_not_given_the_first_one_s_texts(  # type: ignore[no-untyped-def]
    new_backbone,
) -> None:
    backbone: Backbone = new_backbone(2)
    prompts, size = ["bird"], (64, 64)
    backbone.condition(prompts, size)
    backbone.unconditional("", size, 1)
    backbone.unet.to(torch.bfloat16)
    assert backbone.condition(prompts, size).context.dtype == torch.bfloat16
    assert backbone.unconditional("", size, 1).context.dtype == torch.bfloat16


def test_a_model_that_moves_to_another_device_is_not_given_the_first_one_s_texts(  # type: ignore[no-untyped-def]
    new_backbone,
) -> None:
    backbone: Backbone = new_backbone(2)
    prompts, size = ["bird"], (64, 64)
    backbone.condition(prompts, size)
    # A device that every machine has; its tensors hold no values.
    for part in (backbone.unet, *(tower.encoder for tower in backbone.text.towers)):
        part.to("meta")
    assert backbone.condition(prompts, size).context.device.type == "meta"
