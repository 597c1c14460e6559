#!/usr/bin/env -S /usr/bin/python3
"""Secure channel concatenation: TLS keys that hosts make by authenticating over cleartext first. A host in Python (DH-HMAC-CHAP by tests/lib/dhchap.py,
TLS by `openssl s_client`), correct and hostile, and catnap's initiator against its target.

Left out: the derivations' published values (tests/unit/dhchap, tests/unit/tls), authentication without it (auth_test.py), TLS with configured keys
(secure_channel_test.py), Linux as host (tests/e2e/tls_host_test.py).
"""
import base64
import errno
import os
import struct
import time
import unittest
import uuid

from auth_host import ASCR, ATR, AUTHENTICATION_REQUIRED, AuthQueue, FABRICS, IDENTIFY, Lost, Refused, dhchap
from auth_server import DISCOVERY, Server
from expect import WAIT_S, end_well, hostnqn_of, refused, wait_for
from server_process import RpcFailure, free_tcp_port
from tls_keys import SUITES, GeneratedKey, HostKey, dialler, early_linux, hang_up_all, interchange, new_key, probe
from nvme_client import Controller, QueuePair

NQN, OTHER_NQN, FRONT_NQN = ("nqn.2026-11.io.catnap:concat" + more for more in ("", "-other", "-front"))
OPERATION_DENIED, INVALID_HOST = 0x015, 0x184
GET_LOG_PAGE, ABORT, ASYNC_EVENT, KEEP_ALIVE, SET_FEATURES = 0x02, 0x08, 0x0C, 0x18, 0x09
BLOCK = 4096
# Small groups: what is tested here does not depend on them.
QUICK = {"groups": (1,)}


class ConcatServer(Server):
    """One host with keys, one without; a subsystem with a namespace, and a listener that takes cleartext and TLS."""

    def __init__(self, mode, **config):
        super().__init__(config={"dhchap_failures_per_minute": 0, **config})
        self.queues, self.never_shown = [], set()
        self.host_id, self.open_id = uuid.uuid4(), uuid.uuid4()
        self.host, self.open_host = hostnqn_of(self.host_id), hostnqn_of(self.open_id)
        self.call("nvmf_create_transport", trtype="TCP")
        self.call("bdev_malloc_create", name="Malloc0", num_blocks=4096, block_size=512)
        for nqn in (NQN, OTHER_NQN):
            self.call("nvmf_create_subsystem", nqn=nqn, serial_number="CONCAT")
        self.call("nvmf_subsystem_add_ns", nqn=NQN, namespace={"bdev_name": "Malloc0", "uuid": "11111111-2222-4333-8444-666666666666"})
        for name in ("host", "ctrlr", "other"):
            self.add_key(name)
        for nqn in (NQN, OTHER_NQN):
            self.call("nvmf_subsystem_add_host", nqn=nqn, host=self.host, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
            self.call("nvmf_subsystem_add_host", nqn=nqn, host=self.open_host)
            self.listen_to(nqn, mode)

    def listen_to(self, nqn, mode, port=None, **more):
        listen_address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port or self.port)}
        return self.call("nvmf_subsystem_add_listener", nqn=nqn, listen_address=listen_address, **({"secure_concatenation": mode} if mode else {}), **more)

    # --- hosts ---

    def queue(self, key=None, nqn=NQN, hostnqn=None, secret=None, host_id=None, **keywords):
        """An admin queue of the host over cleartext, or TLS with `key`."""
        self.queues.append(AuthQueue(self.address, nqn, hostnqn or self.host, secret or self.secrets["host"], host_id=host_id or self.host_id,
                                     dial=dialler(key) if key else None, **keywords))
        return self.queues[-1]

    def hang_up(self):
        while self.queues:
            self.queues.pop().close()

    def make_key(self, nqn=NQN, expand=None, secret=None, **offer):
        """The whole exchange over cleartext, and its end."""
        queue = self.queue(nqn=nqn, secret=secret)
        queue.authenticate(sc_c=dhchap.NEW_TLS_PSK, **{**QUICK, **offer})
        queue.close()
        return self.key_of(queue, nqn, expand)

    def key_of(self, queue, nqn=NQN, expand=None):
        self.never_shown |= {queue.generated.hex(), base64.b64encode(queue.generated).decode()}
        return GeneratedKey(queue.generated, self.host, nqn, **({"expand": expand} if expand else {}))

    def controller(self, key, **keywords):
        return Controller(self.address, NQN, host_id=self.host_id, dial=dialler(key) if key else None, **keywords)

    def ended(self, kind):
        return self.call("nvmf_get_stats")["connections"]["tls_handshakes"][kind]

    def qpairs(self, nqn=NQN):
        return self.call("nvmf_subsystem_get_qpairs", nqn=nqn)


