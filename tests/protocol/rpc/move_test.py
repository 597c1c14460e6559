#!/usr/bin/env -S /usr/bin/python3
"""Poll groups with live connections go from one reactor to another, by RPC and by the dynamic scheduler, while hosts write and verify.

CATNAP_SOAK=1 makes the moves 10,000. Left out: what a move costs, and idle cost with the dynamic scheduler (tests/e2e/idle_test.py).
"""

import json
import os
import sys
import threading
import unittest

from expect import WAIT_S, refused, wait_for
from server_process import ROOT, RpcFailure, ServerProcess, free_tcp_port

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from nvme_client import Controller  # noqa: E402

NQN = "nqn.2026-11.io.catnap:moves"
MOVES = 10_000 if os.environ.get("CATNAP_SOAK") == "1" else 300
BLOCK = 4096
BLOCKS = 32
DEPTH = 8
MIN_ROUNDS = 3  # of all blocks written and read back, however fast the moves are
GROUP = "nvmf_tgt_poll_group_"


class Writer(threading.Thread):
    """Writes and reads back whole rounds on one namespace until told to stop; `problem` says what went wrong. It never connects again."""

    def __init__(self, address, nsid, name, **digests):
        super().__init__(daemon=True, name=name)
        self.nsid = nsid
        self.host = Controller(address, NQN, **digests)
        self.stop = threading.Event()
        self.rounds = 0
        self.problem = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.one_round()
        except Exception as failure:  # pylint: disable=broad-except
            self.problem = f"{self.name}, round {self.rounds}: {failure!r}"

    def one_round(self):
        for first in range(0, BLOCKS, DEPTH):
            for place in range(first, first + DEPTH):
                self.host.submit_write(self.nsid, place * BLOCK, self.content(place))
            for _ in range(DEPTH):
                self.host.io.reap().check("Write")
        self.host.flush(self.nsid)
        for place in range(BLOCKS):
            if self.host.read(self.nsid, place * BLOCK, BLOCK) != self.content(place):
                raise AssertionError(f"block {place} is not what was written")
        self.rounds += 1

    def content(self, place):
        return (self.rounds * BLOCKS + place).to_bytes(8, "little") * (BLOCK // 8)


class TwoReactors(unittest.TestCase):
    def setUp(self):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            self.skipTest("this process may use one CPU only, so there is only one reactor to be on")
        self.cpus = cpus[:2]
        self.start()

    def start(self, *options):
        self.server = ServerProcess("-m", f"[{self.cpus[0]},{self.cpus[1]}]", *options)
        self.addCleanup(self.server.clean)
        self.addCleanup(self.end, self.server)
        self.call = self.server.client.call

    def end(self, server):
        self.assertEqual(server.stop(), 0, server.log_text())

    def serve(self):
        """Namespaces 1 (malloc), 2 (aio) and 3 (uring, where io_uring is allowed)."""
        port = free_tcp_port()
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        self.call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
        self.call("bdev_malloc_create", {"name": "M", "num_blocks": 8192, "block_size": 512})
        bdevs = ["M"]
        for kind in ("aio", "uring"):
            path = os.path.join(self.server.folder.name, kind)
            with open(path, "wb") as file:
                file.truncate(4 << 20)
            try:
                self.call(f"bdev_{kind}_create", {"name": kind, "filename": path, "block_size": 512})
                bdevs.append(kind)
            except RpcFailure as failure:
                self.assertEqual(kind, "uring", failure)
                print(f"without uring: {failure}", flush=True)
        for bdev in bdevs:
            self.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": bdev}})
        self.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
                                                                                 "trsvcid": str(port)}})
        return ("127.0.0.1", port), bdevs

    def threads(self):
        return {thread["name"]: thread for thread in self.call("thread_get_stats")["threads"]}

    def groups(self):
        return {name: thread for name, thread in self.threads().items() if name.startswith(GROUP)}

    def where(self):
        """CPU by name of poll group, from the list of reactors: each group stands there exactly once."""
        places = [(thread["name"], reactor["lcore"]) for reactor in self.call("framework_get_reactors")["reactors"] for thread in reactor["lw_threads"]]
        self.assertEqual(len(places), len(dict(places)), places)
        return dict(places)

    def wait_until(self, what, true):
        wait_for(true, lambda: f"{what}; {self.where()}; {self.call('framework_get_scheduler')}")

    def refuse(self, method, params, code, *words):
        refused(self, code, words, self.call, method, params)

    def finish(self, writers):
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join(WAIT_S)
            self.assertFalse(writer.is_alive(), f"{writer.name}: a command was never answered")
            self.assertIsNone(writer.problem)
            self.assertGreaterEqual(writer.rounds, MIN_ROUNDS, writer.name)
            writer.host.close()


