"""A small HTTP server in the test's process that takes many connections at once."""
import asyncio
import collections
import json
import threading
import time

Request = collections.namedtuple("Request", "method path headers body at")


class Web:
    """Answers /slow/MS after so many milliseconds, /status/N with that status, /retry-after/N/VALUE
    with that status and header (`_` for a space), else 200; with what it got as JSON. Keeps every
    request."""

    def __init__(self):
        self.requests = []
        self.running = self.running_max = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(10)

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048))
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        started.set()
        self.loop.run_forever()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def paths(self, prefix=""):
        return [request.path for request in list(self.requests)
                if request.path.startswith(prefix)]

    async def _serve(self, reader, writer):
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                writer.write(await self._answer(request))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader):
        line = await reader.readline()
        if not line:
            return None
        method, path, _ = line.decode().split(" ", 2)
        headers = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body, time.monotonic())

    async def _answer(self, request):
        words = request.path.split("/")
        status, more = 200, ""
        if words[1] == "slow":
            self.running += 1
            self.running_max = max(self.running_max, self.running)
            await asyncio.sleep(int(words[2]) / 1000)
            self.running -= 1
        elif words[1] in ("status", "retry-after"):
            status = int(words[2])
        if words[1] == "retry-after":
            more = f"Retry-After: {words[3].replace('_', ' ')}\r\n"
        body = json.dumps({"method": request.method, "path": request.path,
                           "headers": request.headers, "body": request.body.decode("latin-1")})
        return (f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n"
                f"X-Seen: {request.method}\r\n{more}"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
