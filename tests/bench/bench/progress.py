"""Says what is running and how long it took; on a terminal, how far it has come too."""
import contextlib
import sys
import time


class Progress:
    def __init__(self):
        self.done = self.expected = 0
        self.started_s = time.monotonic()

    def expect(self, steps):
        self.expected += steps

    @contextlib.contextmanager
    def step(self, what):
        self.done += 1
        begin_s = time.monotonic()
        elapsed_s = begin_s - self.started_s
        head = f"[{self.done}/{self.expected}, {elapsed_s:.0f} s] {what} ..."
        if sys.stderr.isatty():
            print(f"\r\033[K{head}", end="", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr)
            print(f"    {what} ({time.monotonic() - begin_s:.1f} s)", file=sys.stderr, flush=True)

    @staticmethod
    def note(text):
        print(f"        {text}", file=sys.stderr, flush=True)
