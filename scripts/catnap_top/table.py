"""What is shown of a view's rows: filter, order, and lines that fit a width. Shared by batch.py and screen.py.

Left out: where lines go.
"""

import datetime

from . import text, views

# Columns narrower than this say nothing.
NARROWEST = 8


class Choice:
    """What the user asked to see. `sort` is a column's key; None: the load of the view."""

    def __init__(self, view="reactors"):
        self.view = view
        self.sort = {}
        self.reverse = {}
        self.filter = ""
        self.hide_idle = False
        self.delay_s = 2.0

    def sort_key(self):
        return self.sort.get(self.view, views.LOAD[self.view])

    def chosen(self, rows):
        """The rows that pass, in order: numbers largest first, texts from a to z, what is unknown last."""
        wanted = self.filter.lower()
        if wanted:
            keys = [column.key for column in views.VIEWS[self.view] if not column.right]
            rows = [row for row in rows if any(wanted in str(row.get(key, "")).lower() for key in keys)]
        if self.hide_idle:
            rows = [row for row in rows if any(row.get(key) != 0 for key in views.IDLE_BY[self.view])]  # unknown is not idle
        key = self.sort_key()
        known = [row for row in rows if row.get(key) is not None]
        unknown = [row for row in rows if row.get(key) is None]
        numbers = all(not isinstance(row[key], str) for row in known)
        known.sort(key=lambda row: row[key] if numbers else str(row[key]).lower(), reverse=numbers)
        if self.reverse.get(self.view):
            known.reverse()
        return known + unknown


def widths_of(columns, rows, room):
    """What each column gets: numbers what they need, names what is left, and columns on the right fall off where nothing is left."""
    wanted = []
    for column in columns:
        longest = max((text.width(column.show(row.get(column.key))) for row in rows), default=0)
        wanted.append(max(text.width(column.title), longest if column.share or not column.right else max(longest, min(column.width, 5))))
    excess = sum(wanted) + len(wanted) - 1 - room
    order = sorted((at for at in range(len(columns)) if not columns[at].right), key=lambda at: -wanted[at])
    while excess > 0 and order:
        at = max(order, key=lambda each: wanted[each])
        floor = max(NARROWEST, text.width(columns[at].title))
        if wanted[at] <= floor:
            break
        wanted[at] -= 1
        excess -= 1
    shown = len(wanted)
    while shown > 1 and sum(wanted[:shown]) + shown - 1 > room:
        shown -= 1
    wanted = wanted[:shown]
    left = room - sum(wanted) - (shown - 1)
    if left < 0:
        wanted[0] += left
    return wanted


def lines_of(view, rows, room):
    """The head and a line per row; each of at most `room` columns. The head comes with the places of its titles: [(key, from, to)]."""
    columns = views.VIEWS[view]
    widths = widths_of(columns, rows, room)
    columns = columns[:len(widths)]
    head = " ".join(text.pad(column.title, width, column.right) for column, width in zip(columns, widths))
    places, at = [], 0
    for column, width in zip(columns, widths):
        places.append((column.key, at, at + width))
        at += width + 1
    lines = [" ".join(text.pad(column.show(row.get(column.key)), width, column.right) for column, width in zip(columns, widths)).rstrip() for row in rows]
    return head, places, lines


def summary(source, before, now):
    """The lines on top: who, CPU, I/O, and arrays that are not at rest."""
    sums = views.totals(before, now)
    known = sums["known"]
    number = (lambda value: text.count(value)) if known else (lambda _: text.NOTHING)
    clock = datetime.datetime.now().strftime("%H:%M:%S")
    lines = [f"catnap top - {clock}, {text.printable(source.version.split(' (')[0] or 'version unknown')}, process {now.pid}, {text.printable(source.address)}"]
    awake = f"{sums['awake']:.2f} CPU awake ({sums['busy']:.2f} busy, {sums['spin']:.2f} looking)" if known else "- CPU awake"
    lines.append(f"Loops: {sums['reactors']} in all, {sums['asleep']} asleep at this moment; {awake}")
    megabytes = (lambda value: text.megabytes(value)) if known else (lambda _: text.NOTHING)
    connections = "" if sums["connections"] is None else f"; {sums['connections']} connections"
    lines.append(f"I/O: {number(sums['iops'])} IOPS (read {number(sums['reads'])}, write {number(sums['writes'])}), read {megabytes(sums['read_bytes'])} MB/s, "
                 f"write {megabytes(sums['write_bytes'])} MB/s, latency {text.latency(sums['latency'])}, "
                 f"p99 {text.latency(sums['p99'])}{connections}")
    for array in now.get("bdev_raid_get_bdevs", []):
        told = about_array(array)
        if told:
            lines.append(told)
    return lines


def about_array(array):
    """A line about an array that somebody should know of; empty when all is well."""
    said = [] if array["state"] == "online" else [array["state"]]
    said += [f"{member['name'] or 'a slot'} {member['state']}" for member in array["base_bdevs_list"]
             if member.get("state") in ("missing", "failed") and array["state"] == "online"]
    if "process" in array:
        process = array["process"]
        said.append(f"{process['type']}{' of ' + process['target'] if process.get('target') else ''} {process['progress']['percent']} %")
    elif array.get("scrub", {}).get("running"):
        said.append("scrub")
    return text.printable(f"Array {array['name']}: {', '.join(said)}") if said else ""


def refusals(view, now):
    """What the server did not tell of what the view is made of."""
    return [f"{method}: {text.printable(why)}" for method, why in now.refused.items() if view and method != "spdk_get_version"]
