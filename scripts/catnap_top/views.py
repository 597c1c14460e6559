"""The tables: rows of rates out of two samples. Every rate is a difference of counters over the server's own time.

A value of None is unknown (made since the last look, or its counters were reset) and shown as -. Left out: sorting and showing (table.py).
"""

from . import text

OPERATIONS = ["read", "write", "unmap", "copy", "flush", "write_zeroes", "compare", "compare_and_write", "verify"]


class Column:
    """`show` makes the text of a value; `share` columns take what width is left."""

    def __init__(self, key, title, show=text.plain, width=8, right=True, share=False):
        self.key, self.title, self.show, self.width, self.right, self.share = key, title, show, width, right, share


def name(key, title, width=14, share=False):
    return Column(key, title, text.plain, width, right=False, share=share)


VIEWS = {
    "reactors": [name("name", "REACTOR", 12), name("mode", "MODE", 9), Column("awake", "%AWAKE", text.percent, 6), Column("busy", "%BUSY", text.percent, 6),
                 Column("spin", "%LOOK", text.percent, 6), Column("wakeups", "WAKE/s", text.count, 6), Column("fd", "FD/s", text.count, 6),
                 Column("message", "MSG/s", text.count, 6), Column("timer", "TIMER/s", text.count, 7), Column("spurious", "NONE/s", text.count, 6),
                 Column("involuntary", "TAKEN/s", text.count, 7), Column("stalls", "STALLS", text.count, 6), name("why", "WHY AWAKE", 14, share=True)],
    "threads": [Column("id", "ID", width=4), name("name", "THREAD", 22, share=True), name("reactor", "REACTOR", 12), name("mode", "MODE", 9),
                Column("busy", "%CPU", text.percent, 6), Column("messages", "MSG/s", text.count, 7), Column("timers", "TIMER/s", text.count, 7),
                Column("fd_events", "FD/s", text.count, 7), Column("pollers", "POLLERS", text.count, 7), name("cpumask", "CPUS", 8)],
    "pollers": [name("name", "POLLER", 30, share=True), name("thread", "THREAD", 20), name("kind", "KIND", 7), Column("period_us", "PERIOD us", text.count, 9),
                Column("runs", "RUN/s", text.count, 8), Column("busy_runs", "WORK/s", text.count, 8), Column("total", "RUNS", text.count, 8)],
    "namespaces": [name("nqn", "SUBSYSTEM", 24, share=True), Column("nsid", "NSID", width=5), name("bdev", "BDEV", 14), Column("iops", "IOPS", text.count, 7),
                   Column("reads", "READ/s", text.count, 7), Column("writes", "WRITE/s", text.count, 7), Column("read_bytes", "rMB/s", text.megabytes, 7),
                   Column("write_bytes", "wMB/s", text.megabytes, 7), Column("latency", "LATENCY", text.latency, 7), Column("p99", "P99", text.latency, 7), Column("errors", "ERR", text.count, 5),
                   Column("size", "SIZE", text.size, 6)],
    "hosts": [name("host", "HOST", 30, share=True), name("nqn", "SUBSYSTEM", 24, share=True), Column("cntlid", "CNTLID", width=6),
              Column("queues", "QUEUES", text.count, 6), Column("iops", "IOPS", text.count, 7), Column("bytes", "MB/s", text.megabytes, 7),
              Column("latency", "LATENCY", text.latency, 7), name("peer", "FROM", 16), name("listener", "TO", 21), name("threads", "THREADS", 16)],
}
# What a key press sorts by first: the load, most first.
LOAD = {"reactors": "awake", "threads": "busy", "pollers": "runs", "namespaces": "iops", "hosts": "iops"}
# Rows without any of these are idle.
IDLE_BY = {"reactors": ["awake"], "threads": ["busy", "messages", "fd_events"], "pollers": ["runs"], "namespaces": ["iops"], "hosts": ["iops"]}


def rate(before, now, key, seconds):
    """Per second; None when it cannot be known."""
    if before is None or seconds is None:
        return None
    difference = now.get(key, 0) - before.get(key, 0)
    return difference / seconds if difference >= 0 else None


def by(key, entries):
    return {each[key]: each for each in entries}


def all_reactors(sample):
    answer = sample.get("framework_get_reactors")
    return [] if answer is None else [*answer["reactors"], answer["control"]]


def why(reactor):
    if reactor.get("asleep"):
        return "asleep"
    because = reactor.get("awake_because")
    if because in (None, "", "work"):
        return "at work"
    return f"looking, up to {reactor['spin_budget_us']} us" if because == "spinning" else because


