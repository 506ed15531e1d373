"""`profi run`: composes the settings of conf/, checks them, runs them.

`profi run --help` lists what can be chosen. Nothing heavy is imported before the settings are
accepted, so that a typing mistake costs a second.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from profi.catalogue import catalogue
from profi.cli.schema import register, schema_of
from profi.settings import Config
from profi.settings.fields import build
from profi.settings.paths import conf_folder
from profi.types import MissingRowError, UserError

if TYPE_CHECKING:
    from rich.console import Console

REFUSED = 2
INTERRUPTED = 130
WIDTH = 160
SWEEP_FLAGS = ("-m", "--multirun")
FULL_ERROR = "HYDRA_FULL_ERROR"
# Set in the processes that submitit starts, on this machine or by Slurm.
QUEUED = "SUBMITIT_EXECUTOR"
SAME_COMMAND = "the same command goes on from here"
# What OmegaConf and Hydra add below their messages: inner types, search paths, manuals.
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
        told = [line for line in lines if line and not line.startswith(NOISE)]
        text = " ".join(told)
        if text and text not in " ".join(parts):
            parts.append(text)
    return ": ".join(part.rstrip(".") for part in parts) or type(error).__name__


def refuse(message: str) -> SystemExit:
    """Tell the user what is wrong; the exit that follows."""
    sys.stderr.write(f"error: {message}\n")
    return SystemExit(REFUSED)


def accepted(composed: DictConfig, overrides: Sequence[str] = ()) -> Config:
    """The typed settings; UserError for what cannot be.

    A `model=...` among the command line's overrides takes the place of an experiment's models.
    """
    try:
        # Merged into the bare schema, since +key=value gets past the composed one.
        plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        if any(text.lstrip("+").startswith("model=") for text in overrides):
            plain["models"] = {}
        merged = OmegaConf.to_container(OmegaConf.merge(schema_of(Config), plain))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    values = cast(dict[str, Any], merged)
    # A job of a queue begins here, in a process of its own.
    catalogue.add_installed_plugins()
    for name in values["plugins"]:
        catalogue.add_plugin(name)
    return cast(Config, build(Config, values))


def console_for(stream: TextIO) -> Console:
    """A terminal's own width; room for a table where the stream is a file or a pipe."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def listen(level: str) -> Console:
    """Log lines and progress to stderr; returns their console."""
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
    """What was set on the command line; in a sweep, what this job of it has."""
    if not HydraConfig.initialized():
        return ()
    return tuple(HydraConfig.get().overrides.task)


def command_line() -> str:
    """What was typed; in a job of a queue, which another program starts, what it stands for."""
    if QUEUED in os.environ:
        return shlex.join(["python", "run.py", *overrides()])
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def carry_out(composed: DictConfig) -> None:
    """One job.

    Raises:
        UserError: what the settings or the machine do not allow.
    """
    config = accepted(composed, overrides())
    console = listen(config.logger.level)
    # torch, diffusers and transformers come in here.
    from profi.cli.libraries import hush_libraries

    # First: some of the advice is given while they are imported.
    hush_libraries()
    from profi.harness.experiment import run
    from profi.harness.runs import Command

    try:
        command = Command(config, command_line(), OmegaConf.to_yaml(composed), overrides())
        shown = run(command, console)
    except OSError as error:
        # A full disk, a folder without permission: of the machine, not of the program.
        where = f"{error.filename}: " if error.filename else ""
        reason = " ".join(str(error.strerror or error).split())
        remedy = "free space or name another folder with out=..."
        raise UserError(f"{where}{reason}; {remedy}") from error
    if shown is not None:
        shown.print(console_for(sys.stdout))


