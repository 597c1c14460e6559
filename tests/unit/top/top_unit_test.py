#!/usr/bin/env -S /usr/bin/python3
"""scripts/top without a server: rates out of two samples, tables that fit a width, what keys do, names that cannot steer a terminal, the command line.

Left out: a terminal, and the real catnapd (tests/protocol/rpc/top_test.py).
"""

import contextlib
import io
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "scripts"))

from catnap_rpc.client import RpcFailure  # noqa: E402
from catnap_top import batch, cli, table, text, views  # noqa: E402
from catnap_top.keys import HELP, Keys  # noqa: E402
from catnap_top.sample import Sample  # noqa: E402

NS = 1_000_000_000
NQN = "nqn.2026-11.io.example:disks"


def reactor(name, busy_ms, spin_ms, sleep_ms, **more):
    entry = {"name": name, "mode": "adaptive", "busy": busy_ms * 1_000_000, "spin_us": spin_ms * 1000, "sleep_ns": sleep_ms * 1_000_000, "stalls": 0,
             "asleep": True, "awake_because": "", "spin_budget_us": 12, "wakeups": {"fd": 0, "message": 0, "timer": 0, "spurious": 0},
             "context_switches": {"voluntary": 0, "involuntary": 0}}
    return entry | more


def sample(seconds, pid=7, disk=None, reactors=None, **answers):
    made = Sample()
    made.answers = {
        "framework_get_reactors": {"pid": pid, "reactors": reactors or [], "control": reactor("control", seconds, 0, seconds * 999)},
        "bdev_get_iostat": {"ticks": int(seconds * NS), "tick_rate": NS, "bdevs": [disk] if disk else []},
        "nvmf_get_subsystems": [{"nqn": NQN, "subtype": "NVMe", "namespaces": [{"nsid": 1, "bdev_name": "Disk0"}]}],
    } | answers
    return made


def disk(reads, writes, read_bytes=0, write_bytes=0, latency_ns=0, errors=None):
    return {"name": "Disk0", "num_read_ops": reads, "num_write_ops": writes, "bytes_read": read_bytes, "bytes_written": write_bytes,
            "read_latency_ticks": latency_ns, "write_latency_ticks": 0, "errors": errors or {}}


