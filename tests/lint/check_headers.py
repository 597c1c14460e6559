#!/usr/bin/env -S /usr/bin/python3
# Every header compiles alone: it includes what it needs, so the order of includes never matters.
# Owner: its process. Left out: whether it includes too much.
"""Compiles every header by itself with g++ (syntax only), two at a time, and remembers by content which are good."""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from compilelib import judge_all, version_of
from lintlib import ROOT, Finding, Sample, content_key, report, repository_files, self_test

COMPILER = "g++"
FLAGS = ["-std=c++23", "-fsyntax-only", "-x", "c++", "-w"]
LIBRARIES = ["jsoncpp", "liburing", "libisal", "gtest", "gmock"]


def library_flags():
    flags = []
    for library in LIBRARIES:
        done = subprocess.run(["pkg-config", "--cflags", library], capture_output=True, text=True, check=False)
        flags += done.stdout.split() if done.returncode == 0 else []
    return flags


def bad_headers(files, root, cache):
    """{header: compiler output} of those that do not compile alone."""
    flags = [*FLAGS, f"-I{root}", *library_flags()]
    salt = (version_of(COMPILER), " ".join(FLAGS))
    keys = {path: content_key(path, files, *salt) for path in sorted(files) if path.endswith(".h")}
    return judge_all(keys, lambda path: [COMPILER, *flags, path], cache, root)[0]


def first_error(output):
    return next((line for line in output.splitlines() if "error:" in line), output.strip()[:200])


def check(files):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        return [Finding(path, 1, first_error(output)) for path, output in bad_headers(files, root, root / "cache.json").items()]


SAMPLES = [
    Sample("complete", {"a/a.h": "#include <string>\nstd::string a();\n"}, 0),
    Sample("leans on who includes it", {"a/a.h": "std::string a();\n", "a/b.h": '#include <string>\n#include "a/c.h"\n', "a/c.h": "std::string c();\n"}, 2),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test("check_headers", check, SAMPLES))
    files = repository_files()
    bad = bad_headers(files, ROOT, ROOT / "build/lint/headers.json")
    findings = [Finding(path, 1, "does not compile alone: " + first_error(output)) for path, output in bad.items()]
    sys.exit(report("check_headers", findings, sum(path.endswith(".h") for path in files)))


if __name__ == "__main__":
    main()
