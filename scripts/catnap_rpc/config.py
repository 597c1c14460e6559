"""save_config, load_config and their like: commands made of several calls. The files are SPDK's: {"subsystems": [{"subsystem", "config"}]}.

Left out: removing what a file does not name (load_config adds to what is there).
"""

import json
import sys

from .client import RpcFailure


def write_json(value, indent):
    print(json.dumps(value, indent=indent if indent >= 0 else None))


def subsystem_config(client, name):
    return {"subsystem": name, "config": client.call("framework_get_config", {"name": name})}


def chosen_with_dependencies(listed, wanted):
    depends_on = {one["subsystem"]: one["depends_on"] for one in listed}
    chosen, pending = set(), list(wanted)
    while pending:
        name = pending.pop()
        if name not in depends_on:
            raise RpcFailure(f"no subsystem is named '{name}' (there are {', '.join(depends_on)})")
        if name not in chosen:
            chosen.add(name)
            pending += depends_on[name]
    return chosen


def save_config(client, args):
    listed = client.call("framework_get_subsystems")
    names = [one["subsystem"] for one in listed]
    if args.subsystems is not None:
        chosen = chosen_with_dependencies(listed, args.subsystems.split(","))
        names = [name for name in names if name in chosen]
    write_json({"subsystems": [subsystem_config(client, name) for name in names]}, args.indent)


def save_subsystem_config(client, args):
    write_json(subsystem_config(client, args.name), args.indent)


def read_json(source):
    """`source` is the name of a file, JSON text itself, or None for standard input."""
    try:
        if source is None or source == "-":
            return json.load(sys.stdin)
        if source.lstrip().startswith(("{", "[")):
            return json.loads(source)
        with open(source, encoding="utf-8") as file:
            return json.load(file)
    except OSError as failure:
        raise RpcFailure(f"cannot read the configuration: {failure}") from failure
    except ValueError as failure:
        raise RpcFailure(f"the configuration is not JSON: {failure}") from failure


def calls_of(config, where):
    """The (method, params) of a subsystem's list; batches (lists within it) are taken one by one."""
    calls = []
    for entry in config or []:
        for call in entry if isinstance(entry, list) else [entry]:
            if not isinstance(call, dict) or not isinstance(call.get("method"), str):
                raise RpcFailure(f"{where}: {json.dumps(call)} is not a call with a method")
            calls.append((call["method"], call.get("params")))
    return calls


def run_in_phases(client, calls, include_aliases):
    """Makes each call as soon as the server's phase allows it, starting the framework when it waits for that. Returns what was never allowed."""
    scope = {"include_aliases": True} if include_aliases else {}
    known = set(client.call("rpc_get_methods", scope))
    unknown = sorted({method for method, _ in calls} - known)
    if unknown:
        raise RpcFailure(f"the configuration has methods that the server does not know, nothing was done: {', '.join(unknown)}")
    while True:
        current = set(client.call("rpc_get_methods", {"current": True, **scope}))
        for method, params in [call for call in calls if call[0] in current]:
            client.call(method, params)
        calls = [call for call in calls if call[0] not in current]
        if "framework_start_init" not in current:
            return calls
        client.call("framework_start_init")


def report_skipped(skipped):
    if skipped:
        print(f"Skipped, as the server is past the phase for them: {', '.join(method for method, _ in skipped)}", file=sys.stderr)


def load_config(client, args):
    whole = read_json(args.json_conf)
    if not isinstance(whole, dict) or not isinstance(whole.get("subsystems"), list):
        raise RpcFailure('the configuration has no array "subsystems"')
    calls = []
    for subsystem in whole["subsystems"]:
        if not isinstance(subsystem, dict) or "subsystem" not in subsystem:
            raise RpcFailure(f"{json.dumps(subsystem)} is not a subsystem's configuration")
        calls += calls_of(subsystem.get("config"), subsystem["subsystem"])
    report_skipped(run_in_phases(client, calls, args.include_aliases))


def load_subsystem_config(client, args):
    subsystem = read_json(args.json_conf)
    if not isinstance(subsystem, dict) or "config" not in subsystem:
        raise RpcFailure('the configuration has no array "config"')
    calls = calls_of(subsystem["config"], subsystem.get("subsystem", "subsystem"))
    known = set(client.call("rpc_get_methods"))
    unknown = sorted({method for method, _ in calls} - known)
    if unknown:
        raise RpcFailure(f"the configuration has methods that the server does not know, nothing was done: {', '.join(unknown)}")
    current = set(client.call("rpc_get_methods", {"current": True}))
    for method, params in [call for call in calls if call[0] in current]:
        client.call(method, params)
    report_skipped([call for call in calls if call[0] not in current])


def add_parsers(subparsers):
    batches = {"action": "store_true", "help": "no effect: the configuration holds no batches"}
    save = subparsers.add_parser("save_config", help="Write the configuration in force to standard output")
    save.add_argument("-i", "--indent", type=int, default=2, help="spaces per level; less than 0: one line (default 2)")
    save.add_argument("-s", "--subsystems", help="only these and what they depend on, separated by commas")
    save.add_argument("--with-batches", **batches)
    save.set_defaults(run=save_config)
    load = subparsers.add_parser("load_config", help="Make the calls of a configuration file")
    load.add_argument("-i", "--include-aliases", action="store_true", help="deprecated method names too")
    load.add_argument("-j", "--json-conf", help="file or JSON text; standard input without it")
    load.set_defaults(run=load_config)
    save_one = subparsers.add_parser("save_subsystem_config", help="Write the configuration of one subsystem to standard output")
    save_one.add_argument("-i", "--indent", type=int, default=2, help="spaces per level; less than 0: one line (default 2)")
    save_one.add_argument("-n", "--name", required=True, help="subsystem")
    save_one.add_argument("--with-batches", **batches)
    save_one.set_defaults(run=save_subsystem_config)
    load_one = subparsers.add_parser("load_subsystem_config", help="Make the calls of one subsystem's configuration")
    load_one.add_argument("-j", "--json-conf", help="file or JSON text; standard input without it")
    load_one.set_defaults(run=load_subsystem_config)
