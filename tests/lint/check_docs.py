#!/usr/bin/env -S /usr/bin/python3
# What the pages for people name must be there: files and headings that they link to, and in code the paths, options, tests and identifiers.
# Owner: its process. Left out: whether what a page says of them is true; docs/rpc.md, which is generated from the methods themselves.
"""Checks README.md and docs/*.md against the tree: links, and in `code` and blocks of code paths, --options, names with underscores, names of tests."""

import re

from lintlib import FOLDERS, Finding, Sample, line_of, run

GENERATED = {"docs/rpc.md"}
# Said in pages and nowhere else in the tree: keys of Prometheus' configuration, a mode of RFC 8446, and what the tree puts together of parts.
FOREIGN = {"scrape_configs", "job_name", "static_configs", "psk_ke", "no_asan", "bdev_aio", "bdev_crypto"}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?<![\w./~-])(?:\./)?((?:" + "|".join(map(re.escape, FOLDERS)) + r")/[\w./+*{}<>-]*)")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
_NAME = re.compile(r"(?<![\w./<-])([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?![\w*<]|\.\w|\.\*)")
_TEST = re.compile(r"(?<![\w.])([A-Z]\w+)\.([A-Z]\w*\*?)(?![\w.])")


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(text):
    return {slug(heading) for heading in _HEADING.findall(_BLOCK.sub("", text))}


def is_there(path, files):
    path = path.rstrip("/.")
    if re.search(r"[*{}<>]|\b[A-Z]{2,}\b|\bX_", path):
        return True  # a pattern, or a word to be replaced
    return path in files or any(each.startswith(path + "/") for each in files)


def links(path, text, files):
    here = path.rpartition("/")[0]
    for match in _LINK.finditer(text):
        target, _, anchor = match.group(1).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        parts = []
        for part in f"{here}/{target}".split("/") if target else path.split("/"):
            parts = parts[:-1] if part == ".." else parts + [part] * (part not in ("", "."))
        wanted = "/".join(parts)
        if not is_there(wanted, files):
            yield Finding(path, line_of(text, match.start()), f"links to {wanted}, which is not there")
        elif anchor and wanted in files and anchor not in anchors(files[wanted]):
            yield Finding(path, line_of(text, match.start()), f"links to #{anchor} of {wanted}, which has no such heading")


def pieces_of_code(text):
    """(offset, piece) of every block and span of code."""
    for match in _BLOCK.finditer(text):
        yield match.start(1), match.group(1)
    blanked = _BLOCK.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)
    for match in _SPAN.finditer(blanked):
        yield match.start(1), match.group(1)


def names(path, text, files, words, options):
    for offset, code in pieces_of_code(text):
        for match in _PATH.finditer(code):
            if not is_there(match.group(1), files):
                yield offset + match.start(), f"{match.group(1)} is not there"
        for match in _OPTION.finditer(code):
            if match.group(1) not in options and match.group(0) not in FOREIGN:
                yield offset + match.start(), f"nothing in the tree knows {match.group(0)}"
        for match in _NAME.finditer(code):
            if match.group(1) not in words and match.group(1) not in FOREIGN:
                yield offset + match.start(), f"nothing in the tree is called {match.group(1)}"
        for match in _TEST.finditer(code):
            missing = [name for name in match.groups() if not name.endswith("*") and name not in words]
            if missing:
                yield offset + match.start(), f"nothing in the tree is called {missing[0]}"


def check(files):
    pages = {path: text for path, text in files.items() if path.endswith(".md")}
    words, options = set(), set()
    for path, text in files.items():
        if path not in pages or path in GENERATED:
            words.update(re.findall(r"\w+", text))
            options.update(re.findall(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", text))
    words.update(re.split(r"[/.]", path)[-2] for path in files if "." in path.rpartition("/")[2])
    findings = []
    for path, text in pages.items():
        if path in GENERATED:
            continue
        findings += links(path, text, files)
        findings += [Finding(path, line_of(text, offset), what) for offset, what in names(path, text, files, words, options)]
    return findings


TREE = {"reactor/reactor.h": "int awake_because();\n", "tests/a_test.cpp": "TEST(Suite, IsThere) {}\n", "docs/b.md": "# One `two`\n", "server/options.cpp": '"--http"\n'}


def page(text):
    return {**TREE, "docs/a.md": text}


SAMPLES = [
    Sample("a page without names", page("# A\ntext\n"), 0),
    Sample("a link", page("[b](b.md) and [there](b.md#one-two) and [here](#a)\n# A\n"), 0),
    Sample("a link elsewhere", page("[x](https://nvmexpress.org/c.md)\n"), 0),
    Sample("a link to a file that is gone", page("[b](c.md)\n")),
    Sample("a link to a heading that is gone", page("[b](b.md#three)\n")),
    Sample("a link to a heading of this page that is gone", page("[b](#three)\n# A\n")),
    Sample("a path", page("`reactor/reactor.h`, `reactor/` and `reactor/*.h`\n"), 0),
    Sample("a path that is gone", page("`reactor/loop.h`\n")),
    Sample("a path that is gone, in a block", page("```\n./reactor/loop.h --http\n```\n")),
    Sample("paths of others", page("`/usr/share/reactor/loop.h`\n"), 0),
    Sample("an option", page("`catnapd --http`\n"), 0),
    Sample("an option that is gone", page("`catnapd --https`\n")),
    Sample("a name", page("`awake_because` and `a_test` and plain no_such_name\n"), 0),
    Sample("a name that is gone", page("`asleep_because`\n")),
    Sample("a test", page("`Suite.IsThere` and `Suite.*`\n"), 0),
    Sample("a test that is gone", page("`Suite.IsGone`\n")),
]

if __name__ == "__main__":
    run("check_docs", check, SAMPLES)
