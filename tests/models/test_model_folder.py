"""What a model's folder must hold, and which models are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_pipelines import TOKEN_LIMIT, make_pipeline, make_unet

import profi
from profi.method.attention_objective import AttentionObjective
from profi.method.ddim import sigma_schedule
from profi.method.inpainting import StableInpainting
from profi.method.methods import MethodBatch, MethodParts, compose
from profi.method.rasg import RASG
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone, load_backbone
from profi.models.model_folder import needed_files, weight_files, weight_folders
from profi.models.tokens import encode
from profi.settings.method import PAPER, Sampling
from profi.types import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    make_pipeline("sdxl").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parts(saved: Path) -> Backbone:
    return load_backbone(saved)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change_config(folder: Path, part: str, **values: Any) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_text_encoders_and_tokenizers_count(folder: Path) -> None:
    before = load_backbone(folder)
    assert set(before.weights) == {
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert before.text.second is not None
    assert before.text.second.encoder.dtype == torch.float32
    path = folder / "tokenizer_2/tokenizer.json"
    path.write_text(path.read_text().replace('"x"', '"!!!"'))
    after = load_backbone(folder)
    assert after.weights == before.weights
    assert after.text.tokenizer_digest != before.text.tokenizer_digest


def test_the_unet_tells_of_a_second_encoder_and_no_name_does(folder: Path) -> None:
    make_pipeline("sd1").save_pretrained(folder)
    assert (folder / "text_encoder_2").is_dir()
    assert weight_folders(folder) == ("unet", "vae", "text_encoder")
    backbone = load_backbone(folder)
    assert backbone.text.second is None
    assert not any("_2" in name for name in backbone.weights)


def test_without_the_pipeline_s_config_an_empty_text_is_zeros(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    text = load_backbone(folder).text
    assert text.zeros_for_empty
    assert not text.unconditional("", (32, 32), 2).context.any()


def test_tokenizers_in_the_files_that_the_published_models_have(folder: Path) -> None:
    """vocab.json, merges.txt and settings of years ago, in place of tokenizer.json."""
    prompts = ["cat", "A  Cat, dog!", "so!!", ""]
    before = load_backbone(folder).text.towers
    for part, tower in zip(("tokenizer", "tokenizer_2"), before, strict=True):
        vocabulary = tower.tokenizer.get_vocab()
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
        (folder / part / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / part / "merges.txt").write_text("#version: 0.2\n! !</w>\n")
        start, end = (
            {"__type": "AddedToken", "content": content, "normalized": True}
            for content in ("<|startoftext|>", "<|endoftext|>")
        )
        settings = {
            "bos_token": start,
            "eos_token": end,
            "unk_token": end,
            "pad_token": tower.tokenizer.pad_token,
            "model_max_length": TOKEN_LIMIT,
            "tokenizer_class": "CLIPTokenizer",
        }
        (folder / part / "tokenizer_config.json").write_text(json.dumps(settings))
    for old, new in zip(before, load_backbone(folder).text.towers, strict=True):
        assert torch.equal(encode(old.tokenizer, prompts), encode(new.tokenizer, prompts))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("text_encoder_2/config.json", "text_encoder_2/config.json is missing"),
        ("tokenizer_2", "tokenizer_2/ is missing"),
        ("text_encoder_2/model.safetensors", "text_encoder_2/ cannot be loaded"),
    ],
)
def test_what_the_second_encoder_lacks_is_named(folder: Path, path: str, named: str) -> None:
    missing = folder / path
    if missing.is_dir():
        shutil.rmtree(missing)
    else:
        missing.unlink()
    assert named in refused(folder)


def test_damaged_json_is_named(folder: Path) -> None:
    (folder / "model_index.json").write_text("[]")
    assert "model_index.json cannot be loaded" in refused(folder)
    (folder / "unet/config.json").write_text("{")
    assert "unet/config.json cannot be loaded" in refused(folder)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("unet", {"block_out_channels": 5}),
        ("vae", {"layers_per_block": "a"}),
        ("text_encoder", {"num_attention_heads": "x"}),
    ],
)
def test_a_wrong_value_in_a_config_is_one_line(
    folder: Path, part: str, values: dict[str, Any]
) -> None:
    change_config(folder, part, **values)
    assert f"{part}/ cannot be loaded" in refused(folder)


@pytest.mark.parametrize(
    "values", [{"beta_start": None}, {"beta_end": "a"}, {"trained_betas": "abc"}]
)
def test_wrong_betas_are_one_line(folder: Path, values: dict[str, Any]) -> None:
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    assert "scheduler config: its betas cannot be read" in refused(folder)


def test_the_size_of_the_training_may_be_a_pair_or_missing(folder: Path) -> None:
    factor = load_backbone(folder).latent_factor
    change_config(folder, "unet", sample_size=[16, 12])
    assert profi.load(folder, device="cpu").long_side == 16 * factor
    change_config(folder, "unet", sample_size=None)
    with pytest.raises(UserError, match="give long_side"):
        profi.load(folder, device="cpu")
    assert profi.load(folder, device="cpu", long_side=64).long_side == 64


def test_weights_that_a_file_lacks_are_not_made_up(folder: Path) -> None:
    """Such as the projection of an encoder that was saved without it."""
    path = folder / "text_encoder_2/model.safetensors"
    weights = load_file(path)
    del weights["text_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    assert "its file lacks text_projection.weight" in refused(folder)


def test_a_cached_snapshot_counts_only_with_both_encoders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    repository = tmp_path / "cache/models--some--sdxl"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    shutil.move(folder, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert load_backbone("some/sdxl").text.second is not None
    (snapshot / "text_encoder_2/model.safetensors").unlink()
    with pytest.raises(UserError, match="'some/sdxl' is neither a local folder nor to be had"):
        load_backbone("some/sdxl")


@pytest.mark.parametrize(
    ("part", "values", "named"),
    [
        ("vae", {"shift_factor": 0.1}, "the VAE has shift_factor=0.1"),
        ("vae", {"latents_mean": [0.1] * 4}, "the VAE has latents_mean="),
        ("scheduler", {"prediction_type": "flow_prediction"}, "prediction_type"),
        ("scheduler", {"beta_schedule": None}, "EulerDiscreteScheduler has no beta_schedule"),
        ("text_encoder", {"hidden_size": 8}, "text_encoder/ cannot be loaded"),
    ],
)
def test_models_of_other_kinds_are_refused(
    folder: Path, part: str, values: dict[str, Any], named: str
) -> None:
    if part == "scheduler":
        path = folder / "scheduler/scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    else:
        change_config(folder, part, **values)
    assert named in refused(folder)


SDXL = {
    "cross_attention_dim": 36,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 60,
}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**SDXL, "cross_attention_dim": 16}, "embeddings of 16 channels, .* have 36"),
        # Five numbers of size and one aesthetic score less.
        (
            {**SDXL, "projection_class_embeddings_input_dim": 52},
            "reads 52 numbers of added conditions, not the 60",
        ),
        ({**SDXL, "time_cond_proj_dim": 4}, "the UNet has time_cond_proj_dim=4"),
        ({**SDXL, "in_channels": 4}, "4 input channels, not 9"),
        ({**SDXL, "out_channels": 8}, "8 output channels"),
        ({**SDXL, "addition_embed_type": "text"}, "addition_embed_type='text'"),
        ({"cross_attention_dim": 36}, "conditioned on one text encoder and the model has 2"),
    ],
)
def test_a_unet_that_wants_something_else_is_refused(
    parts: Backbone, settings: dict[str, Any], named: str
) -> None:
    unet = make_unet((False, True, True), **settings)
    with pytest.raises(UserError, match=named) as caught:
        Backbone.from_parts(unet, parts.vae, parts.text, parts.schedule)
    assert "\n" not in str(caught.value)


def test_attention_outside_of_transformer_blocks_is_refused(parts: Backbone) -> None:
    unet = make_unet(
        (False, True, True),
        **SDXL,
        down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    )
    backbone = Backbone.from_parts(unet, parts.vae, parts.text, parts.schedule)
    with pytest.raises(UserError, match=r"down_blocks\.0\.attentions\.0 attends outside"):
        StableInpainting(backbone, compose("base", PAPER))


def test_a_level_whose_attention_reads_the_text_alone(parts: Backbone) -> None:
    """Both layers of its blocks are RASG's to read, and PAIntA has nothing to change there."""
    unet = make_unet((False, True, True), **SDXL, only_cross_attention=(False, True, False))
    at_2 = [site for site in attention_sites(unet) if site.down_factor == 2]
    assert {site.kind for site in at_2} == {"cross"}
    assert {site.name.rpartition(".")[2] for site in at_2} == {"attn1", "attn2"}
    backbone = Backbone.from_parts(unet, parts.vae, parts.text, parts.schedule)
    with pytest.raises(UserError, match="no self-attention at down-factor 2"):
        StableInpainting(backbone, compose("painta_only", PAPER))

    def rasg_at_2(batch: MethodBatch) -> MethodParts:
        objective = AttentionObjective(PAPER, batch.level(2, "cross").flatten(1), batch.words)
        sigmas = sigma_schedule(batch.schedule, batch.timesteps, "cumulative", 0.15)
        return MethodParts(step_noise=RASG(objective), sigmas=sigmas, reads=2)

    guided = compose(rasg_at_2, PAPER)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    base, steered = (
        StableInpainting(backbone, method, Sampling(num_inference_steps=2))(
            torch.full((1, 3, 32, 32), 0.5), mask, ["cat"], [0]
        )
        for method in (compose("base", PAPER), guided)
    )
    assert float((base - steered).abs().max()) > 1e-3


