#!/usr/bin/env -S /usr/bin/python3
# Every C++ file is as clang-format-19 writes it with the project's .clang-format.
# Owner: its process. Left out: Python and shell.
"""Checks the format of C++ files; `--fix` rewrites those that differ."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from lintlib import CPP_SUFFIXES, ROOT, Finding, Sample, report, repository_files, self_test

FORMATTER = "clang-format-19"


def differing(paths, directory):
    """Those of `paths` that clang-format would change, each with the first line it would change."""
    command = [FORMATTER, f"--style=file:{ROOT / '.clang-format'}", "--dry-run", "-Werror", "--ferror-limit=1", *paths]
    output = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stderr
    first = {}
    for line in output.splitlines():
        parts = line.split(":", 3)
        if len(parts) == 4 and "-Wclang-format-violations" in parts[3]:
            first.setdefault(parts[0], int(parts[1]))
    return first


def check(files):
    cpp = {path: text for path, text in files.items() if path.endswith(CPP_SUFFIXES)}
    if not cpp:
        return []
    with tempfile.TemporaryDirectory() as directory:
        for path, text in cpp.items():
            target = pathlib.Path(directory) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        found = differing(sorted(cpp), directory)
    return [Finding(path, line, "not as clang-format-19 writes it: run tests/lint/check_format.py --fix FILE") for path, line in found.items()]


SAMPLES = [
    Sample("well formatted", {"a.cpp": "int f(int a) { return a; }\n"}, 0),
    Sample("badly formatted", {"a.cpp": "int f( int a ){return a;}\n", "b/b.h": "int   b;\n", "c.h": "int c;\n"}, 2),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    parser.add_argument("--fix", nargs="+", metavar="FILE", help="rewrite these files")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test("check_format", check, SAMPLES))
    if arguments.fix:
        sys.exit(subprocess.run([FORMATTER, f"--style=file:{ROOT / '.clang-format'}", "-i", *arguments.fix], check=False).returncode)
    files = repository_files()
    sys.exit(report("check_format", check(files), sum(path.endswith(CPP_SUFFIXES) for path in files)))


if __name__ == "__main__":
    main()