def reactor_row(before, now):
    row = {"name": now["name"], "mode": now["mode"], "why": why(now), "stalls": now["stalls"]}
    if before is None:
        return row
    busy, spin, sleep = now["busy"] - before["busy"], (now["spin_us"] - before["spin_us"]) * 1000, now["sleep_ns"] - before["sleep_ns"]
    whole = busy + spin + sleep
    if whole <= 0 or min(busy, spin, sleep) < 0:
        return row
    row.update(awake=(busy + spin) / whole, busy=busy / whole, spin=spin / whole, stalls=now["stalls"] - before["stalls"])
    for cause in ("fd", "message", "timer", "spurious"):
        row[cause] = rate(before["wakeups"], now["wakeups"], cause, whole / 1e9)
    row["wakeups"] = sum(row[cause] or 0 for cause in ("fd", "message", "timer", "spurious"))
    row["involuntary"] = rate(before["context_switches"], now["context_switches"], "involuntary", whole / 1e9)
    return row


def reactors(before, now):
    known = by("name", all_reactors(before)) if before.pid == now.pid else {}
    return [reactor_row(known.get(each["name"]), each) for each in all_reactors(now)]


def threads(before, now):
    seconds = now.seconds_since(before)
    known = by("id", before.get("thread_get_stats", {}).get("threads", []))
    rows = []
    for each in now.get("thread_get_stats", {}).get("threads", []):
        old = known.get(each["id"])
        row = {key: each[key] for key in ("id", "name", "reactor", "mode", "cpumask")}
        row["pollers"] = each["active_pollers_count"] + each["timed_pollers_count"] + each["paused_pollers_count"]
        row["busy"] = rate(old, each, "busy", seconds * 1e9 if seconds else None)
        for key in ("messages", "timers", "fd_events"):
            row[key] = rate(old, each, key, seconds)
        rows.append(row)
    return rows


def all_pollers(sample):
    """{(thread id, poller id, name): (thread, kind, poller)}."""
    found = {}
    for thread in sample.get("thread_get_pollers", {}).get("threads", []):
        for kind in ("active", "timed", "paused"):
            for poller in thread[f"{kind}_pollers"]:
                found[thread["id"], poller.get("id"), poller["name"]] = (thread["name"], kind, poller)
    return found


def pollers(before, now):
    seconds = now.seconds_since(before)
    ticks = now.get("thread_get_pollers", {}).get("tick_rate", 1_000_000_000)
    known = all_pollers(before)
    rows = []
    for key, (thread, kind, poller) in all_pollers(now).items():
        old = known.get(key, (None, None, None))[2]
        period = poller.get("period_ticks")
        rows.append({"name": poller["name"], "thread": thread, "kind": kind, "period_us": None if period is None else period * 1_000_000 / ticks,
                     "runs": rate(old, poller, "run_count", seconds), "busy_runs": rate(old, poller, "busy_count", seconds), "total": poller.get("run_count")})
    return rows


def io_rates(old, entry, seconds, tick_rate):
    """Rates of one bdev; all None when its counters began anew."""
    rates = dict.fromkeys(["iops", "reads", "writes", "read_bytes", "write_bytes", "latency", "errors", "operations"])
    if old is None or seconds is None:
        return rates
    operations = [entry.get(f"num_{each}_ops", 0) - old.get(f"num_{each}_ops", 0) for each in OPERATIONS]
    took = sum(entry.get(f"{each}_latency_ticks", 0) - old.get(f"{each}_latency_ticks", 0) for each in OPERATIONS)
    if min(operations) < 0 or took < 0:
        return rates
    done = sum(operations)
    rates.update(operations=done, iops=done / seconds, reads=operations[0] / seconds, writes=operations[1] / seconds,
                 read_bytes=rate(old, entry, "bytes_read", seconds), write_bytes=rate(old, entry, "bytes_written", seconds),
                 latency=took / tick_rate * 1e9 / done if done else None,
                 errors=sum(entry.get("errors", {}).values()) - sum(old.get("errors", {}).values()))
    return rates


def seen_by_hosts(before, now, kind, key):
    """{key: rates} of the entries of nvmf_get_io_stats: iops, bytes, latency (mean, from a command's arrival to its answer) and p99, where these are known."""
    then, answer = before.get("nvmf_get_io_stats", {}), now.get("nvmf_get_io_stats", {})
    if kind not in then or kind not in answer or before.pid != now.pid or answer["ticks"] <= then["ticks"]:
        return {}
    seconds = (answer["ticks"] - then["ticks"]) / answer["tick_rate"]
    old = {key(each): each for each in then[kind]}
    return {key(each): one_seen(old[key(each)], each, seconds) for each in answer[kind] if key(each) in old}


def one_seen(before, now, seconds):
    classes = ("read", "write", "other")
    done, moved, took = (sum(now[each][what] - before[each][what] for each in classes) for what in ("ios", "bytes", "latency_ns"))
    if done < 0:
        return dict.fromkeys(["iops", "bytes", "latency", "p99"])
    steps = {}
    for sign, entry in ((1, now), (-1, before)):
        for each in classes:
            for end, count in entry[each].get("histogram", []):
                steps[end or 1 << 63] = steps.get(end or 1 << 63, 0) + sign * count
    return {"iops": done / seconds, "bytes": moved / seconds, "latency": took / done if done else None, "p99": percentile(steps, 0.99)}


