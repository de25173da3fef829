"""Images and documents of a request, from wherever they are, into parts of a turn.

It knows no wire: a way in gathers what its messages want, by place, and gives the parts to its translator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec

from api.media.fetch import Fetcher
from api.media.kinds import document_part, image_part
from api.media.roots import read_below
from api.media.sources import Inline, Local, MediaError, Remote, Source, Uploaded
from api.media.uploads import read_upload
from shared.content import DocumentPart, ImagePart
from shared.files import Files
from shared.settings import Settings

_AT_ONCE = 4
"""So that one request does not take all of the process's places."""


class WantedImage(msgspec.Struct, frozen=True):
    """An image that a message shows."""

    source: Source


class WantedDocument(msgspec.Struct, frozen=True):
    """A file that a message holds; without a `name` it has that of its path or URL."""

    source: Source
    name: str = ""


Wanted = WantedImage | WantedDocument
MediaPart = ImagePart | DocumentPart


class MediaRefusedError(MediaError):
    """The image or file at `place` cannot be had."""

    def __init__(self, place: str, said: str) -> None:
        super().__init__(said)
        self.place = place


class Media:
    """Loads what requests want, within the bounds of `settings`; `files` has the uploads."""

    def __init__(self, fetcher: Fetcher, settings: Settings, files: Files | None = None) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._files = files

    async def load(self, wanted: Mapping[str, Wanted]) -> dict[str, MediaPart]:
        """The parts at the same places as what was wanted, several fetched at a time.

        Raises `MediaRefusedError` for one that cannot be had, or is too much together with the others.
        """
        most = self._settings.max_media_parts
        if len(wanted) > most:
            place = list(wanted)[most]
            raise MediaRefusedError(place, f"A request may have at most {most} images and files.")
        loading = _Loading(self._fetcher, self._settings, self._files)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    place: group.create_task(loading.part(place, each)) for place, each in wanted.items()
                }
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return {place: task.result() for place, task in tasks.items()}


class _Loading:
    """One request's media: how many bytes and how long they may still take together."""

    def __init__(self, fetcher: Fetcher, settings: Settings, files: Files | None) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._files = files
        self._names: dict[str, str] = {}
        self._left = settings.max_media_bytes
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._deadline = asyncio.get_running_loop().time() + settings.fetch_timeout_s

    async def part(self, place: str, wanted: Wanted) -> MediaPart:
        try:
            async with asyncio.timeout_at(self._deadline), self._places:
                return await self._part(wanted)
        except TimeoutError as error:
            said = f"It did not come within {self._settings.fetch_timeout_s:g} seconds."
            raise MediaRefusedError(place, said) from error
        except MediaError as error:
            raise MediaRefusedError(place, str(error)) from error

    async def _part(self, wanted: Wanted) -> MediaPart:
        declared = wanted.source.declared if isinstance(wanted.source, Inline) else ""
        if isinstance(wanted, WantedImage):
            return image_part(await self._bytes(wanted.source, self._settings.max_image_bytes), declared)
        data = await self._bytes(wanted.source, self._settings.max_file_bytes)
        return document_part(data, wanted.name or self._name(wanted.source), declared)

    async def _bytes(self, source: Source, limit: int) -> bytes:
        match source:
            case Inline(data=data):
                pass
            case Remote(url=url):
                data = await self._fetcher.fetch(url, limit)
            case Local(path=path):
                data = await asyncio.to_thread(read_below, self._settings.media_roots, path, limit)
            case Uploaded(tenant=tenant, file_id=file_id):
                self._names[file_id], data = await read_upload(self._files, tenant, file_id, limit)
        if len(data) > limit:
            raise MediaError(f"It is larger than {limit} bytes.")
        self._left -= len(data)
        if self._left < 0:
            raise MediaError(
                f"The images and files of a request may have {self._settings.max_media_bytes} bytes together."
            )
        return data

    def _name(self, source: Source) -> str:
        match source:
            case Inline():
                return ""
            case Remote(url=url):
                return PurePosixPath(unquote(urlsplit(url).path)).name
            case Local(path=path):
                return Path(path).name
            case Uploaded(file_id=file_id):
                return self._names[file_id]
