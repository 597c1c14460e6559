"""The server's declarations (schema.json, which scripts/generate_rpc_reference writes from a running server): they fill in what the hand-written
commands leave out, and make commands of methods that have none.

Hand-written commands keep SPDK's spellings; from here come defaults and bounds in help texts, and options for parameters without a spelling of their own.
Left out: asking a server; a method that only it knows is called with `rpc.py call`.
"""

import argparse
import json
import os

from .command import Arg, Command

SCHEMA_FILE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "schema.json")
# What a method answers when there is nothing to show.
NOTHING_TO_SHOW = "true"


def load(path=SCHEMA_FILE):
    """{name: declaration}; empty without the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return {method["name"]: method for method in json.load(file)["methods"]}
    except FileNotFoundError:
        return {}


def json_value(text):
    try:
        return json.loads(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(f"'{text}' is not JSON: {failure}") from failure


def bounds_text(param):
    """"default 4, 1 to 8" and the like, of what is declared."""
    parts = []
    if "default" in param:
        parts.append(f"default {json.dumps(param['default'])}")
    if "one_of" in param:
        parts.append("one of " + ", ".join(param["one_of"]))
    low, high = param.get("minimum"), param.get("maximum")
    if high is not None and high >= (1 << 63) - 1:
        high = None
    if low is not None and high is not None:
        parts.append(f"{low} to {high}")
    elif low is not None:
        parts.append(f"at least {low}")
    elif high is not None:
        parts.append(f"at most {high}")
    return ", ".join(parts)


def help_text(param):
    bounds = bounds_text(param)
    return param["description"] + (f" ({bounds})" if bounds else "")


def option_of(param):
    """An option named like the parameter."""
    name = "--" + param["name"].replace("_", "-")
    options = {"help": help_text(param).replace("%", "%%"), "required": param["required"]}
    kind = param["type"]
    if kind == "boolean":
        return Arg(name, action=argparse.BooleanOptionalAction, **options)
    if kind in ("integer", "number"):
        return Arg(name, type=int if kind == "integer" else float, metavar="N", **options)
    if kind == "array of string":
        return Arg(name, type=lambda text: [each for each in text.split(",") if each], metavar="A,B", **options)
    if kind == "string":
        return Arg(name, metavar="TEXT", **options)
    return Arg(name, type=json_value, metavar="JSON", **options)


def destination(arg):
    """Where the argument's value goes in the parameters."""
    if arg.to:
        return arg.to
    longest = max(arg.flags, key=len)
    return longest.lstrip("-").replace("-", "_")


def complete(command, method):
    """A hand-written command with the declaration's bounds, and with options for the optional parameters that it does not spell itself."""
    command.args = tuple(Arg(*arg.flags, to=arg.to, **arg.options) for arg in command.args)  # several commands share some
    params = {param["name"]: param for param in method["params"] if not param.get("ignored")}
    spelled = {}
    for arg in command.args:
        spelled.setdefault(destination(arg).split(".")[0], []).append(arg)
        param = params.get(destination(arg))
        if param is None or arg.options.get("action") == "store_const":
            continue
        own = arg.options.get("help") or param["description"]
        bounds = bounds_text({key: value for key, value in param.items() if key != "one_of" and not (key == "default" and "default" in own)})
        arg.options["help"] = own if not bounds or bounds in own else f"{own} ({bounds.replace('%', '%%')})"
    taken = {flag for arg in command.args for flag in arg.flags}
    more = []
    for name, param in params.items():
        option = option_of(param)
        if name in spelled or param["required"] or taken & set(option.flags):
            continue
        more.append(option)
    command.args = (*command.args, *more)


def command_of(method):
    """A command for a method that has no hand-written one: an option for each parameter."""
    args = [option_of(param) for param in method["params"] if not param.get("ignored")]
    return Command(method["name"], method["description"].replace("%", "%%"), *args, shows=method["result"] != NOTHING_TO_SHOW)


def commands_with(tables, methods):
    """All commands: those of the tables, completed, and one for each method that none of them has."""
    commands = [command for table in tables for command in table]
    for command in commands:
        if command.method in methods:
            complete(command, methods[command.method])
    known = {command.method for command in commands}
    return commands + [command_of(method) for name, method in sorted(methods.items()) if name not in known]
