"""--wait: after a call that starts something long, ask how far it is until it is over, with a bar on a terminal.

Left out: what runs without being asked for (a rebuild after a member came back): `rpc.py raid_wait NAME` waits for that too.
"""

import sys
import time

from .client import RpcFailure

# Between two questions; a person sees movement, and the server hardly notices.
POLL_S = 0.5
BAR_WIDTH = 40


def bar(percent, text):
    filled = BAR_WIDTH * percent // 100
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {percent:3d} %  {text}"


def array_named(client, name):
    for array in client.call("bdev_raid_get_bdevs", {"category": "all"}):
        if name in (array["name"], array.get("uuid")):
            return array
    raise RpcFailure(f"the array {name} is gone")


def wait_for_array(client, name, stream=None, pause=time.sleep):
    """Returns when no rebuild, resync or scrub of the array is under way; RpcFailure if it is gone."""
    stream = stream or sys.stderr
    shown = False
    while True:
        process = array_named(client, name).get("process")
        if process is None:
            if shown:
                stream.write("\r" + bar(100, "done").ljust(BAR_WIDTH + 40) + "\n")
            return
        if stream.isatty():
            progress = process.get("progress", {})
            text = " ".join(str(each) for each in (process.get("type"), process.get("target")) if each)
            stream.write("\r" + bar(int(progress.get("percent", 0)), text).ljust(BAR_WIDTH + 40))
            stream.flush()
            shown = True
        pause(POLL_S)


def raid_wait(client, args):
    wait_for_array(client, args.name)


def add_parsers(subparsers):
    wait = subparsers.add_parser("raid_wait", help="Wait until no rebuild, resync or scrub of an array is under way, with a bar on a terminal")
    wait.add_argument("name", help="name or UUID of the array")
    wait.set_defaults(run=raid_wait)
