#!/usr/bin/env -S /usr/bin/python3
"""TLS 1.3 with pre-shared keys: `openssl s_client` and hand-made ClientHellos against listeners with secure_channel, catnap's initiator against its
target, rotation of keys under I/O, and what must be refused.

CATNAP_SOAK=1 makes the crowd of half handshakes 1,000. Left out: Linux as host (tests/e2e), keys' derivations (tests/unit/tls), idle cost
(tests/e2e/idle_test.py).
"""

import json
import os
import socket
import ssl
import sys
import threading
import time
import unittest
import uuid

from expect import WAIT_S, hostnqn_of, wait_for
from server_process import ROOT, RpcFailure, ServerProcess, free_tcp_port
from tls_keys import Crowd, HostKey, SUITES, client_hello, dialler, early_libnvme, hang_up_all, interchange, new_key, probe

sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from dhchap import make_secret  # noqa: E402
from nvme_client import Controller, Lost, QueuePair  # noqa: E402

NQN = "nqn.2026-11.io.catnap:tls"
OTHER_NQN = "nqn.2026-11.io.catnap:tls-other"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
SOAK = os.environ.get("CATNAP_SOAK") == "1"
CROWD = 1000 if SOAK else 100
BLOCK = 4096


class TlsServer(ServerProcess):
    """A target with a malloc namespace; `secrets` remembers all that must never be seen."""

    def __init__(self, *options, **transport):
        super().__init__(*options)
        self.secrets = []
        self.port = free_tcp_port()
        self.address = ("127.0.0.1", self.port)
        self.client.call("nvmf_create_transport", {"trtype": "TCP", **transport})
        self.client.call("bdev_malloc_create", {"name": "m0", "num_blocks": 4096, "block_size": 512})
        self.client.call("nvmf_create_subsystem", {"nqn": NQN})
        self.client.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "m0", "uuid": str(uuid.uuid4())}})

    def key(self, name, key, transform=1):
        text = interchange(key, transform)
        path = os.path.join(self.folder.name, name + ".psk")
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.rename(path + ".new", path)
        self.secrets += [text, text.split(":")[2], key.hex()]
        known = [entry["name"] for entry in self.client.call("keyring_get_keys")]
        if name not in known:
            self.client.call("keyring_file_add_key", {"name": name, "path": path})
        return path

    def listen(self, nqn=NQN, secure=True, port=None):
        address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port or self.port)}
        self.client.call("nvmf_subsystem_add_listener", {"nqn": nqn, "listen_address": address, "secure_channel": secure})

    def add_host(self, host_id, nqn=NQN, **keys):
        self.client.call("nvmf_subsystem_add_host", {"nqn": nqn, "host": hostnqn_of(host_id), **keys})

    def handshakes(self):
        return self.client.call("nvmf_get_stats")["connections"]["tls_handshakes"]

    def ended(self, kind):
        return self.handshakes()[kind]


class TlsTest(unittest.TestCase):
    def setUp(self):
        self.server = TlsServer(**getattr(self, "transport", {}))
        self.host_id = uuid.uuid4()
        self.hostnqn = hostnqn_of(self.host_id)

    def tearDown(self):
        log = self.server.log_text()
        hang_up_all()
        status = self.server.stop()
        log += self.server.log_text()
        try:
            self.assertEqual(status, 0, log[-4000:])
            self.assertNotIn("AddressSanitizer", log)
            for secret in self.server.secrets:
                self.assertNotIn(secret, log)
        finally:
            self.server.clean()

    def secure(self, key, transform=1, name="k0"):
        self.server.key(name, key, transform)
        self.server.add_host(self.host_id, psk=name)
        self.server.listen()

    def connect(self, key, **options):
        return Controller(self.server.address, NQN, host_id=options.pop("host_id", self.host_id), dial=dialler(key), **options)

    def expect(self, kind, deed):
        before = self.server.ended(kind)
        deed()
        wait_for(lambda: self.server.ended(kind) > before, kind)
        self.assertEqual(self.server.handshakes()["under_way"], 0)


