#!/usr/bin/env -S /usr/bin/python3
"""Keys that change while a connection is being made, or is gone: at every step of connecting, of the admin queue and of an I/O queue, the target's first
or the host's first. No I/O fails, nobody is refused for longer than the keys differ.

The initiator attaches through a gate that counts PDUs and can hold one back. Left out: live connections, wrong keys (auth_test.py).
"""
import socket
import struct
import threading
import time
import unittest

from auth_host import AuthQueue, Lost
from auth_server import HOST, NQN, OPEN_HOST, Server
from expect import end_well, wait_for
from server_process import RpcFailure

OUTER = NQN + "2"
# (dhchap_key, dhchap_ctrlr_key) by turns.
KEYS = (("host", "ctrlr"), ("other", "host"))
# PDUs of a host that connects and authenticates both ways: ICReq, Connect, Send, Receive, Send, Receive, Send.
STEPS = range(1, 8)
# No attempt by itself within the test: whoever comes back does so because the keys are new.
NEVER = {"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 3600}
PATIENCE_S = 60


class Gate:
    """A proxy in front of the target, which can hold connections that are made from now on, each at the same PDU of its host."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.hold_at, self.hold_every = None, False
        self.held, self.released = threading.Event(), threading.Event()
        self.sockets, self.passed, self.qids = [], [], []  # by connection
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, pdu, every=False):
        """The next connection, or every one until release()."""
        self.held.clear()
        self.released.clear()
        with self.lock:
            self.hold_at, self.hold_every = pdu, every

    def wait_until_held(self):
        assert self.held.wait(PATIENCE_S), "nothing came to be held"

    def release(self):
        with self.lock:
            self.hold_at = None
        self.released.set()

    def cut(self):
        """Ends all connections."""
        with self.lock:
            for each in self.sockets:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is over

    def close(self):
        self.release()
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                host, _ = self.listener.accept()
            except OSError:
                return
            try:
                target = socket.create_connection(self.target)
            except OSError:
                host.close()
                continue
            for each in (host, target):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                hold_at = self.hold_at
                if not self.hold_every:
                    self.hold_at = None
                number = len(self.passed)
                self.passed.append(0)
                self.qids.append(None)
                self.sockets += (host, target)
            threading.Thread(target=self._to_target, args=(host, target, number, hold_at), daemon=True).start()
            threading.Thread(target=self._to_host, args=(target, host), daemon=True).start()

    def _to_target(self, host, target, number, hold_at):
        buffer = b""
        try:
            while part := host.recv(1 << 16):
                buffer += part
                while len(buffer) >= 8 and len(buffer) >= (length := struct.unpack_from("<I", buffer, 4)[0]):
                    if self.passed[number] + 1 == hold_at:
                        self.held.set()
                        self.released.wait()
                    if self.passed[number] == 1:  # Connect
                        self.qids[number] = struct.unpack_from("<H", buffer, 8 + 42)[0]
                    target.sendall(buffer[:length])
                    buffer = buffer[length:]
                    self.passed[number] += 1
        except OSError:
            pass
        self._end(target)

    def _to_host(self, target, host):
        try:
            while part := target.recv(1 << 16):
                host.sendall(part)
        except OSError:
            pass
        self._end(host)

    @staticmethod
    def _end(other):
        try:
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is over


class Reader:
    """Reads all the time from what the initiator has exported once more; the first failure stays."""

    def __init__(self, queue):
        self.queue, self.stopping, self.reads, self.problem = queue, threading.Event(), 0, None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping.is_set():
                self.queue.queue.call("Read", 2, nsid=1, dwords=(0, 0, 7), read_bytes=4096)
                self.reads += 1
        except (AssertionError, Lost, OSError) as problem:
            self.problem = problem

    def wait_for_one(self):
        """Until a read that begins from now on has been answered."""
        wanted, deadline = self.reads + 2, time.monotonic() + PATIENCE_S
        while self.reads < wanted and self.problem is None:
            assert time.monotonic() < deadline, "no read is answered"
            time.sleep(0.01)

    def stop(self):
        self.stopping.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "a read was never answered"
        assert self.problem is None, f"a read failed after {self.reads} good ones: {self.problem}"


class Aside:
    """A call over a socket of its own, which may take its time."""

    def __init__(self, server, method, **params):
        self.client, self.problem = server.connect(), None
        self.thread = threading.Thread(target=self._run, args=(method, params), daemon=True)
        self.thread.start()

    def _run(self, method, params):
        try:
            self.client.call(method, params)
        except (RpcFailure, OSError) as problem:
            self.problem = problem
        finally:
            self.client.close()

    def finish(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the call was never answered"
        return self.problem


class AuthKeysTest(unittest.TestCase):
    def start(self, **config):
        server = self.server = Server(config={"dhchap_failures_per_minute": 0, **config})
        self.addCleanup(self.end)
        server.set_up()
        # Who is held waits for as long as it takes: on a busy machine that may be longer than a connect usually has, or a controller without Keep Alive.
        server.call("bdev_nvme_set_options", dhchap_digests=["sha256"], dhchap_dhgroups=["null"], tcp_connect_timeout_ms=PATIENCE_S * 1000,
                    keep_alive_timeout_ms=0)
        server.call("nvmf_create_subsystem", nqn=OUTER, serial_number="OUTER", allow_any_host=True)
        server.listen(OUTER)
        self.gate = Gate(server.address)
        self.addCleanup(self.gate.close)
        self.readers = []
        self.addCleanup(self.stop_readers)

    def end(self):
        end_well(self.server)

    def stop_readers(self):
        while self.readers:
            self.readers.pop().stop()

    def attach(self, keys, **options):
        self.server.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", traddr="127.0.0.1", trsvcid=str(self.gate.port), subnqn=NQN,
                         hostnqn=HOST, fabrics_connect_timeout_us=PATIENCE_S * 1000000, **self.named(keys), **options)

    def export_again(self):
        self.server.call("nvmf_subsystem_add_ns", nqn=OUTER, namespace={"bdev_name": "Nvme0n1", "nsid": 1})

    def detach(self):
        self.server.call("nvmf_subsystem_remove_ns", nqn=OUTER, nsid=1)
        self.server.call("bdev_nvme_detach_controller", name="Nvme0")

    def outer_host(self):
        admin = AuthQueue(self.server.address, OUTER, OPEN_HOST, self.server.secrets["host"], timeout_s=PATIENCE_S)
        self.addCleanup(admin.close)
        admin.enable()
        io = admin.io_queue(self.server.address)
        self.addCleanup(io.close)
        return io

    def read_all_the_time(self):
        self.readers.append(Reader(self.outer_host()))

    @staticmethod
    def named(keys):
        return {"dhchap_key": keys[0], "dhchap_ctrlr_key": keys[1]}

    def target_takes(self, keys):
        self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, **self.named(keys))

    def host_takes(self, keys):
        self.server.call("bdev_nvme_set_keys", name="Nvme0", **self.named(keys))

    def state(self):
        return self.server.call("bdev_nvme_get_controllers", name="Nvme0")[0]["ctrlrs"][0]["state"]

    def test_while_the_admin_queue_connects(self):
        self.start()
        self.attach(KEYS[0], **NEVER)
        self.export_again()
        self.read_all_the_time()
        for step in STEPS:
            new = KEYS[step % 2]
            # So that the next connection is the admin queue's.
            self.readers[0].wait_for_one()
            self.gate.hold(step)
            reset = Aside(self.server, "bdev_nvme_reset_controller", name="Nvme0")
            self.gate.wait_until_held()
            for take in (self.target_takes, self.host_takes)[:: 1 if step % 4 < 2 else -1]:
                take(new)
            self.gate.release()
            self.assertIsNone(reset.finish(), f"held at PDU {step}")
            wait_for(lambda: self.state() == "enabled", f"held at PDU {step}, the controller is not back")
        self.stop_readers()
        self.detach()

    def test_while_an_io_queue_connects(self):
        """With the default options, by which I/O does not wait for a controller that was lost: so it must not be lost for that."""
        self.start()
        for step in STEPS:
            old, new = KEYS[(step + 1) % 2], KEYS[step % 2]
            self.target_takes(old)
            self.attach(old)
            admin = max(number for number, qid in enumerate(self.gate.qids) if qid == 0)
            wait_for(lambda: not self.busy_queues(), "queues of the attach are left")
            self.gate.hold(step, every=True)
            self.export_again()
            io = self.outer_host()
            io.queue.submit(2, nsid=1, dwords=(0, 0, 7), read_bytes=4096)
            self.gate.wait_until_held()
            self.target_takes(new)
            before = self.gate.passed[admin]
            taking = Aside(self.server, "bdev_nvme_set_keys", name="Nvme0", **self.named(new))
            # Its exchange on the admin queue has begun, and every thread has heard of the new keys before it answers this.
            wait_for(lambda: self.gate.passed[admin] >= before + 2, "the admin queue does not authenticate")
            self.server.call("bdev_nvme_get_io_paths")
            self.gate.release()
            io.queue.reap().check(f"Read, held at PDU {step}")
            self.assertIsNone(taking.finish(), f"held at PDU {step}")
            self.detach()

    def busy_queues(self):
        return [queue for queue in self.server.call("nvmf_subsystem_get_qpairs", nqn=NQN) if queue["qid"] != 0]

    def test_the_host_first(self):
        """It is refused, more often than the target takes from one host; when the target has the keys too, it is back at once."""
        self.start(dhchap_failures_per_minute=3)
        self.attach(KEYS[0], ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
        self.export_again()
        self.read_all_the_time()
        before = len(self.gate.passed)
        with self.assertRaises(RpcFailure):
            self.host_takes(KEYS[1])
        wait_for(lambda: len(self.gate.passed) >= before + 5, "it does not try again")
        self.target_takes(KEYS[1])
        wait_for(lambda: self.state() == "enabled", "it is refused although the keys agree", timeout_s=30)
        self.stop_readers()
        self.detach()

    def test_the_target_first_and_the_connection_is_lost(self):
        """Whoever was refused with the old keys comes back with the new ones, without waiting for an attempt or a reset."""
        self.start()
        for options, refused in ((NEVER, "reconnect_is_delayed"), ({}, "failed")):
            with self.subTest(state=refused):
                self.target_takes(KEYS[0])
                self.attach(KEYS[0], **options)
                self.export_again()
                if options:
                    self.read_all_the_time()
                self.target_takes(KEYS[1])
                self.gate.cut()
                wait_for(lambda: self.state() == refused, f"not {refused}")
                self.host_takes(KEYS[1])
                wait_for(lambda: self.state() == "enabled", "the controller is not back")
                if not options:
                    self.read_all_the_time()
                self.stop_readers()
                self.detach()

    def test_two_at_once(self):
        self.start()
        self.attach(KEYS[0], **NEVER)
        self.export_again()
        self.read_all_the_time()
        self.readers[0].wait_for_one()  # its queue is there, and not just being made with keys that the target takes no more
        self.target_takes(KEYS[1])
        calls = [Aside(self.server, "bdev_nvme_set_keys", name="Nvme0", **self.named(KEYS[1])) for _ in range(4)]
        problems = [call.finish() for call in calls]
        self.assertIn(None, problems, "the last one is done")
        for problem in problems:
            if problem is not None:
                self.assertIn("newer keys were set meanwhile", str(problem))
        wait_for(lambda: self.state() == "enabled", "the controller is not there")
        self.stop_readers()
        self.detach()


if __name__ == "__main__":
    unittest.main()