class ConcatTest(unittest.TestCase):
    mode = "allowed"
    config = {}

    @classmethod
    def setUpClass(cls):
        cls.server = ConcatServer(cls.mode, **cls.config)

    @classmethod
    def tearDownClass(cls):
        text = end_well(cls.server)
        assert cls.server.never_shown and not [key for key in cls.server.never_shown if key in text], "a key is in the log"

    def setUp(self):
        self.addCleanup(self.tidy)

    def tidy(self):
        """What a failed test left does not fail the next ones."""
        self.server.hang_up()
        hang_up_all()
        for nqn in (NQN, OTHER_NQN):
            self.server.call("nvmf_subsystem_set_keys", nqn=nqn, host=self.server.host, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        for controller in self.server.call("bdev_nvme_get_controllers"):
            self.server.call("bdev_nvme_detach_controller", name=controller["name"])
        wait_for(lambda: not self.server.qpairs() and not self.server.qpairs(OTHER_NQN), "queues are gone")

    def kept(self, queue):
        self.addCleanup(queue.close)
        return queue

    def refused(self, explanation, deed):
        with self.assertRaises(Refused) as caught:
            deed()
        self.assertEqual(caught.exception.explanation, explanation)

    def no_tls(self, key, *kinds):
        """The handshake with this key ends so: by default, as if nobody knew it."""
        kinds = kinds or ("unknown_identity",)
        before = sum(map(self.server.ended, kinds))
        with self.assertRaises(Lost):
            QueuePair(self.server.address, dial=dialler(key))
        wait_for(lambda: sum(map(self.server.ended, kinds)) > before, kinds)

    def call_status(self, queue, *arguments, **keywords):
        queue.queue.submit(*arguments, **keywords)
        return queue.queue.reap().status

    def attach(self, name="n0", port=None, **options):
        params = {"name": name, "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": str(port or self.server.port), "subnqn": NQN, "hostnqn": self.server.host,
                  "dhchap_key": "host", "secure_concatenation": True}
        return self.server.call("bdev_nvme_attach_controller", **{**params, **options})

    def path(self, name="n0"):
        return self.server.call("bdev_nvme_get_controllers", name=name)[0]["ctrlrs"][0]


class Everywhere:
    """What holds whether it is allowed or required."""

    def test_from_authentication_to_data(self):
        for hash_id, size, group, ctrlr in ((1, 32, 2, None), (2, 48, 1, None), (1, 32, 1, "ctrlr"), (2, 48, 2, "ctrlr")):
            with self.subTest(hash=hash_id, group=group, mutual=bool(ctrlr)):
                first = self.server.queue(ctrlr_secret=self.server.secrets.get(ctrlr))
                self.assertTrue(first.connected & ATR)
                first.authenticate(sc_c=dhchap.NEW_TLS_PSK, hashes=(hash_id,), groups=(group,))
                first.close()
                self.assertEqual(len(first.generated), size)
                key = self.server.key_of(first)
                secured = self.kept(self.server.queue(key))
                self.assertFalse(secured.connected & (ATR | ASCR), "the key was proven")
                secured.enable()
                io = self.kept(AuthQueue(self.server.address, NQN, self.server.host, None, 1, secured.cntlid, self.server.host_id, dial=dialler(key)))
                self.assertFalse(io.connected & (ATR | ASCR))
                data = os.urandom(512)
                io.queue.call("Write", 1, nsid=1, dwords=(0, 0, 0), data=data, in_capsule=True)
                self.assertEqual(io.queue.call("Read", 2, nsid=1, dwords=(0, 0, 0), read_bytes=512).data, data)
                for queue in self.server.qpairs():
                    if queue["cntlid"] != secured.cntlid:
                        continue
                    self.assertEqual(queue["tls"]["key_type"], "generated")
                    self.assertEqual(queue["tls"]["suite"], SUITES[hash_id])
                    self.assertRegex(queue["tls"]["key"], "^generated-[0-9]+$")
                io.close()
                secured.close()

    def secured_alike(self, keys, others):
        """All queues there are go by one generated key: that of `keys`, or one that is not among `others`."""
        queues = self.server.qpairs()
        if len(queues) < 2 or not all(queue["tls"] and queue["tls"]["key_type"] == "generated" for queue in queues):
            return False
        now = {queue["tls"]["key"] for queue in queues}
        return len(now) == 1 and (now == keys if keys else not now & others)

    def test_initiator(self):
        """Its data go by TLS too; connecting anew, or authenticating anew, makes a new key."""
        server, front = self.server, free_tcp_port()
        server.call("bdev_nvme_set_options", dhchap_dhgroups=["null", "ffdhe2048"])
        for keys in ({}, {"dhchap_ctrlr_key": "ctrlr", "hdgst": True, "ddgst": True}):
            with self.subTest(keys=keys):
                self.assertEqual(self.attach(**keys), ["n0n1"])
                tls = self.path()["tls"]
                self.assertEqual((tls["key_type"], tls["suite"], tls["identity_version"]), ("generated", SUITES[2], 1))
                server.call("nvmf_create_subsystem", nqn=FRONT_NQN, allow_any_host=True)
                server.call("nvmf_subsystem_add_ns", nqn=FRONT_NQN, namespace={"bdev_name": "n0n1"})
                server.listen_to(FRONT_NQN, None, port=front)
                host = self.kept(Controller(("127.0.0.1", front), FRONT_NQN))
                last = set()
                for anew in (None, ("bdev_nvme_reset_controller", {}), ("bdev_nvme_set_keys", {"dhchap_key": "host"}), ("bdev_nvme_reset_controller", {})):
                    if anew:
                        server.call(anew[0], name="n0", **anew[1])
                    self.assertEqual(self.path()["state"], "enabled", self.path())
                    data = os.urandom(BLOCK)
                    host.write(1, 0, data)
                    self.assertEqual(host.read(1, 0, BLOCK), data)
                    # The target may hear of the end of earlier connections later. What authenticates anew stays with the key that it began with.
                    wait_for(lambda anew=anew, last=last: self.secured_alike(
                        last if anew and anew[0] == "bdev_nvme_set_keys" else None, last), "an admin and an I/O queue by a key of their own")
                    last = {queue["tls"]["key"] for queue in server.qpairs()}
                host.close()
                server.call("nvmf_delete_subsystem", nqn=FRONT_NQN)
                server.call("bdev_nvme_detach_controller", name="n0")

    def test_little_passes_before_tls(self):
        queue = self.kept(self.server.queue())
        self.assertEqual(queue.get_property().status, AUTHENTICATION_REQUIRED)
        queue.authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        queue.get_property().check("CSTS")
        queue.queue.call("Property Set", FABRICS, nsid=0, fields=struct.pack("<B3xIQ", 0, 0x14, 0x00460001))
        for cns, passes in ((1, True), (6, True), (0x1C, True), (0, False), (2, False), (3, False), (5, False), (8, False), (0x13, False)):
            with self.subTest(cns=cns):
                status = self.call_status(queue, IDENTIFY, nsid=0 if cns in (1, 2, 6) else 1, dwords=(cns,), read_bytes=4096)
                self.assertEqual(status == OPERATION_DENIED, not passes, hex(status))
        for page, passes in ((0, True), (5, True), (1, False), (2, False), (4, False), (0x70, False), (0x80, False)):
            with self.subTest(page=page):
                status = self.call_status(queue, GET_LOG_PAGE, nsid=0xFFFFFFFF, dwords=(page | 127 << 16,), read_bytes=512)
                self.assertEqual(status == OPERATION_DENIED, not passes, hex(status))
        self.assertEqual(self.call_status(queue, KEEP_ALIVE), 0)
        for opcode in (ABORT, ASYNC_EVENT, 0x0D, 0x10, 0x80, 0x84):
            with self.subTest(opcode=opcode):
                self.assertEqual(self.call_status(queue, opcode, nsid=1, dwords=(1,)), OPERATION_DENIED)
        # Once more on the same queue: another key, and still no more than that.
        first = queue.generated
        queue.authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        self.assertNotEqual(queue.generated, first)
        self.assertEqual(self.call_status(queue, ASYNC_EVENT), OPERATION_DENIED)
        self.kept(self.server.queue(self.server.key_of(queue))).get_property().check("CSTS")


class Allowed(Everywhere, ConcatTest):
    def test_the_hosts_first_hash_and_the_strongest_group(self):
        for hashes, chosen in (((3, 2, 1), "sha384"), ((1, 2, 3), "sha256"), ((9, 2), "sha384")):
            queue = self.server.queue().authenticate(sc_c=dhchap.NEW_TLS_PSK, hashes=hashes, groups=(0, 1, 2))
            self.assertEqual((queue.hash, queue.group), (chosen, "ffdhe3072"))
            queue.close()

    def test_early_linux_is_served(self):
        self.kept(self.server.queue(self.server.make_key(expand=early_linux))).get_property().check("CSTS")

    def test_what_makes_no_key_is_refused(self):
        server = self.server
        for sc_c in (1, dhchap.REPLACE_TLS_PSK, 4, 255):
            self.refused(dhchap.CONCATENATION, lambda sc_c=sc_c: server.queue().authenticate(sc_c=sc_c, **QUICK))
        self.refused(dhchap.HASH, lambda: server.queue().authenticate(sc_c=dhchap.NEW_TLS_PSK, hashes=(3,)))
        self.refused(dhchap.GROUP, lambda: server.queue().authenticate(sc_c=dhchap.NEW_TLS_PSK, groups=(0,)))
        queue = server.queue()
        queue.negotiate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        challenge = queue.challenge()
        reply, _ = queue.answer(challenge, sc_c=dhchap.NEW_TLS_PSK)
        queue.send(reply[:8] + b"\0" + reply[9:])  # no challenge of the host
        self.refused(dhchap.PAYLOAD, queue.receive)
        self.refused(dhchap.FAILED, lambda: server.queue(secret=server.secrets["other"]).authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK))
        # Somebody in between has changed SC_C: the host's response was made with another.
        queue = server.queue()
        queue.negotiate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        reply, _ = queue.answer(queue.challenge(), sc_c=0)
        queue.send(reply[:8] + b"\1" + reply[9:])
        self.refused(dhchap.FAILED, queue.receive)

    def test_queues_of_a_controller_are_secured_alike(self):
        key = self.server.make_key()
        secured = self.kept(self.server.queue(key))
        secured.enable()
        with self.assertRaises(AssertionError) as caught:
            secured.io_queue(self.server.address)
        self.assertIn("84h", str(caught.exception))

    def test_keys_serve_their_host_and_subsystem_alone(self):
        server = self.server
        first = server.queue()
        first.authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        first.close()
        psk = first.generated
        self.no_tls(GeneratedKey(psk, server.open_host, NQN))
        self.no_tls(GeneratedKey(psk, server.host, OTHER_NQN))
        self.no_tls(GeneratedKey(os.urandom(32), server.host, NQN))
        key = server.key_of(first)
        wrong = server.key_of(first)
        wrong.psk = os.urandom(len(wrong.psk))
        self.no_tls(wrong, "wrong_key")
        # As a retained key it is none.
        retained = server.key_of(first)
        retained.identity = retained.identity.replace("NVMe1G", "NVMe1R")
        self.no_tls(retained, "unknown_identity", "wrong_key")  # by whether the host has configured ones besides
        for hostnqn, nqn in ((server.open_host, NQN), (server.host, OTHER_NQN)):
            with self.assertRaises(AssertionError) as caught:
                server.queue(key, nqn=nqn, hostnqn=hostnqn, host_id=server.open_id)
            self.assertIn("84h", str(caught.exception))

    def test_a_key_is_good_for_as_long_as_the_secret_behind_it(self):
        server = self.server
        key = server.make_key()
        stays = self.kept(server.queue(key))
        server.call("nvmf_subsystem_set_keys", nqn=NQN, host=server.host, dhchap_key="other")
        self.no_tls(key)
        stays.get_property().check("connections stay")
        server.call("nvmf_subsystem_set_keys", nqn=NQN, host=server.host, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        server.queue(key).close()
        server.call("nvmf_subsystem_remove_host", nqn=NQN, host=server.host)
        self.no_tls(key)
        server.call("nvmf_subsystem_add_host", nqn=NQN, host=server.host, dhchap_key="host", dhchap_ctrlr_key="ctrlr")

    def test_a_key_is_replaced_within_tls(self):
        server = self.server
        old = server.make_key()
        secured = self.kept(server.queue(old))
        for _ in range(2):
            secured.authenticate(sc_c=dhchap.REPLACE_TLS_PSK, **QUICK)
            new = server.key_of(secured)
            self.no_tls(old)
            server.queue(new).close()
            old = new
        # Within TLS there is nothing to begin, and authenticating without concatenation changes no key.
        secured.authenticate(**QUICK)
        server.queue(new).close()
        self.refused(dhchap.CONCATENATION, lambda: secured.authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK))

    def test_only_admin_queues_make_keys(self):
        server = self.server
        key = server.make_key()
        secured = self.kept(server.queue(key))
        secured.enable()
        io = self.kept(AuthQueue(server.address, NQN, server.host, server.secrets["host"], 1, secured.cntlid, server.host_id, dial=dialler(key)))
        for sc_c in (dhchap.NEW_TLS_PSK, dhchap.REPLACE_TLS_PSK):
            self.refused(dhchap.CONCATENATION, lambda sc_c=sc_c: io.authenticate(sc_c=sc_c, **QUICK))
            io.close()
            io = self.kept(AuthQueue(server.address, NQN, server.host, server.secrets["host"], 2, secured.cntlid, server.host_id, dial=dialler(key)))

    def test_configured_keys_serve_as_well(self):
        server = self.server
        raw = new_key()
        path = server.path_of_key(f"psk-{self.mode}")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(interchange(raw, 1))
        server.call("keyring_file_add_key", name=f"psk-{self.mode}", path=path)
        server.call("nvmf_subsystem_set_keys", nqn=NQN, host=server.host, dhchap_key="host", dhchap_ctrlr_key="ctrlr", psk=f"psk-{self.mode}")
        queue = self.kept(server.queue(HostKey(raw, 1, server.host, NQN)))
        self.assertTrue(queue.connected & ATR, "it proves the key of the listener, not who authenticates")
        self.assertFalse(queue.connected & ASCR)
        # A key is made over cleartext only, and replaced only where there is one.
        for sc_c in (dhchap.NEW_TLS_PSK, dhchap.REPLACE_TLS_PSK):
            self.refused(dhchap.CONCATENATION, lambda sc_c=sc_c: queue.authenticate(sc_c=sc_c, **QUICK))
            queue = self.kept(server.queue(HostKey(raw, 1, server.host, NQN)))
        queue.authenticate(**QUICK).get_property().check("CSTS")

    def test_discovery_says_so(self):
        queue = self.kept(self.server.queue(nqn=DISCOVERY))
        queue.queue.call("Property Set", FABRICS, nsid=0, fields=struct.pack("<B3xIQ", 0, 0x14, 0x00460001))
        wait_for(lambda: queue.get_property().check("CSTS").result & 1, "CSTS.RDY")
        queue.queue.submit(GET_LOG_PAGE, nsid=0, dwords=(0x70 | 1023 << 16,), read_bytes=4096)
        log = queue.queue.reap().check("discovery log").data
        count = struct.unpack_from("<Q", log, 8)[0]
        entries = [log[1024 * (i + 1):1024 * (i + 2)] for i in range(min(count, 3))]
        self.assertEqual([(entry[3] & 3, entry[768]) for entry in entries], [(2, 2)] * 3)

    def test_initiator_and_wrong_keys(self):
        self.server.call("bdev_nvme_set_options", dhchap_dhgroups=["ffdhe2048"])
        for wrong in ({"dhchap_key": "other"}, {"dhchap_ctrlr_key": "other"}):
            refused(self, -errno.EACCES, (), self.attach, **wrong)
        for wrong, word in (({"dhchap_key": ""}, "needs a dhchap_key"), ({"psk": "host"}, "leave psk out")):
            refused(self, -errno.EINVAL, (word,), self.attach, **wrong)
        # Without a group that makes a key there is nothing to offer.
        self.server.call("bdev_nvme_set_options", dhchap_dhgroups=["null"])
        with self.assertRaises(RpcFailure):
            self.attach()
        wait_for(lambda: not self.server.qpairs(), "nothing is left")

    def test_initiator_never_goes_on_in_cleartext(self):
        """Not where the target takes no concatenation."""
        plain = free_tcp_port()
        self.server.listen_to(NQN, None, port=plain)
        self.addCleanup(lambda: self.server.call("nvmf_subsystem_remove_listener", nqn=NQN, listen_address={
            "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(plain)}))
        self.server.call("bdev_nvme_set_options", dhchap_dhgroups=["ffdhe2048"])
        refused(self, -errno.EACCES, ("secure channel concatenation mismatch",), self.attach, port=plain)

    def test_cleartext_is_as_ever(self):
        queue = self.kept(self.server.queue())
        self.assertEqual(queue.connected & (ATR | ASCR), ATR)
        queue.authenticate(groups=(0,)).enable()
        self.kept(queue.io_queue(self.server.address)).authenticate(groups=(0,))
        self.server.queue(hostnqn=self.server.open_host, host_id=self.server.open_id).get_property().check("CSTS")

    def test_io_queues_make_no_keys(self):
        queue = self.kept(self.server.queue()).authenticate(groups=(0,))
        queue.enable()
        self.refused(dhchap.CONCATENATION, lambda: queue.io_queue(self.server.address).authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK))

    def test_listeners_agree(self):
        server = self.server
        server.call("nvmf_create_subsystem", nqn=NQN + "-third")
        self.addCleanup(lambda: server.call("nvmf_delete_subsystem", nqn=NQN + "-third"))
        for mode, more in ((None, {}), ("none", {}), (None, {"secure_channel": True})):
            with self.assertRaisesRegex(RpcFailure, "agree on what hosts begin with"):
                server.listen_to(NQN + "-third", mode, **more)
        with self.assertRaisesRegex(RpcFailure, "use one of them"):
            server.listen_to(NQN + "-third", "allowed", port=free_tcp_port(), secure_channel=True)
        with self.assertRaisesRegex(RpcFailure, "secure_concatenation"):
            server.listen_to(NQN + "-third", "sometimes")
        server.listen_to(NQN + "-third", "required")
        self.assertEqual(server.call("nvmf_subsystem_get_listeners", nqn=NQN + "-third")[0]["secure_concatenation"], "required")
        calls = server.call("framework_get_config", name="nvmf")
        kept = {call["params"]["nqn"]: call["params"].get("secure_concatenation") for call in calls if call["method"] == "nvmf_subsystem_add_listener"}
        self.assertEqual((kept[NQN], kept[NQN + "-third"]), ("allowed", "required"))


class Required(Everywhere, ConcatTest):
    mode = "required"

    def test_nothing_else_comes_in(self):
        server = self.server
        queue = server.queue()
        self.assertEqual(queue.connected & (ATR | ASCR), ATR | ASCR)
        self.refused(dhchap.CONCATENATION, lambda: queue.authenticate(groups=(1,)))
        queue.close()
        # A host without a key cannot.
        with self.assertRaises(AssertionError) as caught:
            server.queue(hostnqn=server.open_host, host_id=server.open_id)
        self.assertIn("84h", str(caught.exception))
        self.assertIn("has no dhchap_key", server.log_text())
        # I/O queues come by TLS, whatever the admin queue has shown.
        queue = self.kept(server.queue()).authenticate(sc_c=dhchap.NEW_TLS_PSK, **QUICK)
        with self.assertRaises(AssertionError) as caught:
            queue.io_queue(server.address)
        self.assertIn("84h", str(caught.exception))

    def test_initiator_is_told(self):
        with self.assertRaisesRegex(RpcFailure, "demands a secure channel made by authentication"):
            self.attach(secure_concatenation=False)


class Forgotten(ConcatTest):
    """Keys that nobody uses."""
    config = {"generated_psk_timeout_ms": 1500}

    def come_back(self):
        """A queue by TLS with a new key; a busy machine may be too late for it, and then takes another."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return self.server.queue(self.server.make_key())
            except Lost:
                self.assertLess(time.monotonic(), deadline, "never in time")

    def test_unused_keys_are_forgotten_and_used_ones_are_not(self):
        server = self.server
        secured = self.kept(self.come_back())
        secured.authenticate(sc_c=dhchap.REPLACE_TLS_PSK, **QUICK)
        replaced = server.key_of(secured)
        unused = server.make_key()
        before = server.ended("unknown_identity")

        def gone():
            probe(server.address, "-tls1_3", "-psk", unused.psk.hex(), "-psk_identity", unused.identity)
            return server.ended("unknown_identity") > before

        wait_for(gone, "the unused key is forgotten")
        server.queue(replaced).close()
        secured.get_property().check("CSTS")
        secured.close()
        before = server.ended("unknown_identity")
        unused = replaced
        wait_for(gone, "the key is forgotten behind its controller")

    def test_the_option_is_kept(self):
        calls = self.server.call("framework_get_config", name="nvmf")
        self.assertEqual(next(call["params"] for call in calls if call["method"] == "nvmf_set_config")["generated_psk_timeout_ms"], 1500)


if __name__ == "__main__":
    unittest.main()
