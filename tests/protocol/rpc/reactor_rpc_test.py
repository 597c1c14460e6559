#!/usr/bin/env -S /usr/bin/python3
"""Methods of reactors, threads and pollers against the real catnapd, and mode switches while a host writes and verifies.

CATNAP_SOAK=1 makes the switches 10,000. Left out: what modes cost (tests/bench), idle cost (tests/e2e/idle_test.py).
"""

import os
import sys
import threading
import time
import unittest

from expect import refused
from server_process import ROOT, ServerProcess, free_tcp_port

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from nvme_client import Controller  # noqa: E402

NQN = "nqn.2026-11.io.catnap:reactors"
SWITCHES = 10_000 if os.environ.get("CATNAP_SOAK") == "1" else 500
MODES = ("poll", "interrupt", "adaptive")
BLOCK = 4096
BLOCKS = 64
MIN_ROUNDS = 5  # of all blocks written and read back, however fast the switches are


class WithServer(unittest.TestCase):
    def setUp(self):
        self.server = ServerProcess()
        self.addCleanup(self.server.clean)
        self.addCleanup(self.end)
        self.call = self.server.client.call

    def end(self):
        self.assertEqual(self.server.stop(), 0, self.server.log_text())

    def serve_malloc(self):
        port = free_tcp_port()
        self.call("nvmf_create_transport", {"trtype": "TCP"})
        self.call("bdev_malloc_create", {"name": "M", "num_blocks": 8192, "block_size": 512})
        self.call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
        self.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "M"}})
        self.call("nvmf_subsystem_add_listener", {"nqn": NQN, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
                                                                                 "trsvcid": str(port)}})
        return ("127.0.0.1", port)

    def refuse(self, method, params, code, *words):
        refused(self, code, words, self.call, method, params)

    def reactor(self):
        return self.call("framework_get_reactors")["reactors"][0]


class Methods(WithServer):
    def test_wakers_are_named_and_sorted(self):
        address = self.serve_malloc()
        host = Controller(address, NQN)
        for number in range(20):
            host.write(1, number * BLOCK, bytes([number]) * BLOCK)
        answer = self.call("reactor_get_wakeups", {"limit": 100})
        self.assertEqual(answer["unresponsive_threads"], [])
        entry = answer["reactors"][0]
        for key in ("fd", "message", "timer", "spurious", "sleeps"):
            self.assertIsInstance(entry[key], int)
        counts = [waker["count"] for waker in entry["wakers"]]
        self.assertEqual(counts, sorted(counts, reverse=True))
        self.assertTrue(all(waker["kind"] in ("fd", "poller", "timer", "message") for waker in entry["wakers"]))
        first = entry["wakers"][0]
        self.assertEqual((first["kind"], first["thread"]), ("fd", "nvmf_tgt_poll_group_000"), "twenty writes came over one socket")
        self.assertGreaterEqual(first["count"], 20)
        self.assertIn("rpc listener", [waker["name"] for waker in answer["control"]["wakers"]])
        one = self.call("reactor_get_wakeups", {"limit": 1})["reactors"][0]
        self.assertEqual((len(one["wakers"]), one["wakers_left_off"]), (1, len(entry["wakers"]) - 1))
        host.close()

    def test_io_channels_count_their_users(self):
        address = self.serve_malloc()
        host = Controller(address, NQN)
        host.write(1, 0, b"x" * BLOCK)
        channels = {thread["name"]: thread["io_channels"] for thread in self.call("thread_get_io_channels")["threads"]}
        self.assertEqual(channels["app_thread"], [])
        self.assertEqual([one["name"] for one in channels["nvmf_tgt_poll_group_000"]], ["bdev_M"])
        self.assertGreater(channels["nvmf_tgt_poll_group_000"][0]["ref"], 0)
        host.close()

    def test_messages_to_threads_that_ended_are_counted(self):
        self.assertEqual(self.call("thread_get_stats")["dropped_messages"], 0)

    def test_context_switches_are_watched_only_while_asked_for(self):
        def pollers():
            return [one for thread in self.call("thread_get_pollers")["threads"] for one in thread["timed_pollers"]]

        self.assertEqual(self.call("framework_monitor_context_switch"), {"enabled": False})
        self.assertEqual(pollers(), [])
        for _ in range(2):
            self.assertEqual(self.call("framework_monitor_context_switch", {"enabled": True}), {"enabled": True})
        self.assertEqual([one["name"] for one in pollers()], ["context_switch_monitor"])
        self.call("poller_set_period", {"name": "context_switch_monitor", "period_us": 1000})
        while "voluntary and" not in self.server.log_text():
            self.call("reactor_get_wakeups")  # wakes the reactor: something to report
        self.assertEqual(self.call("framework_monitor_context_switch", {"enabled": False}), {"enabled": False})
        self.assertEqual(pollers(), [])
        self.assertGreater(self.reactor()["context_switches"]["voluntary"], 0)

    def test_the_monitor_may_be_on_at_the_end(self):
        self.call("framework_monitor_context_switch", {"enabled": True})
        self.server.stop()
        self.assertNotIn("timers armed", self.server.log_text())

    def test_poller_periods(self):
        self.call("framework_monitor_context_switch", {"enabled": True})
        name = {"name": "context_switch_monitor"}
        (changed,) = self.call("poller_set_period", {**name, "period_us": 500_000})
        self.assertEqual((changed["thread"], changed["old_period_us"], changed["period_us"]), ("app_thread", 1_000_000, 500_000))
        (again,) = self.call("poller_set_period", {"id": changed["id"], "thread": "app_thread", "period_us": 10})
        self.assertEqual(again["old_period_us"], 500_000)
        self.refuse("poller_set_period", {**name, "period_us": 0}, -22, "period_us", "allow_busy")
        self.refuse("poller_set_period", {**name, "period_us": 9}, -22, "period_us", "9")
        self.refuse("poller_set_period", {"name": "none", "period_us": 10}, -19, "none")
        self.refuse("poller_set_period", {**name, "thread": "nowhere", "period_us": 10}, -19, "nowhere")
        self.refuse("poller_set_period", {"period_us": 10}, -32602, "'id'", "'name'")
        (busy,) = self.call("poller_set_period", {**name, "period_us": 0, "allow_busy": True})
        self.assertEqual(busy["period_us"], 0)
        stats = {thread["name"]: thread for thread in self.call("thread_get_stats")["threads"]}
        self.assertEqual((stats["app_thread"]["active_pollers_count"], stats["app_thread"]["timed_pollers_count"]), (1, 0))
        self.assertIn("context_switch_monitor", self.call("reactor_get_wakeups")["control"]["awake_because"])
        self.call("poller_set_period", {**name, "period_us": 1_000_000})
        stats = {thread["name"]: thread for thread in self.call("thread_get_stats")["threads"]}
        self.assertEqual(stats["app_thread"]["active_pollers_count"], 0)

    def test_modes_in_both_spellings(self):
        lcore = self.reactor()["lcore"]
        for disable, mode in ((True, "poll"), (False, "interrupt")):
            self.assertIs(self.call("reactor_set_interrupt_mode", {"lcore": lcore, "disable_interrupt": disable}), True)
            self.assertEqual(self.reactor()["mode"], mode)
        status, _, err = self.server.rpc_py("reactor_set_interrupt_mode", str(lcore), "-d")
        self.assertEqual((status, self.reactor()["mode"]), (0, "poll"), err)
        self.refuse("reactor_set_interrupt_mode", {"lcore": 1000, "disable_interrupt": True}, -19, "1000")
        self.call("framework_set_adaptive_options", {"max_spin_us": 7})
        self.assertEqual(self.reactor()["max_spin_us"], 7)
        self.refuse("framework_set_adaptive_options", {"max_spin_us": 1, "lcore": 1000}, -19, "1000")

    def test_scheduler_and_governor(self):
        self.assertEqual(self.call("framework_get_scheduler")["scheduler_name"], "static")
        self.assertIs(self.call("framework_set_scheduler", {"name": "static", "period": 250_000}), True)
        self.assertEqual(self.call("framework_get_scheduler")["scheduler_period"], 250_000)
        self.refuse("framework_set_scheduler", {"name": "gscheduler"}, -95, "gscheduler", "frequencies")
        self.refuse("framework_set_scheduler", {"name": "static", "mappings": "4711:0"}, -22, "mappings", "4711")
        self.assertIs(self.call("framework_set_scheduler", {"name": "dynamic"}), True)
        self.assertEqual(self.call("framework_get_scheduler")["load_limit"], 20)
        self.assertNotIn("governor_name", self.call("framework_get_governor"))


