"""Keys of NVMe/TCP over TLS in Python, a second time and independent of transport/tls: interchange format, identities, TLS PSKs; and a TLS client for
them, `openssl s_client`, behind a socket.

Sources: TCP Transport 1.0c sections 3.6.1.3 to 3.6.1.5, TP 8018, RFC 5869, RFC 8446 section 7.1. Left out: the kernel's keyring.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import tempfile
import zlib

HASHES = {1: hashlib.sha256, 2: hashlib.sha384}
SUITES = {1: "TLS_AES_128_GCM_SHA256", 2: "TLS_AES_256_GCM_SHA384"}


def interchange(key, transform):
    """`transform` 0, 1 or 2."""
    return f"NVMeTLSkey-1:{transform:02}:{base64.b64encode(key + struct.pack('<I', zlib.crc32(key))).decode()}:"


def new_key(size=32):
    return os.urandom(size)


def expand_label(hash_id, secret, label, context, size):
    label = b"tls13 " + label
    return _expand(hash_id, secret, struct.pack(">HB", size, len(label)) + label + bytes([len(context)]) + context, size)


def _expand(hash_id, secret, info, size):
    prk = hmac.digest(bytes(HASHES[hash_id]().digest_size), secret, HASHES[hash_id])
    out, block, count = b"", b"", 0
    while len(out) < size:
        count += 1
        block = hmac.digest(prk, block + info + bytes([count]), HASHES[hash_id])
        out += block
    return out[:size]


def early_libnvme(hash_id, secret, label, context, size):
    """As libnvme before 1.15 did it: without length bytes, and with the length in the byte order of the machine."""
    return _expand(hash_id, secret, struct.pack("<H", size) + b"tls13 " + label + context, size)


class HostKey:
    """What a host offers: `identity` (text), `psk` (bytes), `suite`."""

    def __init__(self, key, transform, hostnqn, subnqn, version=1, hash_id=None, expand=expand_label):
        retained = expand(transform, key, b"HostNQN", hostnqn.encode(), len(key)) if transform else key
        hash_id = hash_id or (2 if len(key) == 48 else 1)
        size = HASHES[hash_id]().digest_size
        self.identity = f"NVMe{version}R{hash_id:02} {hostnqn} {subnqn}"
        context = self.identity
        if version == 1:
            digest = hmac.digest(retained, f"{hostnqn} {subnqn} NVMe-over-Fabrics".encode(), HASHES[hash_id])
            self.identity += " " + base64.b64encode(digest).decode()
            context = f"{hash_id:02} {base64.b64encode(digest).decode()}"
        self.psk = expand(hash_id, retained, b"nvme-tls-psk", context.encode(), size)
        self.hash_id = hash_id
        self.suite = SUITES[hash_id]


def early_linux(hash_id, secret, label, context, size):
    """As Linux before 6.18 did it for generated PSKs: without length bytes of label and context."""
    return _expand(hash_id, secret, struct.pack(">H", size) + b"tls13 " + label + context, size)


class GeneratedKey:
    """The same of a PSK that DH-HMAC-CHAP generated, as long as the hash."""

    def __init__(self, psk, hostnqn, subnqn, expand=expand_label):
        self.hash_id = {32: 1, 48: 2}[len(psk)]
        digest = base64.b64encode(hmac.digest(psk, f"{hostnqn} {subnqn} NVMe-over-Fabrics".encode(), HASHES[self.hash_id])).decode()
        self.identity = f"NVMe1G{self.hash_id:02} {hostnqn} {subnqn} {digest}"
        self.psk = expand(self.hash_id, psk, b"nvme-tls-psk", f"{self.hash_id:02} {digest}".encode(), len(psk))
        self.suite = SUITES[self.hash_id]


def _der(tag, body):
    return bytes([tag, len(body)]) + body if len(body) < 128 else bytes([tag, 0x81, len(body)]) + body


def session_pem(key):
    """An SSL_SESSION as `s_client -psk_session` reads it: -psk knows SHA-256 only."""
    body = _der(2, b"\x01") + _der(2, b"\x03\x04") + _der(4, bytes([0x13, key.hash_id])) + _der(4, b"") + _der(4, key.psk)
    text = base64.encodebytes(_der(0x30, body)).decode()
    return f"-----BEGIN SSL SESSION PARAMETERS-----\n{text}-----END SSL SESSION PARAMETERS-----\n"


_open = set()


def hang_up_all():
    """Ends what a failed test left open."""
    for one in list(_open):
        one.close()


class Dialled:
    """The near end of a socket behind which s_client speaks TLS with `address`. As much of a socket as nvme_client uses."""

    def __init__(self, address, key, extra=()):
        self.folder = tempfile.TemporaryDirectory(prefix="catnap_tls_")
        path = os.path.join(self.folder.name, "session.pem")
        with open(path, "w", encoding="utf-8") as file:
            file.write(session_pem(key))
        self.near, far = socket.socketpair()
        with open(os.path.join(self.folder.name, "errors"), "wb") as errors:
            self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-tls1_3", "-psk_session", path,
                                             "-psk_identity", key.identity, "-ciphersuites", key.suite, "-quiet", "-nocommands", *extra],
                                            stdin=far, stdout=far, stderr=errors)
        far.close()
        _open.add(self)

    def settimeout(self, seconds):
        self.near.settimeout(seconds)

    def sendall(self, data):
        self.near.sendall(data)

    def recv(self, size):
        return self.near.recv(size)

    def close(self):
        _open.discard(self)
        self.near.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def dialler(key, extra=()):
    """For nvme_client's `dial`."""
    return lambda address: Dialled(address, key, extra)


