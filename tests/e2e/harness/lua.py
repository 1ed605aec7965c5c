"""Writes Python values as Lua, for configurations and handlers."""
import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Code(str):
    """Text that is Lua already."""


def text(value):
    """A Lua string literal, whatever bytes or characters are in it."""
    data = value if isinstance(value, bytes) else value.encode()
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03d}"
                         for b in data) + '"'


def write(value):
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, bytes)):
        return text(value)
    if isinstance(value, dict):
        rows = (f"{key if NAME.match(key) else '[' + text(key) + ']'} = {write(item)}"
                for key, item in value.items())
        return "{ " + ", ".join(rows) + " }"
    return "{ " + ", ".join(write(item) for item in value) + " }"


def configuration(values):
    """A leveret.lua: one assignment for each key at the top."""
    return "".join(f"{key} = {write(item)}\n" for key, item in values.items())
