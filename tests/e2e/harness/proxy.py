"""Stands between the worker and a server, and does to connections what networks do to them."""
import asyncio
import contextlib
import ctypes
import socket
import struct
import threading
from urllib.parse import urlsplit

ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() answers with an RST
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
PASS_NOTHING = struct.pack("HP", 1, ctypes.addressof(NOTHING))
SLICES_S = 10  # a trickle's bytes come in so many portions a second


def through(url, proxy, **parts):
    """The same address, by way of the proxy."""
    url = urlsplit(url)
    host = url.netloc.rpartition(":")[0]
    return url._replace(netloc=f"{host}:{proxy.port}", **parts).geturl()


class Link:
    """One connection, from both its ends."""

    def __init__(self, client):
        self.writers = [client]
        self.flowing = asyncio.Event()
        self.flowing.set()

    def hold(self, held):
        """The kernel drops every packet that comes in, before TCP sees it: no end hears anything of
        the other, not even an acknowledgement."""
        for writer in self.writers:
            with contextlib.suppress(OSError):
                hear_nothing(writer.get_extra_info("socket"), held)
        if held:
            self.flowing.clear()
        else:
            self.flowing.set()

    def abort(self):
        for writer in self.writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                           ABORT)
            writer.transport.abort()


def hear_nothing(sock, held):
    if held:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, PASS_NOTHING)
    else:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


class Proxy:
    """Passes everything on to a port of this machine, until told otherwise."""

    def __init__(self, port):
        self.target = port
        self.links = set()
        self.accepted = 0  # connections
        self.passed = 0  # bytes, of both directions
        self.holed = False
        self.slow_bytes_s = None
        self.fuse_bytes = None
        self.fuse_answers = False
        self.loop = asyncio.new_event_loop()
        self.server = None
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(10)
        self.port = self.server.sockets[0].getsockname()[1]

    # what it does to connections

    def cut(self):
        """Both ends of every connection are told that it is over. New ones may come."""
        self._call(lambda: [link.abort() for link in list(self.links)])

    def hole(self):
        """Every packet is lost, on connections that there are and on new ones; nobody is told."""
        self._call(lambda: self._hold(True))

    def strand(self):
        """The connections that there are go silent for good; new ones work."""
        self._call(lambda: [link.hold(True) for link in self.links])

    def slow(self, bytes_s):
        """So much of each direction of each connection passes in a second."""
        self.slow_bytes_s = bytes_s

    def cut_after(self, count, answers=False):
        """The connection that carries the byte of this number, counted from now over all of them,
        is cut right behind it. Both directions count, or only what the server says."""
        self.fuse_answers = answers
        self.fuse_bytes = count

    def mend(self):
        """An end to holes, trickles and cuts. What is stranded stays so."""
        self.slow_bytes_s = self.fuse_bytes = None
        self._call(lambda: self._hold(False))

    def close(self):
        self._call(lambda: [task.cancel() for task in asyncio.all_tasks(self.loop)
                            if task is not asyncio.current_task(self.loop)])
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    # how

    def _call(self, function):
        async def call():
            function()
        asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        started.set()
        self.loop.run_forever()
        self.server.close()

    def _hold(self, holed):
        if holed == self.holed:
            return
        self.holed = holed
        hear_nothing(self.server.sockets[0], holed)
        for link in self.links:
            link.hold(holed)

    async def _serve(self, reader, writer):
        link = Link(writer)
        self.links.add(link)
        self.accepted += 1
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self.target)
            link.writers.append(server)
            pumps = {asyncio.create_task(self._pump(link, reader, server)),
                     asyncio.create_task(self._pump(link, server_reader, writer))}
            _, left = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in left:
                pump.cancel()
            await asyncio.wait(pumps)
        except OSError:
            link.abort()  # nobody listens: as the kernel would have said
        finally:
            self.links.discard(link)
            for each in link.writers:
                each.close()

    async def _pump(self, link, reader, writer):
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                await link.flowing.wait()
                while data:
                    data = await self._pass(link, writer, data)
            await link.flowing.wait()  # an end is news, too

    async def _pass(self, link, writer, data):
        """Returns what is left to pass."""
        size = len(data)
        if self.slow_bytes_s is not None:
            size = min(size, max(1, self.slow_bytes_s // SLICES_S))
            await asyncio.sleep(size / self.slow_bytes_s)
        fuse_bytes = self.fuse_bytes
        if fuse_bytes is not None and not (self.fuse_answers and writer is not link.writers[0]):
            self.fuse_bytes = None if size >= fuse_bytes else fuse_bytes - size
            if size >= fuse_bytes:
                self.passed += fuse_bytes
                writer.write(data[:fuse_bytes])
                link.abort()
                return b""
        self.passed += size
        writer.write(data[:size])
        await writer.drain()
        return data[size:]
