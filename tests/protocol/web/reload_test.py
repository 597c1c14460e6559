#!/usr/bin/env -S /usr/bin/python3
"""SIGHUP: certificate and credentials of the HTTP server are read again while clients work; a file that is wrong changes nothing and is named.

Left out: what the files may be at a start (http_test.py), the words to the service manager (service_manager_test.py).
"""

import hashlib
import http.client
import json
import os
import pty
import re
import signal
import ssl
import subprocess
import tempfile
import time
import unittest

from web_client import TIMEOUT_S, TOKEN, TOKEN_HASH, ServerProcess, WebServer, make_certificate, responses

AS_ROOT = os.geteuid() == 0
NOBODY = 65534
NEW_TOKEN = "f" * 32
OLD, NEW = f"viewer:read-only:{TOKEN_HASH}\n", f"viewer:read-only:sha256:{hashlib.sha256(NEW_TOKEN.encode()).hexdigest()}\n"
# What it says when a file has been read again, with either outcome.
OUTCOMES = ("count from now on", "credentials stay as they were", "new connections are shown", "certificate stays as it was", "nothing to read again")


def write(path, text, mode=0o600, owner=-1):
    """As an editor does it: a new file takes the place of the old one."""
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path + ".new", mode)
    os.chown(path + ".new", owner, -1)
    os.rename(path + ".new", path)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Reloaded(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_reload_")
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = folder.name
        self.certs = {name: make_certificate(self.folder, name, days) for name, days in (("one", 2), ("two", 9))}

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, *options, **more):
        web = WebServer(*options, **more)
        self.addCleanup(web.server.clean)
        self.addCleanup(lambda: web.server.process.poll() is None and web.server.stop())
        return web

    def reload(self, server, files=2):
        """Returns what was said about the files."""
        before = len(server.log_text())
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            said = [line for line in server.log_text()[before:].splitlines() if any(outcome in line for outcome in OUTCOMES)]
            if len(said) >= files:
                return "\n".join(said)
            self.assertIsNone(server.process.poll(), server.log_text())
            self.assertLess(time.monotonic(), deadline, server.log_text())
            time.sleep(0.01)

    def connection(self, web, cert):
        return http.client.HTTPSConnection("localhost", web.port, context=ssl.create_default_context(cafile=self.certs[cert][0]), timeout=TIMEOUT_S)

    @staticmethod
    def status(connection, token):
        connection.request("POST", "/rpc", body=json.dumps({"id": 1, "method": "spdk_get_version"}), headers={"Authorization": "Bearer " + token})
        response = connection.getresponse()
        response.read()
        return response.status

    def shows(self, web, cert, token):
        """A new connection is shown this certificate, and this token counts."""
        connection = self.connection(web, cert)
        self.addCleanup(connection.close)
        self.assertEqual(self.status(connection, token), 200)

    def expiry(self, web, cert, token):
        """What /metrics says of the end of the certificate."""
        connection = self.connection(web, cert)
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer " + token})
        text = connection.getresponse().read().decode()
        connection.close()
        return int(re.search(r"^catnap_http_certificate_expiry_timestamp_seconds (\d+)$", text, re.M).group(1))

    def end_of(self, cert):
        said = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", self.certs[cert][0]], check=True, capture_output=True, text=True).stdout
        return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))

    def test_what_is_under_way_goes_on_and_what_comes_finds_the_new_files(self):
        # As certbot has it: links to numbered files elsewhere. The kernel holds the process to another directory (where it can).
        for folder in ("live", "archive", "disks"):
            os.mkdir(self.path(folder))
        def renew(number, cert):
            for kind, file in zip(("cert", "key"), self.certs[cert]):
                write(self.path(f"archive/{kind}{number}.pem"), read(file))
                os.symlink(f"../archive/{kind}{number}.pem", self.path(f"live/{kind}.new"))
                os.rename(self.path(f"live/{kind}.new"), self.path(f"live/{kind}.pem"))
        renew(1, "one")
        write(self.path("credentials"), OLD)
        web = self.start("--http-cert", self.path("live/cert.pem"), "--http-key", self.path("live/key.pem"), "--http-credentials", self.path("credentials"),
                         "--allow-path", self.path("disks"), "--wait-for-rpc", wait=False)
        old = self.connection(web, "one")
        self.addCleanup(old.close)
        self.assertEqual(self.status(old, TOKEN), 200)
        self.assertEqual(self.expiry(web, "one", TOKEN), self.end_of("one"))
        waiting = ssl.create_default_context(cafile=self.certs["one"][0]).wrap_socket(web.raw(), server_hostname="localhost")
        self.addCleanup(waiting.close)
        body = json.dumps({"id": 7, "method": "framework_wait_init"})
        waiting.sendall(f"POST /rpc HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        goes_on = b""
        while b"\r\n\r\n" not in goes_on:
            goes_on += waiting.recv(1)
        self.assertIn(b" 100 ", goes_on, "its credentials were looked at")
        waiting.sendall(body.encode())
        renew(2, "two")
        write(self.path("credentials"), NEW)
        said = self.reload(web.server)
        self.assertIn("1 entries of", said)
        self.assertIn("valid until", said)
        self.shows(web, "two", NEW_TOKEN)
        self.assertEqual(self.expiry(web, "two", NEW_TOKEN), self.end_of("two"))
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.connection(web, "one").connect()
        self.assertEqual(self.status(old, NEW_TOKEN), 200, "on a connection from before, with the certificate that it was shown")
        self.assertEqual(self.status(old, TOKEN), 401, "what was given up does not count there either")
        web.server.client.call("framework_start_init")
        self.assertEqual(responses(waiting, 1)[0][0], 200)
        self.assertEqual(web.server.stop(), 0)

    def test_wrong_files_change_nothing_and_are_named(self):
        cert, key, credentials = (self.path(name) for name in ("cert.pem", "key.pem", "credentials"))
        good = {cert: read(self.certs["one"][0]), key: read(self.certs["one"][1]), credentials: OLD}
        for path, text in good.items():
            write(path, text)
        web = self.start("--http-cert", cert, "--http-key", key, "--http-credentials", credentials)
        for path, text, mode, reason in (
                (cert, "", 0o600, "has nothing in PEM in it"),
                (cert, good[cert].replace("M", "N"), 0o600, "--http-cert '"),
                (cert, read(self.certs["two"][0]), 0o600, "is not the key of"),
                (key, read(self.certs["two"][1]), 0o600, "is not the key of"),
                (key, good[key][:80], 0o600, "--http-key '"),
                (key, good[key], 0o644, "others must not have access"),
                (credentials, "viewer", 0o600, "line 1: it is not NAME:ROLE:HASH"),
                (credentials, "# nobody\n", 0o600, "has no entry"),
                (credentials, NEW, 0o640, "group and others must not have access"),
                (credentials, NEW * 20000, 0o600, "is longer than")):
            with self.subTest(path=os.path.basename(path), reason=reason):
                write(path, text, mode)
                said = self.reload(web.server)
                self.assertIn("stay as they were" if path == credentials else "stays as it was", said)
                self.assertIn(reason, said)
                self.shows(web, "one", TOKEN)
                write(path, good[path])
        os.unlink(key)
        self.assertIn("No such file", self.reload(web.server))
        self.shows(web, "one", TOKEN)
        for path, text in zip((cert, key, credentials), (*map(read, self.certs["two"]), NEW)):
            write(path, text)
        # Asked for several times at once, the last word counts.
        for _ in range(5):
            web.server.process.send_signal(signal.SIGHUP)
        self.assertNotIn("stay", self.reload(web.server))
        self.shows(web, "two", NEW_TOKEN)
        text = web.server.log_text()
        self.assertEqual(web.server.stop(), 0)
        for secret in (good[key].splitlines()[1], TOKEN_HASH):
            self.assertNotIn(secret, text)

    @unittest.skipUnless(AS_ROOT, "--user needs root")
    def test_after_user_the_files_must_be_that_user_s(self):
        credentials = self.path("credentials")
        write(credentials, OLD, owner=NOBODY)
        web = self.start("--user", "nobody", "--http-credentials", credentials)
        self.assertEqual(web.call("spdk_get_version", Authorization="Bearer " + TOKEN).status, 200)
        write(credentials, NEW, owner=NOBODY)
        self.assertIn("count from now on", self.reload(web.server, 1))
        self.assertEqual(web.call("spdk_get_version", Authorization="Bearer " + NEW_TOKEN).status, 200)
        write(credentials, OLD)  # root's: readable at a start, and not afterwards
        said = self.reload(web.server, 1)
        self.assertIn("stay as they were", said)
        self.assertIn(f"Permission denied (for uid {NOBODY}, which reads it)", said)
        self.assertEqual(web.call("spdk_get_version", Authorization="Bearer " + NEW_TOKEN).status, 200)
        self.assertEqual(web.server.stop(), 0)


class HangUp(unittest.TestCase):
    def test_without_files_nothing_happens(self):
        for options in ((), ("--http", "127.0.0.1:0")):
            server = ServerProcess(*options)
            self.addCleanup(server.clean)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + TIMEOUT_S
            while "to read again" not in server.log_text():
                self.assertLess(time.monotonic(), deadline, server.log_text())
                time.sleep(0.01)
            server.client.call("spdk_get_version")
            self.assertEqual(server.stop(), 0)

    def test_a_terminal_that_goes_ends_it(self):
        leader, terminal = pty.openpty()
        try:
            server = ServerProcess(stdin=terminal)
            self.addCleanup(server.clean)
            server.process.send_signal(signal.SIGHUP)
            self.assertEqual(server.wait(), 0)
            self.assertIn("SIGHUP of the terminal: ending", server.log_text())
        finally:
            os.close(leader)
            os.close(terminal)


if __name__ == "__main__":
    unittest.main()