class Moves(TwoReactors):
    def test_groups_move_back_and_forth_while_hosts_write_and_verify(self):
        """Every call answers when the thread is there; no command fails, no connection ends, every block is right."""
        address, bdevs = self.serve()
        self.assertEqual(len(self.groups()), 2)
        self.call("bdev_malloc_create", {"name": "D", "num_blocks": 8192, "block_size": 512})
        self.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "D"}})
        writers = [Writer(address, number + 1, bdev) for number, bdev in enumerate(bdevs)]
        writers.append(Writer(address, len(bdevs) + 1, "with digests", header_digest=True, data_digest=True))
        for writer in writers:
            writer.start()
        ids = [group["id"] for group in self.groups().values()]
        names = {group["id"]: name for name, group in self.groups().items()}
        number = 0
        try:
            while number < MOVES or (min(writer.rounds for writer in writers) < MIN_ROUNDS and all(writer.is_alive() for writer in writers)):
                thread = ids[number // 2 % len(ids)]
                cpu = self.cpus[number % 2]
                self.call("thread_set_cpumask", {"id": thread, "cpumask": f"[{cpu}]"})
                if number % 25 == 0:
                    self.assertEqual(self.where()[names[thread]], cpu)
                    for writer in writers:
                        self.assertIsNone(writer.problem)
                number += 1
        finally:
            self.finish(writers)
        print(f"{number} moves; rounds of {BLOCKS} blocks: " + ", ".join(f"{writer.name} {writer.rounds}" for writer in writers), flush=True)

    def test_cpumask_is_shown_kept_and_checked(self):
        group = self.groups()[GROUP + "000"]
        other = self.cpus[1]
        self.assertIs(self.call("thread_set_cpumask", {"id": group["id"], "cpumask": f"[{other}]"}), True)
        moved = self.groups()[GROUP + "000"]
        self.assertEqual((moved["cpumask"], moved["reactor"]), (f"{1 << other:x}", f"reactor_{other}"))
        # A mask that has its reactor moves nothing.
        both = (1 << self.cpus[0]) | (1 << other)
        self.call("thread_set_cpumask", {"id": group["id"], "cpumask": f"{both:x}"})
        self.assertEqual(self.where()[GROUP + "000"], other)
        self.refuse("thread_set_cpumask", {"id": group["id"], "cpumask": "[1000]"}, -22, "cpumask", "1000")
        self.refuse("thread_set_cpumask", {"id": group["id"], "cpumask": "frog"}, -22, "cpumask", "frog")
        self.refuse("thread_set_cpumask", {"id": 4711, "cpumask": "1"}, -3, "id", "4711")
        self.refuse("thread_set_cpumask", {"id": -1, "cpumask": "1"}, -3, "id", " -1")
        self.refuse("thread_set_cpumask", {"id": self.threads()["app_thread"]["id"], "cpumask": "1"}, -22, "id", "control thread")
        self.assertEqual(self.where()[GROUP + "000"], other, "what was refused changed nothing")

    def test_mappings_of_static_move_threads(self):
        ids = [group["id"] for _, group in sorted(self.groups().items())]
        self.call("framework_set_scheduler", {"name": "static", "mappings": f"{ids[0]}:{self.cpus[1]},{ids[1]}:{self.cpus[0]}"})
        self.assertEqual((self.where()[GROUP + "000"], self.where()[GROUP + "001"]), (self.cpus[1], self.cpus[0]))
        for mappings, word in ((f"{ids[0]}", "THREAD_ID"), ("4711:0", "4711"), (f"{ids[0]}:1000", "1000"), (f"{ids[0]}:0x", "THREAD_ID")):
            self.refuse("framework_set_scheduler", {"name": "static", "mappings": mappings}, -22, "mappings", word)

    def test_a_thread_is_moved_by_name_and_what_is_wrong_is_named(self):
        group = GROUP + "000"
        self.assertIs(self.call("thread_move", {"name": group, "lcore": self.cpus[1]}), True)
        self.assertEqual(self.where()[group], self.cpus[1])
        self.refuse("thread_move", {"name": group, "lcore": 1000}, -22, "'lcore'", "CPU 1000")
        self.refuse("thread_move", {"name": "nobody", "lcore": self.cpus[0]}, -22, "'name'", "nobody")
        self.refuse("thread_move", {"id": -1, "lcore": self.cpus[0]}, -22, "'id'", " -1")
        self.refuse("thread_move", {"name": "app_thread", "lcore": self.cpus[0]}, -22, "'name'", "control thread")
        self.call("thread_set_cpumask", {"name": group, "cpumask": f"[{self.cpus[1]}]"})
        self.refuse("thread_move", {"name": group, "lcore": self.cpus[0]}, -22, "'lcore'", "may only run on")
        self.assertEqual(self.where()[group], self.cpus[1], "what was refused moved nothing")


class ThreadModes(TwoReactors):
    def test_modes_of_threads(self):
        self.call("reactor_set_mode", {"mode": "interrupt"})
        group = GROUP + "000"
        self.assertEqual(self.groups()[group]["mode"], "inherit")
        self.call("thread_set_mode", {"name": group, "mode": "poll"})
        reactor = lambda: next(entry for entry in self.call("framework_get_reactors")["reactors"] if entry["lcore"] == self.cpus[0])
        self.wait_until("awake for its sake", lambda: reactor()["awake_because"] == f"mode poll of thread {group}")
        self.call("thread_set_mode", {"id": self.groups()[group]["id"], "mode": "inherit"})
        self.wait_until("asleep", lambda: reactor()["asleep"])
        self.refuse("thread_set_mode", {"name": "nobody", "mode": "poll"}, -3, "name", "nobody")
        self.refuse("thread_set_mode", {"mode": "poll"}, -32602, "id", "name")
        self.refuse("thread_set_mode", {"name": "app_thread", "mode": "poll"}, -22, "control thread")
        self.call("thread_set_mode", {"name": group, "mode": "adaptive"})
        calls = self.call("framework_get_config", {"name": "scheduler"})
        self.assertIn({"method": "thread_set_mode", "params": {"name": group, "mode": "adaptive"}}, calls)
        self.assertIn({"method": "reactor_set_mode", "params": {"mode": "interrupt", "lcore": self.cpus[0]}}, calls)


class Dynamic(TwoReactors):
    def dynamic(self, **options):
        self.call("framework_set_scheduler", {"name": "dynamic", "period": 20_000, **options})

    def test_idle_groups_gather_and_then_nothing_measures_any_more(self):
        self.serve()
        modes = [reactor["mode"] for reactor in self.call("framework_get_reactors")["reactors"]]
        self.dynamic()
        self.wait_until("gathered", lambda: set(place for name, place in self.where().items() if name.startswith(GROUP)) == {self.cpus[0]})
        self.wait_until("at rest", lambda: not self.call("framework_get_scheduler")["measuring"])
        self.assertNotIn("scheduler", [poller["name"] for thread in self.call("thread_get_pollers")["threads"] for poller in thread["timed_pollers"]])
        self.assertEqual([reactor["mode"] for reactor in self.call("framework_get_reactors")["reactors"]], modes)

    def test_a_busy_group_moves_under_io(self):
        """Both groups are gathered on one core; hosts on both make it busy; one of the groups leaves, and comes back when the load is over."""
        address, bdevs = self.serve()
        writers = [Writer(address, number + 1, bdev) for number, bdev in enumerate(bdevs)]
        # A Python host is slow: what counts as overloaded is set low, so that the load that it makes is one.
        self.dynamic(load_limit=2, core_busy=3, core_limit=2, move_gain=1)
        self.wait_until("gathered", lambda: len(set(place for name, place in self.where().items() if name.startswith(GROUP))) == 1)
        before = self.call("framework_get_scheduler")["moves"]
        for writer in writers:
            writer.start()
        try:
            self.wait_until("apart", lambda: self.call("framework_get_scheduler")["moves"] > before)
            self.wait_until("rounds", lambda: min(writer.rounds for writer in writers) >= MIN_ROUNDS or any(writer.problem for writer in writers))
        finally:
            self.finish(writers)
        self.wait_until("gathered again", lambda: len(set(place for name, place in self.where().items() if name.startswith(GROUP))) == 1)
        self.wait_until("at rest again", lambda: not self.call("framework_get_scheduler")["measuring"])

    def test_isolated_cores_and_the_scheduling_core(self):
        first, second = self.cpus
        self.refuse("scheduler_set_options", {"scheduling_core": 1000}, -22, "scheduling_core", "1000")
        self.refuse("scheduler_set_options", {"scheduling_core": first, "isolated_core_mask": f"[{first}]"}, -22, "isolated_core_mask")
        self.refuse("scheduler_set_options", {"isolated_core_mask": "[1000]"}, -22, "isolated_core_mask")
        self.call("scheduler_set_options", {"scheduling_core": second, "isolated_core_mask": f"[{first}]"})
        scheduler = self.call("framework_get_scheduler")
        self.assertEqual((scheduler["scheduling_core"], scheduler["isolated_core_mask"]), (second, f"{1 << first:x}"))
        self.dynamic()
        self.wait_until("at rest", lambda: not self.call("framework_get_scheduler")["measuring"])
        self.assertEqual((self.where()[GROUP + "000"], self.where()[GROUP + "001"]), (first, second), "the isolated core keeps what it has")
        self.call("scheduler_set_options", {"isolated_core_mask": "0"})
        self.wait_until("gathered", lambda: self.where()[GROUP + "000"] == second)

    def test_is_saved_and_loads_again(self):
        self.call("scheduler_set_options", {"scheduling_core": self.cpus[1]})
        self.dynamic(load_limit=33, idle_periods=5)
        saved = self.call("framework_get_config", {"name": "scheduler"})
        path = os.path.join(self.server.folder.name, "saved.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"subsystems": [{"subsystem": "scheduler", "config": saved}]}, file)
        first = self.call("framework_get_scheduler")
        self.start("-c", path)
        second = self.call("framework_get_scheduler")
        for changing in ("measuring", "moves"):
            first.pop(changing), second.pop(changing)
        self.assertEqual(first, second)
        self.assertEqual((second["scheduler_name"], second["load_limit"], second["idle_periods"], second["scheduling_core"]),
                         ("dynamic", 33, 5, self.cpus[1]))
        self.assertEqual(self.call("framework_get_config", {"name": "scheduler"}), saved)


if __name__ == "__main__":
    unittest.main()