class SClient(TlsTest):
    def test_every_form_of_a_key_serves_both_suites_and_both_identities(self):
        self.server.listen()
        for size, transform in ((32, 0), (48, 0), (32, 1), (48, 2)):
            raw = new_key(size)
            name = f"k{size}-{transform}"
            self.server.key(name, raw, transform)
            host_id = uuid.uuid4()
            self.server.add_host(host_id, psk=name)
            for version in (0, 1):
                for hash_id in (1, 2):
                    key = HostKey(raw, transform, hostnqn_of(host_id), NQN, version, hash_id)
                    host = self.connect(key, host_id=host_id, io_queues=1 if hash_id == 1 and version == 1 else 0)
                    qpairs = [qpair for qpair in self.server.client.call("nvmf_subsystem_get_qpairs", {"nqn": NQN})]
                    self.assertEqual(qpairs[0]["tls"]["suite"], SUITES[hash_id])
                    self.assertEqual(qpairs[0]["tls"]["identity_version"], version)
                    self.assertEqual(qpairs[0]["tls"]["key"], name)
                    if host.io is not None:
                        data = os.urandom(BLOCK)
                        host.write(1, 0, data)
                        self.assertEqual(host.read(1, 0, BLOCK), data)
                    host.close()
                    wait_for(lambda: self.server.client.call("nvmf_subsystem_get_qpairs", {"nqn": NQN}) == [], "the end")

    def test_hosts_with_an_early_libnvme_are_served(self):
        raw = new_key()
        self.secure(raw)
        for version in (0, 1):
            self.connect(HostKey(raw, 1, self.hostnqn, NQN, version, expand=early_libnvme), io_queues=0).close()

    def test_digests_and_large_transfers_on_top_of_tls(self):
        raw = new_key()
        self.secure(raw)
        host = self.connect(HostKey(raw, 1, self.hostnqn, NQN), header_digest=True, data_digest=True)
        for size in (512, 16384, 131072):
            data = os.urandom(size)
            host.write(1, 0, data)
            self.assertEqual(host.read(1, 0, size), data)
        host.close()


    def test_finished_and_icreq_in_one_segment(self):
        raw = new_key()
        self.secure(raw)
        gatherer = Gatherer(self.server.address)
        host = Controller(gatherer.address, NQN, host_id=self.host_id, dial=dialler(HostKey(raw, 1, self.hostnqn, NQN)), io_queues=0)
        self.assertGreater(gatherer.held, 128)
        host.close()
        gatherer.close()


