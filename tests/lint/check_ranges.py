#!/usr/bin/env -S /usr/bin/python3
# A range-for whose range lies inside a temporary: up to C++20, and with g++ 12 in C++23 too, the temporary is gone before the first round.
# Owner: its process. Left out: temporaries that are arguments (`for (x : view(make()))`), ranges made by operators, what a function does with a
# reference that it was given; and types: a function is known by its name, and passed where one that the file sees under that name gives a reference.
"""Finds `for (x : f()["a"])`, `for (x : f().member)`, `for (x : *f())` and the like where f() gives a value: name the value before the loop."""

import re

from lintlib import CPP_SUFFIXES, Finding, Sample, include_closure, line_of, run, strip_cpp

_FOR = re.compile(r"\bfor\s*\(")
_NAME = re.compile(r"(?:::)?[A-Za-z_]\w*(?:::[A-Za-z_~]\w*)*")
_NO_TYPES = {"return", "co_return", "co_await", "co_yield", "throw", "new", "delete", "else", "case", "goto", "using", "typedef", "operator", "not", "and", "or", "sizeof"}
_DECLARATION = re.compile(r"""(?:(?<=[;{}>])|(?<=public:)|(?<=private:)|(?<=protected:)|^)\s*
    (?:\[\[[^\]]*\]\]\s*|template\s*<[^;{}()]*>\s*)*
    (?P<type>(?:(?:virtual|static|inline|constexpr|consteval|friend|const|explicit|extern|typename|struct|class)\s+)*
      [A-Za-z_][\w:]*(?:<[^;{}()=]*(?:\([^;{}()=]*\)[^;{}()=]*)*>(?:::\w+)*)?(?:\s*const\b)?)
    (?P<mark>\s*[&*]+(?:\s*const\b)?\s*|\s+)
    (?:[A-Za-z_]\w*(?:<[^<>;{}()]*>)?::)*(?P<name>[A-Za-z_]\w*)\s*\(""", re.VERBOSE | re.MULTILINE)
_VIEW = re.compile(r"\b(?:span|string_view|\w*[vV]iew|\w*_ref|reference_wrapper)\b")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
# Of the standard library: what they give lies in what they are called on.
_LASTING_MEMBERS = {"front", "back", "at", "value", "get", "top", "begin", "end", "find", "data"}
_LASTING_FUNCTIONS = {"GetParam"}  # GoogleTest's
VALUE, LASTING, VIEW = "value", "lasting", "view"


def closing(code, offset):
    """Offset of the bracket that closes the one at `offset`, or the end of the text."""
    depth = 0
    for at in range(offset, len(code)):
        depth += (code[at] in "([{") - (code[at] in ")]}")
        if depth == 0:
            return at
    return len(code) - 1


def range_of(head):
    """(the range expression of a for's parentheses, its offset there), or None for a for that counts."""
    depth, colon = 0, None
    for at, char in enumerate(head):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and char == ";":
            colon = None  # what stood before it was the loop's own declaration, or there is no range at all
        elif depth == 0 and char == ":" and head[at - 1:at] != ":" and head[at + 1:at + 2] != ":" and colon is None and "?" not in head[:at]:
            colon = at
    return None if colon is None else (head[colon + 1:], colon + 1)


def skip_template(code, at):
    """Past template arguments that begin at `at`; `at` itself where none do."""
    found = re.compile(r"<[\w:\s,*&]*(?:<[\w:\s,*&<>]*>)?[\w:\s,*&]*>(?=\s*[({])").match(code, at)
    return found.end() if found else at


def postfixes(code, at, parts):
    """Reads `.x`, `->x`, `(...)`, `[...]` and `{...}` from `at` on into `parts`; gives the offset behind them."""
    while True:
        at += len(code[at:]) - len(code[at:].lstrip())
        step = re.compile(r"(?:\.|->)\s*(?:template\s+)?([A-Za-z_]\w*)").match(code, at)
        if step:
            parts.append(("member", step.group(1)))
            at = skip_template(code, step.end())
        elif at < len(code) and code[at] in _PAIRS:
            kind, name = parts[-1] if parts else ("", "")
            if code[at] == "[":
                parts.append(("index", ""))
            elif kind in ("member", "name"):
                before = parts.pop()
                parts.append((f"call of {'a member' if before[0] == 'member' else 'a function'}", name) if code[at] == "(" else ("made", name))
            else:
                parts.append(("call of a function", ""))  # of a lambda, or of what a call gave
            at = closing(code, at) + 1
        else:
            return at


def chain(code):
    """The steps of an expression from its first name on, as [(kind, name)]; None for what is more than names, calls and members."""
    code = code.strip()
    stars = len(code) - len(code.lstrip("* "))
    code = code.lstrip("* ")
    if code.startswith("("):
        end = closing(code, 0)
        parts = chain(code[1:end])
        at = end + 1
    else:
        name = _NAME.match(code)
        if not name:
            return None
        parts, at = [("name", name.group(0).split("::")[-1])], skip_template(code, name.end())
    if parts is None or postfixes(code, at, parts) < len(code):
        return None
    return parts + [("index", "")] * bool(stars)


