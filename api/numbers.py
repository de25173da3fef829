"""Numbers of a request that must lie in bounds."""

from __future__ import annotations

from api.errors import ApiError

MOST_TOKENS = 2**31


def check_range(param: str, value: float | None, least: float, most: float) -> None:
    """Raise `ApiError` 400 unless the field is absent or from `least` to `most`."""
    if value is not None and not least <= value <= most:
        said = f"'{param}' must be from {least} to {most}."
        raise ApiError(400, said, param=param, code="invalid_value")
