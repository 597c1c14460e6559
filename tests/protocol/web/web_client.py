"""A catnapd that serves HTTP on loopback, and clients of it: http.client where a well-behaved one is wanted, plain sockets where not.

Left out: TLS contexts (http_test.py).
"""

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "rpc"))

from server_process import ROOT, ServerProcess  # noqa: E402

# Far above any deadline that a test sets: it only keeps a broken server from holding the test up.
TIMEOUT_S = 60
TOKEN = "0123456789abcdef0123456789abcdef"
TOKEN_HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()
PASSWORD = "open sesame"
# `openssl passwd -6 -salt salt 'open sesame'`
PASSWORD_HASH = "$6$salt$Y6g9DOGvmKi.rUZj4wYRsu81e/xiQjZOHDVgZQsASfa8nA3EvFKBHUDMWxS2ICbOEloc1kersS3PKn8yosbNh1"
CREDENTIALS = f"# test\noperator:admin:{PASSWORD_HASH}\nviewer:read-only:{TOKEN_HASH}\n"


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class WebServer:
    """`server` is the process, `port` where it serves HTTP. `patient`: it is to cut off who is slow, and on a busy machine so is who does nothing wrong: ask()
    then asks once more."""

    def __init__(self, *options, address="127.0.0.1:0", credentials=None, wait=True, patient=False, **more):
        self.patient = patient
        self.folder = None
        if credentials is not None:
            self.folder = tempfile.TemporaryDirectory(prefix="catnap_web_")
            path = os.path.join(self.folder.name, "credentials")
            with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(credentials)
            options = (*options, "--http-credentials", path)
        self.server = ServerProcess("--http", address, *options, wait=wait, **more)
        self.port = self.wait_for_port()

    def wait_for_port(self):
        """The RPC socket may be there before the line."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end and self.server.process.poll() is None:
            if found := re.search(r"HTTPS? at \S+:(\d+)", self.server.log_text()):
                return int(found.group(1))
            time.sleep(0.01)
        raise AssertionError(self.server.log_text())

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def ask(self, method, path, body=None, **headers):
        """One request on a connection of its own. Header names have _ for -."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self.ask_once(method, path, body, **headers)
            except ConnectionError:
                if not self.patient or time.monotonic() > end:
                    raise

    def ask_once(self, method, path, body=None, **headers):
        connection = self.connection()
        try:
            connection.request(method, path, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def call(self, method, params=None, path="/rpc", **headers):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            request["params"] = params
        return self.ask("POST", path, json.dumps(request), **{"Content_Type": "application/json", **headers})

    def raw(self, data=b""):
        """A socket that has sent these bytes."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        client.sendall(data)
        return client

    def close(self):
        status = self.server.stop()
        text = self.server.log_text()
        self.server.clean()
        if self.folder is not None:
            self.folder.cleanup()
        return status, text


def make_certificate(folder, name, days=2):
    """Files of a certificate for localhost that signs itself, and of its key."""
    cert, key = (os.path.join(folder, f"{name}.{kind}") for kind in ("cert", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", str(days),
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def until_closed(client):
    """All that comes until the server ends the connection."""
    received = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def responses(client, count):
    """So many responses from one socket, in order: (status, body)."""
    file = client.makefile("rb")
    found = []
    for _ in range(count):
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip()):
            name, value = line.split(b":", 1)
            if name.lower() == b"content-length":
                length = int(value)
        found.append((status, file.read(length)))
    return found


__all__ = ["CREDENTIALS", "PASSWORD", "ROOT", "Reply", "ServerProcess", "TIMEOUT_S", "TOKEN", "WebServer", "basic", "make_certificate", "responses", "until_closed"]
