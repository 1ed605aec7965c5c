"""Holds a server's answers against its OpenAPI description."""
import json
import re

import yaml

PYTHON = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
          "boolean": bool}


class OpenApi:
    """As much of OpenAPI 3.0 as our descriptions use; a keyword it does not know is an error, so
    that nothing goes unchecked."""

    def __init__(self, path):
        self.document = yaml.safe_load(path.read_text())
        self.seen = set()

    def documented(self):
        """(method, path, status) of every answer."""
        return {(method.upper(), path, status)
                for path, item in self.document["paths"].items()
                for method, operation in item.items() if method != "parameters"
                for status in operation["responses"]}

    def methods(self, path):
        return {method for method, known, _ in self.documented() if known == path}

    def template(self, address):
        """The path of the description that fits, or None."""
        plain = address.partition("?")[0]
        for path in self.document["paths"]:
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), plain):
                return path
        return None

    def check(self, method, address, answer):
        """An answer to a documented method at a documented path is as described."""
        path = self.template(address)
        if path is None or method not in self.methods(path):
            return
        what = f"{method} {address}: {answer.status}"
        responses = self.document["paths"][path][method.lower()]["responses"]
        assert str(answer.status) in responses, f"{what} is not documented"
        self.seen.add((method, path, str(answer.status)))
        response = self.resolve(responses[str(answer.status)])
        content = response.get("content")
        if content is None:
            assert answer.text == "", f"{what} has a body"
            return
        kind = answer.headers.get("Content-Type")
        assert kind in content, f"{what} is {kind}, not {list(content)}"
        self.validate(json.loads(answer.text), content[kind]["schema"], what)

    def resolve(self, node):
        while "$ref" in node:
            found = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def validate(self, value, schema, where):
        schema = self.resolve(schema)
        if value is None and schema.get("nullable"):
            return
        kind = schema["type"]
        good = isinstance(value, PYTHON[kind]) and (kind == "boolean") == isinstance(value, bool)
        assert good, f"{where}: {value!r} is not of type {kind}"
        for keyword, wanted in schema.items():
            getattr(self, "_" + keyword)(value, wanted, schema, where)

    def _ignore(self, *_):
        pass

    _type = _nullable = _format = _description = _default = _example = _ignore

    def _enum(self, value, wanted, _, where):
        assert value in wanted, f"{where}: {value!r} is not one of {wanted}"

    def _minimum(self, value, wanted, _, where):
        assert value >= wanted, f"{where}: {value} is less than {wanted}"

    def _maximum(self, value, wanted, _, where):
        assert value <= wanted, f"{where}: {value} is more than {wanted}"

    def _minLength(self, value, wanted, _, where):
        assert len(value) >= wanted, f"{where}: {value!r} is shorter than {wanted}"

    def _maxLength(self, value, wanted, _, where):
        assert len(value) <= wanted, f"{where}: a text of {len(value)} is longer than {wanted}"

    def _maxItems(self, value, wanted, _, where):
        assert len(value) <= wanted, f"{where}: {len(value)} items are more than {wanted}"

    def _items(self, value, wanted, _, where):
        for number, item in enumerate(value):
            self.validate(item, wanted, f"{where}[{number}]")

    def _required(self, value, wanted, _, where):
        assert not set(wanted) - set(value), f"{where}: no {set(wanted) - set(value)}"

    def _properties(self, value, wanted, _, where):
        for name, item in value.items():
            if name in wanted:
                self.validate(item, wanted[name], f"{where}.{name}")

    def _additionalProperties(self, value, wanted, schema, where):
        unknown = set(value) - set(schema["properties"])
        assert wanted or not unknown, f"{where}: unknown {unknown}"