def probe(address, *arguments, timeout_s=20):
    """Runs s_client until the peer ends the connection or the handshake fails; its whole output."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=timeout_s, check=False)
    return done.stdout + done.stderr


# --- ClientHellos byte by byte, for what no library would send ---


def client_hello(identity, psk, hash_id, suite=None, versions=(0x0304,), binder=None, modes=(1,), share=None, more=b""):
    """The first record of a handshake. `share`: of X25519; by default one that nobody knows the secret of. `more`: further extensions."""
    size = HASHES[hash_id]().digest_size
    suites = struct.pack(">H", suite if suite is not None else 0x1300 + hash_id)
    vector = lambda body, width: len(body).to_bytes(width, "big") + body
    extension = lambda kind, body: struct.pack(">H", kind) + vector(body, 2)
    extensions = extension(43, vector(b"".join(struct.pack(">H", version) for version in versions), 1))
    extensions += extension(10, vector(struct.pack(">H", 29), 2)) + extension(51, vector(struct.pack(">H", 29) + vector(share or os.urandom(32), 2), 2))
    extensions += extension(45, vector(bytes(modes), 1)) + more
    offered = vector(vector(identity.encode(), 2) + bytes(4), 2)
    binders_size = 2 + 1 + size
    extensions += struct.pack(">HH", 41, len(offered) + binders_size) + offered
    body = b"\x03\x03" + os.urandom(32) + b"\0" + vector(suites, 2) + b"\x01\0" + (len(extensions) + binders_size).to_bytes(2, "big") + extensions
    message = b"\x01" + (len(body) + binders_size).to_bytes(3, "big") + body
    if binder is None:
        early = hmac.digest(bytes(size), psk, HASHES[hash_id])
        secret = expand_only(hash_id, early, b"ext binder", HASHES[hash_id](b"").digest(), size)
        finished = expand_only(hash_id, secret, b"finished", b"", size)
        binder = hmac.digest(finished, HASHES[hash_id](message).digest(), HASHES[hash_id])
    message += vector(vector(binder, 1), 2)
    return b"\x16\x03\x01" + vector(message, 2)


def expand_only(hash_id, prk, label, context, size):
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + bytes([len(context)]) + context
    return hmac.digest(prk, info + b"\x01", HASHES[hash_id])[:size]


class Crowd:
    """Half handshakes: `count` connections that sent one of `firsts`, which take turns, and say nothing more. `closed` is how many were closed by the peer."""

    def __init__(self, address, count, firsts):
        self.sockets = []
        for number in range(count):
            one = socket.create_connection(address, 10)
            self.sockets.append(one)
            try:
                one.sendall(firsts[number % len(firsts)])
            except OSError:
                pass  # one too many: closed before it could say anything

    def closed(self):
        count = 0
        for one in self.sockets:
            one.settimeout(0)
            try:
                count += 1 if one.recv(4096) == b"" else 0
            except BlockingIOError:
                pass
            except OSError:
                count += 1
        return count

    def end(self):
        for one in self.sockets:
            one.close()
