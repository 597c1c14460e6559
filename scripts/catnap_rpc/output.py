"""How results are shown: JSON (texts bare, so that shells can take them as they are), or a table for people (-o table).

A table of a known method has chosen columns (COLUMNS); of any other, all members. Left out: colours, paging.
"""

import json

# Longer values are cut in tables of methods without chosen columns.
MAX_CELL = 48
# What names an object within a list, the first that it has.
NAMING = ("name", "nqn", "bdev_name", "traddr", "hostnqn")


def size_of(row):
    """Bytes of a bdev, in binary units."""
    value, units = row["num_blocks"] * row["block_size"], ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"


def address(of):
    return f"{of.get('traddr', '')}:{of.get('trsvcid', '')}"


def members(row):
    return ", ".join(f"{one.get('name') or '(empty)'} {one.get('state', '')}".strip() for one in row["base_bdevs_list"])


def process(row):
    shown = row.get("process")
    return f"{shown['type']} {shown['progress']['percent']} %" if shown else "scrub" if row.get("scrub", {}).get("running") else ""


# By method: [(title, member or function of the row)].
COLUMNS = {
    "bdev_get_bdevs": [("name", "name"), ("product", "product_name"), ("size", size_of), ("block", "block_size"), ("claimed by", "claimed_by"), ("uuid", "uuid")],
    "nvmf_get_subsystems": [("nqn", "nqn"), ("type", "subtype"), ("serial", "serial_number"), ("namespaces", lambda row: ", ".join(
        f"{one['nsid']}: {one['bdev_name']}" for one in row.get("namespaces", []))), ("listeners", lambda row: ", ".join(map(address, row["listen_addresses"]))),
                            ("hosts", lambda row: "any" if row["allow_any_host"] else ", ".join(one["nqn"] for one in row["hosts"]) or "none")],
    "nvmf_subsystem_get_listeners": [("type", lambda row: row["address"]["trtype"]), ("address", lambda row: address(row["address"])),
                                     ("ana", lambda row: ", ".join(f"{one['ana_group']}: {one['ana_state']}" for one in row.get("ana_states", [])))],
    "nvmf_subsystem_get_controllers": [(key, key) for key in ("cntlid", "hostnqn", "hostid", "num_io_qpairs")],
    "nvmf_subsystem_get_qpairs": [("cntlid", "cntlid"), ("qid", "qid"), ("state", "state"), ("thread", "thread"), ("hostnqn", "hostnqn"),
                                  ("from", lambda row: address(row["peer_address"])), ("to", lambda row: address(row["listen_address"]))],
    "bdev_raid_get_bdevs": [("name", "name"), ("level", "raid_level"), ("state", "state"), ("members", members), ("under way", process), ("bitmap", "bitmap")],
    "framework_get_reactors": [("name", "name"), ("mode", "mode"), ("asleep", "asleep"), ("awake because", "awake_because"), ("turns", "turns"), ("sleeps", "sleeps"),
                               ("threads", lambda row: ", ".join(one["name"] for one in row["lw_threads"]))],
    "notify_get_notifications": [("id", "id"), ("time", "time"), ("type", "type"), ("whom", "ctx")],
}


def printable(text):
    """Names come from hosts and other machines: nothing in them may steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def named(value):
    """A list of objects as their names, if each has one."""
    names = [next((str(each[key]) for key in NAMING if each.get(key)), None) for each in value]
    return None if None in names else ", ".join(names)


def text_of(value):
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return named(value) or json.dumps(value, ensure_ascii=False)
    return printable(value) if isinstance(value, str) else printable(json.dumps(value, ensure_ascii=False))


def cell(value):
    text = text_of(value)
    return text if len(text) <= MAX_CELL else text[:MAX_CELL - 1] + "…"


def rows_of(result):
    """The list of objects that is the substance of a result, or None: the result itself, or its only member that is one."""
    if isinstance(result, list) and result and all(isinstance(each, dict) for each in result):
        return result
    if isinstance(result, dict):
        lists = [value for value in result.values() if rows_of(value) is value and value]
        if len(lists) == 1:
            return lists[0]
    return None


def aligned(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def chosen_cell(row, wanted):
    """A value of a chosen column; empty where an older or another server does not tell it."""
    try:
        return text_of(wanted(row) if callable(wanted) else row.get(wanted))
    except (KeyError, TypeError):
        return ""


def table_text(result, method=None):
    rows = rows_of(result)
    if rows is not None and method in COLUMNS:
        columns = COLUMNS[method]
        return aligned([[title.upper() for title, _ in columns]] + [[chosen_cell(row, wanted) for _, wanted in columns] for row in rows])
    if rows is None:
        if isinstance(result, dict):
            rows = [{"name": name, "value": value} for name, value in result.items()]
        elif isinstance(result, list):
            return "\n".join(cell(value) for value in result)
        else:
            return cell(result)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return aligned([[name.upper() for name in names]] + [[cell(row.get(name)) for name in names] for row in rows])


class Output:
    """Chosen once for the whole run: `form` is "json" or "table"."""
    form = "json"


def print_result(result, method=None):
    if Output.form == "table":
        print(table_text(result, method))
    else:
        print(result if isinstance(result, str) else json.dumps(result, indent=2))
