#!/usr/bin/env -S /usr/bin/python3
# Files and functions that one person can hold in mind: limits, and a recorded list of what is longer, which may only shrink.
# Owner: its process. Left out: whether a short function is a good one; shell scripts and CMake files.
"""Checks the length of files and functions against the limits and tests/lint/longer.txt.

`--shrink` rewrites the list with the lengths of today; it never adds or raises an entry.
"""

import argparse
import ast
import pathlib
import re
import sys

from lintlib import CPP_SUFFIXES, Finding, Sample, is_python, repository_files, report, self_test, strip_cpp

# Lines. 600: about an hour's reading; 80: two screens.
FILE_LIMIT = 600
FUNCTION_LIMIT = 80
LIST = pathlib.Path(__file__).with_name("longer.txt")

_SCOPE = re.compile(r"^(?:template\b.*)?(?:inline\s+)?(?:namespace|extern\b|class|struct|union|enum)\b", re.DOTALL)
_MEMBER_INITIALISER = re.compile(r"\)\s*(?:noexcept\s*)?:(?!:)[^;]*[\w>]$|,\s*[\w:<>]+$", re.DOTALL)
_NAME = re.compile(r"([\w:~]+|operator\s*\S+?)\s*$")


def function_name(header):
    """`A::b` of "int A::b(int c) const"; for TEST(a, b) its arguments too."""
    depth_less = header[:header.index("(")]
    name = _NAME.search(depth_less)
    text = name.group(1) if name else "?"
    if re.fullmatch(r"TEST(?:_[FP])?|TYPED_TEST(?:_P)?", text):
        text = "{}({})".format(text, re.sub(r"\s+", " ", header[header.index("(") + 1:header.rindex(")")]))
    return text


def cpp_functions(text):
    """Yields (name, first line, number of lines) of every function defined outside another one."""
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), strip_cpp(text), flags=re.MULTILINE)
    kinds, start, line = [], 0, 1
    began = ("", 0)
    for at, char in enumerate(code):
        if char == "\n":
            line += 1
        elif char == "{":
            if all(kind == "scope" for kind in kinds):
                header = code[start:at].strip()
                if _SCOPE.match(header) and not header.endswith(")"):
                    kind = "scope"
                elif "(" in header and _MEMBER_INITIALISER.search(header):
                    kind = "initialiser"
                elif "(" in header:
                    kind, began = "function", (function_name(header), line - header.count("\n"))
                else:
                    kind = "other"
            else:
                kind = "inner"
            kinds.append(kind)
            if kind == "scope":
                start = at + 1
        elif char == "}" and kinds:
            kind = kinds.pop()
            if kind == "function":
                yield began[0], began[1], line - began[1] + 1
            if kind in ("function", "scope", "other"):
                start = at + 1
        elif char == ";" and all(kind == "scope" for kind in kinds):
            start = at + 1


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def lengths(files):
    """{key: (lines, path, line, limit)}; a key is "path" or "path function"."""
    found = {}
    for path, text in files.items():
        python = is_python(path, text)
        if not python and not path.endswith(CPP_SUFFIXES):
            continue
        found[path] = (text.count("\n"), path, 1, FILE_LIMIT)
        try:
            functions = list(python_functions(text) if python else cpp_functions(text))
        except SyntaxError:
            functions = []  # running it says more than a lint could
        for name, line, count in functions:
            key = f"{path} {name}"
            if key not in found or found[key][0] < count:
                found[key] = (count, path, line, FUNCTION_LIMIT)
    return found


def read_list(text):
    """{key: recorded lines} of "lines<TAB>key" lines."""
    entries = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            count, key = line.split("\t", 1)
            entries[key] = int(count)
    return entries


def check(files):
    recorded = read_list(files.get("tests/lint/longer.txt", ""))
    findings, found = [], lengths(files)
    for key, (count, path, line, limit) in found.items():
        allowed = recorded.get(key, limit)
        if count > allowed:
            findings.append(Finding(path, line, f"{key}: {count} lines, {allowed} are allowed"))
    for key, count in recorded.items():
        now, _, _, limit = found.get(key, (0, "", 0, FILE_LIMIT))
        if now <= limit:
            findings.append(Finding("tests/lint/longer.txt", 1, f"{key} is within the limit now: run tests/lint/check_length.py --shrink"))
        elif now < count:
            findings.append(Finding("tests/lint/longer.txt", 1, f"{key} has shrunk to {now} lines: run tests/lint/check_length.py --shrink"))
    return findings


def shrink(files):
    text, found = LIST.read_text(encoding="utf-8"), lengths(files)
    lines = [line for line in text.splitlines() if line.startswith("#")]
    for key, count in sorted(read_list(text).items()):
        now, _, _, limit = found.get(key, (0, "", 0, FILE_LIMIT))
        if now > limit:
            lines.append(f"{min(now, count)}\t{key}")
    LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")


def long_function(lines, head="void f() {"):
    return "// head\nnamespace a {\n" + head + "\n" + "  g();\n" * (lines - 2) + "}\n}  // namespace a\n"


SAMPLES = [
    Sample("short ones", {"a.cpp": long_function(FUNCTION_LIMIT)}, 0),
    Sample("a long function", {"a.cpp": long_function(FUNCTION_LIMIT + 1)}),
    Sample("a long method in a class", {"a.h": "class A {\n public:\n" + "  int f() const {\n" + "  g({1});\n" * FUNCTION_LIMIT + "  }\n};\n"}),
    Sample("a long constructor", {"a.cpp": long_function(FUNCTION_LIMIT + 1, "A::A(int b) : b_{b}, c_{b} {")}),
    Sample("a long test", {"a.cpp": long_function(FUNCTION_LIMIT + 1, "TEST(A, b) {")}),
    Sample("a long table is no function", {"a.cpp": "const int a[] = {\n" + "  1,\n" * 200 + "};\n"}, 0),
    Sample("a long Python function", {"a.py": "def f():\n" + "    g()\n" * FUNCTION_LIMIT}),
    Sample("a long file", {"a.cpp": "int a;\n" * (FILE_LIMIT + 1)}),
    Sample("a recorded one", {"a.cpp": long_function(100), "tests/lint/longer.txt": "100\ta.cpp f\n"}, 0),
    Sample("a recorded one that grew", {"a.cpp": long_function(101), "tests/lint/longer.txt": "100\ta.cpp f\n"}),
    Sample("a recorded one that shrank", {"a.cpp": long_function(99), "tests/lint/longer.txt": "100\ta.cpp f\n"}),
    Sample("a recorded one that is short now", {"a.cpp": long_function(9), "tests/lint/longer.txt": "100\ta.cpp f\n"}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true", help="prove on samples that violations are found")
    parser.add_argument("--shrink", action="store_true", help="lower the recorded lengths to those of today")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(self_test("check_length", check, SAMPLES))
    files = repository_files()
    if arguments.shrink:
        shrink(files)
        files = repository_files()
    sys.exit(report("check_length", check(files), len(files)))


if __name__ == "__main__":
    main()
