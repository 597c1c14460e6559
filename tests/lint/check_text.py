#!/usr/bin/env -S /usr/bin/python3
# File heads, and what must not stand in any file: paths of one machine, foreign hosts, notes to self, trailing blanks.
# Owner: its process. Left out: spelling; the look of code (check_format.py).
"""Checks the head of every file and the words in it."""

import re

from lintlib import Finding, Sample, is_python, is_shell, line_of, run

# Hosts that documents may point to; a new one is added here on purpose.
ALLOWED_HOSTS = {
    "localhost", "127.0.0.1", "0.0.0.0", "[::1]", "evil.example",
    "nvmexpress.org", "www.nvmexpress.org", "spdk.io", "www.apache.org", "www.kernel.org", "docs.kernel.org",
    "www.rfc-editor.org", "datatracker.ietf.org", "www.jsonrpc.org", "www.debian.org", "www.w3.org",
}
# Written in halves, so that this file passes its own check.
NOTES_TO_SELF = ["TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK"]
MACHINE_PATHS = ["/wo" "rk/", "/ho" "me/", "/ro" "ot/"]

_NOTES = re.compile(r"\b(" + "|".join(NOTES_TO_SELF) + r")\b")
_PATHS = re.compile(r"(?<![\w.}*)])(" + "|".join(MACHINE_PATHS) + r")")
_URLS = re.compile(r"\b(?:https?|ftp|git|ssh)://(?:[^\s/@]*@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)")
_BLANKS = re.compile(r"[ \t]+$", re.MULTILINE)
# Files without a comment syntax, or with a fixed first line of their own.
_NO_HEAD = (".md", ".json", ".txt", "LICENSE", ".gitignore", ".clang-format", ".clang-tidy", ".conf")


def head_fault(path, text):
    """What is wrong with the first lines of a file, or empty."""
    if path.endswith(_NO_HEAD) and not path.endswith("CMakeLists.txt"):
        return ""
    lines = text.split("\n")
    if path.endswith((".h", ".cpp")):
        if not lines[0].startswith("// ") or len(lines[0]) < 12:
            return "the first line must be a comment that says what the file is for"
        if path.endswith(".h") and "#pragma once" not in text:
            return "a header needs #pragma once"
        return ""
    if lines[0].startswith("#!"):
        if is_python(path, text) and lines[0] != "#!/usr/bin/env -S /usr/bin/python3":
            return "Python scripts start with: #!/usr/bin/env -S /usr/bin/python3"
        lines = lines[1:]
    first = lines[0] if lines else ""
    known = is_python(path, text) or is_shell(path, text) or path.endswith(("CMakeLists.txt", ".cmake", ".yml", ".service"))
    if known and not (first.startswith(("# ", '"""')) and len(first) >= 12):
        return "the first line (after #!) must be a comment that says what the file is for"
    return ""


def check(files):
    findings = []
    for path, text in files.items():
        if not text:
            findings.append(Finding(path, 1, "an empty file"))
            continue
        fault = head_fault(path, text)
        if fault:
            findings.append(Finding(path, 1, fault))
        if not text.endswith("\n"):
            findings.append(Finding(path, line_of(text, len(text)), "no newline at the end of the file"))
        if path == "LICENSE":
            continue
        for match in _NOTES.finditer(text):
            findings.append(Finding(path, line_of(text, match.start()), f"a note to self ({match.group(1)}): do it, or write an issue"))
        for match in _PATHS.finditer(text):
            findings.append(Finding(path, line_of(text, match.start()), f"a path of one machine ({match.group(1)}...)"))
        for match in _URLS.finditer(text):
            host = match.group(1).lower()
            if host not in ALLOWED_HOSTS:
                findings.append(Finding(path, line_of(text, match.start()), f"a foreign host ({host}); allowed ones are listed in tests/lint/check_text.py"))
        for match in _BLANKS.finditer(text):
            findings.append(Finding(path, line_of(text, match.start()), "blanks at the end of the line"))
    return findings


HEAD = "// What this file of the sample is for.\n"
SAMPLES = [
    Sample("a good source file", {"a/a.cpp": HEAD + "int a;\n"}, 0),
    Sample("no head", {"a/a.cpp": "int a;\n"}),
    Sample("no pragma once", {"a/a.h": HEAD}),
    Sample("Python head", {"a/a.py": "#!/usr/bin/env python3\n# What this file of the sample is for.\n"}),
    Sample("CMake head", {"a/CMakeLists.txt": "add_subdirectory(b)\n"}),
    Sample("shell head", {"a/run": "#!/bin/bash\nset -e\n"}),
    Sample("a note to self", {"a/a.cpp": HEAD + "// " + NOTES_TO_SELF[0] + ": later\n"}),
    Sample("a machine path", {"a/a.cpp": HEAD + "// see " + MACHINE_PATHS[1] + "someone/x\n"}),
    Sample("part of a longer path", {"a/a.cpp": HEAD + "// build/x" + MACHINE_PATHS[0] + "x\n"}, 0),
    Sample("a package host", {"a.md": "curl https" + "://registry.example.org/x\n"}),
    Sample("an allowed host", {"a.md": "see https://nvmexpress.org/specifications\n"}, 0),
    Sample("trailing blanks", {"a.md": "text \n"}),
    Sample("no newline at the end", {"a.md": "text"}),
    Sample("an empty file", {"a.md": ""}),
]

if __name__ == "__main__":
    run("check_text", check, SAMPLES)
