"""top -b: plain text, one screen after another, for logs and scripts.

Left out: keys.
"""

import sys
import time

from catnap_rpc.client import RpcFailure

from . import table, views
from .sample import reason

# What fits a log; -w chooses another.
WIDTH = 160


def show(source, choices, before, now, width, stream):
    lines = [line[:width] for line in table.summary(source, before, now)] + table.refusals(True, now)
    for choice in choices:
        head, _, rows = table.lines_of(choice.view, choice.chosen(views.rows_of(choice.view, before, now)), width)
        lines += ["", head.rstrip(), *rows]
    print("\n".join(lines), file=stream)


def run(source, choices, iterations, width=None, stream=None, pause=time.sleep):
    """`choices`: one Choice per view, all with the same delay. Rates need two looks, so the first text comes after one delay. Ends with the number of texts
    in `iterations` (None: never); True when the server answered every time."""
    stream = stream or sys.stdout
    wanted = [choice.view for choice in choices]
    before = source.sample(wanted)  # who is not there at the start is an error of the command line
    complete, done = True, 0
    while iterations is None or done < iterations:
        pause(choices[0].delay_s)
        try:
            now = source.sample(wanted)
            if done:
                print(file=stream)
            show(source, choices, before, now, width or WIDTH, stream)
            before = now
        except RpcFailure as failure:
            complete = False
            print(f"no answer from {source.address}: {reason(failure)}", file=stream)
        stream.flush()
        done += 1
    return complete
