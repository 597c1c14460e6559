#!/usr/bin/env -S /usr/bin/python3
# The coroutine rules of reactor/task.h, which g++ 12 needs: what breaks them compiles silently and then loses values or frees twice.
# Owner: its process. Left out: what needs types (clang-tidy's coroutine checks see more, but not everything g++ trips over).
"""Checks where co_await stands, what lambdas capture, and what Task functions take."""

import re

from lintlib import Finding, Sample, line_of, run, strip_cpp

_AWAIT = re.compile(r"\bco_await\b")
_TYPE_AND_NAME = re.compile(r"(?:\[\[\w+\]\]\s*)?(?:const\s+)?[\w:]+(?:<[^;{}]*>)?\s*(?:&&|&)?\s+\w+\s*=\s*$")
_ASSIGNMENT = re.compile(r"[\w.>\-]+\s*=\s*$")
_PREPROCESSOR = re.compile(r"^\s*#[^\n]*\n", re.MULTILINE)
_LABEL = re.compile(r"(?:else\b|do\b|default\s*:(?!:)|case\b[^?]*?(?<!:):(?!:))\s*")
_CONTROL = re.compile(r"(?:if|while|for|switch)\b\s*(?:constexpr\s*)?(?=\()")
_TASK_FUNCTION = re.compile(r"\bTask<")
_LAMBDA = re.compile(r"\[([^\[\]]*)\]\s*(?:<[^(){}]*>\s*)?(?:\(|\{|mutable\b|->)")
_OPEN, _CLOSE = "([{", ")]}"


def statement_before(code, offset):
    """The text between the start of the statement and `offset`; None when offset lies inside parentheses of that statement."""
    depth, at = 0, offset - 1
    while at >= 0:
        char = code[at]
        if char in ")]":
            depth += 1
        elif char in "([":
            if depth == 0:
                return None
            depth -= 1
        elif char in ";{}" and depth == 0:
            return code[at + 1:offset]
        at -= 1
    return code[:offset]


def statement_after(code, offset):
    """The text from `offset` to the ';' that ends the statement; None when a bracket closes first."""
    depth = 0
    for at in range(offset, len(code)):
        char = code[at]
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            if depth == 0:
                return None
            depth -= 1
        elif char == ";" and depth == 0:
            return code[offset:at]
    return None


def closing(code, offset):
    """Offset of the bracket that closes the one at `offset` ('<' too, for template arguments)."""
    pairs = {"(": ")", "[": "]", "{": "}", "<": ">"}
    open_char, close_char, depth = code[offset], pairs[code[offset]], 0
    for at in range(offset, len(code)):
        if code[at] == open_char:
            depth += 1
        elif code[at] == close_char and not (close_char == ">" and code[at - 1] == "-"):
            depth -= 1
            if depth == 0:
                return at
    return len(code) - 1


def without_control(head):
    """The statement without the `if (...)`, `else`, `case x:` and preprocessor lines that it stands under."""
    head = _PREPROCESSOR.sub("", head).strip()
    while True:
        label, control = _LABEL.match(head), _CONTROL.match(head)
        if label:
            head = head[label.end():].strip()
        elif control:
            head = head[closing(head, control.end()) + 1:].strip()
        else:
            return head


def outside_brackets(text):
    """The text with everything in brackets blanked."""
    out, depth = [], 0
    for char in text:
        if char in _CLOSE:
            depth -= 1
        out.append(char if depth == 0 else " ")
        if char in _OPEN:
            depth += 1
    return "".join(out)


