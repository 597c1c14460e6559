"""A TLS 1.3 client by PSK, byte by byte: every record, message and alert can be made, held back, changed or repeated, as no library would do it.

X25519 and the key schedule (RFC 7748, RFC 8446 section 7.1) are Python's own arithmetic; AES-GCM is libcrypto's. Left out: constant time, checks of
what the server says beyond what is needed to go on.
"""
import ctypes
import ctypes.util
import hmac
import os
import socket
import struct

from tls_keys import HASHES, client_hello, expand_only

ALERT, HANDSHAKE, DATA = 21, 22, 23
KEY_UPDATE, FINISHED, NEW_SESSION_TICKET = 24, 20, 4
PRIME = 2**255 - 19
ENCRYPT, DECRYPT = 1, 0
SET_IV_SIZE, GET_TAG, SET_TAG, TAG_BYTES = 9, 16, 17, 16


def x25519(scalar, point):
    """RFC 7748, section 5, by the ladder."""
    k = (int.from_bytes(scalar, "little") & ~7 & ((1 << 254) - 1)) | 1 << 254
    x1 = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for bit in reversed(range(255)):
        now = k >> bit & 1
        if now != swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = now
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


BASE_POINT = (9).to_bytes(32, "little")


def _libcrypto():
    library = ctypes.CDLL(ctypes.util.find_library("crypto"))
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm", "EVP_aes_256_gcm"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


_crypto = _libcrypto()


def aes_gcm(direction, key, nonce, additional, text):
    """Text with its tag behind it, made or checked; None: the tag is wrong."""
    context = ctypes.c_void_p(_crypto.EVP_CIPHER_CTX_new())
    cipher = ctypes.c_void_p((_crypto.EVP_aes_128_gcm if len(key) == 16 else _crypto.EVP_aes_256_gcm)())
    tag = ctypes.create_string_buffer(text[-TAG_BYTES:] if direction == DECRYPT else bytes(TAG_BYTES), TAG_BYTES)
    body = text[:-TAG_BYTES] if direction == DECRYPT else text
    out, size = ctypes.create_string_buffer(len(body) + 16), ctypes.c_int()
    try:
        assert _crypto.EVP_CipherInit_ex(context, cipher, None, None, None, direction) == 1
        assert _crypto.EVP_CIPHER_CTX_ctrl(context, SET_IV_SIZE, len(nonce), None) == 1
        assert _crypto.EVP_CipherInit_ex(context, None, None, key, nonce, direction) == 1
        if direction == DECRYPT:
            assert _crypto.EVP_CIPHER_CTX_ctrl(context, SET_TAG, TAG_BYTES, tag) == 1
        assert _crypto.EVP_CipherUpdate(context, None, ctypes.byref(size), additional, len(additional)) == 1
        assert _crypto.EVP_CipherUpdate(context, out, ctypes.byref(size), body, len(body)) == 1
        if _crypto.EVP_CipherFinal_ex(context, ctypes.byref(out, size.value), ctypes.byref(size)) != 1:
            return None
        if direction == ENCRYPT:
            assert _crypto.EVP_CIPHER_CTX_ctrl(context, GET_TAG, TAG_BYTES, tag) == 1
        return out.raw[: len(body)] + (tag.raw if direction == ENCRYPT else b"")
    finally:
        _crypto.EVP_CIPHER_CTX_free(context)


class Protection:
    """The keys of one direction under one traffic secret."""

    def __init__(self, hash_id, secret):
        self.hash_id, self.secret, self.number = hash_id, secret, 0
        self.key = expand_only(hash_id, secret, b"key", b"", {1: 16, 2: 32}[hash_id])
        self.iv = expand_only(hash_id, secret, b"iv", b"", 12)

    def next(self):
        """Behind a KeyUpdate."""
        return Protection(self.hash_id, expand_only(self.hash_id, self.secret, b"traffic upd", b"", HASHES[self.hash_id]().digest_size))

    def _nonce(self):
        self.number += 1
        return bytes(a ^ b for a, b in zip(self.iv, struct.pack(">4xQ", self.number - 1)))

    def seal(self, kind, text, padding=0):
        inner = text + bytes([kind]) + bytes(padding)
        header = b"\x17\x03\x03" + struct.pack(">H", len(inner) + TAG_BYTES)
        return header + aes_gcm(ENCRYPT, self.key, self._nonce(), header, inner)

    def open(self, header, body):
        """(kind, text)"""
        inner = aes_gcm(DECRYPT, self.key, self._nonce(), header, body)
        assert inner is not None, "the server's record does not decrypt"
        inner = inner.rstrip(b"\0")
        return inner[-1], inner[:-1]


