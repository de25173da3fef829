"""What a chat request's messages show and hold: found, loaded, and what is refused in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.errors import ApiError
from api.media.load import Media, MediaPart, MediaRefusedError, Wanted, WantedDocument, WantedImage
from api.media.sources import MediaError, Source, Uploaded, source_of_data, source_of_url
from api.openai.wire import FileContent, FileSource, ImageContent, Message, UserMessage

Place = tuple[int, int]
"""A part, by the numbers of its message and of itself in the message's content."""


async def load_media(
    messages: Sequence[Message], media: Media, tenant: str = "default", *, start: int = 0
) -> Mapping[Place, MediaPart]:
    """The images and files of the user's messages from number `start` on, by their places.

    Files named by an id are the tenant's.

    Raises `ApiError` 400, with the place in `param`, for one that cannot be had.
    """
    places: dict[str, Place] = {}
    wanted: dict[str, Wanted] = {}
    for index, message in enumerate(messages[start:], start):
        if not isinstance(message, UserMessage) or isinstance(message.content, str):
            continue
        for number, part in enumerate(message.content):
            if isinstance(part, ImageContent | FileContent):
                param, found = _wanted(part, f"messages[{index}].content[{number}]", tenant)
                places[param], wanted[param] = (index, number), found
    try:
        loaded = await media.load(wanted)
    except MediaRefusedError as error:
        raise _refused(error.place, str(error), wanted[error.place]) from error
    return {places[param]: part for param, part in loaded.items()}


def _wanted(part: ImageContent | FileContent, where: str, tenant: str) -> tuple[str, Wanted]:
    """Where it stands, as an error names it, and what it is."""
    try:
        if isinstance(part, ImageContent):
            if part.image_url.file_id is not None and not part.image_url.url:
                param = f"{where}.image_url.file_id"
                return param, WantedImage(Uploaded(tenant, part.image_url.file_id))
            param = f"{where}.image_url.url"
            return param, WantedImage(source_of_url(part.image_url.url))
        param = f"{where}.file.file_data"
        if part.file.file_data is None and part.file.file_id is not None:
            param = f"{where}.file.file_id"
            return param, WantedDocument(Uploaded(tenant, part.file.file_id), part.file.filename or "")
        return param, WantedDocument(_file_source(part.file, param), part.file.filename or "")
    except MediaError as error:
        raise _refused(param, str(error), part) from error


def _file_source(file: FileSource, param: str) -> Source:
    if file.file_data is not None:
        return source_of_data(file.file_data)
    raise ApiError(
        400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _refused(param: str, said: str, what: Wanted | ImageContent | FileContent) -> ApiError:
    is_image = isinstance(what, WantedImage | ImageContent)
    code = "invalid_image_url" if is_image else "invalid_value"
    return ApiError(400, f"Invalid '{param}': {said}", param=param, code=code)
