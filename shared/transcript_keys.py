"""Names of sessions' transcripts in Redis; what others have named is encoded in them."""

from __future__ import annotations

from shared.redis_keys import encoded


def prefix(project_key: str, session_id: str) -> str:
    """Prefix of every name of one session's transcripts."""
    return f"backline:transcript:{encoded(project_key)}:{encoded(session_id)}:"


def chunks(project_key: str, session_id: str, subpath: str | None = None) -> str:
    """List: a transcript's entries, oldest first, in compressed chunks. Lives as long as the store says."""
    return f"{_transcript(project_key, session_id, subpath)}chunks"


def index(project_key: str, session_id: str, subpath: str | None = None) -> str:
    """Hash: a transcript's sizes and the digests of its uuids. Lives and goes with the chunks."""
    return f"{_transcript(project_key, session_id, subpath)}index"


def subpaths(project_key: str, session_id: str) -> str:
    """Set of a session's (encoded) subpaths; outlives the transcripts it names by up to a quarter."""
    return f"{prefix(project_key, session_id)}subpaths"


def mtimes(project_key: str) -> str:
    """Sorted set of a project's (encoded) session ids by the last append to the main transcript (ms)."""
    return f"backline:transcripts:{encoded(project_key)}:mtimes"


def expiries(project_key: str) -> str:
    """Sorted set of the same by when their transcripts lapse (ms)."""
    return f"backline:transcripts:{encoded(project_key)}:expiries"


def _transcript(project_key: str, session_id: str, subpath: str | None) -> str:
    stem = prefix(project_key, session_id)
    return stem if subpath is None else f"{stem}{encoded(subpath)}:"
