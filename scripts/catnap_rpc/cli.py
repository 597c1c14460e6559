"""The command line: global options, one command, or commands from standard input, a line each.

Errors go to standard error, with exit status 1 (2 for a wrong command line).
"""

import argparse
import difflib
import json
import shlex
import sys

from . import app_commands, bdev_commands, block_commands, config, nvme_commands, nvme_path_commands, nvmf_commands, raid_commands, stack_commands
from .client import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, Client, DryRunClient, RecordingClient, RpcFailure
from .command import print_result


class Parser(argparse.ArgumentParser):
    """Says which command may have been meant, and how to call what stands in no table."""

    def error(self, message):
        if "invalid choice" in message and "argument command" in message:
            given = message.split("'")[1]
            near = difflib.get_close_matches(given, command_names(self), n=3)
            message = f"there is no command '{given}'" + (f"; did you mean {', '.join(near)}?" if near else "")
            message += f"\nAny method of the server can be called with: {self.prog} call METHOD '{{\"param\": value}}'"
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def command_names(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices)
    return []


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
        print_result(result)


def make_parser():
    parser = Parser(prog="rpc.py", description="Calls catnapd over its JSON-RPC socket. Without a command, commands are read from standard input, one a "
                    "line; lines that begin with # are comments.")
    parser.add_argument("-s", "--server-addr", default=DEFAULT_ADDRESS, help=f"path of the socket (default {DEFAULT_ADDRESS})")
    parser.add_argument("-t", "--timeout", type=float, default=DEFAULT_TIMEOUT_S, help=f"seconds to wait for a reply (default {DEFAULT_TIMEOUT_S})")
    parser.add_argument("-r", "--conn-retries", type=int, default=0, help="times to try again to connect, 0.2 s apart (default 0)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show requests and replies on standard error")
    parser.add_argument("--dry-run", action="store_true", help="show the request instead of sending it")
    parser.add_argument("-b", "--batch-mode", action="store_true", help="send the commands of standard input as one batch")
    parser.add_argument("--server", dest="is_server", action="store_true",
                        help="read commands from standard input and end each one's output with **STATUS=0 or **STATUS=1, for use as a coprocess")
    subparsers = parser.add_subparsers(dest="command", metavar="command", title="commands", parser_class=Parser)
    for table in (app_commands, bdev_commands, block_commands, stack_commands, raid_commands, nvme_commands, nvme_path_commands, nvmf_commands):
        for command in table.COMMANDS:
            command.add_to(subparsers)
    config.add_parsers(subparsers)
    generic = subparsers.add_parser("call", help="Call any method by name")
    generic.add_argument("method", help="name of the method")
    generic.add_argument("params", nargs="?", help="parameters as a JSON object, or - for standard input")
    generic.set_defaults(run=call_any)
    return parser


def connect(args):
    return DryRunClient() if args.dry_run else Client(args.server_addr, args.timeout, args.conn_retries, args.verbose)


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
        raise RpcFailure(f"{line} <<<\n{failure.message}", failure.error) from failure


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


def main(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
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
        print(failure.message, file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left: nothing to report to
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
