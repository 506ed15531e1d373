"""Unpacking: whole or not at all, and nothing beside the folder that was asked for."""

from __future__ import annotations

import secrets
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from profi.atomic import whole_file
from profi.types import UserError

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def unpack_folder(archive: Path, member: str, target: Path) -> None:
    """The files of one folder of a zip as the folder `target`, which appears when it is whole.

    It is unpacked beside `target` and renamed; where another job has been faster, its is kept.
    What killed jobs left half unpacked is removed, so only one should be at it (see `only_one`).

    Args:
        archive: a zip file.
        member: the folder within it; its files lie flat in it.
        target: the folder here.

    Raises:
        UserError: a damaged archive, one without that folder, or a file that would lie elsewhere.
        OSError: the disk.
    """
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        with _opened(archive) as content:
            files = [item for item in content.infolist() if not item.is_dir()]
            wanted = [item for item in files if item.filename.startswith(f"{member}/")]
            if not wanted:
                raise UserError(f"{archive} holds no folder {member}: fetch it again")
            for item in wanted:
                path = PurePosixPath(item.filename)
                if path.parent != PurePosixPath(member) or path.name == ".." or "\\" in path.name:
                    raise UserError(
                        f"{archive}: {item.filename!r} would not lie in {member}; fetch it again"
                    )
                with content.open(item) as source, (temporary / path.name).open("xb") as file:
                    shutil.copyfileobj(source, file)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack_file(archive: Path, member: str, target: Path) -> None:
    """One file of a zip as `target`, which appears when it is whole.

    Raises:
        UserError: a damaged archive, or one without that file.
        OSError: the disk.
    """
    try:
        with (
            _opened(archive) as content,
            content.open(member) as source,
            whole_file(target) as file,
        ):
            shutil.copyfileobj(source, file)
    except KeyError as error:
        raise UserError(f"{archive} holds no {member}: fetch it again") from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(f"{archive} is damaged ({reason}): fetch it again")
