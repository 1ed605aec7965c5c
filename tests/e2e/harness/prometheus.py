"""Reads Prometheus text, and refuses what Prometheus would refuse."""
import re

SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: (-?\d+))?\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|\Z)')
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Metrics:
    def __init__(self, text):
        assert text.endswith("\n"), "the last line does not end"
        self.types = {}
        self.samples = {}
        for line in text.splitlines():
            if line.startswith("#"):
                self._comment(line)
            elif line:
                self._sample(line)
        self._check_histograms()

    def _comment(self, line):
        words = line.split(" ", 3)
        if len(words) > 1 and words[1] == "TYPE":
            assert words[3] in TYPES, line
            assert words[2] not in self.types, f"a second TYPE line: {line}"
            assert not any(name == words[2] for name, _ in self.samples), f"too late: {line}"
            self.types[words[2]] = words[3]

    def _sample(self, line):
        match = SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        name, labels, value = match.group(1), match.group(2) or "", match.group(3)
        pairs, at = [], 0
        while at < len(labels):
            label = LABEL.match(labels, at)
            assert label, f"bad labels: {line!r}"
            pairs.append(label.groups())
            at = label.end()
        base = re.sub(r"_(bucket|sum|count)\Z", "", name)
        assert name in self.types or self.types.get(base) in ("histogram", "summary"), \
            f"no TYPE before {line!r}"
        key = (name, frozenset(pairs))
        assert key not in self.samples, f"twice: {line!r}"
        self.samples[key] = float(value)

    def _check_histograms(self):
        for name in (name for name, kind in self.types.items() if kind == "histogram"):
            series = {}
            for (sample, labels), value in self.samples.items():
                if sample == name + "_bucket":
                    bound = float(dict(labels)["le"])
                    rest = frozenset(pair for pair in labels if pair[0] != "le")
                    series.setdefault(rest, []).append((bound, value))
            for rest, buckets in series.items():
                counts = [count for _, count in sorted(buckets)]
                assert counts == sorted(counts), f"{name}: buckets are not cumulative"
                assert max(buckets)[0] == float("inf"), f"{name}: no +Inf bucket"
                assert counts[-1] == self.samples[(name + "_count", rest)], name

    def sum(self, name, **labels):
        """The sum of the samples that carry these labels."""
        wanted = set(labels.items())
        return sum(value for (sample, has), value in self.samples.items()
                   if sample == name and wanted <= has)

    def names(self):
        return {name for name, _ in self.samples}
