#!/usr/bin/env -S /usr/bin/python3
"""Hosts that misuse TLS: records, messages and alerts that no library sends, ends at every step of a handshake, floods, and hosts that trickle. Each loses its
connection alone, the log says why, others' I/O goes on, and afterwards the server is as quiet as before.

CATNAP_SOAK=1: ten times as many of what comes in numbers. Left out: wrong keys, identities and versions (secure_channel_test.py), DH-HMAC-CHAP (auth_test.py).
"""
import os
import select
import socket
import struct
import threading
import time
import unittest
import uuid

from expect import end_well, hostnqn_of, wait_for
from secure_channel_test import NQN, TlsServer  # which knows where the next one is
from nvme_client import Controller
from tls_bytes import ALERT, DATA, HANDSHAKE, KEY_UPDATE, TlsBytes
from tls_keys import HostKey, client_hello, new_key

SOAK = os.environ.get("CATNAP_SOAK") == "1"
TIMES = 10 if SOAK else 1
BLOCK = 4096
WARNING, FATAL = 1, 2
CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION, INTERNAL_ERROR = 0, 90, 100, 80
# For all but what is about this deadline: a busy machine may take its time.
PATIENCE_MS = 60_000


def record(kind, body, version=b"\x03\x03"):
    return bytes([kind]) + version + struct.pack(">H", len(body)) + body


def cut_in_records(message, size):
    """A handshake message in records of so many bytes."""
    return b"".join(record(HANDSHAKE, message[at:at + size], b"\x03\x01") for at in range(0, len(message), size))


def said_until_closed(connection):
    """What the server says until it hangs up."""
    said = b""
    try:
        while part := connection.recv(65536):
            said += part
    except ConnectionError:
        pass
    return said


class HostileTest(unittest.TestCase):
    # The kernel's TLS takes no KeyUpdate and has words of its own for what is wrong.
    transport = {"enable_ktls": False, "tls_handshake_timeout_ms": PATIENCE_MS, "icreq_timeout_ms": PATIENCE_MS, "connect_timeout_ms": PATIENCE_MS}

    @classmethod
    def setUpClass(cls):
        cls.server = server = TlsServer(**cls.transport)
        cls.addClassCleanup(cls.end)
        cls.host_id = uuid.uuid4()
        cls.keys = [new_key(), new_key()]
        for number, raw in enumerate(cls.keys):
            server.key(f"k{number}", raw)
        server.add_host(cls.host_id, psk="k0", further_psks=["k1"])
        server.listen()
        cls.key = HostKey(cls.keys[0], 1, hostnqn_of(cls.host_id), NQN)
        cls.addresses = 1

    @classmethod
    def end(cls):
        log = end_well(cls.server)
        assert not [secret for secret in cls.server.secrets if secret in log], "a key is in the log"

    def dial(self, source=None):
        """Up to the server's Finished."""
        tls = TlsBytes(self.server.address, self.key, source=source)
        self.addCleanup(tls.close)
        return tls.start()

    def controller(self, io_queues=1):
        host = Controller(self.server.address, NQN, host_id=self.host_id, dial=lambda address: self.dial().finish(), io_queues=io_queues)
        self.addCleanup(host.close)
        return host

    def plain(self, data=b""):
        connection = socket.create_connection(self.server.address, 60)
        self.addCleanup(connection.close)
        connection.sendall(data)
        return connection

    def own_address(self):
        """One of this machine that nobody has used: lines of the log are limited by address."""
        type(self).addresses += 1
        return (f"127.0.1.{self.addresses}", 0)

    def all_gone(self):
        wait_for(lambda: self.server.handshakes()["under_way"] == 0 and not self.server.client.call("nvmf_subsystem_get_qpairs", {"nqn": NQN}),
                 "all connections to be gone")


