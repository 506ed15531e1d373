"""What changes a run's id, and the record of what its parts were painted with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_calls import go, resolved, runs
from PIL import Image

from profi.catalogue import MethodEntry, MetricEntry, catalogue
from profi.data.pictures import images_digest
from profi.harness.build_data import load_triplets
from profi.harness.rows import load_model, stable_inpainting
from profi.harness.runs import Samples, context_of
from profi.models.backbone import Backbone
from profi.settings import Config, MetricConfig, VanillaSettings
from profi.store.parts import part_facts
from profi.types import RunSpec


def spec(config: Config, backbone: Backbone, ablation: str = "profi", seed: int = 0) -> RunSpec:
    """What a run would be, with this model in the place of the configured one."""
    config = replace(config, ablations=[ablation], seeds=[seed])
    (run,) = resolved(config).values()
    context = replace(context_of(config), method=run.method, load=lambda _: backbone)
    samples = Samples(load_triplets(config.data)[0], "images")
    return run.spec(stable_inpainting(context), samples)


def test_the_id_follows_what_changes_pixels_and_nothing_else(
    settings: Callable[..., Config], backbone: Backbone
) -> None:
    config = settings()

    def run_id(config: Config, ablation: str = "profi", seed: int = 0) -> str:
        return spec(config, backbone, ablation, seed).run_id

    first = run_id(config)
    same = [
        replace(config, stage="score", shard="2/3", out="elsewhere", name="x"),
        replace(config, metric=MetricConfig(name="other")),
        replace(config, model=replace(config.model, id="renamed")),
    ]
    assert {run_id(other) for other in same} == {first}
    sampling, reading = config.sampling, config.reading
    others = [
        replace(config, sampling=replace(sampling, num_inference_steps=3)),
        replace(config, sampling=replace(sampling, guidance_scale=1.0)),
        replace(config, sampling=replace(sampling, output="blended")),
        replace(config, sampling=replace(sampling, negative_prompt="x")),
        replace(config, reading=replace(reading, eta=0.3)),
        replace(config, reading=replace(reading, offset=0.5)),
        replace(config, model=replace(config.model, batch_size=3)),
        replace(config, model=replace(config.model, long_side=48)),
        replace(config, model=replace(config.model, channels_last=True)),
        replace(config, model=replace(config.model, compile=True)),
        replace(config, part_size=5),
    ]
    ids = {first, run_id(config, "base"), run_id(config, seed=1), *map(run_id, others)}
    assert len(ids) == 3 + len(others)
    # The plain model knows no objective: its offset changes no pixel of it.
    assert run_id(others[5], "base") == run_id(config, "base")
    assert run_id(config, "paintan_only") == run_id(config, "painta_only")
    # Of the VAE's dtype it is what came out of the setting.
    named = replace(config, model=replace(config.model, vae_dtype="float32"))
    assert run_id(named) == first


def test_a_metric_of_a_plugin_s_own_settings_find_the_same_run(
    settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a method find another one."""
    metric = MetricEntry("mine", "nowhere:mine", settings=VanillaSettings)
    monkeypatch.setitem(catalogue.metrics._entries, "mine", metric)
    method = MethodEntry("sharp", lambda *_, **__: None, settings=VanillaSettings)
    monkeypatch.setitem(catalogue.methods._entries, "sharp", method)
    usual = resolved(settings(ablations=["sharp"]))["sharp", 0]
    found = {}
    for name in ("mine", "sharp"):
        config = settings(ablations=["sharp"], own={name: {"scale": 3.0}})
        found[name] = resolved(config)["sharp", 0]
    assert (found["mine"].settings, found["mine"].key) == (usual.settings, usual.key)
    assert found["sharp"].settings != usual.settings
    assert found["sharp"].key.reading == "released, sharp.scale=3.0"


def test_another_vae_dtype_is_another_run(
    settings: Callable[..., Config],
) -> None:
    """And what the configuration says of the model reaches its parts."""
    config = settings()
    ids = set()
    for changes in ({}, {"vae_dtype": "bfloat16", "channels_last": True}):
        changed = replace(config, model=replace(config.model, **changes))
        model = load_model(changed.model)
        found = spec(config, model, "base")
        ids.add(found.run_id)
        assert found.pixels["vae_dtype"] == changes.get("vae_dtype", "float32")
        for part in (model.unet.conv_in, model.vae.encoder.conv_in):
            in_format = part.weight.is_contiguous(memory_format=torch.channels_last)
            assert in_format == bool(changes)
    assert len(ids) == 2


def test_other_weights_are_another_run(settings: Callable[..., Config], backbone: Backbone) -> None:
    other = replace(backbone, weights={"unet/x.safetensors": "other"})
    ids = {spec(settings(), model, "base").run_id for model in (backbone, other)}
    assert len(ids) == 2


def test_other_image_bytes_are_another_digest(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    root = tmp_path / "images"
    data = settings().data
    shutil.copytree(data.root, root)
    triplets, _ = load_triplets(data)
    first = images_digest(root, triplets)
    assert images_digest(root, triplets[::-1]) == first
    victim = root / triplets[0].file_name
    pixels = 255 - np.array(Image.open(victim))
    Image.fromarray(pixels).save(victim)
    assert images_digest(root, triplets) != first
    victim.unlink()
    assert images_digest(root, triplets) not in (first, images_digest(root, triplets[1:]))


def test_parts_and_page_tell_by_what_they_were_painted(settings: Callable[..., Config]) -> None:
    config = settings(name="facts")
    go(config)
    (folder,) = runs(config).values()
    facts = part_facts(folder.generations, 0)
    assert (facts["device"], facts["batch size"]) == ("cpu", "2")
    assert f"torch {torch.__version__}" in facts["versions"]
    page = (Path(config.out) / "reports" / "facts" / "report.html").read_text()
    assert facts["commit"] in page
    assert facts["versions"] in page
