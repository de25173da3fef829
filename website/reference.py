"""The reference of the API: its own OpenAPI document, shown by the same Swagger UI as `/docs`."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from litestar.exceptions import LitestarDeprecationWarning

from api.app import create_app
from api.docs import complete
from api.health import Drain
from shared.settings import Settings

_HERE = Path(__file__).parent
_SWAGGER = _HERE.parent / "api" / "static" / "swagger-ui"
_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE")


def openapi_document() -> dict[str, Any]:
    """What `/openapi.json` answers. Nothing is connected to."""
    with warnings.catch_warnings():  # Litestar 3 will want dependencies marked
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        app = create_app(Settings(redis_url="redis://127.0.0.1:1"), Drain())
    return complete(app.openapi_schema.to_schema())


def write_reference(directory: Path) -> None:
    """Write the page `reference.md`, the document, and what shows it, into `directory`."""
    document = json.dumps(openapi_document(), indent=1, ensure_ascii=False)
    shutil.copyfile(_HERE / "reference.md", directory / "reference.md")
    (directory / "openapi.json").write_text(document, "utf-8")
    frame = directory / "reference"
    frame.mkdir()
    for name in _FILES:
        shutil.copyfile(_SWAGGER / name, frame / name)
    shutil.copyfile(_HERE / "frame.html", frame / "index.html")
    (frame / "document.js").write_text(f"const openapi = {document};\n", "utf-8")  # readable from a disk too
