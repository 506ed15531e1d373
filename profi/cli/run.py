"""`profi run`: composes the settings of conf/, checks them and runs the command.

`profi run --help` lists the settings. They are checked before torch is imported, so that a typing
mistake is reported within a second.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from profi.catalogue import catalogue
from profi.cli.arguments import register, schema_of
from profi.cli.options import INTERRUPTED, REFUSED
from profi.cli.queued import raised_in, signals_of
from profi.cli.words import check_words, for_hydra, plugins_in, quoting, suggestion
from profi.settings import Config
from profi.settings.command import QUEUED
from profi.settings.fields import build
from profi.settings.paths import conf_folder, shipped_path
from profi.settings.presets import hub_id
from profi.types import MissingRowError, UserError

if TYPE_CHECKING:
    from rich.console import Console

#: The folder of the figures of high resolution (conf/figure/).
FINE_SCENES = "fine_scenes"
WIDTH = 160
BROKEN_PIPE = 141
SWEEP_FLAGS = ("-m", "--multirun")
FULL_ERROR = "HYDRA_FULL_ERROR"
#: How the installed command calls this module.
INSTALLED = "profi run"
SAME_COMMAND = "the same command resumes here"
# Lines that OmegaConf and Hydra add to their messages: inner types, search paths, manuals.
NOISE = (
    "object_type=",
    "reference_type=",
    "Config search path",
    "provider=",
    "See https:",
    "To append to your config",
)


def one_line(error: BaseException) -> str:
    """An error and its cause in one line; Hydra and OmegaConf write several."""
    parts: list[str] = []
    for item in (error, error.__cause__):
        lines = [line.strip() for line in str(item).splitlines()] if item is not None else []
        text = " ".join(line for line in lines if line and not line.startswith(NOISE))
        if text and text not in " ".join(parts):
            parts.append(text)
    message = ": ".join(part.rstrip(".") for part in parts) or type(error).__name__
    # The parser's class and the mark below its line say nothing to a user.
    return re.sub(r"^LexerNoViableAltException: (.*?)\s*\^+$", r"\1 cannot be read", message)


def refuse(message: str) -> SystemExit:
    """Write an error line to stderr; returns the exit to raise."""
    sys.stderr.write(f"error: {message}\n")
    return SystemExit(REFUSED)


def accepted(composed: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """The typed settings; UserError for a setting that is not valid.

    A `model=...` in `overrides`, those of the command line, replaces an experiment's models;
    `seed=` and `ablation=` replace its seeds and ablations.
    """
    try:
        # Merge into the schema again: +key=value adds keys that the composed settings accept.
        plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        given = {text.lstrip("+").partition("=")[0] for text in overrides}
        if "model" in given:
            plain["models"] = {}
        if plain["models"]:
            _check_models(given, plain["models"])
        for one, several in (("seed", "seeds"), ("ablation", "ablations")):
            if one in given and several not in given:
                plain[several] = []
        merged = OmegaConf.to_container(OmegaConf.merge(schema_of(Config), plain))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    values = cast(dict[str, Any], merged)
    # A job of a queue begins here, in a process of its own.
    catalogue.add_plugins(values["plugins"])
    return cast(Config, build(Config, values))


def _check_models(given: set[str], models: Mapping[str, Any]) -> None:
    """UserError for settings of one model where an experiment has several."""
    for key in sorted(given):
        if key.startswith("model."):
            raise UserError(
                f"{key} has no effect, the experiment has several models: write "
                f"models.NAME.{key.removeprefix('model.')}, NAME one of {', '.join(models)}; or "
                "choose one of them, model=NAME"
            )


def check_folders(config: Config) -> None:
    """UserError for a folder or file of the settings that is not there; torch is not needed."""
    data, (one, *others) = config.data, [each.model for each in config.per_model]
    paints = config.stage not in ("score", "report", "check", "fetch")
    if paints and data.root and not shipped_path(data.root).is_dir():
        # The only default that has to be made first.
        scenes = Path(data.root).name == FINE_SCENES and config.stage == "figure"
        remedy = f"; make it: python scripts/fine_scenes.py {data.root}" if scenes else ""
        raise UserError(f"data.root={data.root}: there is no such folder{remedy}")
    if paints and data.annotations and not shipped_path(data.annotations).is_file():
        raise UserError(f"data.annotations={data.annotations} does not exist: set it to the file")
    # Of several models, one that is missing is left out, not refused.
    if paints and not others and one.path is not None and hub_id(one.path) is None:
        folder = shipped_path(one.path)
        if not folder.is_dir():
            raise UserError(
                f"{one.id}: there is no folder {folder}; "
                "point model.path=... at a local folder in the diffusers layout"
            )


def console_for(stream: TextIO) -> Console:
    """A console of the terminal's width; of WIDTH columns if the stream is a file or a pipe."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def set_up_logging(level: str) -> Console:
    """Write log lines and progress to stderr; returns the console for them."""
    from rich.logging import RichHandler

    console = console_for(sys.stderr)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("profi")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    return console