class Gatherer(threading.Thread):
    """Between a TLS client and the server: what the client sends behind its ClientHello goes on as one segment, Finished and ICReq together. `held`: how
    long that was."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.server = socket.create_connection(server)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = 0
        self.start()

    def run(self):
        client, _ = self.listener.accept()
        self.server.sendall(client.recv(65536))
        threading.Thread(target=self.pump, args=(self.server, client), daemon=True).start()
        together = b""
        while len(together) < 128 + 22 + 58:  # the records of ICReq and Finished
            together += client.recv(65536)
        self.held = len(together)
        self.server.sendall(together)
        self.pump(client, self.server)

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass  # one of them was closed

    def close(self):
        self.listener.close()
        self.server.close()


class Refused(TlsTest):
    def test_cleartext_at_a_secure_listener_and_the_other_way_round(self):
        raw = new_key()
        self.secure(raw)
        with self.assertRaises(Lost):
            QueuePair(self.server.address)
        wait_for(lambda: self.server.ended("cleartext") == 1, "counted")
        self.assertIn("without TLS", self.server.log_text())
        plain = free_tcp_port()
        self.server.listen(secure=False, port=plain)
        output = probe(("127.0.0.1", plain), "-tls1_3", "-psk", "00" * 32)
        self.assertIn("NONE", output)
        wait_for(lambda: "begins with TLS" in self.server.log_text(), "the log")

    def test_one_address_has_one_kind(self):
        self.server.listen()
        self.server.client.call("nvmf_create_subsystem", {"nqn": OTHER_NQN})
        for traddr in ("127.0.0.1", "0.0.0.0"):
            address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": traddr, "trsvcid": str(self.server.port)}
            with self.assertRaisesRegex(RpcFailure, "agree on what hosts begin with"):
                self.server.client.call("nvmf_subsystem_add_listener", {"nqn": OTHER_NQN, "listen_address": address})

    def test_each_wrong_hello_has_its_name(self):
        raw = new_key()
        self.secure(raw)
        key = HostKey(raw, 1, self.hostnqn, NQN)
        wrong = HostKey(new_key(), 1, self.hostnqn, NQN, version=0)
        stranger = HostKey(raw, 1, hostnqn_of(uuid.uuid4()), NQN)
        elsewhere = HostKey(raw, 1, self.hostnqn, "nqn.2026-11.io.catnap:none")
        address = self.server.address

        def say(data):
            with socket.create_connection(address, 10) as connection:
                connection.sendall(data)
                connection.settimeout(WAIT_S)
                return connection.recv(64)

        def hello(key, **spoilt):
            return client_hello(key.identity, spoilt.pop("psk", key.psk), key.hash_id, **spoilt)

        for kind, alert, data in (
            ("wrong_key", 51, hello(wrong)),
            ("wrong_key", 51, hello(key, psk=bytes(32))),
            ("wrong_key", 51, hello(key, binder=bytes(32))),
            ("malformed", 50, hello(key, binder=bytes(48))),
            ("unknown_identity", 51, hello(stranger)),
            ("unknown_identity", 51, hello(elsewhere)),
            ("unknown_identity", 51, client_hello("Client_identity", key.psk, 1)),
            ("suite", 40, hello(key, suite=0x1302)),
            ("suite", 40, hello(key, suite=0x1303)),
            ("old_version", 70, hello(key, versions=(0x0303,))),
            ("no_psk", 40, hello(key, modes=(0,))),  # the key alone, without an exchange
            ("malformed", 10, b"\x17\x03\x03\x00\x01x"),
            ("malformed", 10, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"),
            ("malformed", 50, b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"),
            ("malformed", 50, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x"),
            ("cleartext", 10, b"GET / HTTP/1.1\r\n\r\n"),
        ):
            with self.subTest(kind=kind, data=data[:12].hex()):
                answers = []
                self.expect(kind, lambda data=data, answers=answers: answers.append(say(data)))
                self.assertEqual(answers[0], bytes([21, 3, 3, 0, 2, 2, alert]))
        # The right one gets a ServerHello, whose secrets nobody here knows: cut off there.
        self.expect("peer_closed", lambda: self.assertEqual(say(hello(key))[:2], b"\x16\x03"))
        # Replayed, it gets no further: the shares of both sides are new.
        replayed = hello(key)
        self.expect("peer_closed", lambda: say(replayed))
        self.expect("peer_closed", lambda: say(replayed))
        # A Finished made up.
        with socket.create_connection(address, 10) as connection:
            connection.sendall(hello(key))
            connection.settimeout(WAIT_S)
            connection.recv(4096)
            before = self.server.ended("library")
            connection.sendall(b"\x17\x03\x03\x00\x35" + bytes(0x35))
            wait_for(lambda: self.server.ended("library") > before, "library")
        # Every truncation: the host hangs up in the middle.
        whole = hello(key)
        for size in (1, 4, 5, 6, 9, len(whole) // 2, len(whole) - 33, len(whole) - 1):
            def cut(size=size):
                with socket.create_connection(address, 10) as connection:
                    connection.sendall(whole[:size])
            self.expect("peer_closed", cut)

    def test_failures_are_events_about_the_address_with_what_was_claimed(self):
        raw = new_key()
        self.secure(raw)
        wrong = HostKey(new_key(), 1, self.hostnqn, NQN, version=0)
        nobody = "nqn.2026-11.io.catnap:\nnobody"
        for kind, data in (("wrong_key", client_hello(wrong.identity, wrong.psk, wrong.hash_id)),
                           ("unknown_identity", client_hello(f"NVMe0R01 {nobody} {NQN}", raw, 1)), ("cleartext", b"GET / HTTP/1.1\r\n\r\n")):
            with self.subTest(kind), socket.create_connection(self.server.address, 10) as connection:
                connection.sendall(data)
                connection.settimeout(WAIT_S)
                connection.recv(64)
        def told():
            return [event for event in self.server.client.call("notify_get_notifications") if event["type"] == "nvmf_host_tls_failed"]
        wait_for(lambda: len(told()) == 3, "three events")
        self.assertIn("nvmf_host_tls_failed", self.server.client.call("notify_get_types"))
        by_result = {event["details"]["result"]: event for event in told()}
        self.assertEqual(set(by_result), {"wrong_key", "unknown_identity", "cleartext"})
        self.assertEqual({event["ctx"] for event in told()}, {"127.0.0.1"})
        self.assertEqual(by_result["wrong_key"]["details"]["host"], self.hostnqn)
        self.assertEqual(by_result["wrong_key"]["details"]["subsystem"], NQN)
        self.assertIn("used another key", by_result["wrong_key"]["details"]["reason"])
        # What is no text is not repeated, and what said nothing of itself has no name.
        for result in ("unknown_identity", "cleartext"):
            self.assertNotIn("host", by_result[result]["details"])

    def test_tls12_and_certificates_are_refused(self):
        self.secure(new_key())
        # OpenSSL's own TLS 1.2 offers no TLS 1.3; a browser-like client offers no PSK.
        self.expect("old_version", lambda: self.assertIn("alert protocol version", probe(self.server.address, "-tls1_2").lower()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def browse():
            with self.assertRaises(OSError), socket.create_connection(self.server.address, 10) as connection:
                context.wrap_socket(connection)

        self.expect("no_psk", browse)

    def test_a_host_may_not_connect_as_another(self):
        raw = new_key()
        self.secure(raw)
        other = uuid.uuid4()
        self.server.add_host(other, psk="k0")
        with self.assertRaisesRegex(AssertionError, "status type 1, code 84h"):
            self.connect(HostKey(raw, 1, self.hostnqn, NQN), host_id=other, io_queues=0)
        self.assertIn("may not connect as", self.server.log_text())
        # Nor to another subsystem that would let it in.
        self.server.client.call("nvmf_create_subsystem", {"nqn": OTHER_NQN, "allow_any_host": True})
        self.server.listen(OTHER_NQN)
        with self.assertRaisesRegex(AssertionError, "status type 1, code 84h"):
            Controller(self.server.address, OTHER_NQN, host_id=self.host_id, dial=dialler(HostKey(raw, 1, self.hostnqn, NQN)), io_queues=0)
        self.assertIn("not for nqn.2026-11.io.catnap:tls-other", self.server.log_text())

    def test_a_key_that_cannot_be_read_is_named(self):
        raw = new_key()
        path = self.server.key("k0", raw)
        self.server.add_host(self.host_id, psk="k0")
        self.server.listen()
        os.chmod(path, 0o640)
        key = HostKey(raw, 1, self.hostnqn, NQN)
        self.expect("key_unreadable", lambda: probe(self.server.address, "-tls1_3", "-psk", key.psk.hex(), "-psk_identity", key.identity))
        self.assertIn("k0.psk", self.server.log_text())
        os.chmod(path, 0o600)
        self.connect(key, io_queues=0).close()


class HalfHandshakes(TlsTest):
    transport = {"tls_handshake_timeout_ms": 1000, "max_tls_handshakes": 40}

    @staticmethod
    def patiently(connect):
        """On a machine that is busy an honest handshake may take longer than this server's patience."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return connect()
            except Lost:
                if time.monotonic() > deadline:
                    raise

    def test_a_crowd_is_bounded_and_others_go_on(self):
        raw = new_key()
        self.secure(raw)
        key = HostKey(raw, 1, self.hostnqn, NQN)
        host = self.patiently(lambda: self.connect(key))
        counts = {"ios": 0, "longest": 0.0}
        stop = threading.Event()

        def work():
            while not stop.is_set():
                begun = time.monotonic()
                host.read(1, 0, BLOCK)
                counts["longest"] = max(counts["longest"], time.monotonic() - begun)
                counts["ios"] += 1

        worker = threading.Thread(target=work)
        worker.start()
        whole = client_hello(key.identity, key.psk, 1)
        kinds = (b"\x16", whole[:-1], whole)
        # All kinds in one crowd, or one of each.
        crowds = [(kind,) for kind in kinds] if SOAK else [kinds]
        for firsts in crowds:
            crowd = Crowd(self.server.address, CROWD, firsts)
            self.assertLessEqual(self.server.handshakes()["under_way"], 40)
            wait_for(lambda: self.server.handshakes()["under_way"] == 0, "all are gone")
            wait_for(lambda crowd=crowd: crowd.closed() >= CROWD, "all are told")
            crowd.end()
            done = counts["ios"]
            wait_for(lambda done=done: counts["ios"] > done, "I/O goes on")
        stop.set()
        worker.join()
        ended = self.server.handshakes()
        self.assertGreater(ended["too_many"], 0)
        self.assertGreater(ended["timed_out"], 0)
        print(f"{len(crowds) * CROWD} half handshakes, {counts['ios']} reads of another host meanwhile, the longest took {counts['longest'] * 1000:.1f} ms")
        host.close()


