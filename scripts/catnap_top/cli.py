"""The command line of top.

Exit status: 0; 1 the server did not answer all the time (-b); 2 a wrong command line; 3 nobody is at the socket. Left out: what is shown.
"""

import argparse
import copy
import curses
import locale
import sys

from catnap_rpc.client import DEFAULT_ADDRESS, RpcFailure, program_name

from . import batch, screen, views
from .keys import HELP, LONGEST_DELAY_S, SHORTEST_DELAY_S
from .sample import Source, reason
from .table import Choice

EXIT_INCOMPLETE, EXIT_USAGE, EXIT_NOT_CONNECTED = 1, 2, 3
DEFAULT_TIMEOUT_S = 15.0


def delay(words):
    seconds = float(words)
    if not SHORTEST_DELAY_S <= seconds <= LONGEST_DELAY_S:
        raise argparse.ArgumentTypeError(f"'{words}' s is not within {SHORTEST_DELAY_S:g} to {LONGEST_DELAY_S:g}")
    return seconds


def positive(words):
    number = int(words)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"'{words}' is not more than 0")
    return number


def make_parser():
    keys = "\n".join(f"  {key:28}{does}" for key, does in HELP)
    columns = "\n".join(f"  {view:12}{', '.join(column.key for column in of)}" for view, of in views.VIEWS.items())
    parser = argparse.ArgumentParser(
        prog=program_name("top", "catnap-top"), formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Shows what a running catnapd does: reactors (how long awake, why, and what wakes them), threads, pollers, namespaces and hosts.\n"
                    "Rates are differences between two looks, over the server's own time.",
        epilog=f"keys:\n{keys}\n\ncolumns to sort by, per view:\n{columns}\n\nexit status: 0; 1 with -b, the server did not answer every time; "
               "2 a wrong command line; 3 nobody is at the socket")
    parser.add_argument("-s", "--server-addr", default=DEFAULT_ADDRESS, metavar="PATH", help=f"path of the server's socket (default {DEFAULT_ADDRESS})")
    parser.add_argument("-d", "--delay", type=delay, default=2.0, metavar="SECONDS",
                        help=f"time between two looks (default 2; {SHORTEST_DELAY_S:g} to {LONGEST_DELAY_S:g})")
    parser.add_argument("-b", "--batch", action="store_true", help="plain text without keys, for files and pipes; the first comes after one delay")
    parser.add_argument("-n", "--iterations", type=positive, metavar="N", help="with -b: end after so many texts (default: never)")
    parser.add_argument("-w", "--width", type=positive, metavar="COLUMNS", help=f"with -b: width of the text (default {batch.WIDTH})")
    parser.add_argument("-v", "--view", choices=[*views.VIEWS, "all"], default="reactors", help="what to show first; with -b also all (default reactors)")
    parser.add_argument("-o", "--sort", metavar="COLUMN", help="sort by this column (default: the load, most first)")
    parser.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    parser.add_argument("-f", "--filter", default="", metavar="TEXT", help="only rows with this in a name")
    parser.add_argument("-i", "--hide-idle", action="store_true", help="leave out what does nothing")
    parser.add_argument("-t", "--timeout", type=delay, default=DEFAULT_TIMEOUT_S, metavar="SECONDS",
                        help=f"how long to wait for an answer (default {DEFAULT_TIMEOUT_S:g})")
    return parser


def choice_of(parser, args, view):
    choice = Choice(view)
    choice.delay_s, choice.filter, choice.hide_idle = args.delay, args.filter, args.hide_idle
    choice.reverse[view] = args.reverse
    if args.sort:
        keys = [column.key for column in views.VIEWS[view]]
        if args.sort in keys:
            choice.sort[view] = args.sort
        elif args.view != "all":
            parser.error(f"--sort: {view} have no column '{args.sort}'; there are {', '.join(keys)}")
    return choice


def check(parser, args):
    """What argparse cannot see."""
    if args.batch:
        return
    if args.view == "all":
        parser.error("--view all needs -b")
    if args.iterations or args.width:
        parser.error("-n and -w need -b")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("this is no terminal; -b writes plain text")
    try:
        curses.setupterm()
    except curses.error as failure:
        parser.error(f"the terminal cannot be used ({failure}); -b writes plain text")
    if not curses.tigetstr("cup"):
        parser.error("this terminal has no way to move its cursor; -b writes plain text")


def main(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    check(parser, args)
    try:
        locale.setlocale(locale.LC_ALL, "")  # curses writes what this says
    except locale.Error:
        pass  # a locale that is not installed: ASCII, then
    source = Source(args.server_addr, args.timeout)
    shown = list(views.VIEWS) if args.view == "all" else [args.view]
    choices = [choice_of(parser, copy.copy(args), view) for view in shown]
    try:
        if args.batch:
            return 0 if batch.run(source, choices, args.iterations, args.width) else EXIT_INCOMPLETE
        screen.run(source, choices[0])
        return 0
    except RpcFailure as failure:
        print(f"top: {args.server_addr}: {reason(failure)}; is catnapd running, and is this its -r/--rpc-socket?", file=sys.stderr)
        return EXIT_NOT_CONNECTED
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        sys.stderr.close()  # the reader left
        return 0
    finally:
        source.close()