class Writer(threading.Thread):
    """Writes and reads back whole rounds until told to stop; `problem` says what went wrong."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.host = Controller(address, NQN)
        self.stop = threading.Event()
        self.rounds = 0
        self.problem = None
        self.longest_s = 0.0

    def run(self):
        try:
            while not self.stop.is_set():
                self.one_round()
        except Exception as failure:  # pylint: disable=broad-except
            self.problem = f"round {self.rounds}: {failure!r}"

    def one_round(self):
        for number in range(0, BLOCKS, 8):
            for place in range(number, number + 8):
                self.host.submit_write(1, place * BLOCK, self.content(place))
            for _ in range(8):
                began = time.monotonic()
                self.host.io.reap().check("Write")
                self.longest_s = max(self.longest_s, time.monotonic() - began)
        for place in range(BLOCKS):
            if self.host.read(1, place * BLOCK, BLOCK) != self.content(place):
                raise AssertionError(f"block {place} is not what was written")
        self.rounds += 1

    def content(self, place):
        return (self.rounds * BLOCKS + place).to_bytes(8, "little") * (BLOCK // 8)


class Switches(WithServer):
    def test_modes_switch_while_a_host_writes_and_verifies(self):
        """Every call is answered, every write acknowledged and found again, and each switch is to be seen in the next answer."""
        writer = Writer(self.serve_malloc())
        writer.start()
        longest_s = 0.0
        try:
            number = 0
            while number < SWITCHES or (writer.rounds < MIN_ROUNDS and writer.is_alive()):
                mode = MODES[number % len(MODES)]
                began = time.monotonic()
                self.call("reactor_set_mode", {"mode": mode})
                longest_s = max(longest_s, time.monotonic() - began)
                if number % 50 == 0:
                    self.assertEqual(self.reactor()["mode"], mode)
                    self.assertIsNone(writer.problem)
                number += 1
        finally:
            writer.stop.set()
            writer.join(60)
        self.assertFalse(writer.is_alive(), "a write or read was never answered")
        self.assertIsNone(writer.problem)
        self.assertGreaterEqual(writer.rounds, MIN_ROUNDS)
        writer.host.close()
        print(f"{number} switches, the longest call {longest_s * 1000:.1f} ms, {writer.rounds} rounds of {BLOCKS} blocks, "
              f"the longest wait for a completion {writer.longest_s * 1000:.1f} ms", flush=True)


if __name__ == "__main__":
    unittest.main()
