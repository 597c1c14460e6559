#!/usr/bin/env -S /usr/bin/python3
# Writes docs/conformance.md: each row of rows.txt with the tests that say they prove it. Owner: its process.
# Left out: running the tests (the table says which test, `scripts/test` says whether it passes).
"""A test claims rows by comments directly above it, in C++ or Python:

    // Proves: command | Copy | NVM 3.2.2
    TEST_F(CopyTest, RangesAreCopiedInOrder)

The last part, the section, may be left out. Without arguments it compares docs/conformance.md with the tree; --write writes it;
--self-test proves on samples that wrong claims are found.
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = ROOT / "tests" / "conformance" / "rows.txt"
PAGE = ROOT / "docs" / "conformance.md"
KINDS = {
    "command": "I/O commands",
    "admin": "Admin commands",
    "fabrics": "Fabrics commands",
    "controller": "Life of a controller",
    "identify": "Identify",
    "feature": "Features",
    "log": "Log pages",
    "event": "Asynchronous events",
    "status": "Status",
    "ana": "Asymmetric namespace access",
    "reservation": "Reservations",
    "access": "Access, discovery, and what is taken away",
    "transport": "TCP transport",
}

_CLAIM = re.compile(r"^\s*(?://|#)\s*Proves:\s*(.*?)\s*$")
_CPP_TEST = re.compile(r"^\s*TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)")
_PYTHON_TEST = re.compile(r"^\s*def (\w+)\(")
_COMMENT = re.compile(r"^\s*(?://|#)")


def key_of(kind, name):
    return kind.strip().lower(), " ".join(name.lower().split())


def read_rows(text):
    """[(kind, name, section)] in the order of the file, and what is wrong with it."""
    rows, faults = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            faults.append(f"rows.txt:{number}: a row is KIND | NAME | SECTION")
        elif parts[0] not in KINDS:
            faults.append(f"rows.txt:{number}: unknown kind '{parts[0]}'")
        elif any(key_of(*row[:2]) == key_of(*parts[:2]) for row in rows):
            faults.append(f"rows.txt:{number}: '{parts[0]} | {parts[1]}' stands there twice")
        else:
            rows.append(tuple(parts))
    return rows, faults


def read_claims(path, text):
    """Yields (line, kind and name, test) of every claim; test is None when no test follows at once."""
    waiting = []
    for number, line in enumerate(text.splitlines(), 1):
        claim = _CLAIM.match(line)
        if claim:
            waiting.append((number, claim.group(1)))
            continue
        if not waiting or _COMMENT.match(line):
            continue
        cpp, python = _CPP_TEST.match(line), _PYTHON_TEST.match(line)
        test = f"{cpp.group(1)}.{cpp.group(2)}" if cpp else python.group(1) if python else None
        for at, words in waiting:
            yield at, words, test
        waiting = []
    for at, words in waiting:
        yield at, words, None


def collect(rows, files):
    """Tests by row key, and every fault of a claim."""
    known = {key_of(kind, name): [] for kind, name, _ in rows}
    faults = []
    for path, text in sorted(files.items()):
        for line, words, test in read_claims(path, text):
            parts = words.split("|")
            key = key_of(*parts[:2]) if len(parts) in (2, 3) else None
            if key is None:
                faults.append(f"{path}:{line}: a claim is KIND | NAME or KIND | NAME | SECTION")
            elif key not in known:
                faults.append(f"{path}:{line}: rows.txt has no row '{' | '.join(key)}'")
            elif test is None:
                faults.append(f"{path}:{line}: no test follows this claim")
            elif (path, test) not in known[key]:
                known[key].append((path, test))
    return known, faults


def cell(tests):
    """The tests of a row, grouped by the file they stand in."""
    by_file = {}
    for path, test in tests:
        by_file.setdefault(path, []).append(test)
    return "<br>".join(f"`{path}`: {', '.join(names)}" for path, names in by_file.items())


def page(rows, tests):
    missing = [f"{KINDS[kind]}: {name} ({section})" for kind, name, section in rows if not tests[key_of(kind, name)]]
    lines = [
        "# Conformance",
        "",
        "Written by `tests/conformance/generate.py --write` out of the comments that tests carry; a lint compares. A row names what the",
        "specification asks, where it does, and the tests that fail if catnap does otherwise. Sections: Base is the NVM Express Base",
        "Specification 2.0c, NVM the NVM Command Set Specification 1.0c, TCP the TCP Transport Specification 1.0c, unless said otherwise.",
        "",
        f"{len(rows)} rows, {len(rows) - len(missing)} with tests, {len(missing)} without.",
    ]
    if missing:
        lines += ["", "## Missing", ""] + [f"- {text}" for text in missing]
    for kind, title in KINDS.items():
        chosen = [row for row in rows if row[0] == kind]
        if not chosen:
            continue
        lines += ["", f"## {title}", "", "| What | Specification | Tests |", "| --- | --- | --- |"]
        lines += [f"| {name} | {section} | {cell(tests[key_of(kind, name)]) or '**missing**'} |" for _, name, section in chosen]
    return "\n".join(lines) + "\n"


def tree():
    files = {}
    for path in sorted((ROOT / "tests").rglob("*")):
        if path.suffix in (".cpp", ".py") and path != pathlib.Path(__file__).resolve():
            files[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    return files


def self_test():
    rows, row_faults = read_rows("command | Read | NVM 3.2.4\nadmin | Abort | Base 5.1\n")
    good = "// Proves: command | read\n// more\nTEST_F(A, B) {\n"
    cases = [
        ("a good claim", {"a.cpp": good}, 0, 1),
        ("a Python claim", {"a.py": "# Proves: admin | Abort | Base 5.1\ndef test_abort(self):\n"}, 0, 1),
        ("an unknown row", {"a.cpp": good.replace("read", "reed")}, 1, 0),
        ("no test behind it", {"a.cpp": "// Proves: command | Read\nint a;\n"}, 1, 0),
        ("no name", {"a.cpp": "// Proves: command\nTEST(A, B)\n"}, 1, 0),
        ("the same twice", {"a.cpp": "// Proves: command | Read\n// Proves: command | Read\nTEST(A, B)\n"}, 0, 1),
    ]
    wrong = len(row_faults)
    for name, files, expected_faults, expected_tests in cases:
        tests, faults = collect(rows, files)
        found = sum(len(each) for each in tests.values())
        if (len(faults), found) != (expected_faults, expected_tests):
            wrong += 1
            print(f"conformance: self-test '{name}': {faults}, {found} tests")
    for text in ("command | Read\n", "nothing | Read | x\n", "command | Read | x\ncommand | READ | y\n"):
        if not read_rows(text)[1]:
            wrong += 1
            print(f"conformance: self-test: no fault found in {text!r}")
    print(f"conformance: self-test: {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--self-test", action="store_true", help="prove on samples that wrong claims are found")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    rows, faults = read_rows(ROWS.read_text(encoding="utf-8"))
    tests, claim_faults = collect(rows, tree())
    faults += claim_faults
    for fault in faults:
        print(fault)
    text = page(rows, tests)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        faults.append("")
        print("docs/conformance.md is not what the tests say: tests/conformance/generate.py --write")
    print(f"conformance: {len(rows)} rows, {sum(1 for each in tests.values() if each)} with tests, {len(faults)} findings")
    return 1 if faults or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
