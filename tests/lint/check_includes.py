#!/usr/bin/env -S /usr/bin/python3
# Holds the include directions: reactor <- keyring <- transport <- bdev <- server, one way; rpc includes only reactor; web includes rpc and reactor; no cycles.
# Owner: its process. Left out: system headers; link-time dependencies (CMake's, which follow the folders).
"""Checks who includes whom. Rules: docs/architecture.md, "Layers"."""

from lintlib import Finding, Sample, includes_of, run

# Folder -> folders it may include.
ALLOWED = {
    "reactor": {"reactor"},
    "keyring": {"reactor", "keyring"},
    "transport": {"reactor", "keyring", "transport"},
    "bdev": {"reactor", "keyring", "transport", "bdev"},
    "rpc": {"reactor", "rpc"},
    "web": {"reactor", "rpc", "web"},
    "server": {"reactor", "keyring", "transport", "bdev", "server", "rpc", "web"},
}


def is_rpc_file(path):
    """X_rpc.cpp and X_rpc.h (a module's methods), and rpc_common (what they share): the only places below server/ that know rpc/."""
    stem = path.rsplit(".", 1)[0]
    return stem.endswith(("_rpc", "/rpc_common"))


def judge(path, included):
    """What is wrong with `path` including `included`, or empty."""
    layer, other = path.split("/")[0], included.split("/")[0]
    if layer not in ALLOWED:
        return ""  # tests may include everything
    if other == "rpc" and is_rpc_file(path):
        return ""
    if other not in ALLOWED[layer]:
        return f"{layer}/ may not include {other}/ ({included})"
    if layer == "bdev" and included.startswith("transport/tcp/") and not path.startswith("bdev/nvme/"):
        return f"of bdev/ only bdev/nvme/ may include transport/tcp/ ({included})"
    if is_rpc_file(included) and not is_rpc_file(path) and layer != "server":
        return f"{included} declares RPC methods; only *_rpc files and server/ may include it"
    return ""


def find_cycles(graph):
    """One finding per include that closes a cycle."""
    findings, done, on_path = [], set(), []

    def visit(path):
        if path in on_path:
            chain = on_path[on_path.index(path):] + [path]
            findings.append(Finding(on_path[-1], 1, "include cycle: " + " -> ".join(chain)))
            return
        if path in done:
            return
        on_path.append(path)
        for included in graph.get(path, ()):
            visit(included)
        on_path.pop()
        done.add(path)

    for path in graph:
        visit(path)
    return findings


def check(files):
    findings, graph = [], {}
    for path, text in files.items():
        if not path.endswith((".h", ".cpp")):
            continue
        for line, kind, included in includes_of(text):
            ours = included.split("/")[0] in ALLOWED or included.split("/")[0] == "tests"
            if kind == "<":
                if ours and included in files:
                    findings.append(Finding(path, line, f"write our own headers with quotes, not <{included}>"))
                continue
            if included not in files:
                findings.append(Finding(path, line, f'"{included}" is no path from the repository root'))
                continue
            if included.startswith("tests/") and not path.startswith("tests/"):
                findings.append(Finding(path, line, f"only tests may include tests ({included})"))
                continue
            wrong = judge(path, included)
            if wrong:
                findings.append(Finding(path, line, wrong))
            graph.setdefault(path, []).append(included)
    return findings + find_cycles(graph)


def tree(path, included):
    return {path: f'#include "{included}"\n', included: "#pragma once\n"}


SAMPLES = [
    Sample("reactor knows no transport", tree("reactor/a.h", "transport/b.h")),
    Sample("keyring knows no transport", tree("keyring/a.h", "transport/b.h")),
    Sample("transport knows the keyring", tree("transport/a.cpp", "keyring/b.h"), 0),
    Sample("transport knows no bdev", tree("transport/a.cpp", "bdev/b.h")),
    Sample("bdev knows no server", tree("bdev/a.cpp", "server/b.h")),
    Sample("bdev knows no tcp", tree("bdev/malloc/a.cpp", "transport/tcp/b.h")),
    Sample("but bdev/nvme does", tree("bdev/nvme/a.cpp", "transport/tcp/b.h"), 0),
    Sample("rpc knows no module", tree("rpc/a.cpp", "bdev/b.h")),
    Sample("a module knows no rpc", tree("bdev/null/null.cpp", "rpc/method.h")),
    Sample("but its methods do", tree("bdev/null/null_rpc.cpp", "rpc/method.h"), 0),
    Sample("no way round through a methods header", tree("bdev/null/null.cpp", "bdev/null/null_rpc.h")),
    Sample("server sees all", tree("server/main.cpp", "rpc/method.h"), 0),
    Sample("tests see all", tree("tests/unit/a.cpp", "server/b.h"), 0),
    Sample("nobody includes tests", tree("server/a.cpp", "tests/b.h")),
    Sample("paths from the root", {"server/a.cpp": '#include "b.h"\n', "server/b.h": ""}),
    Sample("quotes for our own", {"server/a.cpp": "#include <server/b.h>\n", "server/b.h": ""}),
    Sample("a cycle", {"bdev/a.h": '#include "bdev/b.h"\n', "bdev/b.h": '#include "bdev/a.h"\n'}),
]

if __name__ == "__main__":
    run("check_includes", check, SAMPLES)
