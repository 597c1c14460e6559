#!/usr/bin/env -S /usr/bin/python3
# Every header compiles alone: it includes what it needs, so the order of includes never matters.
# Owner: its process. Left out: whether it includes too much.
"""Compiles headers by themselves with g++ (syntax only), two at a time, and remembers by content which are good.

With --build those are left out that a source of that build includes before anything else: its compilation was the proof. That needs a build without
precompiled headers, which would bring along what is missing.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from compilelib import judge_all, version_of
from lintlib import ROOT, Finding, Sample, content_key, includes_of, report, repository_files, self_test

COMPILER = "g++"
FLAGS = ["-std=c++23", "-fsyntax-only", "-x", "c++", "-w"]
LIBRARIES = ["jsoncpp", "liburing", "libisal", "gtest", "gmock"]


def library_flags():
    flags = []
    for library in LIBRARIES:
        done = subprocess.run(["pkg-config", "--cflags", library], capture_output=True, text=True, check=False)
        flags += done.stdout.split() if done.returncode == 0 else []
    return flags


def built_sources(build):
    """Our sources in the build's compile_commands.json, as paths from the root; none of a target with a precompiled header."""
    sources = set()
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if ROOT in path.parents and "cmake_pch" not in entry["command"] and " -include " not in entry["command"]:
            sources.add(str(path.relative_to(ROOT)))
    return sources


def proven_by(sources, files):
    """Headers that one of these sources includes before anything else."""
    first = (next(includes_of(files[source]), (0, "<", "")) for source in sources if source in files)
    return {path for _, kind, path in first if kind == '"'}


def bad_headers(files, root, cache, proven=frozenset()):
    """{header: compiler output} of those that do not compile alone; `proven` ones are not looked at."""
    flags = [*FLAGS, f"-I{root}", *library_flags()]
    salt = (version_of(COMPILER), " ".join(FLAGS))
    keys = {path: content_key(path, files, *salt) for path in sorted(files) if path.endswith(".h") and path not in proven}
    return judge_all(keys, lambda path: [COMPILER, *flags, path], cache, root)[0]


def first_error(output):
    return next((line for line in output.splitlines() if "error:" in line), output.strip()[:200])


def check(files):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        proven = proven_by([path for path in files if path.endswith(".cpp")], files)
        return [Finding(path, 1, first_error(output)) for path, output in bad_headers(files, root, root / "cache.json", proven).items()]


SAMPLES = [
    Sample("complete", {"a/a.h": "#include <string>\nstd::string a();\n"}, 0),
    Sample("leans on who includes it", {"a/a.h": "std::string a();\n", "a/b.h": '#include <string>\n#include "a/c.h"\n', "a/c.h": "std::string c();\n"}, 2),
    Sample("proven by a source that includes it first", {"a/a.h": "std::string a();\n", "a/a.cpp": '// What it is.\n#include "a/a.h"\n#include <string>\n'}, 0),
    Sample("not proven by one that includes it later", {"a/a.h": "std::string a();\n", "a/b.cpp": '#include <string>\n\n#include "a/a.h"\n'}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    parser.add_argument("--build", type=pathlib.Path, help="a finished build whose sources prove the headers that they include first")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test("check_headers", check, SAMPLES))
    files = repository_files()
    proven = proven_by(built_sources(arguments.build), files) if arguments.build else set()
    bad = bad_headers(files, ROOT, ROOT / "build/lint/headers.json", proven)
    findings = [Finding(path, 1, "does not compile alone: " + first_error(output)) for path, output in bad.items()]
    print(f"check_headers: {len(proven & files.keys())} headers were proven by the build")
    sys.exit(report("check_headers", findings, sum(path.endswith(".h") for path in files)))


if __name__ == "__main__":
    main()