class TlsBytes:
    """A connection up to the server's Finished; finish() ends the handshake. As much of a socket as nvme_client uses."""

    def __init__(self, address, key, timeout_s=60, source=None):
        self.hash_id = key.hash_id
        self.size = HASHES[self.hash_id]().digest_size
        self.socket = socket.create_connection(address, timeout_s, source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        private = os.urandom(32)
        self.hello = client_hello(key.identity, key.psk, key.hash_id, share=x25519(private, BASE_POINT))
        self.key, self.private, self.data = key, private, b""
        self.handshake = self.to_server = self.from_server = None

    def start(self):
        self.socket.sendall(self.hello)
        header, server_hello = self.raw_record()
        assert header[0] == HANDSHAKE and server_hello[0] == 2, (header + server_hello).hex()
        self.transcript = self.hello[5:] + server_hello
        derive = lambda secret, label, context: expand_only(self.hash_id, secret, label, context, self.size)  # noqa: E731
        empty = HASHES[self.hash_id](b"").digest()
        digest = lambda: HASHES[self.hash_id](self.transcript).digest()  # noqa: E731
        early = hmac.digest(bytes(self.size), self.key.psk, HASHES[self.hash_id])
        shared = x25519(self.private, self._share_of(server_hello))
        secret = hmac.digest(derive(early, b"derived", empty), shared, HASHES[self.hash_id])
        self.client_handshake_secret = derive(secret, b"c hs traffic", digest())
        self.handshake = Protection(self.hash_id, self.client_handshake_secret)
        flight, protection = b"", Protection(self.hash_id, derive(secret, b"s hs traffic", digest()))
        while not self._ends_with_finished(flight):
            kind, text = protection.open(*self.raw_record())
            assert kind == HANDSHAKE, (kind, text)
            flight += text
        self.transcript += flight
        master = hmac.digest(derive(secret, b"derived", empty), bytes(self.size), HASHES[self.hash_id])
        self.to_server = Protection(self.hash_id, derive(master, b"c ap traffic", digest()))
        self.from_server = Protection(self.hash_id, derive(master, b"s ap traffic", digest()))
        return self

    def finished(self):
        """The message."""
        key = expand_only(self.hash_id, self.client_handshake_secret, b"finished", b"", self.size)
        proof = hmac.digest(key, HASHES[self.hash_id](self.transcript).digest(), HASHES[self.hash_id])
        return bytes([FINISHED]) + len(proof).to_bytes(3, "big") + proof

    def finish(self):
        self.socket.sendall(self.handshake.seal(HANDSHAKE, self.finished()))
        return self

    @staticmethod
    def _share_of(server_hello):
        at = 4 + 2 + 32
        at += 1 + server_hello[at] + 2 + 1
        end = at + 2 + int.from_bytes(server_hello[at:at + 2], "big")
        at += 2
        while at < end:
            kind, size = struct.unpack_from(">HH", server_hello, at)
            if kind == 51:
                return server_hello[at + 8:at + 4 + size]
            at += 4 + size
        raise AssertionError("the server has no key share")

    @staticmethod
    def _ends_with_finished(flight):
        at = last = 0
        while at + 4 <= len(flight):
            last, at = flight[at], at + 4 + int.from_bytes(flight[at + 1:at + 4], "big")
        return at == len(flight) and last == FINISHED

    def _exactly(self, size):
        got = b""
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise ConnectionError("the server hung up")
            got += part
        return got

    def raw_record(self):
        header = self._exactly(5)
        return header, self._exactly(int.from_bytes(header[3:5], "big"))

    def record(self):
        """The next one that the server encrypted under its present traffic secret: (kind, text)."""
        return self.from_server.open(*self.raw_record())

    def update_key(self, wanted, send=True):
        """A KeyUpdate record; what is sealed behind it has the next keys. `wanted`: the server is to have new ones as well."""
        record = self.to_server.seal(HANDSHAKE, bytes([KEY_UPDATE, 0, 0, 1, 1 if wanted else 0]))
        self.to_server = self.to_server.next()
        if send:
            self.socket.sendall(record)
        return record

    def settimeout(self, seconds):
        self.socket.settimeout(seconds)

    def sendall(self, data):
        for at in range(0, len(data), 16384):
            self.socket.sendall(self.to_server.seal(DATA, data[at:at + 16384]))

    def recv(self, size):
        while not self.data:
            try:
                kind, text = self.record()
            except ConnectionError:
                return b""
            if kind == HANDSHAKE and text[0] == KEY_UPDATE:
                self.from_server = self.from_server.next()
            elif kind == ALERT:
                return b""
            elif kind == DATA:
                self.data = text
        got, self.data = self.data[:size], self.data[size:]
        return got

    def close(self):
        self.socket.close()
