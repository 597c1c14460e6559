"""The command line: global options, one command, or commands from standard input, a line each.

Errors go to standard error: one line for people at a terminal, and for programs the form that SPDK's client has. Exit status: EXIT_TEXT.
"""

import argparse
import difflib
import errno
import functools
import json
import shlex
import sys

from . import (app_commands, bdev_commands, block_commands, completion, config, keyring_commands, nvme_commands, nvme_path_commands, nvmf_commands, raid_commands, schema,
               stack_commands, waiting)
from .client import (DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Client, ConnectionEnded, DryRunClient, NotConnected, RecordingClient, RpcFailure, TimedOut,
                     program_name)
from .http_client import ENVIRONMENT, HttpClient, NotAdmitted, read_credentials
from .output import Output, print_result

PROGRAM = program_name("rpc.py", "catnap-rpc")
EXIT_REFUSED, EXIT_USAGE, EXIT_NOT_CONNECTED, EXIT_TIMED_OUT, EXIT_ENDED_BADLY, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130
EXIT_TEXT = ("0 done; 1 the server refused, or the call could not be made of what was given; 2 a wrong command line; 3 no connection, or it was lost, or the "
             "credentials are not accepted; 4 no answer in time (the call may still be made); 5 what --wait waited for was stopped, or found differences; "
             "130 interrupted")
TABLES = (app_commands, keyring_commands, bdev_commands, block_commands, stack_commands, raid_commands, nvme_commands, nvme_path_commands, nvmf_commands)
# Commands that start something long: which of their arguments names the array to wait for.
WAITS_FOR_ARRAY = {"bdev_raid_create": "name", "bdev_raid_add_base_bdev": "raid_bdev", "bdev_raid_grow_base_bdev": "raid_name",
                   "bdev_raid_start_scrub": "name"}
# Of these the end is judged also when it came before the first look.
STARTS = {"bdev_raid_start_scrub": "scrub"}