class _Ended(BaseException):
    """A queue ends the job; no Exception, so that nothing in the program takes it for its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def signals_of(package: str) -> Iterator[None]:
    """Let what a package's handlers of signals raise leave the program whole.

    submitit ends a job whose time was up too often by raising a RuntimeError out of its handler,
    wherever the program is: where it paints, that would pass for a picture that failed.
    """

    def handle(
        inner: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None
    ) -> None:
        try:
            inner(number, frame)
        except Exception as error:
            raise _Ended(error) from error

    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wrapped = {
        number: handler
        for number, handler in handlers.items()
        if callable(handler) and str(handler.__module__).partition(".")[0] == package
    }
    for number, handler in wrapped.items():
        signal.signal(number, partial(handle, handler))
    try:
        yield
    except _Ended as ended:
        raise ended.error from None
    finally:
        for number, handler in wrapped.items():
            signal.signal(number, handler)


def swept() -> str:
    """What is a job's own in a sweep: what it sets and the command line does not say as it is."""
    own = [text for text in overrides() if text not in sys.argv]
    return " ".join(own or overrides())


def sweeping() -> bool:
    """Whether this is one of several jobs that run in this process one after the other."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def task(composed: DictConfig, left_out: list[str] | None = None) -> None:
    """One job: refuse in one line, or run.

    In a sweep a row that is missing is told and added to `left_out`, so that the next job follows.
    """
    try:
        with signals_of("submitit"):
            carry_out(composed)
    except UserError as error:
        if QUEUED in os.environ:
            # The launcher carries it to the terminal; an exit would leave that one waiting.
            raise
        if isinstance(error, MissingRowError) and left_out is not None and sweeping():
            left_out.append(swept())
            sys.stderr.write(f"left out: {left_out[-1]}: {error}\n")
            return
        # Not an Exception, so that Hydra neither wraps nor decorates it.
        raise refuse(str(error)) from None


def remedy_for(error: HydraException | OmegaConfBaseException) -> str:
    """What to do about an error of Hydra, where that is not plain."""
    missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
    if missing is not None and "submitit" in missing:
        return "; launchers need the extra: pip install -c constraints.txt -e '.[slurm]'"
    return ""


def raised_in(error: BaseException, package: str) -> bool:
    """Whether an error is a package's own, or comes out of its code."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    # What came from another process has no traceback of its own.
    places = [type(error).__module__]
    places += [last.tb_frame.f_globals["__name__"]] if last is not None else []
    return any(name.partition(".")[0] == package for name in places)


def add_plugins(arguments: Sequence[str]) -> None:
    """Let plugins register: they must be known before their names can be chosen."""
    catalogue.add_installed_plugins()
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key == "plugins":
            for name in value.strip("[]").split(","):
                if name.strip():
                    catalogue.add_plugin(name.strip())


def main() -> None:
    """The entry point."""
    # Hydra's own errors come here as they are, to be told in one line, unless all is wanted.
    wanted_full = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"
    # Hydra takes its flags before or after all settings only; between them is as natural.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in SWEEP_FLAGS)
    left_out: list[str] = []

    def job(composed: DictConfig) -> None:
        task(composed, left_out)

    # Settings of plugins are in no schema.
    sys.argv[1:] = [f"++{text}" if text.startswith("own.") else text for text in sys.argv[1:]]
    folder = str(conf_folder().resolve())
    entry = hydra.main(version_base="1.3", config_path=folder, config_name="config")(job)
    try:
        add_plugins(sys.argv[1:])
        register()
        entry()
    except (HydraException, OmegaConfBaseException) as error:
        if wanted_full:
            raise
        raise refuse(one_line(error) + remedy_for(error)) from None
    except UserError as error:
        raise refuse(str(error)) from None
    except RuntimeError as error:
        # A job that was cancelled, killed or refused by the queue.
        if wanted_full or not raised_in(error, "submitit"):
            raise
        raise refuse(f"{str(error).splitlines()[0]}; {SAME_COMMAND}") from None
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {SAME_COMMAND}\n")
        raise SystemExit(INTERRUPTED) from None
    if left_out:
        count = "1 job" if len(left_out) == 1 else f"{len(left_out)} jobs"
        raise refuse(f"{count} of the sweep left out: {'; '.join(left_out)} (told above)")
