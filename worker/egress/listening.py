"""Run in a network of a sandbox's own, before anything of an agent's: `listening.py DESCRIPTOR PROGRAM …`.

It listens there, hands the listening socket to the worker by the descriptor, and becomes the program. So the
worker serves a network in which it is not, and nothing of it needs to run inside. Only the standard library,
because this is a file of its own to the interpreter.
"""

from __future__ import annotations

import os
import socket
import sys

PORT = 3128
"""On loopback; the network is the sandbox's own, so nothing else can have it."""

if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as worker, socket.socket() as listening:
        listening.bind(("127.0.0.1", PORT))
        listening.listen(128)
        socket.send_fds(worker, [b"."], [listening.fileno()])
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - what the worker planned to start
