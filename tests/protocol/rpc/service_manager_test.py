#!/usr/bin/env -S /usr/bin/python3
"""What the real catnapd tells a service manager, played by this test: ready, status, alive, ending; and that the watchdog starves when a reactor hangs.
And its log in systemd's journal, played too.

A reactor is made to hang by stopping its OS thread alone, as a debugger does. Left out: systemd itself (tests/packaging analyses the unit).
"""

import ctypes
import os
import signal
import socket
import tempfile
import time
import unittest

from server_process import ServerProcess

TIMEOUT_S = 60
WATCHDOG_US = 400_000
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000  # __WALL: waits for a thread, too
EPOLL_WAITS = {"232", "281", "441"} if os.uname().machine == "x86_64" else {"22", "441"}  # epoll_wait, epoll_pwait, epoll_pwait2


class Datagrams:
    """A Unix datagram socket in a folder of its own, and what has come there."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="catnap_notify_")
        self.path = os.path.join(self.folder.name, "socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(self.path)
        self.got = []

    def close(self):
        self.socket.close()
        self.folder.cleanup()

    def next(self, timeout_s=TIMEOUT_S):
        """The next datagram's text; None when none comes in time."""
        self.socket.settimeout(timeout_s)
        try:
            self.got.append(self.socket.recv(1 << 16).decode(errors="replace"))
        except (TimeoutError, socket.timeout, BlockingIOError):
            return None
        return self.got[-1]

    def until(self, text):
        """The first datagram from now on that has `text` in it."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            message = self.next(max(0.01, deadline - time.monotonic()))
            if message is not None and text in message:
                return message
        raise AssertionError(f"'{text}' did not come; there were {self.got[-10:]}")


class WithManager(unittest.TestCase):
    def setUp(self):
        self.manager = Datagrams()
        self.addCleanup(self.manager.close)

    def start(self, *options, watchdog_us=0, environment=None, **more):
        variables = {"NOTIFY_SOCKET": self.manager.path, **(environment or {})}
        if watchdog_us:
            variables["WATCHDOG_USEC"] = str(watchdog_us)
        server = ServerProcess(*options, environment=variables, **more)
        self.addCleanup(server.clean)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server


class Notified(WithManager):
    def test_ready_comes_when_rpc_answers_then_what_is_served_then_the_end(self):
        server = self.start()
        self.assertTrue(self.manager.next().startswith("READY=1\n"))
        self.assertEqual(self.manager.until("STATUS="), "STATUS=serving 0 namespaces in 0 subsystems")
        nqn = "nqn.2026-11.io.catnap:told"
        server.client.call("bdev_null_create", {"name": "n0", "num_blocks": 8, "block_size": 512})
        server.client.call("nvmf_create_subsystem", {"nqn": nqn})
        self.manager.until("STATUS=serving 0 namespaces in 1 subsystems")
        server.client.call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": "n0"}})
        self.manager.until("STATUS=serving 1 namespaces in 1 subsystems")
        self.assertEqual(server.stop(), 0)
        self.manager.until("STOPPING=1")
        self.assertFalse([text for text in self.manager.got if "WATCHDOG" in text], "nobody asked for it")

    def test_ready_means_that_the_state_is_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            state = os.path.join(folder, "state.json")
            first = self.start("--state", state)
            first.client.call("bdev_null_create", {"name": "n0", "num_blocks": 8, "block_size": 512})
            first.client.call("nvmf_create_subsystem", {"nqn": "nqn.2026-11.io.catnap:kept"})
            first.client.call("nvmf_subsystem_add_ns", {"nqn": "nqn.2026-11.io.catnap:kept", "namespace": {"bdev_name": "n0"}})
            self.assertEqual(first.stop(), 0)
            self.manager.until("STOPPING=1")
            second = self.start("--state", state)
            before = len(self.manager.got)
            self.manager.until("READY=1")
            self.assertEqual(len(self.manager.got), before + 1, "something was said before it was ready")
            self.manager.until("STATUS=serving 1 namespaces in 1 subsystems")
            self.assertEqual(second.stop(), 0)

    def test_waiting_for_the_start_is_ready_and_says_for_what(self):
        server = self.start("--wait-for-rpc", wait=False)
        self.assertEqual(self.manager.until("READY=1"), "READY=1\nSTATUS=waiting for framework_start_init")
        server.client.call("framework_start_init")
        self.manager.until("STATUS=serving 0 namespaces in 0 subsystems")


    def test_reading_files_again_is_told_from_its_begin_to_its_end(self):
        server = self.start("--http", "127.0.0.1:0")
        self.manager.until("STATUS=serving 0 namespaces in 0 subsystems")
        server.process.send_signal(signal.SIGHUP)
        self.assertRegex(self.manager.until("RELOADING=1"), "MONOTONIC_USEC=[0-9]+")
        self.assertEqual(self.manager.until("READY=1"), "READY=1\nSTATUS=serving 0 namespaces in 0 subsystems")
        self.assertEqual(server.stop(), 0)


class Watched(WithManager):
    def setUp(self):
        super().setUp()
        self.libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(self, request, tid):
        if self.libc.ptrace(ctypes.c_long(request), ctypes.c_long(tid), None, None) != 0:
            number = ctypes.get_errno()
            self.skipTest(f"threads cannot be stopped one by one here: {os.strerror(number)}")

    def asleep(self, server, tid):
        """Waits until that OS thread is blocked in epoll's wait: where nothing is due, and so nothing wakes it up again, it stays there."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            with open(f"/proc/{server.process.pid}/task/{tid}/syscall", encoding="ascii") as file:
                where = file.read().split()[0]  # "running", or the number of the system call that it is blocked in
            if where in EPOLL_WAITS:
                return
            os.sched_yield()
        raise AssertionError(f"thread {tid} does not go to sleep: {where}")

    def stop_thread(self, server, name):
        """Stops the OS thread of that name, once it sleeps, and gives back its id."""
        for tid in os.listdir(f"/proc/{server.process.pid}/task"):
            with open(f"/proc/{server.process.pid}/task/{tid}/comm", encoding="ascii") as file:
                if not file.read().startswith(name):
                    continue
            self.asleep(server, tid)  # that a call has been answered does not mean that the reactor's turn is over
            self.ptrace(PTRACE_SEIZE, int(tid))
            self.ptrace(PTRACE_INTERRUPT, int(tid))
            self.addCleanup(self.libc.ptrace, ctypes.c_long(PTRACE_DETACH), ctypes.c_long(int(tid)), None, None)  # or it could not end
            os.waitpid(int(tid), WALL)
            return int(tid)
        raise AssertionError(f"there is no thread {name}")

    def feeds(self, count):
        for _ in range(count):
            self.manager.until("WATCHDOG=1")

    def drain(self):
        while self.manager.next(0.001) is not None:
            pass

    def test_it_is_fed_while_all_sleep(self):
        self.start(watchdog_us=WATCHDOG_US)
        self.feeds(5)

    def test_the_end_is_no_reason_for_complaint(self):
        for _ in range(5):
            server = self.start(watchdog_us=WATCHDOG_US)
            self.feeds(1)
            self.assertEqual(server.stop(), 0)
            self.assertNotIn("not told that catnapd is alive", server.log_text())
            self.assertNotIn("timers armed", server.log_text())

    def switches(self, server):
        """{name of the OS thread: how often it has slept and been woken up}; without those of a sanitizer, which are called like the first one."""
        counts = {}
        for tid in os.listdir(f"/proc/{server.process.pid}/task"):
            with open(f"/proc/{server.process.pid}/task/{tid}/status", encoding="ascii") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            name = fields["Name"].strip()
            if name != "catnapd" or int(tid) == server.process.pid:
                counts[name] = int(fields["voluntary_ctxt_switches"])
        return counts

    def test_feeding_wakes_up_the_control_thread_once_and_no_reactor(self):
        server = self.start(watchdog_us=WATCHDOG_US)
        server.client.close()
        self.feeds(3)
        before, fed = self.switches(server), len(self.manager.got)
        self.feeds(5)
        after = self.switches(server)
        self.drain()  # what was fed before that look, although this process read it late
        fed = len(self.manager.got) - fed
        for name, count in after.items():
            woken = count - before[name]
            # Between the look at the counters and the last feed there may be one more of each.
            self.assertLessEqual(woken, 0 if name.startswith("reactor_") else fed + 2, name)

    def test_a_reactor_that_does_not_do_what_is_due_starves_it_and_feeds_it_again(self):
        server = self.start(watchdog_us=WATCHDOG_US, wait=True)
        server.client.call("nvmf_create_subsystem", {"nqn": "nqn.2026-11.io.catnap:first"})  # each reactor has taken it up, and so has begun
        self.feeds(1)
        tid = self.stop_thread(server, "reactor_")
        # Asleep with nothing due is alive, for all that anybody can know.
        self.drain()
        self.feeds(3)
        # A new configuration is sent to every poll group: due, and nobody takes it up. The call is not answered, so another connection makes it.
        asking = socket.socket(socket.AF_UNIX)
        self.addCleanup(asking.close)
        asking.connect(server.path)
        asking.sendall(b'{"jsonrpc":"2.0","id":1,"method":"nvmf_create_subsystem","params":{"nqn":"nqn.2026-11.io.catnap:late"}}')
        complaint = self.manager.until("STATUS=reactor_")
        self.assertIn("has not woken up", complaint)
        self.assertIsNone(self.manager.next(3 * WATCHDOG_US / 1e6), "it was fed, or told, although a reactor hangs")
        self.ptrace(PTRACE_DETACH, tid)
        self.feeds(2)
        self.assertIn("alive again", server.log_text())
        self.assertEqual(server.stop(), 0)

    def test_a_control_thread_that_hangs_feeds_nothing(self):
        server = self.start(watchdog_us=WATCHDOG_US)
        self.feeds(1)
        os.kill(server.process.pid, signal.SIGSTOP)
        self.addCleanup(lambda: server.process.poll() is None and os.kill(server.process.pid, signal.SIGCONT))
        self.drain()
        self.assertIsNone(self.manager.next(3 * WATCHDOG_US / 1e6))
        os.kill(server.process.pid, signal.SIGCONT)
        self.feeds(2)


