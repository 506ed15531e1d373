"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from profi.catalogue import catalogue
from profi.cli.arguments import schema_of
from profi.cli.queued import raised_in
from profi.cli.run import task
from profi.harness.memory import BatchLimit, work_through
from profi.settings import Config
from profi.settings.evaluation import EVALUATIONS
from profi.settings.method import READINGS

REPOSITORY = Path(__file__).parents[1]
SECONDS = 5.0


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """`task` in this process sets up the program's logger, with the stderr of the test."""
    logger = logging.getLogger("profi")
    before = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def call(
    *arguments: str, cwd: Path, code: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [sys.executable, *code, str(REPOSITORY / "run.py"), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model.batch_siz=3"], ["model.batch_siz", "ModelConfig"]),
        (["model.batch_size=abc"], ["model.batch_size", "abc"]),
        (["modle.dtype=float16"], ["modle"]),
        (["+foo=3"], ["foo"]),
        (["ablation=foo"], ["ablation", "painta_only", "rasg_only"]),
        (["stage=paint"], ["stage=paint", "generate", "score", "report"]),
        (["shard=4/3"], ["shard=4/3", "1/4"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=0.5"], ["seed", "0.5"]),
        (["sampling.guidance_scale=nan"], ["sampling.guidance_scale=nan"]),
        (["model.device=tpu"], ["model.device=tpu", "cuda"]),
        (["reading.query=nothing"], ["reading.query=nothing", "block_input"]),
        (["evaluation.hull=tight"], ["evaluation.hull=tight", "exact", "opencv"]),
        (["evaluation.shape=round"], ["evaluation.shape", "Evaluation"]),
        (["evaluation=theirs"], ["evaluation/theirs", "ours", "released"]),
        (["metric.accuracy.channels=bgr"], ["metric.accuracy.channels"]),
        (["ablations=[base,foo]"], ["foo", "profi"]),
        (["ablations=[painta_only,paintan_only]"], ["twice"]),
        (["data=coco"], ["data.root"]),
        (["data=folder"], ["data.root", "prompts.csv"]),
        (["data=folder", "data.root=x", "data.annotations=y"], ["data.annotations"]),
        (["data.sample=released"], ["data.sample=released", "data=coco2017"]),
        (["data=coco2017", "data.sample=all"], ["data.sample=all", "seeded", "released"]),
        (
            ["data=coco2017", "data.sample=seeded", "data.sample_path=x.csv"],
            ["data.sample_path=x.csv", "data.sample=released"],
        ),
        (["data=coco2017", "data.cache=''"], ["data.cache"]),
        (["data=coco2017", "data.limit=0"], ["data.limit=0"]),
        (["name=../up"], ["name=../up"]),
        (["name=.."], ["name=.."]),
        (["seed=4294967296"], ["seed=4294967296", "4294967295"]),
        (["sampling.eta=0.1"], ["sampling.eta"]),
        (["metric.metrics=[fid]"], ["fid", "clip_score"]),
        (["logger.mode=shared"], ["logger.mode=shared", "offline"]),
        (["report.gallery=-1"], ["report.gallery=-1"]),
        (["model.inpainter=nothing"], ["model.inpainter=nothing", "blended_latent_diffusion"]),
        (["model=bld", "ablation=profi"], ["model bld", "profi", "ablation=base"]),
        (["model=bld", "ablations=[rasg_only]"], ["model bld", "rasg_only", "ablation=base"]),
        (
            ["model=bld", "ablation=base", "model.blended_latent_diffusion.skip=1"],
            ["model.blended_latent_diffusion.skip=1", "0.99"],
        ),
        (
            ["model=controlnet", "ablation=base", "model.controlnet.path=null"],
            ["model.controlnet.path"],
        ),
        (
            ["model=sdxl_inpainting", "ablation=base", "model.vae_dtype=float16"],
            ["model.vae_dtype=float16", "sdxl_inpainting", "auto"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_a_mistake_is_refused_by_name_in_one_line(
    arguments: list[str], named: list[str], tmp_path: Path
) -> None:
    start = time.monotonic()
    done = call(*arguments, cwd=tmp_path)
    assert time.monotonic() - start < SECONDS
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in named:
        assert word in line
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_the_machine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that fills up meanwhile: no traceback, the path and the remedy."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "outputs/x")

    monkeypatch.setattr("profi.harness.experiment.run", full)
    with pytest.raises(SystemExit) as caught:
        task(OmegaConf.structured(schema_of(Config)))
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: outputs/x: No space left on device; "
        "free space or name another folder with out=...\n"
    )


def test_a_refusal_needs_no_torch(tmp_path: Path) -> None:
    done = call("stage=paint", cwd=tmp_path, code=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "profi.settings" in imported
    assert not imported & {"torch", "diffusers", "transformers", "pandas", "scipy"}


def test_a_sweep_stops_at_a_mistake(tmp_path: Path) -> None:
    done = call("seed=3", "-m", "stage=paint,score", cwd=tmp_path)
    assert done.returncode == 2
    assert "stage=paint" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_sweep_leaves_a_missing_row_out_and_goes_on(tmp_path: Path) -> None:
    arguments = ["experiment=table1", "data=mini", "metric=mini", "data.limit=1", "seeds=[0]"]
    arguments += ["sampling.num_inference_steps=2"]
    models = "model=smartbrush,mini_bld"
    done = call("-m", *arguments, models, "stage=generate", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    (line,) = [line for line in lines if line.startswith("left out: ")]
    assert line.startswith("left out: model=smartbrush: smartbrush: nobody publishes")
    assert lines[-1] == "error: 1 job of the sweep left out: model=smartbrush (see above)"
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/run.json"))
    assert list((run / "generations").glob("part-*.parquet"))
    assert "mini-bld" in next((run / "settings").glob("*.json")).read_text()
    # The later stages leave out what is not painted the same way.
    done = call("-m", *arguments, models, "stage=score", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("left out: model=smartbrush: nothing painted") == 1
    assert done.stderr.splitlines()[-1].startswith("error: 1 job of the sweep left out: ")


def test_a_launcher_without_its_extra_names_it(tmp_path: Path) -> None:
    # As on a machine where no plugin of Hydra is installed.
    without = (
        "import runpy, sys; sys.modules['hydra_plugins'] = None; del sys.argv[0];"
        f"sys.path.insert(0, {str(REPOSITORY)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for launcher in ("slurm", "slurm_long", "slurm_cpu"):
        done = call("-m", f"hydra/launcher={launcher}", cwd=tmp_path, code=("-c", without))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "hydra/launcher/submitit_" in line
        assert "'.[slurm]'" in line


def test_errors_of_a_library_are_distinguished_from_the_program_s() -> None:
    def caught(act: Callable[[], object]) -> Exception:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            act()
        return error.value

    def ours() -> None:
        raise ValueError

    assert raised_in(caught(lambda: json.loads("{")), "json")
    assert not raised_in(caught(ours), "json")


def test_help_names_every_group_and_example(tmp_path: Path) -> None:
    done = call("--help", cwd=tmp_path)
    assert done.returncode == 0
    for folder in sorted(path for path in (REPOSITORY / "conf").iterdir() if path.is_dir()):
        if folder.name != "hydra":
            for option in folder.glob("*.yaml"):
                assert option.stem in done.stdout
    for name in (*READINGS, *EVALUATIONS, *catalogue.methods.names()):
        assert name in done.stdout
    assert "experiment=table2_mini" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_a_job_per_model(tmp_path: Path) -> None:
    """Through Hydra's own glob; refused, so that nothing heavy is loaded for it."""
    done = call(
        "-m", "experiment=table1", "model=glob(mini_b*)", "ablations=[rasg_only]", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "error: model mini-bld has no ablation rasg_only" in done.stderr


def test_a_job_whose_time_is_up_ends_and_sets_no_picture_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """submitit's own handler raises a RuntimeError in the middle of a batch."""
    submitit = pytest.importorskip("submitit")
    from submitit.core.job_environment import SignalHandler
    from submitit.core.utils import DelayedSubmission, UncompletedJobError
    from submitit.local.local import LocalJobEnvironment

    delayed = DelayedSubmission(print)
    delayed.set_timeout(timeout_min=0, max_num_timeout=0)
    paths = submitit.core.utils.JobPaths("nowhere", job_id="1")
    handler = SignalHandler(LocalJobEnvironment(), paths, delayed).checkpoint_and_try_requeue
    before = signal.signal(signal.SIGUSR2, handler)
    given_up: list[int] = []

    def painting(items: Sequence[int]) -> list[int]:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(1)  # It comes between two instructions.
        return list(items)

    def run(*_: object) -> None:
        work_through([1, 2], painting, BatchLimit(2), lambda i, _: given_up.append(i), "painting")

    monkeypatch.setattr("profi.harness.experiment.run", run)
    try:
        with pytest.raises(UncompletedJobError, match="timed-out too many times") as caught:
            task(OmegaConf.structured(schema_of(Config)))
        assert raised_in(caught.value.with_traceback(None), "submitit")
        assert signal.getsignal(signal.SIGUSR2) == handler
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert given_up == []
