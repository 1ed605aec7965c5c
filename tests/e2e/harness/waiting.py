"""A test waits for a condition, never for a time."""
import time


def wait(what, condition, timeout_s=30.0):
    """Polls `condition` until it returns something true, and returns that.

    A condition that raises AssertionError is not met yet: its text says how far things are.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.005
    while True:
        try:
            seen = condition()
        except AssertionError as error:
            seen, why = None, str(error)
        else:
            why = f"last seen: {seen!r}"
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}; {why}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)
