"""The ports of the fake: HTTP/1.1, a thread for each connection, with TLS or without."""

import socket
import struct
import sys
import threading
import traceback
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from time import sleep
from urllib.parse import parse_qsl, unquote, urlsplit

from fakes import faults
from fakes.routes import find
from fakes.world import Answer, Call, as_json

ADDRESS = "127.0.0.1"
CONTROL = "/_control/"
LONGEST = 1 << 24  # bytes of a request's body
HANDSHAKE_SECONDS = 30


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def world(self):
        return self.server.world

    # ---- a connection ----

    def handle(self):
        self.counted = False
        try:
            if self.server.context is not None:
                self.connection.settimeout(HANDSHAKE_SECONDS)
                self.connection.do_handshake()
                self.connection.settimeout(None)
                self._count_connection()
            super().handle()
        except OSError:  # who asked is gone, or did not like our certificate
            pass

    def finish(self):
        with suppress(OSError):
            super().finish()

    def _count_connection(self):
        """Once; not one that only steers us."""
        if not self.counted:
            self.counted = True
            with self.world.lock:
                self.world.counts["connections"] += 1

    def cut(self, abruptly=False):
        """The end of this connection: at once (RST), or when all that was sent is there."""
        self.close_connection = True
        if abruptly:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.server.abrupt.add(self.request)

    # ---- a request ----

    def handle_any(self):
        body = self._read_body()
        if body is None:
            return
        parts = urlsplit(self.path)
        if parts.path.startswith(CONTROL) and self.server.control is not None:
            self.send(self._steer(parts.path.removeprefix(CONTROL), body))
            return
        self._count_connection()
        scheme = "https" if self.server.context is not None else "http"
        call = Call(self.command, unquote(parts.path), dict(parse_qsl(parts.query, True)),
                    self.headers, body, f"{scheme}://{self.headers.get('Host', '')}")
        find(call)
        with self.world.lock:
            self.world.counts[f"{call.service}.{call.operation}"] += 1
            scripted = self.world.scripted(call) if call.service else {}
            latency = self.world.latencies.get(call.service, 0)
        sleep(latency)
        status = None  # what the log of requests says of one that is not answered yet
        noted = self._note(call)
        try:
            status = faults.perform(self, call, scripted)
        finally:
            noted["status"] = status

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

    def _note(self, call):
        with self.world.lock:
            self.world.note(call, None)
            return self.world.requests[-1]

    def _read_body(self):
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > LONGEST:
            self.close_connection = True
            self.send(Answer(411))
            return None
        return self.rfile.read(int(length))

    def _steer(self, verb, body):
        try:
            return as_json(self.server.control(verb, body))
        except (ValueError, TypeError, KeyError) as error:
            return as_json({"error": f"{type(error).__name__}: {error}"}, 400)

    def service(self, call):
        return self.world.serving[call.service]

    def true_answer(self, call):
        if not call.service:
            return as_json({"error": f"the fake knows no {call.method} {call.path}"}, 404)
        try:
            with self.world.lock:
                return self.service(call).answer(call)
        except Exception:  # a bug of the fake: told in its output, and no test mistakes it
            traceback.print_exc()
            sys.stderr.flush()
            return as_json({"error": traceback.format_exc()}, 599)

    # ---- an answer ----

    def head(self, answer, length=None, chunked=False):
        """The status line and the headers."""
        try:
            phrase = HTTPStatus(answer.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        names = {name.lower() for name, _ in answer.headers}
        if "date" not in names:
            lines.append(f"Date: {self.world.date()}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif "content-length" not in names:
            lines.append(f"Content-Length: {len(answer.body) if length is None else length}")
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def send(self, answer):
        body = b"" if self.command == "HEAD" else answer.body
        self.wfile.write(self.head(answer) + body)

    def log_message(self, *_):
        pass


class Port(ThreadingMixIn, TCPServer):
    """`context`: its TLS; `control`: what is called with what tests ask of us, on one port only."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, world, port=0, context=None, control=None):
        super().__init__((ADDRESS, port), Handler)
        self.world, self.context, self.control = world, context, control
        self.abrupt = set()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def get_request(self):
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True,
                                                  do_handshake_on_connect=False)
        return connection, address

    def shutdown_request(self, request):
        """A shutdown would say FIN before the RST."""
        if request in self.abrupt:
            self.abrupt.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address):
        traceback.print_exc()