class Rates(unittest.TestCase):
    def test_io_is_counted_over_the_servers_own_time(self):
        before, now = sample(100, disk=disk(10, 0)), sample(104, disk=disk(50, 20, 400_000_000, 8_000_000, 60 * 2_000_000, {"read": 3}))
        row, = views.rows_of("namespaces", before, now)
        self.assertEqual((row["iops"], row["reads"], row["writes"]), (15, 10, 5))
        self.assertEqual((row["read_bytes"], row["write_bytes"]), (100_000_000, 2_000_000))
        self.assertEqual((row["latency"], row["errors"]), (2_000_000, 3))
        sums = views.totals(before, now)
        self.assertEqual((sums["iops"], sums["latency"], sums["known"]), (15, 2_000_000, True))

    def test_what_is_not_known_is_not_zero(self):
        for what, before, now in [("the first look", None, sample(1, disk=disk(1, 1))),
                                  ("another process", sample(1, disk=disk(1, 1)), sample(2, pid=8, disk=disk(9, 9))),
                                  ("counters that were reset", sample(1, disk=disk(100, 1)), sample(2, disk=disk(9, 9))),
                                  ("a disk that is new", sample(1), sample(2, disk=disk(9, 9))),
                                  ("a clock that stood", sample(1, disk=disk(1, 1)), sample(1, disk=disk(2, 2)))]:
            with self.subTest(what):
                row, = views.rows_of("namespaces", before, now)
                self.assertIsNone(row["iops"])
        row, = views.rows_of("namespaces", sample(1, disk=disk(1, 1)), sample(2, disk=disk(1, 1)))
        self.assertEqual((row["iops"], row["latency"]), (0, None), "no I/O has no latency")

    def test_a_namespace_without_counters_stands_there(self):
        row, = views.rows_of("namespaces", sample(1), sample(2))
        self.assertEqual((row["bdev"], row.get("iops")), ("Disk0", None))

    def test_reactors(self):
        then = reactor("reactor_0", 0, 0, 0)
        now = reactor("reactor_0", 200, 300, 1500, asleep=False, awake_because="spinning", stalls=2,
                      wakeups={"fd": 20, "message": 4, "timer": 2, "spurious": 0}, context_switches={"voluntary": 30, "involuntary": 6})
        row = views.rows_of("reactors", sample(1, reactors=[then]), sample(3, reactors=[now]))[0]
        self.assertEqual((row["awake"], row["busy"], row["spin"]), (0.25, 0.1, 0.15))
        self.assertEqual((row["fd"], row["message"], row["timer"], row["wakeups"], row["involuntary"], row["stalls"]), (10, 2, 1, 13, 3, 2))
        self.assertEqual(row["why"], "looking, up to 12 us")
        self.assertEqual(views.why(reactor("r", 0, 0, 0, asleep=False, awake_because="poller P of thread T")), "poller P of thread T")

    def test_threads_and_pollers(self):
        def thread(busy, messages):
            return {"id": 1, "name": "app_thread", "reactor": "control", "mode": "inherit", "cpumask": "3", "busy": busy, "messages": messages, "timers": 0,
                    "fd_events": 0, "active_pollers_count": 1, "timed_pollers_count": 2, "paused_pollers_count": 0}

        def pollers(runs):
            poller = {"name": "tick", "id": 5, "run_count": runs, "busy_count": runs // 2, "period_ticks": 1_000_000}
            return {"tick_rate": NS, "threads": [{"id": 1, "name": "app_thread", "active_pollers": [], "timed_pollers": [poller], "paused_pollers": []}]}

        before = sample(1, thread_get_stats={"threads": [thread(0, 10)]}, thread_get_pollers=pollers(100))
        now = sample(3, thread_get_stats={"threads": [thread(NS, 30)]}, thread_get_pollers=pollers(300))
        row, = views.rows_of("threads", before, now)
        self.assertEqual((row["busy"], row["messages"], row["pollers"]), (0.5, 10, 3))
        row, = views.rows_of("pollers", before, now)
        self.assertEqual((row["kind"], row["runs"], row["busy_runs"], row["period_us"], row["total"]), ("timed", 100, 50, 1000, 300))

    def test_hosts(self):
        now = sample(1)
        queue = {"cntlid": 1, "hostnqn": "nqn.host", "thread": "group_0", "peer_address": {"traddr": "192.0.2.9"},
                 "listen_address": {"traddr": "192.0.2.1", "trsvcid": "4420"}}
        now.queues = {NQN: [queue | {"qid": 0}, queue | {"qid": 1}, queue | {"qid": 2, "thread": "group_1"}]}
        row, = views.rows_of("hosts", None, now)
        self.assertEqual((row["host"], row["queues"], row["peer"], row["listener"], row["threads"]),
                         ("nqn.host", 2, "192.0.2.9", "192.0.2.1:4420", "group_0,group_1"))


    def test_what_hosts_see(self):
        def classes(reads, histogram, took):
            quiet = {"ios": 0, "bytes": 0, "errors": 0, "latency_ns": 0, "histogram": []}
            return {"read": {"ios": reads, "bytes": reads * 4096, "errors": 0, "latency_ns": took, "histogram": histogram}, "write": quiet, "other": quiet}

        def answer(seconds, *of):
            stats = {"ticks": seconds * NS, "tick_rate": NS, "namespaces": [{"nqn": NQN, "nsid": 1, **classes(*of)}],
                     "connections": [{"nqn": NQN, "hostnqn": "nqn.host", "cntlid": 1, "qid": 1, **classes(*of)}]}
            made = sample(seconds, disk=disk(of[0], 0, latency_ns=0), nvmf_get_io_stats=stats)
            made.queues = {NQN: [{"cntlid": 1, "qid": 1, "hostnqn": "nqn.host", "thread": "g", "peer_address": {"traddr": "192.0.2.9"},
                                  "listen_address": {"traddr": "192.0.2.1", "trsvcid": "4420"}}]}
            return made

        before = answer(1, 1000, [[2048, 1000]], 1_000_000)
        now = answer(3, 1200, [[2048, 1197], [1 << 20, 2], [0, 1]], 1_000_000 + 200 * 50_000)
        row, = views.rows_of("namespaces", before, now)
        self.assertEqual((row["iops"], row["latency"], row["p99"]), (100, 50_000, 1 << 20), "of the 200 in between, not of all since the start")
        row, = views.rows_of("hosts", before, now)
        self.assertEqual((row["iops"], row["bytes"], row["latency"]), (100, 100 * 4096, 50_000))
        self.assertEqual(views.percentile({}, 0.5), None)
        self.assertEqual(views.percentile({10: 1, 20: 98, 30: 1}, 0.99), 30)
        self.assertEqual(views.percentile({10: 1, 20: 98, 30: 1}, 0.5), 20)


class Texts(unittest.TestCase):
    def test_numbers(self):
        for show, value, wanted in [(text.count, 0, "0"), (text.count, 0.2, "<1"), (text.count, 999, "999"), (text.count, 12345, "12.3k"),
                                    (text.count, 999_600, "1.00M"), (text.count, None, "-"), (text.latency, 640, "640ns"), (text.latency, 84_200, "84.2us"),
                                    (text.latency, 2_000_000, "2.00ms"), (text.megabytes, 12_340_000, "12.3"), (text.megabytes, 0, "0"),
                                    (text.size, 64 << 20, "64Mi"), (text.size, 1536 << 20, "1.50Gi"), (text.percent, 0.256, "25.6"), (text.percent, None, "-")]:
            with self.subTest(f"{show.__name__} {value}"):
                self.assertEqual(show(value), wanted)

    def test_names_cannot_steer_the_terminal(self):
        self.assertEqual(text.printable("a\x1b[2Jb\nc\x9b\u202ed"), "a?[2Jb?c??d")

    def test_cutting_counts_columns(self):
        self.assertEqual(text.cut("nqn.example", 5), "nqn.~")
        self.assertEqual(text.cut("盘盘盘", 5), "盘盘~")
        self.assertEqual(text.width(text.pad("盘", 5)), 5)


class Tables(unittest.TestCase):
    ROWS = [{"nqn": NQN, "nsid": at, "bdev": f"Disk{at}", "iops": at, "latency": None, "size": 1 << 30} for at in range(5)]

    def test_every_width_is_kept(self):
        for width in range(8, 200):
            for view in views.VIEWS:
                head, _, lines = table.lines_of(view, self.ROWS if view == "namespaces" else [], width)
                for line in [head, *lines]:
                    self.assertLessEqual(text.width(line), width, f"{view} at {width}: {line!r}")

    def test_wide_enough_nothing_is_cut(self):
        head, _, lines = table.lines_of("namespaces", self.ROWS, 160)
        self.assertIn(NQN, lines[0])
        for column in views.VIEWS["namespaces"]:
            self.assertIn(column.title, head)

    def test_narrow_names_give_way_before_numbers(self):
        head, _, lines = table.lines_of("namespaces", self.ROWS, 80)
        self.assertIn("~", lines[0])
        self.assertIn("LATENCY", head)

    def test_order_and_filter(self):
        choice = table.Choice("namespaces")
        rows = [*self.ROWS, {"nqn": "nqn.other", "nsid": 9, "bdev": "New", "iops": None}]
        self.assertEqual([row["nsid"] for row in choice.chosen(rows)], [4, 3, 2, 1, 0, 9], "most first, unknown last")
        choice.reverse["namespaces"] = True
        self.assertEqual([row["nsid"] for row in choice.chosen(rows)], [0, 1, 2, 3, 4, 9])
        choice.filter, choice.reverse = "DISK3", {}
        self.assertEqual([row["nsid"] for row in choice.chosen(rows)], [3])
        choice.filter, choice.hide_idle = "", True
        self.assertEqual([row["nsid"] for row in choice.chosen(rows)], [4, 3, 2, 1, 9], "what is unknown is not idle")
        choice.sort["namespaces"] = "bdev"
        self.assertEqual([row["nsid"] for row in choice.chosen(rows)], [1, 2, 3, 4, 9], "names from a to z")

    def test_arrays_that_are_not_at_rest_are_told(self):
        array = {"name": "R", "state": "online", "base_bdevs_list": [{"name": "A", "state": "in_sync"}, {"name": None, "state": "missing"}]}
        self.assertEqual(table.about_array(array), "Array R: a slot missing")
        array["process"] = {"type": "rebuild", "target": "B", "progress": {"percent": 42}}
        self.assertIn("rebuild of B 42 %", table.about_array(array))
        self.assertEqual(table.about_array({"name": "R", "state": "online", "base_bdevs_list": []}), "")


class Pressed(unittest.TestCase):
    def setUp(self):
        self.choice = table.Choice()
        self.keys = Keys(self.choice)

    def press(self, *keys):
        for key in keys:
            self.keys.press(key)

    def test_views(self):
        self.press("4")
        self.assertEqual(self.choice.view, "namespaces")
        self.press("\t", "RIGHT")
        self.assertEqual(self.choice.view, "reactors", "round and round")
        self.press("LEFT", "BTAB")
        self.assertEqual(self.choice.view, "namespaces")

    def test_sorting(self):
        self.press("4", "L")
        self.assertEqual(self.choice.sort_key(), "latency")
        self.press("<")
        self.assertEqual(self.choice.sort_key(), "write_bytes")
        self.press(">", ">", "R")
        self.assertEqual((self.choice.sort_key(), self.choice.reverse["namespaces"]), ("p99", True))
        self.press(*">>>>>>>>>>>>>>")
        self.assertEqual(self.choice.sort_key(), "size", "the last column is the last")
        self.press("1", "L")
        self.assertIn("no such column", self.keys.message)

    def test_delay(self):
        self.press("d")
        question, deed = self.keys.prompt
        self.assertIn("2 s", question)
        deed("0,5")
        self.assertEqual(self.choice.delay_s, 0.5)
        for wrong in ("x", "0", "1e9", "-1", "nan"):
            deed(wrong)
            self.assertEqual(self.choice.delay_s, 0.5, wrong)
            self.assertIn(wrong, self.keys.message)
        deed("")
        self.assertEqual(self.choice.delay_s, 0.5)

    def test_filter(self):
        self.press("/")
        self.keys.prompt[1]("disk")
        self.assertEqual(self.choice.filter, "disk")
        self.press("=")
        self.assertEqual(self.choice.filter, "")

    def test_help_is_left_by_any_key(self):
        self.press("h")
        self.assertTrue(self.keys.help)
        self.press("q")
        self.assertFalse(self.keys.help or self.keys.quit)
        self.press("q")
        self.assertTrue(self.keys.quit)

    def test_every_key_of_the_help_does_something(self):
        names = {"Tab": "\t", "Space": " ", "Up": "UP", "Down": "DOWN", "PgUp": "PPAGE", "PgDn": "NPAGE", "Home": "HOME", "End": "END", "Left": "LEFT",
                 "Right": "RIGHT"}
        for keys, _ in HELP:
            for key in ("1", "5") if keys.startswith("1-5") else keys.split():
                keys_of = Keys(table.Choice())
                keys_of.press(names.get(key, key))
                self.assertEqual(keys_of.message.startswith("no command"), False, key)

    def test_unknown_keys_are_told(self):
        self.press("y")
        self.assertIn("no command on 'y'", self.keys.message)


class FakeSource:
    """Samples one after another; an exception among them is raised."""
    address, version = "/run/x", "catnap 1"

    def __init__(self, *samples):
        self.samples = list(samples)

    def sample(self, _):
        one = self.samples.pop(0)
        if isinstance(one, Exception):
            raise one
        return one


class Batch(unittest.TestCase):
    def test_text_after_text_and_outages_in_words(self):
        source = FakeSource(sample(1, disk=disk(0, 0)), sample(2, disk=disk(10, 0)), RpcFailure("Connection lost\nmore"), sample(4, disk=disk(50, 0)))
        out, pauses = io.StringIO(), []
        complete = batch.run(source, [table.Choice("namespaces")], 3, stream=out, pause=pauses.append)
        self.assertFalse(complete)
        self.assertEqual(pauses, [2.0, 2.0, 2.0])
        shown = out.getvalue()
        self.assertEqual(shown.count("SUBSYSTEM"), 2)
        self.assertIn("no answer from /run/x: Connection lost\n", shown)
        self.assertIn("I/O: 10 IOPS", shown)
        self.assertIn("I/O: 20 IOPS", shown, "over the two seconds that went by")


class CommandLine(unittest.TestCase):
    def run_top(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main(list(arguments))
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()

    def test_help_names_keys_columns_and_statuses(self):
        status, out, _ = self.run_top("--help")
        self.assertEqual(status, 0)
        for word in ("PgUp", "namespaces", "write_bytes", "exit status", "default"):
            self.assertIn(word, out)

    def test_wrong_ones_are_told(self):
        for line, says in [("-d 0", "0.1"), ("-b -n 0", "not more than 0"), ("-b -o x", "no column 'x'"), ("-n 1", "need -b"), ("--view all", "needs -b"),
                           ("", "no terminal")]:
            with self.subTest(line):
                status, _, err = self.run_top(*line.split())
                self.assertEqual(status, 2)
                self.assertIn(says, err)

    def test_nobody_there(self):
        status, out, err = self.run_top("-b", "-s", "/nonexistent/sock")
        self.assertEqual((status, out), (3, ""))
        self.assertIn("/nonexistent/sock", err)
        self.assertEqual(err.count("\n"), 1, err)


if __name__ == "__main__":
    unittest.main()
