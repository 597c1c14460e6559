# What the lints share: which files there are, C++ text without comments and literals, findings, and the command line with its self-test.
# Owner: each lint's own process. Left out: the rules themselves (check_*.py).
"""A lint module calls run(name, check, samples):

check(files): takes {path: text} with paths relative to the repository root, returns a list of Finding.
samples: a list of Sample; `--self-test` proves that each is found (or, with count 0, is not).
"""

import argparse
import hashlib
import os
import pathlib
import re
import sys
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Folders with files of ours; everything else at the root (build/) is not looked at.
FOLDERS = ["reactor", "keyring", "transport", "bdev", "server", "rpc", "web", "scripts", "tests", "cmake", "docs", "packaging", ".ci"]
CPP_SUFFIXES = (".h", ".cpp")


@dataclass(frozen=True)
class Finding:
    """One violation. `line` counts from 1."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Sample:
    """A small tree {path: text} on which the check must find exactly `count` violations."""

    name: str
    files: dict
    count: int = 1


def is_shell(path, text):
    return path.endswith(".sh") or text.startswith(("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash"))


def is_python(path, text):
    first = text.split("\n", 1)[0]
    return path.endswith(".py") or (first.startswith("#!") and "python3" in first)


def repository_files():
    """All text files of the project as {path relative to the root: text}."""
    files = {}
    paths = [p for p in ROOT.iterdir() if p.is_file()]
    for folder in FOLDERS:
        for directory, names, entries in os.walk(ROOT / folder):
            names[:] = sorted(n for n in names if n not in ("__pycache__", "seeds"))  # seeds of fuzzers are data, byte for byte
            paths += [pathlib.Path(directory) / entry for entry in sorted(entries)]
    for path in paths:
        try:
            files[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # binary test data, a socket left by a test, or a file that went away meanwhile
    return files


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


_LITERALS = re.compile(
    r"""//[^\n]*                                    # line comment
      | /\*.*?\*/                                   # block comment
      | R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"  # raw string
      | "(?:\\.|[^"\\\n])*"                         # string
      | (?<![0-9A-Fa-fxX])'(?:\\.|[^'\\\n])+'       # character, and no digit separator
    """,
    re.VERBOSE | re.DOTALL,
)


def strip_cpp(text):
    """The text with comments blanked and literals emptied; every offset and line stays where it was."""

    def blank(match):
        whole = match.group(0)
        blanked = re.sub(r"[^\n]", " ", whole)
        if whole.startswith("/"):
            return blanked
        return '"' + blanked[1:-1] + '"' if len(whole) > 1 else blanked

    return _LITERALS.sub(blank, text)


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def includes_of(text):
    """Yields (line, '<' or '"', path) of every include line."""
    for match in _INCLUDE.finditer(text):
        yield line_of(text, match.start()), match.group(1), match.group(2)


def include_closure(path, files):
    """`path` and every project file it includes, directly or not, sorted."""
    seen, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current in seen or current not in files:
            continue
        seen.add(current)
        waiting += [included for _, kind, included in includes_of(files[current]) if kind == '"']
    return sorted(seen)


def content_key(path, files, *salt):
    """Changes exactly when `path`, something it includes, or the salt (flags, compiler version) changes."""
    digest = hashlib.sha256()
    for part in salt:
        digest.update(str(part).encode() + b"\0")
    for name in include_closure(path, files):
        digest.update(name.encode() + b"\0" + files[name].encode() + b"\0")
    return digest.hexdigest()


def self_test(name, check, samples):
    wrong = 0
    for sample in samples:
        findings = check(sample.files)
        if len(findings) != sample.count:
            wrong += 1
            print(f"{name}: self-test '{sample.name}': {len(findings)} findings instead of {sample.count}")
            for finding in findings:
                print(f"  {finding.path}:{finding.line}: {finding.text}")
    print(f"{name}: self-test: {len(samples) - wrong} of {len(samples)} samples judged as they should be")
    return 1 if wrong or not samples else 0


def report(name, findings, looked_at):
    for finding in sorted(findings, key=lambda f: (f.path, f.line)):
        print(f"{finding.path}:{finding.line}: {finding.text}")
    print(f"{name}: {looked_at} files, {len(findings)} findings")
    return 1 if findings or not looked_at else 0


def run(name, check, samples):
    """The command line of a lint that needs nothing but the text of the files."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test(name, check, samples))
    files = repository_files()
    sys.exit(report(name, check(files), len(files)))