def overrides() -> tuple[str, ...]:
    """The overrides of the command line; in a sweep, those of this job."""
    if not HydraConfig.initialized():
        return ()
    return tuple(HydraConfig.get().overrides.task)


def command_line() -> str:
    """The command as typed; in a job of a queue, the command that does the same."""
    if QUEUED in os.environ:
        return shlex.join(["python", "run.py", *overrides()])
    if sys.argv[0] == INSTALLED:
        return shlex.join([*INSTALLED.split(), *sys.argv[1:]])
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def run_job(composed: DictConfig) -> None:
    """Check the settings, run one job and print its report.

    Raises:
        UserError: the settings are not valid, or the machine cannot run them.
    """
    config = accepted(composed, overrides())
    check_folders(config)
    console = set_up_logging(config.logger.level)
    # These imports load torch, diffusers and transformers.
    from profi.models.devices import silence_libraries

    # Before the other imports: some warnings come while the libraries are imported.
    silence_libraries()
    from profi.harness.experiment import run
    from profi.harness.runs import Command

    try:
        command = Command(config, command_line(), OmegaConf.to_yaml(composed), overrides())
        if config.stage == "figure":
            from profi.figures.figure_stage import draw

            try:
                draw(command, console)
            except UserError as error:
                # The other figures of a sweep go on.
                raise MissingRowError(str(error)) from error
            return
        shown = run(command, console)
    except OSError as error:
        # A full disk or a missing permission is not a fault of the program.
        where = f"{error.filename}: " if error.filename else ""
        reason = " ".join(str(error.strerror or error).split())
        remedy = "free space or name another folder with out=..."
        raise UserError(f"{where}{reason}; {remedy}") from error
    if shown is not None:
        shown.print(console_for(sys.stdout))


def overrides_of_job() -> str:
    """The overrides in which a job of a sweep differs from the other jobs."""
    own = [text for text in overrides() if text not in sys.argv]
    return " ".join(own or overrides())


def in_sweep() -> bool:
    """Whether this process runs several jobs, one after the other."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def task(composed: DictConfig, left_out: list[str] | None = None) -> None:
    """Run one job; a user's mistake ends it with one line.

    In a sweep, a row that cannot be made is logged and added to `left_out`, and the sweep goes on.
    """
    try:
        with signals_of("submitit"):
            run_job(composed)
    except UserError as error:
        if QUEUED in os.environ:
            # The launcher reports the error; after an exit it would wait for ever.
            raise
        if isinstance(error, MissingRowError) and left_out is not None and in_sweep():
            left_out.append(overrides_of_job())
            sys.stderr.write(f"left out: {left_out[-1]}: {error}\n")
            return
        # SystemExit is not an Exception: Hydra does not wrap it.
        raise refuse(str(error)) from None


def remedy_for(error: HydraException | OmegaConfBaseException) -> str:
    """How to solve an error of Hydra, if its message does not say it; else empty."""
    missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
    if missing is not None and "submitit" in missing:
        return "; launchers need the extra: pip install -c constraints.txt -e '.[slurm]'"
    return quoting(str(error)) or suggestion(one_line(error))


def main() -> None:
    """The entry point."""
    # transformers says on import what it could do with torchvision.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    # Hydra then raises its errors, and they are shown here in one line, unless the user set this.
    show_traceback = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"
    # Hydra accepts a flag before or after all settings, but not between them.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in SWEEP_FLAGS)
    left_out: list[str] = []

    def job(composed: DictConfig) -> None:
        task(composed, left_out)

    folder = str(conf_folder().resolve())
    entry = hydra.main(version_base="1.3", config_path=folder, config_name="config")(job)
    try:
        catalogue.add_plugins(plugins_in(sys.argv[1:]))
        check_words(sys.argv[1:])
        sys.argv[1:] = for_hydra(sys.argv[1:])
        register()
        entry()
    except (HydraException, OmegaConfBaseException) as error:
        if show_traceback:
            raise
        raise refuse(one_line(error) + remedy_for(error)) from None
    except UserError as error:
        raise refuse(str(error)) from None
    except RuntimeError as error:
        # The queue cancelled, killed or refused a job.
        if show_traceback or not raised_in(error, "submitit"):
            raise
        raise refuse(f"{str(error).splitlines()[0]}; {SAME_COMMAND}") from None
    except BrokenPipeError:
        # The reader has gone, as in `profi run --help | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        # Hydra makes the folder of a sweep before any job checks it.
        reason = " ".join(str(error.strerror or error).split())
        raise refuse(f"{error.filename or 'out'}: {reason}; name a folder with out=...") from None
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {SAME_COMMAND}\n")
        raise SystemExit(INTERRUPTED) from None
    if left_out:
        count = "1 job" if len(left_out) == 1 else f"{len(left_out)} jobs"
        raise refuse(f"{count} of the sweep left out: {'; '.join(left_out)} (see above)")
