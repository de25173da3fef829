"""`files` and `images` of `claude_options`: given to the model with the newest user message."""

from __future__ import annotations

import msgspec

from api.claude_options import ClaudeOptions
from api.errors import ApiError
from api.media.load import Media, MediaRefusedError, Wanted, WantedDocument, WantedImage
from api.media.sources import MediaError, source_of_url
from shared.content import Part, ToolResultPart
from shared.runs import RunRequest


async def with_files(run: RunRequest, options: ClaudeOptions | None, media: Media) -> RunRequest:
    """The run with what its options name put before the user's words.

    Raises `ApiError` 400, with the place in `param`, for what cannot be had.
    """
    wanted = _wanted(options) if options is not None else {}
    if not wanted:
        return run
    try:
        loaded = await media.load(wanted)
    except MediaRefusedError as error:
        raise _refused(error.place, str(error)) from error
    results = [part for part in run.prompt if isinstance(part, ToolResultPart)]
    rest = [part for part in run.prompt if not isinstance(part, ToolResultPart)]
    prompt: list[Part] = [*results, *loaded.values(), *rest]  # the model wants results first
    return msgspec.structs.replace(run, prompt=tuple(prompt))


def _wanted(options: ClaudeOptions) -> dict[str, Wanted]:
    wanted: dict[str, Wanted] = {}
    for kind, field, given in (
        (WantedDocument, "files", options.files),
        (WantedImage, "images", options.images),
    ):
        for index, url in enumerate(given or ()):
            place = f"claude_options.{field}[{index}]"
            try:
                wanted[place] = kind(source_of_url(url))
            except MediaError as error:
                raise _refused(place, str(error)) from error
    return wanted


def _refused(place: str, said: str) -> ApiError:
    return ApiError(400, f"Invalid '{place}': {said}", param=place, code="invalid_value")