class Parser(argparse.ArgumentParser):
    """Says which command may have been meant, and how to call what stands in no table."""

    def error(self, message):
        if "invalid choice" in message and "argument command" in message:
            given = message.split("'")[1]
            near = difflib.get_close_matches(given, command_names(self), n=3)
            message = f"there is no command '{given}'" + (f"; did you mean {', '.join(near)}?" if near else "")
            message += f"\nAny method of the server can be called with: {self.prog} call METHOD '{{\"param\": value}}'"
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def command_parsers(parser):
    """{name: parser} of all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def command_names(parser):
    return list(command_parsers(parser))


def call_any(client, args):
    params = None
    if args.params is not None:
        try:
            params = json.loads(sys.stdin.read() if args.params == "-" else args.params)
        except ValueError as failure:
            raise RpcFailure(f"params is not JSON: {failure}") from failure
        if not isinstance(params, dict):
            raise RpcFailure(f"params is {json.dumps(params)}, it must be an object")
    result = client.call(args.method, params)
    if result is not None:
        print_result(result, args.method)


@functools.cache  # takes longer than most calls; a parser keeps nothing of what it has parsed
def make_parser():
    parser = Parser(prog=PROGRAM,
                    description="Calls catnapd over its JSON-RPC socket. Without a command, commands are read from standard input, one a "
                    "line; lines that begin with # are comments.", epilog=f"Exit status: {EXIT_TEXT}.")
    parser.add_argument("-s", "--server-addr", default=DEFAULT_ADDRESS, help=f"path of the socket (default {DEFAULT_ADDRESS})")
    parser.add_argument("-t", "--timeout", type=float, default=DEFAULT_TIMEOUT_S, help=f"seconds to wait for a reply (default {DEFAULT_TIMEOUT_S})")
    parser.add_argument("-r", "--conn-retries", type=int, default=0, help="times to try again to connect, 0.2 s apart (default 0)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show requests and replies on standard error")
    parser.add_argument("--dry-run", action="store_true", help="show the request instead of sending it")
    parser.add_argument("-o", "--output", choices=["json", "table"], default="json", help="how results are shown (default json)")
    parser.add_argument("-e", "--errors", choices=["auto", "line", "spdk"], default="auto",
                        help="how a refusal is shown: a line for people, or request and response as SPDK's client does (default: a line on a terminal)")
    parser.add_argument("--http", metavar="URL", help="call the server's HTTP (catnapd --http), as http://localhost:9420, instead of the socket")
    parser.add_argument("--http-credentials", metavar="FILE",
                        help=f"file with USER:PASSWORD, or a token, in its first line, readable by its owner only (without it: the environment's {ENVIRONMENT})")
    parser.add_argument("--http-ca", metavar="FILE", help="certificates (PEM) that https servers may have, instead of the system's")
    parser.add_argument("-b", "--batch-mode", action="store_true", help="send the commands of standard input as one batch")
    parser.add_argument("--server", dest="is_server", action="store_true",
                        help="read commands from standard input and end each one's output with **STATUS=0 or **STATUS=1, for use as a coprocess")
    subparsers = parser.add_subparsers(dest="command", metavar="command", title="commands", parser_class=Parser)
    for command in schema.commands_with([table.COMMANDS for table in TABLES], schema.load()):
        command.add_to(subparsers)
    for name, names_array in WAITS_FOR_ARRAY.items():
        if name in subparsers.choices:
            add_wait(subparsers.choices[name], names_array, STARTS.get(name))
    config.add_parsers(subparsers)
    waiting.add_parsers(subparsers)
    complete = subparsers.add_parser("completion", help="Print a script that completes commands and options: source <(rpc.py completion bash)")
    complete.add_argument("shell", choices=sorted(completion.PRELUDE))
    complete.set_defaults(run=lambda _, args: print(completion.script(parser, subparsers.choices, args.shell), end=""), offline=True)
    generic = subparsers.add_parser("call", help="Call any method by name")
    generic.add_argument("method", help="name of the method")
    generic.add_argument("params", nargs="?", help="parameters as a JSON object, or - for standard input")
    generic.set_defaults(run=call_any)
    return parser


def add_wait(parser, names_array, starts):
    """--wait: the command returns when what it has started is over."""
    parser.add_argument("--wait", action="store_true", help="return when the array has no rebuild, resync or scrub under way; meanwhile "
                        "a bar on a terminal, a line per tenth elsewhere; exit status 5 if it was stopped or found differences")
    run = parser.get_default("run")

    def run_and_wait(client, args):
        run(client, args)
        if args.wait and not isinstance(client, (DryRunClient, RecordingClient)):
            waiting.wait_for_array(client, getattr(args, names_array), started=starts)

    parser.set_defaults(run=run_and_wait)


def connect(args):
    if getattr(args, "offline", False):
        return RecordingClient()
    if args.dry_run:
        return DryRunClient()
    if args.http:
        return HttpClient(args.http, args.timeout, args.verbose, read_credentials(args.http_credentials), args.http_ca)
    return Client(args.server_addr, args.timeout, args.conn_retries, args.verbose)


def script_lines(stream):
    for line in stream:
        line = line.strip()
        if line and not line.startswith("#"):
            yield line


def run_line(parser, client, line):
    """One command of standard input; its own global options have no effect."""
    try:
        words = shlex.split(line)
    except ValueError as failure:
        raise RpcFailure(f"{line} <<<\n{failure}") from failure
    args = parser.parse_args(words)
    if args.command is None:
        raise RpcFailure(f"{line} <<<\nno command")
    try:
        args.run(client, args)
    except RpcFailure as failure:
        failure.message, failure.line = f"{line} <<<\n{failure.message}", line
        raise


def run_batch(parser, args, client):
    recorder = RecordingClient()
    for line in script_lines(sys.stdin):
        run_line(parser, recorder, line)
    failed = False
    for reply in client.call_batch(recorder.calls):
        if "error" in reply:
            failed = True
            print(json.dumps(reply["error"], indent=2), file=sys.stderr)
        elif reply.get("result") is not None:
            print_result(reply["result"])
    return 1 if failed else 0


def run_coprocess(parser):
    for line in script_lines(sys.stdin):
        status = 1
        try:
            args = parser.parse_args(shlex.split(line))
            client = connect(args)
            try:
                args.run(client, args)
                status = 0
            finally:
                client.close()
        except RpcFailure as failure:
            print(failure.message)
        except (AttributeError, ValueError):
            print(f"{line}: no command")
        except SystemExit:
            pass  # the parser has said why
        print(f"**STATUS={status}", flush=True)
    return 0


def one_line(failure):
    """A refusal for people: the method, what the server says, and the name of its errno where it has one."""
    if failure.error is None or not isinstance(failure.error, dict):
        return f"{PROGRAM}: " + " ".join(failure.message.split("\n"))
    code, message = failure.error.get("code"), failure.error.get("message", "")
    name = errno.errorcode.get(-code) if isinstance(code, int) else None
    where = f"{failure.line}: " if failure.line else ""
    return f"{PROGRAM}: {where}{failure.method}: {message} ({name + ', ' if name else ''}code {code})"


def report(failure, form):
    people = form == "line" or (form == "auto" and sys.stderr.isatty())
    print(one_line(failure) if people else failure.message, file=sys.stderr)


# Which failure leaves with which status; the first that fits.
STATUSES = ((NotConnected, EXIT_NOT_CONNECTED), (ConnectionEnded, EXIT_NOT_CONNECTED), (NotAdmitted, EXIT_NOT_CONNECTED), (TimedOut, EXIT_TIMED_OUT),
            (waiting.EndedBadly, EXIT_ENDED_BADLY), (RpcFailure, EXIT_REFUSED))


def main(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    Output.form = args.output
    if args.is_server:
        return run_coprocess(parser)
    if args.command is None and sys.stdin.isatty():
        parser.print_help()
        return 1
    try:
        client = connect(args)
        try:
            if args.command is not None:
                args.run(client, args)
            elif args.batch_mode:
                return run_batch(parser, args, client)
            else:
                for line in script_lines(sys.stdin):
                    run_line(parser, client, line)
        finally:
            client.close()
    except RpcFailure as failure:
        report(failure, args.errors)
        return next(status for kind, status in STATUSES if isinstance(failure, kind))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left: nothing to report to
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
