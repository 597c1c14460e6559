#!/usr/bin/env -S /usr/bin/python3
# clang-tidy-19 with the project's .clang-tidy over every source file that is built; all findings are errors.
# Owner: its process. Left out: headers nobody includes (check_headers.py compiles them).
"""Runs clang-tidy two at a time on what changed since it was last found good: what changed last comes first, tests come last.

When --budget-s runs out, the files left are named; the next run goes on with them, and they do not count as checked.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from compilelib import judge_all, version_of
from lintlib import ROOT, Finding, Sample, content_key, report, repository_files, self_test

TIDY = "clang-tidy-19"
CONFIG = ROOT / ".clang-tidy"


def built_sources(build):
    """{path from the root: compile command} of our files in the build's compile_commands.json."""
    sources = {}
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if ROOT in path.parents and ROOT / "build" not in path.parents:
            sources[str(path.relative_to(ROOT))] = entry["command"]
    return sources


def recently_changed():
    """Paths in the order in which git saw them change, the latest first; empty without git (a source archive, or a machine that has none)."""
    if shutil.which("git") is None:
        return []
    status = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    log = subprocess.run(["git", "log", "-n", "300", "--name-only", "--format="], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [line[3:] for line in status.stdout.splitlines()] + log.stdout.splitlines()
    return list(dict.fromkeys(path for path in paths if path))


def findings_of(path, output):
    """One Finding per error line of clang-tidy."""
    found = []
    for line in output.splitlines():
        parts = line.split(":", 4)
        if len(parts) == 5 and parts[3].strip() in ("error", "warning") and parts[1].isdigit():
            where = pathlib.Path(parts[0])
            name = str(where.relative_to(ROOT)) if ROOT in where.parents else parts[0]
            finding = Finding(name, int(parts[1]), parts[4].strip().replace(",-warnings-as-errors", ""))
            if finding not in found:
                found.append(finding)
    return found or [Finding(path, 1, "clang-tidy failed: " + output.strip()[-300:])]


def check(files):
    """Runs on a small tree of its own: for the samples."""
    findings = []
    with tempfile.TemporaryDirectory() as directory:
        for path, text in files.items():
            target = pathlib.Path(directory) / path
            target.write_text(text, encoding="utf-8")
            command = [TIDY, "--quiet", f"--config-file={CONFIG}", str(target), "--", "-std=c++23"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                findings += findings_of(path, done.stdout)
    return findings


COROUTINE = """#include <coroutine>
struct Task {
  struct promise_type {
    Task get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() {}
  };
};
"""
SAMPLES = [
    Sample("clean", {"a.cpp": "int f(int a) { return a; }\n"}, 0),
    Sample("use after move", {"a.cpp": "#include <string>\n#include <utility>\nstd::string g(std::string);\n"
                              "std::size_t f(std::string a) {\n  g(std::move(a));\n  return a.size();\n}\n"}),
    Sample("a capturing coroutine lambda", {"a.cpp": COROUTINE + "void f(int a) {\n  auto g = [a]() -> Task {\n    (void)a;\n    co_return;\n  };\n  g();\n}\n"}),
    Sample("a coroutine's reference parameter", {"a.cpp": COROUTINE + "Task f(const int& a) {\n  (void)a;\n  co_return;\n}\n"}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    parser.add_argument("--build", default=str(ROOT / "build/release"), help="build folder with compile_commands.json")
    parser.add_argument("--budget-s", type=float, default=None, help="start no further file after this many seconds")
    parser.add_argument("files", nargs="*", help="only these (default: all that are built)")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test("check_tidy", check, SAMPLES))
    build = pathlib.Path(arguments.build).resolve()
    files, commands = repository_files(), built_sources(build)
    if arguments.files:
        commands = {path: command for path, command in commands.items() if path in arguments.files}
    salt = (version_of(TIDY), CONFIG.read_text(encoding="utf-8"))
    recency = {path: place for place, path in enumerate(recently_changed())}
    order = sorted(commands, key=lambda path: (path.startswith("tests/"), recency.get(path, len(recency)), path))
    keys = {path: content_key(path, files, *salt) for path in order if path in files}
    tidy = [TIDY, "--quiet", "-p", str(build), "--extra-arg=-Wno-unknown-warning-option"]
    bad, left = judge_all(keys, lambda path: [*tidy, path], ROOT / "build/lint/tidy.json", ROOT, budget_s=arguments.budget_s)
    findings = {finding for path, output in bad.items() for finding in findings_of(path, output)}
    for path in left:
        print(f"not checked, no time left: {path}")
    print(f"check_tidy: {len(keys) - len(left)} of {len(keys)} files checked")
    sys.exit(report("check_tidy", findings, len(keys) - len(left)))


if __name__ == "__main__":
    main()