def declared_in(code):
    """{function name: set of VALUE, LASTING and VIEW}: what the functions give that are declared in a file's text."""
    results = {}
    for match in _DECLARATION.finditer(code):
        if _NO_TYPES & set(match.group("type").split()):
            continue
        kind = LASTING if re.search(r"[&*]", match.group("mark")) else VIEW if _VIEW.search(match.group("type")) else VALUE
        results.setdefault(match.group("name"), set()).add(kind)
    return results


class Declarations:
    """What functions give, as a file sees it: by what it and the files that it includes declare under that name."""

    def __init__(self, files, path, per_file):
        self.seen = [per_file[each] for each in include_closure(path, files) if each in per_file]

    def of(self, name, is_member):
        known = set().union(*(each.get(name, ()) for each in self.seen))
        return known | {LASTING} if name in _LASTING_FUNCTIONS or (is_member and name in _LASTING_MEMBERS) else known


def temporary_of(parts, declarations):
    """The name of the call (or type) whose value is gone before the first round; None where the range lives on."""
    last = len(parts) - 1
    for at in range(last, -1, -1):
        kind, name = parts[at]
        known = declarations.of(name, at > 0)
        if kind == "made":
            return name if at < last else None
        if kind.startswith("call"):
            if at == last and (known == {VALUE} or at == 0):
                return None  # the range is the value itself, which lives as long as the loop, or what a function of nothing else gives
            if at < last and LASTING not in known:
                return name or "the call"
            if kind == "call of a function" and at == 0:
                return None
    return None


def check(files):
    findings = []
    stripped = {path: strip_cpp(text) for path, text in files.items() if path.endswith(CPP_SUFFIXES)}
    per_file = {path: declared_in(code) for path, code in stripped.items()}
    for path, code in stripped.items():
        declarations = None
        for match in _FOR.finditer(code):
            opening = match.end() - 1
            found = range_of(code[opening + 1:closing(code, opening)])
            parts = chain(found[0]) if found else None
            if not parts or len(parts) == 1:
                continue
            declarations = declarations or Declarations(files, path, per_file)
            name = temporary_of(parts, declarations)
            if name:
                where = opening + 1 + found[1]
                findings.append(Finding(path, line_of(code, where), f"the range lies in what {name}() gives, which is gone before the loop begins: name that first"))
    return findings


DECLARED = """#pragma once
Json::Value value();
const Json::Value& lasting();
Thing* pointer();
std::vector<int> copy() const;
std::span<const int> view() const;
const std::vector<int>& items() const;
Result<std::vector<int>> attempt(int a);
"""


def loop(over):
    return {"a/a.h": DECLARED, "a/a.cpp": f"#include \"a/a.h\"\nvoid f() {{\n  for (const auto& each : {over}) use(each);\n}}\n"}


SAMPLES = [
    Sample("a name", loop("items_"), 0),
    Sample("members of a name", loop('a.b->c["x"]'), 0),
    Sample("a value", loop("value()"), 0),
    Sample("a member's value", loop("a.b().copy()"), 0),
    Sample("a value made of a temporary", loop("value().copy()"), 0),
    Sample("inside what lasts", loop('lasting()["a"]'), 0),
    Sample("behind a pointer", loop("pointer()->items()"), 0),
    Sample("behind a singleton", loop("Thing::pointer()->deep.items()"), 0),
    Sample("an optional that has a name", loop("(*found)->items"), 0),
    Sample("a list", loop("{value(), value()}"), 0),
    Sample("a view of what lasts", loop("lasting().view()"), 0),
    Sample("what counts is none", {"a/a.cpp": "void f() {\n  for (int i = a ? b : c; i < g().h; ++i) use(i);\n}\n"}, 0),
    Sample("strings and comments", {"a/a.cpp": '// for (x : value()["a"])\nauto s = "for (x : value().a)";\n'}, 0),
    Sample("an index of a value", loop('value()["a"]')),
    Sample("a member of a value", loop("value().names")),
    Sample("a reference into a value", loop("value().items()")),
    Sample("a view of a value", loop("value().view()")),
    Sample("what a result holds", loop("*attempt(1)")),
    Sample("what a result holds, by name", loop("attempt(g(2)).value()")),
    Sample("deeper", loop('(*attempt(1)).at(0)["x"].items()')),
    Sample("a member of an object made here", loop("Thing{1, 2}.items()")),
    Sample("a template's value", {"a/a.h": "template <class T>\nT page() const;\n", "a/a.cpp": "#include \"a/a.h\"\nvoid f() {\n  for (auto nsid : bench.log(1, {2}).page<Page>().nsid) use(nsid);\n}\n"}),
    Sample("a function that nobody declares", loop("unknown(a).names")),
    Sample("after a declaration of its own", {"a/a.h": DECLARED, "a/a.cpp": "#include \"a/a.h\"\nvoid f() {\n  for (int i = 0; auto& each : value().items()) use(each, i++);\n}\n"}),
]

if __name__ == "__main__":
    run("check_ranges", check, SAMPLES)