class Journal(unittest.TestCase):
    def test_lines_go_there_with_priority_and_fields(self):
        journal = Datagrams()
        self.addCleanup(journal.close)
        server = ServerProcess("--log-target", f"journal:{journal.path}")
        self.addCleanup(server.clean)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        server.client.call("bdev_null_create", {"name": "n0", "num_blocks": 8, "block_size": 512})
        record = journal.until("CATNAP_AUDIT_METHOD=bdev_null_create")
        fields = dict(line.split("=", 1) for line in record.splitlines() if "=" in line)
        self.assertEqual(fields["PRIORITY"], "5")
        self.assertEqual(fields["SYSLOG_IDENTIFIER"], "catnapd")
        self.assertEqual(fields["CATNAP_LEVEL"], "NOTICE")
        self.assertEqual(fields["CATNAP_AUDIT_CODE"], "0")
        self.assertEqual(fields["CATNAP_AUDIT_PID"], str(os.getpid()))
        self.assertTrue(fields["MESSAGE"].startswith("audit: "), record)
        self.assertEqual(server.stop(), 0)
        journal.until("SIGTERM: ending")
        self.assertEqual(server.log_text(), "")

    def test_without_a_journal_there_lines_have_priorities_on_standard_error(self):
        server = ServerProcess("--log-target", "journal:/no/such/socket")
        self.addCleanup(server.clean)
        self.assertEqual(server.stop(), 0)
        for line in server.log_text().splitlines():
            self.assertRegex(line, r"^<[3-7]>[A-Z]+: ")


if __name__ == "__main__":
    unittest.main()
