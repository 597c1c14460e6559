"""A host that authenticates itself: the NVMe/TCP client of tests/e2e with DH-HMAC-CHAP by tests/lib/dhchap.py, step by step so that tests can spoil each.

Left out: TLS (tls_keys.py), discovery of what the controller prefers.
"""
import hashlib
import hmac
import os
import struct
import sys
import uuid

HERE = os.path.dirname(os.path.realpath(__file__))
for folder in ("../../e2e", "../../lib"):
    sys.path.insert(0, os.path.join(HERE, folder))

import dhchap  # noqa: E402
from nvme_client import FABRICS, IDENTIFY, READ, SET_FEATURES, WRITE, Lost, QueuePair  # noqa: E402,F401

SEND, RECEIVE = 5, 6
AUTHENTICATION_REQUIRED, SEQUENCE_ERROR, INVALID_FIELD = 0x191, 0x00C, 0x002
ATR, ASCR = 1 << 17, 1 << 18


class Refused(Exception):
    """The other side sent AUTH_Failure1 with this explanation."""

    def __init__(self, explanation):
        super().__init__(f"AUTH_Failure1, explanation {explanation}")
        self.explanation = explanation


class AuthQueue:
    """One queue; `connected` is DW0 of Connect's answer."""

    def __init__(self, address, subnqn, hostnqn, secret, qid=0, cntlid=0xFFFF, host_id=None, ctrlr_secret=None, kato_ms=0, timeout_s=60,
                 dial=None):
        self.subnqn, self.hostnqn, self.secret, self.ctrlr_secret = subnqn, hostnqn, secret, ctrlr_secret
        self.host_id = host_id or uuid.uuid4()
        self.queue = QueuePair(address, timeout_s=timeout_s, dial=dial)
        data = self.host_id.bytes + struct.pack("<H", cntlid) + bytes(238) + subnqn.encode().ljust(256, b"\0") + hostnqn.encode().ljust(256, b"\0") + bytes(256)
        fields = struct.pack("<HHHBxI", 0, qid, 31, 0, kato_ms if qid == 0 else 0)
        self.connected = self.queue.call("Connect", FABRICS, nsid=1, data=data, in_capsule=True, fields=fields).result & 0xFFFFFFFF
        self.cntlid = self.connected & 0xFFFF
        self.t_id = struct.unpack("<H", os.urandom(2))[0]
        self.hash = self.group = None
        self.agreed = self.generated = None  # Diffie-Hellman secret; PSK out of an authentication with concatenation

    def close(self):
        self.queue.close()

    # --- commands ---

    def submit_send(self, message, length=None, secp=0xE9, spsp=(1, 1)):
        fields = struct.pack("<xBBBI", spsp[0], spsp[1], secp, len(message) if length is None else length)
        return self.queue.submit(FABRICS, nsid=SEND, data=message, in_capsule=True, fields=fields)

    def submit_receive(self, size=4096, length=None):
        fields = struct.pack("<xBBBI", 1, 1, 0xE9, size if length is None else length)
        return self.queue.submit(FABRICS, nsid=RECEIVE, read_bytes=size, fields=fields)

    def send(self, message, **keywords):
        self.submit_send(message, **keywords)
        return self.queue.reap().check("Authentication Send")

    def receive(self, **keywords):
        self.submit_receive(**keywords)
        data = self.queue.reap().check("Authentication Receive").data
        explanation = dhchap.failure_of(data)
        if explanation is not None:
            raise Refused(explanation)
        return data

    # --- the exchange ---

    def negotiate(self, **keywords):
        self.send(dhchap.negotiate(self.t_id, **keywords))

    def challenge(self):
        challenge = dhchap.Challenge(self.receive())
        assert challenge.t_id == self.t_id and challenge.seqnum != 0
        self.hash, self.group = dhchap.HASH_NAMES[challenge.hash], dhchap.GROUP_NAMES[challenge.group]
        assert len(challenge.public) == dhchap.prime_bytes(self.group)
        return challenge

    def answer(self, challenge, secret=None, t_id=None, sc_c=0):
        """The reply to a challenge, and what the controller must answer to it."""
        t_id = self.t_id if t_id is None else t_id
        pair = dhchap.KeyPair(self.group) if self.group != "null" else None
        self.agreed = shared = pair.agree(challenge.public) if pair else b""
        key = dhchap.key_of(secret or self.secret, self.hostnqn)
        response = dhchap.respond(self.hash, key, shared, challenge.value, challenge.seqnum, t_id, "HostHost", self.hostnqn, self.subnqn,
                                  sc_c)
        own, seqnum, expected = None, 0, None
        if self.ctrlr_secret or sc_c:
            own = os.urandom(challenge.hl)
        if self.ctrlr_secret:
            seqnum = 77
            key = dhchap.key_of(self.ctrlr_secret, self.subnqn)
            expected = dhchap.respond(self.hash, key, shared, own, seqnum, t_id, "Controller", self.subnqn, self.hostnqn, sc_c)
        if sc_c and shared:
            session = hashlib.new(self.hash, shared).digest()
            self.generated = hmac.new(session, challenge.value + own, self.hash).digest()
        return dhchap.reply(t_id, response, own, seqnum, pair.public if pair else b""), expected

    def authenticate(self, sc_c=0, **offer):
        self.negotiate(sc_c=sc_c, **offer)
        reply, expected = self.answer(self.challenge(), sc_c=sc_c)
        self.send(reply)
        success = self.receive()
        kind, message_id, t_id, size, valid = struct.unpack_from("<BB2xHBxB", success)
        assert (kind, message_id, t_id) == (dhchap.DHCHAP, dhchap.SUCCESS1, self.t_id), success[:16].hex()
        assert valid == (1 if expected else 0)
        if expected:
            assert success[16 : 16 + size] == expected, "the controller's response"
            self.send(dhchap.success2(self.t_id))
        return self

    # --- what needs an authenticated queue ---

    def get_property(self, offset=0x1C, size=4):
        self.queue.submit(FABRICS, nsid=4, fields=struct.pack("<B3xI", 1 if size == 8 else 0, offset))
        return self.queue.reap()

    def enable(self):
        self.queue.call("Property Set", FABRICS, nsid=0, fields=struct.pack("<B3xIQ", 0, 0x14, 0x00460001))
        while not self.get_property().check("CSTS").result & 1:
            pass
        self.queue.call("Number of Queues", SET_FEATURES, dwords=(7, 0x000F000F))

    def io_queue(self, address, qid=1, hostnqn=None):
        return AuthQueue(address, self.subnqn, hostnqn or self.hostnqn, self.secret, qid, self.cntlid, self.host_id, self.ctrlr_secret)
