"""Takes lines and stores them: `python tests/audit_receiver.py http|tcp PORT FILE`. A process, to be killed."""

from __future__ import annotations

import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def store(lines: bytes) -> None:
    """With the kernel, which a killed process does not take along."""
    with open(sys.argv[3], "ab", buffering=0) as file:
        file.write(lines)


class Http(BaseHTTPRequestHandler):
    """A 204 comes when the lines are stored, and not before."""

    def do_POST(self) -> None:
        store(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Tcp(socketserver.StreamRequestHandler):
    """A line each; nothing goes back, as syslog has it."""

    def handle(self) -> None:
        for line in self.rfile:
            store(line)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    address = ("127.0.0.1", int(sys.argv[2]))
    with ThreadingHTTPServer(address, Http) if sys.argv[1] == "http" else TcpServer(address, Tcp) as server:
        server.serve_forever()