def percentile(steps, part):
    """Of {end of a step in ns: how many}: the end that this part of all was not above; None without any."""
    total, seen = sum(steps.values()), 0
    for end in sorted(steps):
        seen += steps[end]
        if total and (seen > total * part or seen == total):
            return end
    return None


def namespaces(before, now):
    seconds = now.seconds_since(before)
    stats = now.get("bdev_get_iostat", {"bdevs": [], "tick_rate": 1})
    known, fresh = by("name", before.get("bdev_get_iostat", {"bdevs": []})["bdevs"]), by("name", stats["bdevs"])
    sizes = {each["name"]: each["block_size"] * each["num_blocks"] for each in now.get("bdev_get_bdevs", [])}
    seen = seen_by_hosts(before, now, "namespaces", lambda entry: (entry["nqn"], entry["nsid"]))
    rows = []
    for subsystem in now.subsystems():
        for space in subsystem["namespaces"]:
            bdev = space["bdev_name"]
            rates = io_rates(known.get(bdev), fresh[bdev], seconds, stats["tick_rate"]) if bdev in fresh else {}
            rows.append({"nqn": subsystem["nqn"], "nsid": space["nsid"], "bdev": bdev, "size": sizes.get(bdev), **rates})
            if (subsystem["nqn"], space["nsid"]) in seen:
                told = seen[subsystem["nqn"], space["nsid"]]
                rows[-1].update(latency=told["latency"], p99=told["p99"])
    return rows


def hosts(before, now):
    """A row per controller."""
    seen = {}
    for (nqn, cntlid, _), rates in seen_by_hosts(before, now, "connections", lambda entry: (entry["nqn"], entry["cntlid"], entry["qid"])).items():
        seen.setdefault((nqn, cntlid), []).append(rates)
    found = {}
    for nqn, queues in now.queues.items():
        for queue in queues:
            row = found.setdefault((nqn, queue["cntlid"]), {"host": queue["hostnqn"], "nqn": nqn, "cntlid": queue["cntlid"], "queues": 0, "peers": set(),
                                                            "listeners": set(), "on": set()})
            row["queues"] += 1 if queue["qid"] > 0 else 0
            row["peers"].add(queue["peer_address"]["traddr"])
            row["listeners"].add(f"{queue['listen_address']['traddr']}:{queue['listen_address']['trsvcid']}")
            row["on"].add(queue["thread"])
    for row in found.values():
        row.update(peer=",".join(sorted(row.pop("peers"))), listener=",".join(sorted(row.pop("listeners"))), threads=",".join(sorted(row.pop("on"))))
        row.update(summed(seen.get((row["nqn"], row["cntlid"]), [])))
    return list(found.values())


def total_seen(before, now):
    """Rates of all hosts' I/O together, or None."""
    then, answer = before.get("nvmf_get_io_stats", {}), now.get("nvmf_get_io_stats", {})
    if "total" not in then or "total" not in answer or before.pid != now.pid or answer["ticks"] <= then["ticks"]:
        return None
    return one_seen(then["total"], answer["total"], (answer["ticks"] - then["ticks"]) / answer["tick_rate"])


def summed(all_rates):
    """Of several queues together."""
    known = [rates for rates in all_rates if rates["iops"] is not None]
    if not known:
        return {}
    iops = sum(rates["iops"] for rates in known)
    weighted = sum(rates["latency"] * rates["iops"] for rates in known if rates["latency"] is not None)
    return {"iops": iops, "bytes": sum(rates["bytes"] for rates in known), "latency": weighted / iops if iops else None}


MAKERS = {"reactors": reactors, "threads": threads, "pollers": pollers, "namespaces": namespaces, "hosts": hosts}


def rows_of(view, before, now):
    """The rows of a view; `before` is None at the first look."""
    return MAKERS[view](before or type(now)(), now)


def totals(before, now):
    """What the lines on top say: {iops, reads, writes, read_bytes, write_bytes, latency, awake, busy, asleep, reactors, hosts, connections}."""
    io = namespaces(before, now) if before else []
    summed = {key: sum(row.get(key) or 0 for row in io) for key in ("iops", "reads", "writes", "read_bytes", "write_bytes", "operations")}
    known = [row for row in io if row.get("latency") is not None]
    # As devices saw it, unless the server tells what hosts saw.
    summed["p99"] = None
    summed["latency"] = sum(row["latency"] * row["operations"] for row in known) / summed["operations"] if known else None
    seen = total_seen(before, now) if before else None
    if seen:
        summed.update(latency=seen["latency"], p99=seen["p99"])
    loops = reactors(before, now) if before else []
    for key in ("awake", "busy", "spin"):
        summed[key] = sum(row.get(key) or 0 for row in loops)
    summed["known"] = before is not None and now.seconds_since(before) is not None
    summed["reactors"] = len(all_reactors(now))
    summed["asleep"] = sum(1 for each in all_reactors(now) if each.get("asleep"))
    summed["connections"] = now.get("nvmf_get_stats", {}).get("connections", {}).get("current")
    return summed