def test_half_precision_alone_is_loaded_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_backbone(folder)
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", folder / "vae/x.safetensors")
    (folder / "vae/x.safetensors").rename(
        folder / "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors"
    )
    with caplog.at_level("INFO", "profi"):
        found = load_backbone(folder)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in found.weights
    assert {name for name in found.weights if name.startswith("vae/")} == {
        "vae/diffusion_pytorch_model.safetensors"
    }
    assert "its variant fp16 is loaded" in caplog.text
    for name, value in found.unet.state_dict().items():
        assert torch.equal(value, expected.unet.state_dict()[name])


# As far as public reports tell: safetensors in half precision alone, the rest as pickles.
SD15_INPAINTING = [
    "model_index.json",
    "sd-v1-5-inpainting.ckpt",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    *(
        f"{part}/{name}{suffix}"
        for part, name in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("text_encoder", "model"),
            ("safety_checker", "model"),
        )
        for suffix in (".bin", ".fp16.bin", ".fp16.safetensors")
    ),
    *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder", "safety_checker")),
]
PATTERNS = [
    "model_index.json", "scheduler/*", "tokenizer/*",
    *(f"{part}/*.{end}"
      for part in ("unet", "vae", "text_encoder") for end in ("json", "safetensors")),
]  # fmt: skip


def test_of_a_repository_only_what_is_loaded_is_fetched() -> None:
    got = needed_files(SD15_INPAINTING, PATTERNS)
    assert {name for name in got if name.endswith(".safetensors")} == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    }
    assert not [name for name in got if name.endswith((".bin", ".ckpt"))]
    assert {"model_index.json", "unet/config.json", "tokenizer/vocab.json"} <= set(got)
    plain = [*SD15_INPAINTING, "unet/diffusion_pytorch_model.safetensors"]
    assert [n for n in needed_files(plain, PATTERNS) if n.startswith("unet/") and "safet" in n] == [
        "unet/diffusion_pytorch_model.safetensors"
    ]


def test_no_other_variant_stands_in() -> None:
    assert weight_files(["a.non_ema.safetensors"]) == []
    assert weight_files(["m.fp16-00001-of-00002.safetensors", "m-00001-of-00002.safetensors"]) == [
        "m-00001-of-00002.safetensors"
    ]
