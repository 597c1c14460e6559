"""DH-HMAC-CHAP in plain Python (hmac, hashlib, pow), written from the specifications alone: what the C++ code is compared with.

NVMe Base Specification 2.0 section 8.13.5; the primes are computed by the formula of RFC 7919 appendix A. Left out: constant time, and keeping secrets.
"""
import base64
import functools
import hashlib
import hmac
import os
import struct
import zlib

HASHES = {"sha256": 1, "sha384": 2, "sha512": 3}
GROUPS = {"null": 0, "ffdhe2048": 1, "ffdhe3072": 2, "ffdhe4096": 3, "ffdhe6144": 4, "ffdhe8192": 5}
HASH_NAMES = {number: name for name, number in HASHES.items()}
GROUP_NAMES = {number: name for name, number in GROUPS.items()}

NEGOTIATE, CHALLENGE, REPLY, SUCCESS1, SUCCESS2, FAILURE2, FAILURE1 = 0x00, 0x01, 0x02, 0x03, 0x04, 0xF0, 0xF1
COMMON, DHCHAP = 0, 1
# SC_C of the negotiate message.
NO_CHANNEL, NEW_TLS_PSK, REPLACE_TLS_PSK = 0, 2, 3
# Explanations of failures.
FAILED, PROTOCOL, CONCATENATION, HASH, GROUP, PAYLOAD, MESSAGE = range(1, 8)

# RFC 7919 appendix A: p = 2^b - 2^(b-64) + (floor(2^(b-130) e) + X) 2^64 - 1.
_X = {2048: 560316, 3072: 2625351, 4096: 5736041, 6144: 15705020, 8192: 10965728}


@functools.lru_cache(None)
def prime(group):
  bits = int(group[len("ffdhe"):])
  extra = 64  # bits beyond, so that rounding does not show
  one = 1 << (bits - 130 + extra)
  total = term = one
  n = 1
  while term:
    term //= n
    total += term
    n += 1
  return (1 << bits) - (1 << (bits - 64)) + (((total >> extra) + _X[bits]) << 64) - 1


def prime_bytes(group):
  return 0 if group == "null" else int(group[len("ffdhe"):]) // 8


class KeyPair:
  def __init__(self, group, private=None):
    self.group = group
    self.private = private or int.from_bytes(os.urandom(40), "big")
    self.public = pow(2, self.private, prime(group)).to_bytes(prime_bytes(group), "big")

  def agree(self, peer):
    return pow(int.from_bytes(peer, "big"), self.private, prime(self.group)).to_bytes(prime_bytes(self.group), "big")


def make_secret(length=32, hash_number=0, key=None):
  """A new secret in its text form."""
  key = key or os.urandom(length)
  crc = struct.pack("<I", zlib.crc32(key))
  return f"DHHC-1:{hash_number:02x}:{base64.b64encode(key + crc).decode()}:"


def key_of(secret, nqn):
  """The key as `nqn` uses it."""
  _, number, text, _ = secret.split(":")
  raw = base64.b64decode(text)
  key, crc = raw[:-4], raw[-4:]
  assert struct.unpack("<I", crc)[0] == zlib.crc32(key)
  if int(number) == 0:
    return key
  return hmac.new(key, nqn.encode() + b"NVMe-over-Fabrics", HASH_NAMES[int(number)]).digest()


def respond(hash_name, key, dh_secret, challenge, seqnum, t_id, who, first, second, sc_c=0):
  """Response of `who` ("HostHost" or "Controller"), whose NQN comes first."""
  if dh_secret:
    challenge = hmac.new(hashlib.new(hash_name, dh_secret).digest(), challenge, hash_name).digest()
  text = challenge + struct.pack("<IHB", seqnum, t_id, sc_c) + who.encode() + first.encode() + b"\0" + second.encode()
  return hmac.new(key, text, hash_name).digest()


def header(kind, message_id, t_id):
  return struct.pack("<BB2xH", kind, message_id, t_id)


def negotiate(t_id, hashes=tuple(HASHES.values()), groups=tuple(GROUPS.values()), sc_c=0, auth_id=DHCHAP):
  descriptor = struct.pack("<BxBB", auth_id, len(hashes), len(groups)) + bytes(hashes).ljust(30, b"\0") + bytes(groups).ljust(30, b"\0")
  return header(COMMON, NEGOTIATE, t_id) + struct.pack("<BB", sc_c, 1) + descriptor


class Challenge:
  def __init__(self, data):
    kind, message_id, self.t_id, self.hl, self.hash, self.group, dhvlen, self.seqnum = struct.unpack_from("<BB2xHBxBBHI", data)
    assert (kind, message_id) == (DHCHAP, CHALLENGE), f"no challenge: {data[:16].hex()}"
    self.value = data[16 : 16 + self.hl]
    self.public = data[16 + self.hl : 16 + self.hl + dhvlen]


def reply(t_id, response, challenge=None, seqnum=0, public=b"", hl=None, cvalid=None, dhvlen=None):
  size = len(response) if hl is None else hl
  valid = (challenge is not None) if cvalid is None else cvalid
  length = len(public) if dhvlen is None else dhvlen
  return header(DHCHAP, REPLY, t_id) + struct.pack("<BxBxHI", size, valid, length, seqnum) + response + (challenge or bytes(len(response))) + public


def success2(t_id):
  return header(DHCHAP, SUCCESS2, t_id) + bytes(10)


def failure2(t_id, explanation=FAILED):
  return header(COMMON, FAILURE2, t_id) + bytes((1, explanation))


def failure_of(data):
  """Explanation of an AUTH_Failure1 message, or None."""
  kind, message_id, _, reason, explanation = struct.unpack_from("<BB2xHBB", data)
  return explanation if (kind, message_id, reason) == (COMMON, FAILURE1, 1) else None