def await_faults(path, code):
    for match in _AWAIT.finditer(code):
        line = line_of(code, match.start())
        if code[:match.start()].rstrip().endswith("operator"):
            continue  # the declaration of an awaitable
        before, after = statement_before(code, match.start()), statement_after(code, match.end())
        if before is None:
            yield Finding(path, line, "co_await inside an expression or a condition: make it `auto r = co_await f(named...);`")
            continue
        head = without_control(before)
        if head and not _TYPE_AND_NAME.fullmatch(head + " ") and not _ASSIGNMENT.fullmatch(head + " "):
            yield Finding(path, line, "co_await is not a statement of its own: make it `auto r = co_await f(named...);`")
            continue
        if after is None:
            yield Finding(path, line, "co_await inside an initialiser: make it `auto r = co_await f(named...);`")
            continue
        if "{" in after:
            yield Finding(path, line, "an aggregate or lambda made inside a co_await expression: name it first, then std::move it")
            continue
        if re.search(r"&&|\|\||\?|==|!=|<=|>=|[+/%^|]|,", re.sub(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", "", outside_brackets(after))):
            yield Finding(path, line, "an operator beside co_await: make it a statement of its own")


def parameter_fault(parameters):
    """What is wrong with a Task function's parameter list, or empty."""
    text = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*(?:<[^<>]*(?:<[^<>]*>)?[^<>]*>[^<>]*)*>", "", parameters))
    if "&" in text:
        return "takes a reference: it may dangle after a suspension; pass a value, a pointer with an owner that outlives it, or a shared_ptr"
    if re.search(r"\b(?:string_view|span)\b", text):
        return "takes a view: what it points to may be gone after a suspension; pass a std::string or std::vector"
    return ""


def task_function_faults(path, code):
    for match in _TASK_FUNCTION.finditer(code):
        after = closing(code, match.end() - 1) + 1
        head = re.compile(r"\s+(?:[\w]+(?:<[^<>]*>)?::)*(~?\w+)\s*\(").match(code, after)
        if not head or head.group(1) in ("operator",):
            continue
        opening = head.end() - 1
        fault = parameter_fault(code[opening + 1:closing(code, opening)])
        if fault:
            yield Finding(path, line_of(code, match.start()), f"coroutine {head.group(1)}() {fault}")


def lambda_parts(code, match):
    """(captures, parameters, return type, body) of a lambda; body None when this is none."""
    at = match.end() - 1
    parameters, trailer = "", ""
    if code[at] == "(":
        end = closing(code, at)
        parameters, at = code[at + 1:end], end + 1
    else:
        at = match.start() + len("[" + match.group(1) + "]")
    brace = re.compile(r"[^;{}()]*").match(code, at)
    trailer = brace.group(0)
    if brace.end() >= len(code) or code[brace.end()] != "{":
        return match.group(1), parameters, trailer, None
    return match.group(1), parameters, trailer, code[brace.end() + 1:closing(code, brace.end())]


def without_inner_lambdas(body):
    """The body with the bodies of lambdas in it blanked, so that their co_awaits are not counted to the outer one."""
    while True:
        for match in _LAMBDA.finditer(body):
            inner = lambda_parts(body, match)[3]
            if inner and inner.strip():
                start = body.index(inner, match.end() - 1)
                body = body[:start] + " " * len(inner) + body[start + len(inner):]
                break
        else:
            return body


def lambda_faults(path, code):
    for match in _LAMBDA.finditer(code):
        before = code[:match.start()].rstrip()
        if before and (before[-1].isalnum() or before[-1] in "_)]\"") and not before.endswith(("return", "co_return", "co_await", "co_yield")):
            continue  # an index, an array or an attribute
        captures, parameters, trailer, body = lambda_parts(code, match)
        if body is None:
            continue
        is_coroutine = "Task<" in trailer or re.search(r"\bco_(?:await|return|yield)\b", without_inner_lambdas(body))
        if not is_coroutine:
            continue
        line = line_of(code, match.start())
        if captures.strip():
            yield Finding(path, line, f"a coroutine lambda captures [{' '.join(captures.split())}]: its captures die with the lambda object; pass them as parameters")
        fault = parameter_fault(parameters)
        if fault:
            yield Finding(path, line, f"a coroutine lambda {fault}")


def check(files):
    findings = []
    for path, text in files.items():
        if path.endswith((".h", ".cpp")):
            code = strip_cpp(text)
            findings += [*await_faults(path, code), *task_function_faults(path, code), *lambda_faults(path, code)]
    return findings


def body(statements):
    return {"a/a.cpp": "Task<int> f(std::string name) {\n" + statements + "\n}\n"}


SAMPLES = [
    Sample("a statement of its own", body("auto r = co_await g(name);\nconst Result<int> q = co_await h();\nr = co_await g(name);\nco_await SleepFor(5);"), 0),
    Sample("under an if, as a statement", body("int a = 1;\nif (a == 1) co_await g();\nif (a) {\n  auto r = co_await g(map[a], b());\n}\nelse co_await h();"), 0),
    Sample("a template and a move", body("auto r = co_await call_on<std::pair<int, int>>(thread, std::move(call));\nT v = co_await std::move(task);"), 0),
    Sample("under a case label", body("switch (a) {\n  case Op::read: co_await g(); break;\n  default: co_await h();\n}\n#ifdef X\nco_await h();\n#endif"), 0),
    Sample("in a choice", body("return a ? b : co_await g();")),
    Sample("in a condition", body("if (co_await g()) return;")),
    Sample("in a while condition", body("while (!co_await g()) {}")),
    Sample("in an if-init", body("if (auto r = co_await g(); r) {}")),
    Sample("as an argument", body("use(co_await g());")),
    Sample("returned", body("co_return co_await g();")),
    Sample("with an operator", body("auto r = co_await g() + 1;")),
    Sample("after an operator", body("auto r = 1 + co_await g();")),
    Sample("in an initialiser", body("Agg a{co_await g()};")),
    Sample("an aggregate temporary", body("auto r = co_await g(Agg{.a = 1});")),
    Sample("a lambda in the expression", body("auto r = co_await call_on<int>(thread, [x] { return x; });")),
    Sample("a reference parameter", {"a/a.h": "Task<Result<int>> f(const std::string& name);\n"}),
    Sample("a view parameter", {"a/a.h": "Task<void> A::f(std::string_view name) {}\n"}),
    Sample("a reference inside a function type is none", {"a/a.h": "Task<void> f(std::function<void(const Error&)> done);\n"}, 0),
    Sample("values", {"a/a.h": "Task<Result<std::pair<int, int>>> f(std::string name, Thread* thread, std::vector<int> v = {});\n"}, 0),
    Sample("a capturing coroutine lambda", {"a/a.cpp": "auto f = [this](int a) -> Task<void> { co_return; };\n"}),
    Sample("a capturing lambda without a return type", {"a/a.cpp": "x.coroutine([&](Params p) { co_return g(p); });\n"}),
    Sample("a lambda without captures", {"a/a.cpp": "x.coroutine([](Params p) -> Task<int> { co_return 1; });\n"}, 0),
    Sample("a lambda that only starts a coroutine", {"a/a.cpp": "auto f = [this] { spawn(g(name_)); };\n"}, 0),
    Sample("an index is no lambda", {"a/a.cpp": "int a = b[i](x);\n"}, 0),
    Sample("comments and strings do not count", {"a/a.cpp": '// if (co_await g())\nauto s = "use(co_await g())";\n'}, 0),
    Sample("an awaitable's operator", {"a/a.cpp": "Awaiter operator co_await() const { return Awaiter(*this); }\n"}, 0),
]

if __name__ == "__main__":
    run("check_coroutines", check, SAMPLES)
