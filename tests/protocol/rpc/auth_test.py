#!/usr/bin/env -S /usr/bin/python3
"""In-band authentication (DH-HMAC-CHAP) and the keyring against the real catnapd: a host written in Python with arithmetic of its own, correct and
hostile; and the initiator against the target.

CATNAP_SOAK=1: 1,000 half authentications at a time instead of 100, and every hash and group both one way and mutual instead of in turns.
"""
import errno
import os
import socket
import struct
import threading
import unittest

from auth_host import ATR, AUTHENTICATION_REQUIRED, FABRICS, INVALID_FIELD, SEQUENCE_ERROR, AuthQueue, Lost, Refused, dhchap
from auth_server import DISCOVERY, HOST, NQN, OPEN_HOST, Server
from expect import end_well, refused, wait_for
from server_process import RpcFailure

SOAK = bool(os.environ.get("CATNAP_SOAK"))
HALF_OPEN = 1000 if SOAK else 100
# For all but the test of that deadline: beside builds a crowd takes longer to come than a host should.
PATIENCE_MS = 120_000


def one_or_both(number, both):
    """One way and mutual take turns, unless there is time for both."""
    return both if SOAK else (both[number % 2],)


class AuthTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(config={"dhchap_failures_per_minute": 0, "dhchap_timeout_ms": PATIENCE_MS}).set_up()

    @classmethod
    def tearDownClass(cls):
        end_well(cls.server)

    def tearDown(self):
        """What a failed test left does not fail the next ones."""
        self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        for controller in self.server.call("bdev_nvme_get_controllers"):
            self.server.call("bdev_nvme_detach_controller", name=controller["name"])

    def refused(self, code, method, *words, **params):
        refused(self, code, words, self.server.call, method, **params)

    def ends(self, queue):
        """The target ends the connection."""
        with self.assertRaises(Lost):
            while True:
                queue.get_property()
        queue.close()

    # --- right ---

    # Proves: fabrics | Authentication | Base 6.2
    def test_every_hash_and_group_both_ways(self):
        for hash_name, hash_id in dhchap.HASHES.items():
            for group, group_id in dhchap.GROUPS.items():
                for ctrlr in one_or_both(hash_id + group_id, (None, self.server.secrets["ctrlr"])):
                    with self.subTest(hash=hash_name, group=group, mutual=bool(ctrlr)):
                        queue = self.server.admin(ctrlr_secret=ctrlr)
                        self.assertTrue(queue.connected & ATR)
                        queue.authenticate(hashes=(hash_id,), groups=(group_id,))
                        queue.get_property().check("CSTS")
                        self.assertEqual(self.server.auth_of(), {"state": "completed", "digest": hash_name, "dhgroup": group})
                        queue.close()
                        self.gone()

    def gone(self):
        wait_for(lambda: not self.server.call("nvmf_subsystem_get_qpairs", nqn=NQN), "queues to go")

    def test_the_strongest_is_chosen(self):
        queue = self.server.admin().authenticate()
        self.assertEqual((queue.hash, queue.group), ("sha512", "ffdhe8192"))
        queue.close()
        queue = self.server.admin().authenticate(hashes=(9, 1, 2), groups=(77, 0, 1))
        self.assertEqual((queue.hash, queue.group), ("sha384", "ffdhe2048"))
        queue.close()

    def test_transformed_secrets(self):
        for number, length in ((1, 32), (2, 48), (3, 64), (0, 48), (0, 64)):
            name = f"transformed{number}{length}"
            secret = self.server.add_key(name, dhchap.make_secret(length, number))
            self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key=name, dhchap_ctrlr_key=name)
            self.server.admin(secret, ctrlr_secret=secret).authenticate(groups=(0,)).close()
        self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr")

    def test_a_host_without_key_need_not(self):
        queue = self.server.admin(hostnqn=OPEN_HOST)
        self.assertFalse(queue.connected & ATR)
        queue.get_property().check("CSTS")
        self.assertIsNone(self.server.auth_of())
        queue.close()
        self.gone()

    def test_io_queues_authenticate_with_the_current_key(self):
        admin = self.server.admin().authenticate(groups=(0,))
        admin.enable()
        io = admin.io_queue(self.server.address)
        self.assertTrue(io.connected & ATR)
        io.queue.submit(2, nsid=1, dwords=(0, 0, 0), read_bytes=512)
        self.assertEqual(io.queue.reap().status, AUTHENTICATION_REQUIRED)
        io.authenticate(groups=(1,))
        io.queue.call("Read", 2, nsid=1, dwords=(0, 0, 0), read_bytes=512)
        self.assertEqual(self.server.auth_of(1)["dhgroup"], "ffdhe2048")
        # The file changes, and so does what the next queue needs; those that are there stay.
        new = dhchap.make_secret()
        old = self.server.secrets["host"]
        self.server.write_key("host", new)
        late = admin.io_queue(self.server.address, qid=2)
        with self.assertRaises(Refused):
            late.authenticate(groups=(0,))
        self.ends(late)
        late = admin.io_queue(self.server.address, qid=3)
        late.secret = new
        late.authenticate(groups=(0,))
        io.queue.call("Read", 2, nsid=1, dwords=(0, 0, 0), read_bytes=512)
        # And once more on a live queue, under the new key.
        io.secret = admin.secret = new
        io.authenticate(hashes=(2,), groups=(0,))
        admin.authenticate(groups=(0,))
        self.assertEqual(self.server.auth_of(1), {"state": "completed", "digest": "sha384", "dhgroup": "null"})
        io.queue.call("Read", 2, nsid=1, dwords=(0, 0, 0), read_bytes=512)
        for queue in (late, io, admin):
            queue.close()
        self.server.write_key("host", old)
        self.gone()

    def test_set_keys_keeps_connections(self):
        admin = self.server.admin().authenticate(groups=(0,))
        self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="other")
        admin.get_property().check("CSTS")
        with self.assertRaises(Refused) as caught:
            self.server.admin().authenticate(groups=(0,))
        self.assertEqual(caught.exception.explanation, dhchap.FAILED)
        self.server.admin(self.server.secrets["other"]).authenticate(groups=(0,)).close()
        admin.secret = self.server.secrets["other"]
        admin.authenticate(groups=(0,))
        self.server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        admin.close()
        self.gone()

    def test_discovery_too(self):
        self.server.call("nvmf_subsystem_add_host", nqn=DISCOVERY, host=HOST, dhchap_key="host")
        queue = AuthQueue(self.server.address, DISCOVERY, HOST, self.server.secrets["host"])
        self.assertTrue(queue.connected & ATR)
        self.assertEqual(queue.get_property().status, AUTHENTICATION_REQUIRED)
        queue.authenticate(groups=(0,))
        queue.get_property().check("CSTS")
        queue.close()
        self.server.call("nvmf_subsystem_remove_host", nqn=DISCOVERY, host=HOST)

    # --- wrong ---

    def fails(self, explanation, deed, **keywords):
        queue = self.server.admin(**keywords)
        with self.assertRaises(Refused) as caught:
            deed(queue)
        self.assertEqual(caught.exception.explanation, explanation)
        self.ends(queue)

    def test_nothing_passes_before(self):
        queue = self.server.admin()
        for opcode, nsid in ((FABRICS, 4), (FABRICS, 0), (FABRICS, 8), (0x06, 0), (0x18, 0), (0x0C, 0), (0x02, 1)):
            queue.queue.submit(opcode, nsid=nsid)
            self.assertEqual(queue.queue.reap().status, AUTHENTICATION_REQUIRED, f"opcode {opcode:#x}")
        queue.negotiate(groups=(0,))
        self.assertEqual(queue.get_property().status, AUTHENTICATION_REQUIRED)
        queue.close()

    def test_wrong_keys(self):
        self.fails(dhchap.FAILED, lambda queue: queue.authenticate(groups=(0,)), secret=dhchap.make_secret())
        self.fails(dhchap.FAILED, lambda queue: queue.authenticate(groups=(1,)), secret=dhchap.make_secret())
        # The host does not accept the controller.
        queue = self.server.admin(ctrlr_secret=dhchap.make_secret())
        with self.assertRaises(AssertionError):
            queue.authenticate(groups=(0,))
        queue.send(dhchap.failure2(queue.t_id))
        self.ends(queue)

    def test_nothing_in_common(self):
        self.fails(dhchap.HASH, lambda queue: (queue.negotiate(hashes=(9, 0)), queue.challenge()))
        self.fails(dhchap.HASH, lambda queue: (queue.negotiate(hashes=()), queue.challenge()))
        self.fails(dhchap.GROUP, lambda queue: (queue.negotiate(groups=(6, 255)), queue.challenge()))
        self.fails(dhchap.PROTOCOL, lambda queue: (queue.negotiate(auth_id=2), queue.challenge()))
        self.fails(dhchap.CONCATENATION, lambda queue: (queue.negotiate(sc_c=dhchap.NEW_TLS_PSK), queue.challenge()))

    def replies(self, change, groups=(1,)):
        """A right reply, changed."""
        def deed(queue):
            queue.negotiate(groups=groups)
            message, _ = queue.answer(queue.challenge())
            queue.send(bytes(change(bytearray(message))))
            queue.receive()
        return deed

    def test_public_values(self):
        prime = dhchap.prime("ffdhe2048")
        for value in (0, 1, prime - 1, prime, (1 << 2048) - 1):
            self.fails(dhchap.FAILED, self.replies(lambda message, value=value: message[: 16 + 128] + value.to_bytes(256, "big")))

    def test_sizes_of_public_values(self):
        def with_length(count):
            def change(message):
                struct.pack_into("<H", message, 10, count)
                return message[: 16 + 128] + bytes(count)
            return change
        for count in (0, 4, 252, 255, 257, 260, 384, 1024):
            self.fails(dhchap.PAYLOAD, self.replies(with_length(count)))
        # A public value where there is no group.
        def added(message):
            struct.pack_into("<H", message, 10, 256)
            return message + bytes(256)
        self.fails(dhchap.PAYLOAD, self.replies(added, groups=(0,)))

    def test_fields_of_replies(self):
        def at(offset, value):
            def change(message):
                message[offset] = value
                return message
            return change
        self.fails(dhchap.PAYLOAD, self.replies(at(6, 32)))  # hl of another hash
        self.fails(dhchap.PAYLOAD, self.replies(at(6, 0)))
        self.fails(dhchap.PAYLOAD, self.replies(at(8, 2)))  # cvalid
        self.fails(dhchap.PAYLOAD, self.replies(at(8, 1)))  # with seqnum 0
        self.fails(dhchap.PAYLOAD, self.replies(lambda message: message[:4] + bytes((message[4] ^ 1, message[5])) + message[6:]))  # t_id
        self.fails(dhchap.FAILED, self.replies(lambda message: message[:20] + bytes((message[20] ^ 1,)) + message[21:]))

    def test_truncated(self):
        """Each message cut at each of its parts' ends and in the middle of them."""
        def cut(message):
            return sorted({1, 2, 5, 6, 7, 8, 9, 15, 16, 17, len(message) // 2, len(message) - 1})
        whole = dhchap.negotiate(1)
        for length in cut(whole):
            if length < len(whole):
                self.fails(dhchap.PAYLOAD, lambda queue, length=length: (queue.send(whole[:length]), queue.receive()))
        for length in cut(bytes(16 + 128 + 256)):
            self.fails(dhchap.PAYLOAD, self.replies(lambda message, length=length: message[:length]))
        self.fails(dhchap.PAYLOAD, self.replies(lambda message: message + b"\0"))
        # Success2, a mutual authentication's last message.
        def last(message):
            def deed(queue):
                queue.negotiate(groups=(0,))
                reply, _ = queue.answer(queue.challenge())
                queue.send(reply)
                queue.receive()
                queue.send(message(queue.t_id))
                queue.receive()
            return deed
        secret = self.server.secrets["ctrlr"]
        self.fails(dhchap.PAYLOAD, last(lambda t_id: dhchap.success2(t_id)[:15]), ctrlr_secret=secret)
        self.fails(dhchap.PAYLOAD, last(lambda t_id: dhchap.success2(t_id ^ 1)), ctrlr_secret=secret)
        self.fails(dhchap.MESSAGE, last(lambda t_id: dhchap.header(dhchap.COMMON, dhchap.SUCCESS2, t_id)), ctrlr_secret=secret)

    def test_out_of_order_and_replayed(self):
        self.fails(dhchap.MESSAGE, lambda queue: queue.receive())  # before negotiating
        self.fails(dhchap.MESSAGE, lambda queue: (queue.send(dhchap.success2(queue.t_id)), queue.receive()))
        self.fails(dhchap.MESSAGE, lambda queue: (queue.send(dhchap.failure2(queue.t_id)), queue.receive()))
        self.fails(dhchap.MESSAGE, lambda queue: (queue.send(dhchap.reply(queue.t_id, bytes(32))), queue.receive()))
        self.fails(dhchap.MESSAGE, lambda queue: (queue.negotiate(), queue.negotiate(), queue.receive()))
        self.fails(dhchap.MESSAGE, lambda queue: (queue.negotiate(groups=(0,)), queue.challenge(), queue.receive()))
        self.fails(dhchap.MESSAGE, lambda queue: (queue.negotiate(groups=(0,)), queue.challenge(), queue.negotiate(), queue.receive()))
        # A reply that was right on another connection, with the same transaction number.
        recorded = []
        def record(queue):
            queue.negotiate(groups=(0,))
            message, _ = queue.answer(queue.challenge())
            recorded.append((queue.t_id, message))
            queue.send(message)
            queue.receive()
        queue = self.server.admin()
        record(queue)
        queue.close()
        def replay(queue):
            queue.t_id, message = recorded[0]
            queue.negotiate(groups=(0,))
            queue.challenge()
            queue.send(message)
            queue.receive()
        self.fails(dhchap.FAILED, replay)

    def test_commands(self):
        queue = self.server.admin()
        message = dhchap.negotiate(queue.t_id)
        for keywords in ({"secp": 0}, {"secp": 0xEA}, {"spsp": (0, 1)}, {"spsp": (1, 0)}, {"length": 0}, {"length": 5000}):
            queue.submit_send(message, **keywords)
            self.assertEqual(queue.queue.reap().status, INVALID_FIELD, keywords)
        queue.submit_receive(4096, length=0)
        self.assertEqual(queue.queue.reap().status, INVALID_FIELD)
        queue.submit_receive(4096, length=1 << 20)
        self.assertEqual(queue.queue.reap().status, INVALID_FIELD)
        queue.authenticate(groups=(0,))
        queue.close()
        # No room for the challenge, and for nothing at all.
        def small(queue):
            queue.negotiate(groups=(1,))
            queue.receive(size=64)
        self.fails(dhchap.PAYLOAD, small)
        queue = self.server.admin()
        queue.negotiate(groups=(1,))
        queue.submit_receive(4)
        self.assertEqual(queue.queue.reap().status, INVALID_FIELD)
        self.ends(queue)

    def test_a_second_command_while_one_computes(self):
        queue = self.server.admin()
        queue.negotiate(groups=(5,))
        first, second = queue.submit_receive(), queue.submit_receive()
        done = {each.cid: each.status for each in (queue.queue.reap(), queue.queue.reap())}
        self.assertEqual(done, {first: 0, second: SEQUENCE_ERROR})
        queue.close()

    def test_a_failed_reauthentication_ends_the_queue(self):
        queue = self.server.admin().authenticate(groups=(0,))
        queue.secret = dhchap.make_secret()
        with self.assertRaises(Refused):
            queue.authenticate(groups=(0,))
        self.ends(queue)

    def test_an_unfinished_reauthentication_disturbs_nothing(self):
        queue = self.server.admin().authenticate(groups=(0,))
        queue.negotiate(groups=(1,))
        queue.challenge()
        queue.get_property().check("CSTS")
        queue.close()

    def test_many_half_authentications(self):
        """They hold nobody up: another host's commands go on, and nothing is left behind."""
        admin = self.server.admin().authenticate(groups=(0,))
        queues = [self.server.admin() for _ in range(HALF_OPEN)]
        for number, queue in enumerate(queues):
            queue.submit_send(dhchap.negotiate(queue.t_id, groups=(1 + number % 2,)))
        for queue in queues:
            queue.queue.reap().check("negotiate")
            queue.submit_receive()
        for _ in range(200):
            admin.get_property().check("CSTS")
        for number, queue in enumerate(queues):
            if number % 3 == 0:
                queue.close()  # while its challenge is computed
            else:
                queue.queue.reap().check("challenge")
        late = self.server.admin().authenticate(groups=(1,))
        late.close()
        for queue in queues:
            queue.close()
        admin.get_property().check("CSTS")
        admin.close()
        self.gone()
        # What that costs others is measured by tests/bench/guards.py: on a busy machine a turn may take long for any reason.
        stalls = sum(reactor["stalls"] for reactor in self.server.call("framework_get_reactors")["reactors"])
        print(f"{HALF_OPEN} half authentications; {stalls} turns of a reactor longer than 100 ms since the server's start")

    # --- configuration ---

    def test_rpc(self):
        self.refused(-errno.ENOKEY, "nvmf_subsystem_set_keys", "'nothing'", "dhchap_key of host", nqn=NQN, host=HOST, dhchap_key="nothing")
        self.refused(-errno.EINVAL, "nvmf_subsystem_set_keys", "dhchap_ctrlr_key 'ctrlr'", nqn=NQN, host=HOST, dhchap_ctrlr_key="ctrlr")
        self.refused(-errno.ENOKEY, "nvmf_subsystem_add_host", "'nothing'", nqn=NQN, host="nqn.2026-11.io.catnap:x", dhchap_key="nothing")
        self.refused(-errno.ENOKEY, "bdev_nvme_attach_controller", "'nothing'", name="N", trtype="TCP", traddr="127.0.0.1", subnqn=NQN, dhchap_key="nothing")
        hosts = next(each["hosts"] for each in self.server.call("nvmf_get_subsystems") if each["nqn"] == NQN)
        self.assertIn({"nqn": HOST, "dhchap_key": "host", "dhchap_ctrlr_key": "ctrlr"}, hosts)
        self.assertIn({"nqn": OPEN_HOST}, hosts)

    def test_keyring_rpc(self):
        server = self.server
        server.write_key("loose", mode=0o640)
        self.refused(-errno.EPERM, "keyring_file_add_key", "mode 640", name="loose", path=server.path_of_key("loose"))
        self.refused(-errno.EPERM, "keyring_file_add_key", "not absolute", name="x", path="relative")
        self.refused(-errno.ENOENT, "keyring_file_add_key", name="x", path="/nonexistent/key")
        self.refused(-errno.EEXIST, "keyring_file_add_key", name="host", path=server.path_of_key("host"))
        self.refused(-errno.ENOKEY, "keyring_file_remove_key", name="x")
        server.add_key("used")
        server.call("nvmf_subsystem_add_host", nqn=NQN, host="nqn.2026-11.io.catnap:used", dhchap_key="used")
        key = {"name": "used", "module": "keyring_file", "removed": False, "probed": False, "refcnt": 2, "path": server.path_of_key("used")}
        self.assertIn(key, server.call("keyring_get_keys"))
        server.call("keyring_file_remove_key", name="used")
        self.assertIn({"name": "used", "module": "keyring_file", "removed": True, "probed": False, "refcnt": 1}, server.call("keyring_get_keys"))
        with self.assertRaises(Refused):
            server.admin(server.secrets["used"], hostnqn="nqn.2026-11.io.catnap:used").authenticate(groups=(0,))
        server.add_key("used", server.secrets["used"])
        server.admin(server.secrets["used"], hostnqn="nqn.2026-11.io.catnap:used").authenticate(groups=(0,)).close()
        server.call("nvmf_subsystem_remove_host", nqn=NQN, host="nqn.2026-11.io.catnap:used")
        server.call("keyring_file_remove_key", name="used")

    # --- the initiator against the target ---

    def attach(self, name="Nvme0", **keys):
        return self.server.call("bdev_nvme_attach_controller", name=name, trtype="TCP", traddr="127.0.0.1", trsvcid=str(self.server.port), subnqn=NQN,
                                hostnqn=HOST, **keys)

    def test_initiator(self):
        server = self.server
        for hash_name in dhchap.HASHES:
            for group in dhchap.GROUPS:
                server.call("bdev_nvme_set_options", dhchap_digests=[hash_name], dhchap_dhgroups=[group])
                both = ({"dhchap_key": "host"}, {"dhchap_key": "host", "dhchap_ctrlr_key": "ctrlr"})
                for keys in one_or_both(dhchap.HASHES[hash_name] + dhchap.GROUPS[group], both):
                    with self.subTest(hash=hash_name, group=group, keys=keys):
                        self.assertEqual(self.attach(**keys), ["Nvme0n1"])
                        self.assertEqual(server.auth_of(), {"state": "completed", "digest": hash_name, "dhgroup": group})
                        server.call("bdev_nvme_detach_controller", name="Nvme0")
                        self.gone()
        server.call("bdev_nvme_set_options", dhchap_digests=list(dhchap.HASHES), dhchap_dhgroups=["null", "ffdhe2048"])
        self.refused(-errno.EACCES, "bdev_nvme_attach_controller", "demands authentication", name="Nvme0", trtype="TCP", traddr="127.0.0.1",
                     trsvcid=str(server.port), subnqn=NQN, hostnqn=HOST)
        for keys in ({"dhchap_key": "other"}, {"dhchap_key": "host", "dhchap_ctrlr_key": "other"}):
            with self.assertRaises(RpcFailure):
                self.attach(**keys)
        # A controller that is to prove itself must, even where nothing is demanded of the host.
        with self.assertRaises(RpcFailure):
            server.call("bdev_nvme_attach_controller", name="Nvme0", trtype="TCP", traddr="127.0.0.1", trsvcid=str(server.port), subnqn=NQN,
                        hostnqn=OPEN_HOST, dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        self.gone()

    def connections(self):
        """Number and port of each queue, when all that are there have authenticated themselves: some may still be about to connect."""
        found = []

        def all_completed():
            found[:] = self.server.call("nvmf_subsystem_get_qpairs", nqn=NQN)
            return all(queue["auth"]["state"] == "completed" for queue in found)

        wait_for(all_completed, lambda: f"queues to have authenticated: {found}")
        return {(queue["qid"], queue["peer_address"]["trsvcid"]) for queue in found}

    def test_new_keys_on_live_connections(self):
        server = self.server
        server.call("bdev_nvme_set_options", dhchap_digests=list(dhchap.HASHES), dhchap_dhgroups=["null", "ffdhe2048"])
        self.attach(dhchap_key="host", dhchap_ctrlr_key="ctrlr")
        server.call("nvmf_create_subsystem", nqn=NQN + "2", serial_number="OUTER", allow_any_host=True)
        server.call("nvmf_subsystem_add_ns", nqn=NQN + "2", namespace={"bdev_name": "Nvme0n1"})
        server.listen(NQN + "2")
        outer = AuthQueue(server.address, NQN + "2", OPEN_HOST, server.secrets["host"])
        outer.enable()
        io = outer.io_queue(server.address)
        read = lambda: io.queue.call("Read", 2, nsid=1, dwords=(0, 0, 7), read_bytes=4096)  # noqa: E731
        read()
        for host, ctrlr in (("other", "host"), ("host", "ctrlr"), ("ctrlr", None), ("host", "ctrlr")):
            keys = {"dhchap_key": host, **({"dhchap_ctrlr_key": ctrlr} if ctrlr else {})}
            before = self.connections()
            server.call("nvmf_subsystem_set_keys", nqn=NQN, host=HOST, **keys)
            stop = threading.Event()
            def reading():
                while not stop.is_set():
                    read()
            thread = threading.Thread(target=reading)
            thread.start()
            try:
                server.call("bdev_nvme_set_keys", name="Nvme0", **keys)
            finally:
                stop.set()
                thread.join()
            self.assertLessEqual(before, self.connections(), "every connection is the one it was")
        self.refused(-errno.ENODEV, "bdev_nvme_set_keys", name="Nvme9", dhchap_key="host")
        with self.assertRaises(RpcFailure):
            server.call("bdev_nvme_set_keys", name="Nvme0", dhchap_key="other")
        server.call("bdev_nvme_set_keys", name="Nvme0", dhchap_key="host")
        io.close()
        outer.close()
        server.call("nvmf_delete_subsystem", nqn=NQN + "2")
        server.call("bdev_nvme_detach_controller", name="Nvme0")
        self.gone()

    def test_discovery_service(self):
        server = self.server
        server.call("bdev_nvme_set_options", dhchap_digests=list(dhchap.HASHES), dhchap_dhgroups=["null"])
        server.call("nvmf_subsystem_add_host", nqn=DISCOVERY, host=HOST, dhchap_key="host")
        server.call("bdev_nvme_start_discovery", name="disc", trtype="TCP", traddr="127.0.0.1", trsvcid=str(server.port), hostnqn=HOST, dhchap_key="host",
                    wait_for_attach=True)
        self.assertEqual(server.auth_of()["state"], "completed")
        server.call("bdev_nvme_stop_discovery", name="disc")
        server.call("nvmf_subsystem_remove_host", nqn=DISCOVERY, host=HOST)
        self.gone()


class AuthLimitsTest(unittest.TestCase):
    def start(self, **config):
        server = Server(config=config)
        self.addCleanup(end_well, server)
        return server.set_up()

    def test_silence_has_a_deadline(self):
        server = self.start(dhchap_timeout_ms=1000)
        queue = server.admin()
        self.addCleanup(queue.close)
        with self.assertRaises(Lost):  # after a second; a machine that is late as well may find that over before the first message
            queue.negotiate()
            queue.queue.reap()

    def test_failures_have_a_rate(self):
        server = self.start(dhchap_timeout_ms=PATIENCE_MS, dhchap_failures_per_minute=3, dhchap_digests=["sha512"], dhchap_dhgroups=["null"])
        for _ in range(3):
            with self.assertRaises(Refused):
                server.admin(dhchap.make_secret()).authenticate()
        # The right key does not help any more, for a minute; another host is not concerned.
        with self.assertRaises(Refused) as caught:
            server.admin().authenticate()
        self.assertEqual(caught.exception.explanation, dhchap.FAILED)
        server.call("nvmf_subsystem_add_host", nqn=NQN, host=HOST + "2", dhchap_key="host")
        server.admin(hostnqn=HOST + "2").authenticate().close()
        saved = server.call("framework_get_config", name="nvmf")
        config = next(each["params"] for each in saved if each["method"] == "nvmf_set_config")
        self.assertEqual((config["dhchap_timeout_ms"], config["dhchap_failures_per_minute"]), (PATIENCE_MS, 3))
        self.assertEqual((config["dhchap_digests"], config["dhchap_dhgroups"]), (["sha512"], ["null"]))

    def test_who_fails_in_a_hosts_name_does_not_keep_it_out(self):
        server = self.start(dhchap_timeout_ms=PATIENCE_MS, dhchap_failures_per_minute=3, dhchap_digests=["sha512"], dhchap_dhgroups=["null"])
        here = server.admin().authenticate()
        self.addCleanup(here.close)
        # From another address: only that one is not listened to any more.
        elsewhere = lambda address: socket.create_connection(address, 60, source_address=("127.0.0.2", 0))  # noqa: E731
        for _ in range(3):
            with self.assertRaises(Refused):
                server.admin(dhchap.make_secret(), dial=elsewhere).authenticate()
        with self.assertRaises(Refused):
            server.admin(dial=elsewhere).authenticate()
        server.admin().authenticate().close()
        # From its own: queues that have proven themselves may do so again.
        for _ in range(3):
            with self.assertRaises(Refused):
                server.admin(dhchap.make_secret()).authenticate()
        with self.assertRaises(Refused):
            server.admin().authenticate()
        here.authenticate().get_property().check("CSTS")
        server.admin().authenticate().close()


if __name__ == "__main__":
    unittest.main()
