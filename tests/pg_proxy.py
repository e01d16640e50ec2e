"""A proxy between a client and PostgreSQL (or PgBouncer) that knows where messages begin and end.

    with Proxy(server.port) as proxy:
        lost = proxy.at("server", "C", 3, RST)   # the third CommandComplete from now
        ...                                      # a client of proxy.port
        assert lost.hit

It forwards message by message. At the n-th of a direction (who sent it: "client", "server") and a
kind it cuts the connection, delays the message, or stops forwarding. A kind is a message's letter;
of those without one, "startup", "cancel", "ssl" and "gss", and "answer" of the server to the last
two. None is any of them. After an answer "S" (TLS) nothing can be read any more, only forwarded.
"""

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

ADDRESS = "127.0.0.1"
SECONDS = 30  # for what the proxy itself is asked to do

# Actions; another is Delay(seconds).
FIN = "fin"  # both ends are told in good order that nothing more comes
RST = "rst"  # both ends lose the connection at once
HOLE = "hole"  # both ends stay connected, and nothing goes through any more

WITHOUT_LETTER = {80877102: "cancel", 80877103: "ssl", 80877104: "gss"}
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Delay:
    seconds: float


@dataclass(eq=False)
class Rule:
    """What happens once, at the n-th message from now. `forward`: the message itself goes through
    before the rest happens. `holding`: of those with these bytes in them; `behind`: only behind a
    message of the same direction that has them."""

    direction: str
    kind: str | None
    n: int
    action: object
    forward: bool
    holding: bytes = b""
    behind: bytes = b""
    armed: bool = False
    seen: int = 0
    _hit: threading.Event = field(default_factory=threading.Event)

    @property
    def hit(self):
        return self._hit.is_set()

    def wait(self, seconds=SECONDS):
        """True when it happens within that time."""
        return self._hit.wait(seconds)

    def happens(self):
        self._hit.set()

    def meets(self, direction, kind, data):
        if direction != self.direction:
            return False
        self.armed = self.armed or self.behind in data
        if self.kind not in (None, kind) or self.holding not in data or not self.armed:
            return False
        self.seen += 1
        return self.seen == self.n


