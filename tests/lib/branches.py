"""What gcov counted: branches.py BUILD-DIR OBJECT-DIR. Prints a line for each source file, then each
branch that was never taken, and fails when there is one.

A branch is an edge of gcc's own graph of the program, built without optimization: each way out of
an `if`, of a part of a condition, of a loop, of a switch. One kind is left out: the last edge of a
`switch` that has no `default`. It is for values that the enum does not name; the compiler warns of a
switch that misses one that it does (-Wswitch), and the tests are built with warnings as errors."""
import json
import pathlib
import subprocess
import sys


def counted(object_directory):
    """The files of that directory as gcov describes them, by name."""
    notes = sorted(object_directory.glob("*.gcno"))
    if not notes:
        sys.exit(f"{object_directory}: nothing was built with --coverage here")
    output = subprocess.run(["gcov", "--branch-counts", "--branch-probabilities", "--json-format",
                             "--stdout", *notes], check=True, capture_output=True, text=True).stdout
    for document in output.splitlines():
        document = json.loads(document)
        for file in document["files"]:
            path = pathlib.Path(document["current_working_directory"], file["file"]).resolve()
            if path.suffix == ".c":
                yield path, file["lines"]


class File:
    def __init__(self, path):
        self.path = path
        self.text = path.read_text().splitlines()
        self.lines = self.lines_taken = self.branches = self.branches_taken = 0
        self.missed = []  # (line, text)

    def is_whole_switch(self, number):
        """Whether a switch without a default begins on that line."""
        first = self.text[number - 1]
        indent = first[:len(first) - len(first.lstrip())]
        if not first.startswith(indent + "switch ("):
            return False
        end = self.text.index(indent + "}", number)
        return indent + "default:" not in self.text[number:end]

    def add(self, line):
        number = line["line_number"]
        self.lines += 1
        self.lines_taken += line["count"] > 0
        taken = [branch["count"] > 0 for branch in line["branches"]]
        if taken and not taken[-1] and self.is_whole_switch(number):
            taken.pop()
        self.branches += len(taken)
        self.branches_taken += sum(taken)
        missed = [str(place + 1) for place, each in enumerate(taken) if not each]
        if missed:
            what = f"branch {', '.join(missed)} of {len(taken)}" if any(taken) else "never reached"
            self.missed.append((number, what))
        elif line["count"] == 0:
            self.missed.append((number, "never reached"))

    def report(self):
        print(f"  {self.path.name:<18} lines {share(self.lines_taken, self.lines)}   "
              f"branches {share(self.branches_taken, self.branches)}")


def share(part, whole):
    percent = 100 if part == whole else min(99.9, 100 * part / whole)
    return f"{part:5} of {whole:5} {percent:6.1f} %"


def main(root, object_directory):
    files = {}
    for path, lines in counted(object_directory):
        file = files.setdefault(path, File(path))
        for line in lines:
            file.add(line)
    for file in files.values():
        file.report()
    for name in ("lines", "branches"):
        taken, all_of_them = (sum(getattr(file, name + suffix) for file in files.values())
                              for suffix in ("_taken", ""))
        print(f"  {name + ' together':<18} {share(taken, all_of_them)}")
    missed = [(file, number, what) for file in files.values() for number, what in file.missed]
    for file, number, what in missed:
        print(f"{file.path.relative_to(root)}:{number}: {what}: {file.text[number - 1].strip()}")
    return 1 if missed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()))