class Hostile(HostileTest):
    def test_first_records(self):
        whole = client_hello(self.key.identity, self.key.psk, 1)
        early_data = struct.pack(">HH", 42, 0)
        offers_without_end = client_hello("n" * 10, self.key.psk, 1)
        for name, kind, data in (
            ("a record longer than any", "cleartext", b"\x16\x03\x01\xff\xff" + bytes(100)),
            ("an empty record", "malformed", record(HANDSHAKE, b"")),
            ("empty records", "malformed", record(HANDSHAKE, b"") * 1000),
            ("alerts", "malformed", record(ALERT, bytes([WARNING, USER_CANCELED])) * 1000),
            ("a fatal alert", "malformed", record(ALERT, bytes([FATAL, INTERNAL_ERROR]))),
            ("data", "malformed", record(DATA, bytes(1000))),
            ("an identity of 64 KiB", "malformed", cut_in_records(client_hello("n" * 65000, self.key.psk, 1)[5:], 16384)),
            ("an identity of 16 KiB", "unknown_identity", cut_in_records(client_hello("n" * 16200, self.key.psk, 1)[5:], 16384)),
            ("a ClientHello of 16 MiB, announced", "malformed", record(HANDSHAKE, b"\x01\xff\xff\xff")),
            ("two in one record", "malformed", record(HANDSHAKE, whole[5:] * 2)),
            ("another identity", "unknown_identity", offers_without_end),
            ("early data", "library", client_hello(self.key.identity, self.key.psk, 1, more=early_data) + record(DATA, bytes(100)) * 20),
            ("a second ClientHello", "library", whole + whole),
            ("a Finished in cleartext", "library", whole + record(HANDSHAKE, b"\x14\0\0\x20" + bytes(32))),
        ):
            with self.subTest(name):
                before = self.server.ended(kind)
                connection = self.plain()
                try:
                    connection.sendall(data)
                except ConnectionError:
                    pass  # it was refused in the middle
                said_until_closed(connection)
                wait_for(lambda kind=kind, before=before: self.server.ended(kind) > before, lambda kind=kind: f"{kind}: {self.server.handshakes()}")
        self.all_gone()

    def test_a_hello_in_the_smallest_records_is_one(self):
        tls = TlsBytes(self.server.address, self.key)
        self.addCleanup(tls.close)
        message = tls.hello[5:]
        tls.socket.sendall(cut_in_records(message, 1))
        tls.hello = b""
        header, server_hello = tls.raw_record()
        self.assertEqual((header[0], server_hello[0]), (HANDSHAKE, 2))
        tls.close()
        self.all_gone()

    def test_ends_at_every_step(self):
        steps = (
            ("connected", lambda: self.plain()),
            ("a byte", lambda: self.plain(b"\x16")),
            ("half a hello", lambda: self.plain(client_hello(self.key.identity, self.key.psk, 1)[:150])),
            ("a hello", lambda: self.plain(client_hello(self.key.identity, self.key.psk, 1))),
            ("the server's Finished", lambda: self.dial().socket),
            ("half a Finished", lambda: self.sent(self.dial(), lambda tls: tls.handshake.seal(HANDSHAKE, tls.finished())[:20])),
            ("Finished", lambda: self.dial().finish().socket),
            ("half a record", lambda: self.sent(self.dial().finish(), lambda tls: tls.to_server.seal(DATA, bytes(128))[:30])),
            ("Connect", lambda: self.controller(0).admin.socket.socket),
        )
        for name, reach in steps:
            for how in (socket.SHUT_WR, socket.SHUT_RDWR, "reset"):
                with self.subTest(step=name, how=how):
                    connection = reach()
                    if how == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        connection.close()
                        continue
                    connection.shutdown(how)
                    said_until_closed(connection)
                    connection.close()
        self.all_gone()

    @staticmethod
    def sent(tls, make):
        tls.socket.sendall(make(tls))
        return tls.socket

    def test_records_behind_the_handshake(self):
        seal = lambda kind, text: lambda tls: tls.to_server.seal(kind, text)  # noqa: E731
        message = lambda number, body: bytes([number]) + len(body).to_bytes(3, "big") + body  # noqa: E731
        data = bytes((0, 0, 128))  # the beginning of an ICReq

        def twice(tls):
            return tls.to_server.seal(DATA, data) * 2

        def changed(tls):
            sealed = bytearray(tls.to_server.seal(DATA, data))
            sealed[20] ^= 1
            return bytes(sealed)

        def out_of_order(tls):
            first = tls.to_server.seal(DATA, data)
            return tls.to_server.seal(DATA, data) + first

        wrong = (
            ("rubbish", lambda tls: record(DATA, os.urandom(300))),
            ("longer than any", lambda tls: b"\x17\x03\x03\x42\x00" + bytes(0x4200)),
            ("too short for a tag", lambda tls: record(DATA, bytes(5))),
            ("cleartext NVMe/TCP", lambda tls: bytes((0, 0, 128, 0)) + bytes(124)),
            ("cleartext alert", lambda tls: record(ALERT, bytes([FATAL, INTERNAL_ERROR]))),
            ("cleartext handshake", lambda tls: record(HANDSHAKE, message(KEY_UPDATE, b"\0"))),
            ("replayed", twice),
            ("changed", changed),
            ("out of order", out_of_order),
            ("too much text", seal(DATA, bytes(16386))),
            ("nothing but padding", lambda tls: tls.to_server.seal(0, b"", padding=30)),
            ("an unknown type", seal(99, data)),
            ("an empty handshake message", seal(HANDSHAKE, b"")),
            ("ClientHello", lambda tls: tls.to_server.seal(HANDSHAKE, tls.hello[5:])),
            ("Finished once more", lambda tls: tls.to_server.seal(HANDSHAKE, tls.finished())),
            ("a ticket of a client", seal(HANDSHAKE, message(4, bytes(40)))),
            ("KeyUpdate of a third kind", seal(HANDSHAKE, message(KEY_UPDATE, b"\2"))),
            ("KeyUpdate that is too long", seal(HANDSHAKE, message(KEY_UPDATE, b"\0\0"))),
            ("KeyUpdate with data under the old key", lambda tls: tls.update_key(False, send=False) and b"" or twice(tls)),
            ("a fatal alert", seal(ALERT, bytes([FATAL, INTERNAL_ERROR]))),
            ("an alert of one byte", seal(ALERT, b"\1")),
            ("alerts", lambda tls: b"".join(tls.to_server.seal(ALERT, bytes([WARNING, USER_CANCELED])) for _ in range(100))),
            ("empty records", lambda tls: b"".join(tls.to_server.seal(DATA, b"") for _ in range(100))),
            ("an end, and more", lambda tls: tls.to_server.seal(ALERT, bytes([WARNING, CLOSE_NOTIFY])) + tls.to_server.seal(DATA, data)),
        )
        host = self.controller()
        for name, make in wrong:
            with self.subTest(name):
                source = self.own_address()
                tls = self.dial(source).finish()
                begun = len(self.server.log_text())
                try:
                    tls.socket.sendall(make(tls))
                except ConnectionError:
                    pass
                said_until_closed(tls.socket)
                if name != "an end, and more":
                    wait_for(lambda source=source, begun=begun: any(f"{source[0]}:" in line and "closed: TLS: " in line
                                                                    for line in self.server.log_text()[begun:].splitlines()),
                             lambda begun=begun: f"why, in the log: {self.server.log_text()[begun:]}")
                host.read(1, 0, BLOCK)
        host.close()
        self.all_gone()

    def test_new_keys(self):
        """Asked for now and then they are had, both ways; as a flood, which costs the target far more than the host, they are the end."""
        host = self.controller()
        for number in range(20):
            queue = (host.io, host.admin)[number % 2].socket
            queue.update_key(wanted=number % 3 != 0)
            data = os.urandom(BLOCK)
            host.write(1, 0, data)
            self.assertEqual(host.read(1, 0, BLOCK), data)
        for wanted, reads in ((True, False), (False, False), (True, True)):
            with self.subTest(wanted=wanted, reads=reads):
                source = self.own_address()
                tls = self.dial(source).finish()
                tls.socket.settimeout(60)
                reader = threading.Thread(target=said_until_closed, args=(tls.socket,))
                if reads:
                    reader.start()
                with self.assertRaises(ConnectionError):
                    while True:
                        tls.socket.sendall(b"".join(tls.update_key(wanted, send=False) for _ in range(100)))
                if reads:
                    reader.join()
                wait_for(lambda source=source: any(f"{source[0]}:" in line and "KeyUpdate" in line for line in self.server.log_text().splitlines()),
                         "the reason in the log")
                host.read(1, 0, BLOCK)
        host.close()
        self.all_gone()

    def test_identities_without_end(self):
        """Nothing is kept of them, and the log has a few lines instead of one for each."""
        before = self.server.ended("unknown_identity")
        begun = len(self.server.log_text())
        count = 200 * TIMES
        for number in range(count):
            connection = self.plain(client_hello(f"NVMe0R01 nqn.2026-11.io.catnap:nobody{number} {NQN}", self.key.psk, 1))
            said_until_closed(connection)
            connection.close()
        wait_for(lambda: self.server.ended("unknown_identity") >= before + count, "all to be refused")
        lines = [line for line in self.server.log_text()[begun:].splitlines() if "unknown_identity" in line]
        self.assertLess(len(lines), count // 4)
        self.all_gone()

    def test_rotation_while_hosts_connect(self):
        """Whoever has a key that is valid all the time gets in all the time, and those inside stay."""
        host, stop, problems, rounds = self.controller(), threading.Event(), [], [0, 0]

        def connect(which):
            key = HostKey(self.keys[which], 1, hostnqn_of(self.host_id), NQN, version=which)
            try:
                while not stop.is_set():
                    Controller(self.server.address, NQN, host_id=self.host_id, dial=lambda address: TlsBytes(address, key).start().finish(), io_queues=0).close()
                    rounds[which] += 1
            except Exception as problem:  # pylint: disable=broad-except
                problems.append(repr(problem))

        threads = [threading.Thread(target=connect, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        turns = 0
        try:
            while not problems and (turns < 20 * TIMES or min(rounds) < 3):
                first, second = ("k0", "k1") if turns % 2 else ("k1", "k0")
                self.server.client.call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": hostnqn_of(self.host_id), "psk": first, "further_psks": [second]})
                for number, raw in enumerate(self.keys):
                    self.server.key(f"k{number}", raw)  # the same key in a new file
                host.read(1, 0, BLOCK)
                turns += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(problems, [])
        host.close()
        self.all_gone()

    def test_zz_it_is_quiet_afterwards(self):
        """Last: with a host that has nothing to do, no thread wakes up any more."""
        host = self.controller()
        self.assertEqual(len(host.read(1, 0, BLOCK)), BLOCK)

        def wake_ups():
            count = {}
            for tid in os.listdir(f"/proc/{self.server.process.pid}/task"):
                with open(f"/proc/{self.server.process.pid}/task/{tid}/status", encoding="ascii") as file:
                    lines = file.readlines()
                # A sanitizer's own thread is called like the first one.
                if lines[0].split()[1] != "catnapd" or int(tid) == self.server.process.pid:
                    count[tid] = [line for line in lines if "ctxt_switches" in line]
            return count

        def still():
            before = wake_ups()
            time.sleep(1)  # a sample's length; wait_for() asks again
            return wake_ups() == before

        wait_for(still, "every thread to stand still", timeout_s=120)
        host.close()


class Trickling(HostileTest):
    transport = {"tls_handshake_timeout_ms": 1000, "icreq_timeout_ms": 1000}

    def test_deadlines_are_for_the_whole(self):
        """However steadily a host sends byte after byte."""
        before = self.server.ended("timed_out")
        self.trickle(self.plain(), client_hello(self.key.identity, self.key.psk, 1))
        self.trickle(self.plain(), cut_in_records(client_hello(self.key.identity, self.key.psk, 1)[5:], 1))
        wait_for(lambda: self.server.ended("timed_out") >= before + 2, lambda: self.server.handshakes())
        self.trickle(self.in_time(lambda: self.dial().socket), b"\x17\x03\x03\x00\x35" + bytes(0x35))
        wait_for(lambda: self.server.ended("timed_out") >= before + 3, lambda: self.server.handshakes())

        def secured():
            before = self.server.ended("secured")
            tls = self.dial().finish()
            wait_for(lambda: self.server.ended("secured") > before or select.select([tls.socket], [], [], 0)[0], "the handshake to end")
            assert self.server.ended("secured") > before, "too late"
            return tls

        tls = self.in_time(secured)
        self.trickle(tls.socket, tls.to_server.seal(DATA, bytes((0, 0, 128, 0)) + bytes(124)))
        self.all_gone()

    @staticmethod
    def in_time(deed):
        """On a machine that is busy an honest host may be later than this server's patience."""
        for _ in range(60):
            try:
                return deed()
            except (AssertionError, ConnectionError):
                pass
        raise AssertionError("never in time")

    def trickle(self, connection, data):
        """A byte at a time, each after a while in which the server says nothing, until it hangs up: that comes before all is said."""
        for at in range(len(data) - 1):
            if select.select([connection], [], [], 0.05)[0] and not self.more_said(connection):
                return
            try:
                connection.sendall(data[at:at + 1])
            except ConnectionError:
                return
        connection.settimeout(60)
        said_until_closed(connection)

    @staticmethod
    def more_said(connection):
        try:
            return connection.recv(65536)
        except ConnectionError:
            return b""


if __name__ == "__main__":
    unittest.main()