class Proxy:
    """Listens on `port`; new connections go to `target`, which may be changed."""

    def __init__(self, target):
        self.target = target
        self.trace = []  # (direction, kind) of every message so far
        self._rules = []
        self._open = set()
        self._ignoring = False
        self._accepting = None
        self._listener = _bound(0)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.admit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Cuts everything and ends the proxy."""
        self._call(self._finish)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()
        self._listener.close()

    def url(self, database="postgres", user="dek"):
        return f"postgresql://{user}@{ADDRESS}:{self.port}/{database}"

    # ---- messages ----

    def at(self, direction, kind, n, action, forward=False, holding=b"", behind=b""):
        """At the n-th such message from now, over all connections: see Rule."""
        assert direction in ("client", "server") and n > 0
        rule = Rule(direction, kind, n, action, forward, holding, behind)
        self._call(lambda: self._rules.append(rule))
        return rule

    def forget_rules(self):
        self._call(self._rules.clear)

    # ---- connections ----

    def cut_all(self, how=RST):
        """Cuts the connections there are; how many."""
        return self._call(lambda: self._end_all(how))

    def silence(self):
        """From now on nothing goes through those there are; how many."""
        return self._call(self._silence_all)

    def refuse(self):
        """From now on connecting fails: nobody listens."""
        self._call(self._stop_listening)

    def ignore(self):
        """From now on one can connect, and no byte is answered."""
        self._call(lambda: self._listen(ignoring=True))

    def admit(self):
        """As in the beginning."""
        self._call(lambda: self._listen(ignoring=False))

    # ---- inner: everything below runs in the loop's thread ----

    def _call(self, what):
        async def run():
            found = what()
            return await found if asyncio.iscoroutine(found) else found
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(SECONDS)

    def _listen(self, ignoring):
        self._ignoring = ignoring
        if self._accepting is None:
            self._listener.listen(128)
            self._accepting = self._loop.create_task(self._accept())

    def _stop_listening(self):
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
            self._listener.close()
            self._listener = _bound(self.port)  # ours as long as it is bound

    async def _accept(self):
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms an answer
            connection = _Connection(self, client)
            self._open.add(connection)
            connection.task = self._loop.create_task(connection.run(self._ignoring))

    def _end_all(self, how):
        connections = list(self._open)
        for connection in connections:
            connection.end(how)
        return len(connections)

    def _silence_all(self):
        for connection in self._open:
            connection.hole = True
        return len(self._open)

    async def _finish(self):
        self._stop_listening()
        self._end_all(RST)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def meet(self, direction, kind, data):
        """The rules that a message meets; each happens once."""
        self.trace.append((direction, kind))
        met = [rule for rule in self._rules if rule.meets(direction, kind, data)]
        self._rules = [rule for rule in self._rules if rule not in met]
        return met

    def forget(self, connection):
        self._open.discard(connection)


class _Connection:
    """One client, its connection to the server, and a task for each direction."""

    def __init__(self, proxy, client):
        self.proxy = proxy
        self.client = client
        self.task = None
        self.writers = []
        self.started = False  # the client's startup message went by
        self.answers = 0  # of one byte, that the server owes
        self.readable = True  # no TLS in it
        self.ended = False  # what still comes is read and thrown away
        self.hole = False

    async def run(self, ignoring):
        try:
            client = await self._streams(sock=self.client)
            if ignoring:
                await _for_ever()
            server = await self._streams(host=ADDRESS, port=self.proxy.target)
            await asyncio.gather(self._pump("client", client[0], server[1]),
                                 self._pump("server", server[0], client[1]))
        except OSError:
            self.end(RST)
        finally:
            self.proxy.forget(self)
            for writer in self.writers:
                writer.close()

    def end(self, how):
        self.ended = True
        for writer in self.writers:
            if how == RST:
                with suppress(OSError):  # the other end was faster
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                writer.transport.abort()
            else:
                _write_end(writer)
        if how == RST:
            self.proxy.forget(self)
            self.task.cancel()

    async def _streams(self, **where):
        reader, writer = await asyncio.open_connection(**where)
        self.writers.append(writer)
        return reader, writer

    async def _pump(self, direction, reader, writer):
        at_end = False
        while not at_end:
            try:
                kind, data = await self._message(direction, reader)
            except asyncio.IncompleteReadError as error:
                kind, data, at_end = None, error.partial, True
            if self.hole:
                await _for_ever()
            if not self.ended:
                await self._forward(direction, kind, data, writer)
        if not self.ended:
            _write_end(writer)

    async def _forward(self, direction, kind, data, writer):
        for rule in self.proxy.meet(direction, kind, data) if kind is not None else ():
            if rule.forward:
                writer.write(data)
                await writer.drain()
                data = b""
            await self._obey(rule)
        if not self.ended:
            writer.write(data)
            await writer.drain()

    async def _obey(self, rule):
        rule.happens()  # first: who sees what follows may ask at once
        if isinstance(rule.action, Delay):
            await asyncio.sleep(rule.action.seconds)
        elif rule.action == HOLE:
            self.hole = True
            await _for_ever()
        else:
            self.end(rule.action)

    async def _message(self, direction, reader):
        """(kind, bytes) of the next; kind None where nothing can be read any more."""
        if not self.readable:
            data = await reader.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(b"", 1)
            return None, data
        if direction == "client" and not self.started:
            return await self._without_letter(reader)
        letter = await reader.readexactly(1)
        if direction == "server" and self.answers > 0:
            self.answers -= 1
            self.readable = letter == b"N"
            return "answer", letter
        return chr(letter[0]), letter + await _counted(reader, 4)

    async def _without_letter(self, reader):
        head = await reader.readexactly(8)
        if not self.readable:  # the answer came while we waited
            return None, head
        kind = WITHOUT_LETTER.get(int.from_bytes(head[4:], "big"), "startup")
        self.started = kind in ("startup", "cancel")
        self.answers += kind in ("ssl", "gss")
        return kind, await _counted(reader, 4, head)


def _bound(port):
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((ADDRESS, port))
    found.setblocking(False)
    return found


async def _counted(reader, size, begun=b""):
    """Bytes whose first `size` say how many they are, as far as they did not begin before."""
    begun = begun or await reader.readexactly(size)
    left = int.from_bytes(begun[:size], "big") - len(begun)
    try:
        return begun + await reader.readexactly(left)
    except asyncio.IncompleteReadError as error:
        raise asyncio.IncompleteReadError(begun + error.partial, left) from None


async def _for_ever():
    await asyncio.Event().wait()


def _write_end(writer):
    with suppress(OSError, RuntimeError):  # it is closed already
        writer.write_eof()
