"""The files of the pages: scripts, styles, pictures. Their address changes with them, so browsers keep them.

The version is in the path and not in a query, because modules name each other by relative paths.
"""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from litestar import Response, Router, get

from api.access import OPEN
from api.errors import ApiError

_PLACE: Final = Path(__file__).parent / "static"
_YEAR_S: Final = 365 * 24 * 3600
_SHOWN: Final = frozenset({".css", ".js", ".svg"})


class _File(msgspec.Struct, frozen=True):
    content: bytes
    kind: str


def _read() -> dict[str, _File]:
    found = sorted(path for path in _PLACE.rglob("*") if path.suffix in _SHOWN)
    return {
        path.relative_to(_PLACE).as_posix(): _File(
            path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        )
        for path in found
    }


def _version_of(files: dict[str, _File]) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(b"%d\0%s\0%d\0" % (len(name), name.encode(), len(file.content)) + file.content)
    return digest.hexdigest()[:16]


_FILES: Final = _read()
_VERSION: Final = _version_of(_FILES)


def address_of(name: str) -> str:
    """The address of a file that a template names; raises `KeyError` for one that is not there."""
    _ = _FILES[name]
    return f"/dashboard/static/{_VERSION}/{name}"


@get("/{version:str}/{name:path}", opt=OPEN)
async def _give(version: str, name: str) -> Response[bytes]:
    """Give a file. Behind another's version, of an API that is just being replaced, it is not to be kept."""
    file = _FILES.get(PurePosixPath(name).as_posix().lstrip("/"))
    if file is None:
        raise ApiError(404, "There is no such file.", code="not_found")
    kept = f"public, max-age={_YEAR_S}, immutable" if version == _VERSION else "no-store"
    return Response(file.content, media_type=file.kind, headers={"cache-control": kept})


dashboard_files = Router(path="/dashboard/static", route_handlers=[_give], include_in_schema=False)
