"""An MCP server on standard input and output: orders, stock, drafts. It needs nothing but Python.

The Model Context Protocol is JSON-RPC 2.0, a message a line. The CLI starts this in the agent's directory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


class ToolError(Exception):
    """What the model is told in place of a result."""


def find_order(number: str) -> dict[str, Any]:
    """Where an order is, and what is in it."""
    orders: dict[str, dict[str, Any]] = json.loads((DATA / "orders.json").read_text("utf-8"))
    if number not in orders:
        raise ToolError(f"There is no order {number}.")
    return {"number": number, **orders[number]}


def stock_of(part: str) -> dict[str, Any]:
    """How many of a part are on the shelf."""
    stock: dict[str, int] = json.loads((DATA / "stock.json").read_text("utf-8"))
    if part not in stock:
        raise ToolError(f"There is no part {part}.")
    return {"part": part, "count": stock[part]}


def draft(number: str, part: str, kind: str) -> dict[str, Any]:
    """Draft a replacement or a refund, for a colleague to approve."""
    line = next((line for line in find_order(number)["lines"] if line["part"] == part), None)
    if line is None:
        raise ToolError(f"The order {number} has no {part}.")
    if kind == "replacement" and not stock_of(part)["count"]:
        raise ToolError(f"{part} is out of stock; draft a refund.")
    return {"draft": f"D-{number}-{part}", "kind": kind, "amount": line["price"] if kind == "refund" else 0}


TEXT = {"type": "string"}
TOOLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "find_order": (find_order, {"number": TEXT}),
    "stock_of": (stock_of, {"part": TEXT}),
    "draft": (
        draft,
        {"number": TEXT, "part": TEXT, "kind": {"type": "string", "enum": ["replacement", "refund"]}},
    ),
}


def describe() -> dict[str, Any]:
    """The answer to `tools/list`."""
    return {
        "tools": [
            {
                "name": name,
                "description": function.__doc__,
                "inputSchema": {"type": "object", "properties": fields, "required": list(fields)},
            }
            for name, (function, fields) in TOOLS.items()
        ]
    }


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer to `tools/call`; a failure of a tool is an answer too."""
    try:
        function, _ = TOOLS[name]
        text, is_error = json.dumps(function(**arguments)), False
    except (ToolError, KeyError, TypeError) as error:
        text, is_error = str(error), True
    return {"content": [{"type": "text", "text": text}], "isError": is_error}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a request; `None` for a method that is not known."""
    match method:
        case "initialize":
            info = {"name": "orders", "version": "1.0.0"}
            version = params.get("protocolVersion", "2025-06-18")
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "ping":
            return {}
        case "tools/list":
            return describe()
        case "tools/call":
            return call(params["name"], params.get("arguments") or {})
    return None


def main() -> None:
    """Answer requests until the input ends. Notifications have no id, and get no answer."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params") or {})
        said = {"result": result} if result is not None else {"error": {"code": -32601, "message": "unknown"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)


if __name__ == "__main__":
    main()