class Initiator(TlsTest):
    def attach(self, name="n0", **options):
        params = {"name": name, "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": str(self.server.port), "subnqn": NQN, "hostnqn": self.hostnqn}
        return self.server.client.call("bdev_nvme_attach_controller", {**params, **options})

    def controller(self, name="n0"):
        return self.server.client.call("bdev_nvme_get_controllers", {"name": name})[0]["ctrlrs"][0]

    def test_all_keys_versions_and_digests(self):
        self.server.listen()
        self.server.key("k32", new_key(32), 1)
        self.server.key("k48", new_key(48), 2)
        self.server.key("plain", new_key(48), 0)
        self.server.add_host(self.host_id, psk="k32", further_psks=["k48", "plain"])
        for name, hash_id in (("k32", 1), ("k48", 2), ("plain", 2)):
            for options, version in (({}, 1), ({"psk_identity_version": 0, "hdgst": True, "ddgst": True}, 0)):
                self.attach(psk=name, **options)
                tls = self.controller()["tls"]
                self.assertEqual((tls["suite"], tls["identity_version"], tls["key"]), (SUITES[hash_id], version, name))
                qpairs = self.server.client.call("nvmf_subsystem_get_qpairs", {"nqn": NQN})
                self.assertTrue(all(qpair["tls"]["key"] == name for qpair in qpairs), qpairs)
                self.server.client.call("bdev_nvme_detach_controller", {"name": "n0"})

    def test_hosts_authenticate_themselves_within_the_channel(self):
        self.server.key("k0", new_key())
        secret = make_secret(32, 1)
        path = os.path.join(self.server.folder.name, "h.key")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(secret)
        self.server.secrets.append(secret)
        self.server.client.call("keyring_file_add_key", {"name": "h", "path": path})
        self.server.add_host(self.host_id, psk="k0", dhchap_key="h")
        self.server.listen()
        self.attach(psk="k0", dhchap_key="h")
        for qpair in self.server.client.call("nvmf_subsystem_get_qpairs", {"nqn": NQN}):
            self.assertEqual((qpair["auth"]["state"], qpair["tls"]["key"]), ("completed", "k0"))

    def test_wrong_key_no_key_and_no_tls_there_say_so(self):
        self.secure(new_key())
        self.server.key("other", new_key())
        with self.assertRaisesRegex(RpcFailure, "TLS with key 'other'.*failed"):
            self.attach(psk="other")
        with self.assertRaisesRegex(RpcFailure, "ENOKEY|no key|not added"):
            self.attach(psk="none")
        with self.assertRaises(RpcFailure):
            self.attach()
        plain = free_tcp_port()
        self.server.listen(secure=False, port=plain)
        with self.assertRaisesRegex(RpcFailure, "TLS with key 'k0'.*failed"):
            self.attach(psk="k0", trsvcid=str(plain))

    def test_rotation_under_io(self):
        old, new = new_key(), new_key()
        self.secure(old, name="old")
        self.server.key("new", new)
        self.attach(psk="old", ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
        host = self.connect(HostKey(old, 1, self.hostnqn, NQN))
        failures, rounds = [], [0]
        stop = threading.Event()

        def work():
            try:
                while not stop.is_set():
                    data = os.urandom(BLOCK)
                    host.write(1, 0, data)
                    assert host.read(1, 0, BLOCK) == data, "what was written is not what was read"
                    rounds[0] += 1
            except Exception as failure:  # pylint: disable=broad-except
                failures.append(repr(failure))

        worker = threading.Thread(target=work)
        worker.start()
        keys = {"nqn": NQN, "host": self.hostnqn}
        for version in (0, 1):
            for psks in ({"psk": "old", "further_psks": ["new"]}, {"psk": "new", "further_psks": ["old"]}, {"psk": "new"}):
                self.server.client.call("nvmf_subsystem_set_keys", {**keys, **psks})
                valid = [psks["psk"], *psks.get("further_psks", [])]
                for name, raw in (("old", old), ("new", new)):
                    key = HostKey(raw, 1, self.hostnqn, NQN, version)
                    if name in valid:
                        self.connect(key, io_queues=0).close()
                    else:
                        self.expect("wrong_key", lambda key=key: probe(self.server.address, "-tls1_3", "-psk", key.psk.hex(), "-psk_identity", key.identity))
            self.server.client.call("nvmf_subsystem_set_keys", {**keys, "psk": "old"})
        # The same name, another key in its file: whoever connects from now on needs that.
        self.server.key("old", new)
        self.connect(HostKey(new, 1, self.hostnqn, NQN), io_queues=0).close()
        self.server.client.call("bdev_nvme_reset_controller", {"name": "n0"})
        self.assertEqual(self.controller()["state"], "enabled", self.controller())
        done = rounds[0]
        wait_for(lambda: rounds[0] > done + 3 or failures, "rounds")
        stop.set()
        worker.join()
        self.assertEqual(failures, [])
        host.close()

    def test_paths_fail_over_and_come_back_secured(self):
        self.secure(new_key())
        second, front = free_tcp_port(), free_tcp_port()
        self.server.listen(port=second)
        for port in (self.server.port, second):
            self.attach(psk="k0", trsvcid=str(port), multipath="multipath", ctrlr_loss_timeout_sec=-1, reconnect_delay_sec=1)
        client = self.server.client
        client.call("nvmf_create_subsystem", {"nqn": OTHER_NQN, "allow_any_host": True})
        client.call("nvmf_subsystem_add_ns", {"nqn": OTHER_NQN, "namespace": {"bdev_name": "n0n1"}})
        self.server.listen(OTHER_NQN, secure=False, port=front)
        host = Controller(("127.0.0.1", front), OTHER_NQN)
        failures, rounds, stop = [], [0], threading.Event()

        def work():
            try:
                while not stop.is_set():
                    data = os.urandom(BLOCK)
                    host.write(1, 0, data)
                    assert host.read(1, 0, BLOCK) == data, "what was written is not what was read"
                    rounds[0] += 1
            except Exception as failure:  # pylint: disable=broad-except
                failures.append(repr(failure))

        def states():
            return [(path["state"], path["tls"] is not None) for path in client.call("bdev_nvme_get_controllers", {"name": "n0"})[0]["ctrlrs"]]

        worker = threading.Thread(target=work)
        worker.start()
        for port in (self.server.port, second, self.server.port):
            address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
            client.call("nvmf_subsystem_remove_listener", {"nqn": NQN, "listen_address": address})
            done = rounds[0]
            wait_for(lambda done=done: rounds[0] > done + 3 or failures, "rounds on the other path")
            self.server.listen(port=port)
            wait_for(lambda: states() == [("enabled", True)] * 2 or failures, "both paths")
        stop.set()
        worker.join()
        self.assertEqual(failures, [])
        host.close()

    def test_discovery_is_secured_and_says_so(self):
        self.secure(new_key())
        self.server.add_host(self.host_id, DISCOVERY, psk="k0")
        self.server.client.call("bdev_nvme_start_discovery", {"name": "d", "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": str(self.server.port),
                                                              "hostnqn": self.hostnqn, "psk": "k0", "wait_for_attach": True})
        self.assertEqual(self.controller("d0")["tls"]["key"], "k0")
        self.server.client.call("bdev_nvme_stop_discovery", {"name": "d"})
        host = Controller.__new__(Controller)
        host.kato_ms, host.nqn, host.host_id = 0, DISCOVERY, self.host_id
        with open(os.path.join(self.server.folder.name, "k0.psk"), encoding="utf-8") as file:
            raw = __import__("base64").b64decode(file.read().split(":")[2])[:32]
        host.admin = QueuePair(self.server.address, dial=dialler(HostKey(raw, 1, self.hostnqn, DISCOVERY)))
        host._connect(host.admin, 0, 0xFFFF, 31)
        host._set_property(0x14, 0x00460001)
        log = host.admin.call("Get Log Page", 0x02, dwords=(0x70 | (2047 << 16),), read_bytes=8192).data
        entries = [log[1024 * i:1024 * (i + 1)] for i in range(1, 1 + int.from_bytes(log[8:16], "little"))]
        self.assertGreaterEqual(len(entries), 2)
        for entry in entries:
            self.assertEqual((entry[3] & 3, entry[768]), (1, 2))  # TREQ: secure channel required; SECTYPE: TLS 1.3
        host.admin.close()

    def test_configuration_keeps_names_and_loads_again(self):
        self.secure(new_key())
        self.server.key("k1", new_key(48), 2)
        self.server.client.call("nvmf_subsystem_set_keys", {"nqn": NQN, "host": self.hostnqn, "psk": "k0", "further_psks": ["k1"]})
        self.attach(psk="k1", psk_identity_version=0)
        status, saved, errors = self.server.rpc_py("save_config", "-s", "bdev")
        self.assertEqual(status, 0, errors)
        self.assertRegex(saved, r'"psk": "k1"')
        self.assertRegex(saved, r'"psk_identity_version": 0')
        # Loaded again by itself: the initiator comes before the target in the file.
        self.server.client.call("bdev_nvme_detach_controller", {"name": "n0"})
        status, saved, errors = self.server.rpc_py("save_config")
        self.assertEqual(status, 0, errors)
        subsystems = json.dumps(self.server.client.call("nvmf_get_subsystems"))
        for secret in self.server.secrets:
            self.assertNotIn(secret, saved + subsystems)
        path = os.path.join(self.server.folder.name, "config.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(saved.replace(f'"{self.server.port}"', f'"{free_tcp_port()}"'))
        again = ServerProcess("-c", path)
        try:
            listeners = again.client.call("nvmf_subsystem_get_listeners", {"nqn": NQN})
            self.assertTrue(listeners[0]["secure_channel"])
            host = again.client.call("nvmf_get_subsystems", {"nqn": NQN})[0]["hosts"][0]
            self.assertEqual((host["psk"], host["further_psks"]), ("k0", ["k1"]))
        finally:
            again.stop()
            again.clean()


if __name__ == "__main__":
    unittest.main()
