"""Unpacking of zip files: the result is whole, or it is not there at all."""

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
    """Unpack one folder of a zip as the folder `target`, which appears only when it is whole.

    The files are unpacked into a temporary folder, which is then renamed. If another job was
    faster, its folder is kept. Half-unpacked folders of killed jobs are removed, so only one job
    may unpack at a time (see `only_one`).

    Args:
        archive: a zip file.
        member: the folder in the archive; it has no subfolders.
        target: the folder on this machine.

    Raises:
        UserError: the archive is damaged, has no such folder, or has a file with an unsafe path.
        OSError: the disk failed.
    """
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        with _opened(archive) as content:
            files = [item for item in content.infolist() if not item.is_dir()]
            members = [item for item in files if item.filename.startswith(f"{member}/")]
            if not members:
                raise UserError(f"{archive} has no folder {member}: download it again")
            for item in members:
                path = PurePosixPath(item.filename)
                if path.parent != PurePosixPath(member) or path.name == ".." or "\\" in path.name:
                    raise UserError(
                        f"{archive}: {item.filename!r} is not directly in {member}; "
                        "download it again"
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
    """Unpack one file of a zip as `target`, which appears only when it is whole.

    Raises:
        UserError: the archive is damaged or has no such file.
        OSError: the disk failed.
    """
    try:
        with (
            _opened(archive) as content,
            content.open(member) as source,
            whole_file(target) as file,
        ):
            shutil.copyfileobj(source, file)
    except KeyError as error:
        raise UserError(f"{archive} has no file {member}: download it again") from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(f"{archive} is damaged ({reason}): download it again")
