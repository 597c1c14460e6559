"""--wait: after a call that starts something long, ask how far it is until it is over: with a bar on a terminal, elsewhere with a line per tenth.

Also `rpc.py raid_wait NAME`, for what runs without being asked for (a rebuild after a member came back). Left out: what other modules start.
"""

import sys
import time

from .client import RpcFailure

# Between two questions; a person sees movement, and the server hardly notices.
POLL_S = 0.5
BAR_WIDTH = 40
# A log gets a line whenever so many percent more are done.
LINE_EVERY_PERCENT = 10


class EndedBadly(RpcFailure):
    """What was waited for is over, and not as it was meant to end."""


class Progress:
    """Shows how far something is, to `stream`."""

    def __init__(self, stream):
        self.stream = stream
        self.drawn = 0  # width of the line that stands there, on a terminal
        self.last_line = None  # (what, percent) of the last line, elsewhere

    def show(self, percent, what):
        if self.stream.isatty():
            line = f"[{'#' * (BAR_WIDTH * percent // 100)}{'.' * (BAR_WIDTH - BAR_WIDTH * percent // 100)}] {percent:3d} %  {what}"
            self.stream.write("\r" + line.ljust(self.drawn))
            self.drawn = len(line)
        elif self.last_line is None or self.last_line[0] != what or percent >= self.last_line[1] + LINE_EVERY_PERCENT:
            self.last_line = (what, percent - percent % LINE_EVERY_PERCENT)
            self.stream.write(f"{what}: {percent} %\n")
        self.stream.flush()

    def end(self, sentence):
        if self.stream.isatty() and self.drawn:
            self.stream.write("\r" + sentence.ljust(self.drawn) + "\n")
        elif self.last_line is not None:
            self.stream.write(sentence + "\n")
        self.stream.flush()


def array_named(client, name):
    for array in client.call("bdev_raid_get_bdevs", {"category": "all"}):
        if name in (array["name"], array.get("uuid")):
            return array
    raise RpcFailure(f"the array {name} is gone")


def blocks_of(client, name):
    """Of the array's bdev; None while it has none."""
    for bdev in client.call("bdev_get_bdevs"):
        if bdev["name"] == name:
            return bdev["num_blocks"]
    return None


def under_way(client, array):
    """(type, percent, words) of what runs, or None."""
    process = array.get("process")
    if process is not None:
        of = f" of {process['target']}" if process.get("target") else ""
        return process["type"], int(process.get("progress", {}).get("percent", 0)), f"{process['type']}{of} on {array['name']}"
    scrub = array.get("scrub", {})
    if scrub.get("running"):
        blocks = blocks_of(client, array["name"])
        done = scrub["blocks_compared"] + scrub["blocks_passed_over"]
        return "scrub", min(100, 100 * done // blocks) if blocks else 0, f"scrub of {array['name']}"
    return None


def verdict(array, kind):
    """How the last process of a kind ended, as a sentence; EndedBadly if it was not to its end."""
    name = array["name"]
    if kind == "scrub":
        scrub = array.get("scrub", {})
        if not scrub.get("finished"):
            raise EndedBadly(f"the scrub of {name} was stopped")
        found = f"{scrub['blocks_compared']} blocks compared, {scrub['blocks_different']} different, {scrub['blocks_unreadable']} unreadable"
        if scrub["blocks_different"] + scrub["blocks_unreadable"] > scrub["blocks_repaired"]:
            raise EndedBadly(f"scrub of {name}: {found}, {scrub['blocks_repaired']} repaired")
        return f"scrub of {name} finished: {found}" + (f", {scrub['blocks_repaired']} repaired" if scrub["repair"] else "")
    how = array.get(f"last_{kind}", {}).get("result", "finished")
    if how != "finished":
        raise EndedBadly(f"the {kind} of {name} was {how}")
    return f"{kind} of {name} finished"


def wait_for_array(client, name, stream=None, pause=time.sleep, started=None):
    """Returns when no rebuild, resync or scrub of the array is under way. `started`: what was asked for, of which the end is judged even if it was over at
    once. RpcFailure if the array is gone, EndedBadly if what was waited for did not come to its end."""
    progress = Progress(stream or sys.stderr)
    seen = started
    while True:
        array = array_named(client, name)
        now = under_way(client, array)
        if now is None:
            if seen is None:
                return
            try:
                sentence = verdict(array, seen)
            except EndedBadly:
                progress.end(f"{seen} of {array['name']} is over")
                raise
            progress.end(sentence)
            return
        seen, percent, what = now
        progress.show(percent, what)
        pause(POLL_S)


def raid_wait(client, args):
    wait_for_array(client, args.name)


def add_parsers(subparsers):
    wait = subparsers.add_parser("raid_wait", help="Wait until no rebuild, resync or scrub of an array is under way, with a bar on a terminal",
                                 description="Wait until no rebuild, resync or scrub of an array is under way. On a terminal a bar shows how far it is, "
                                             "elsewhere a line per tenth; both go to standard error. Exit status 5 if it was stopped, or if a scrub found "
                                             "blocks that differ and were not repaired.")
    wait.add_argument("name", help="name or UUID of the array")
    wait.set_defaults(run=raid_wait)
