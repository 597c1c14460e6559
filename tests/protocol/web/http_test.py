#!/usr/bin/env -S /usr/bin/python3
"""The HTTP server of the real catnapd: JSON-RPC as SPDK's proxy answers it, credentials and roles, other sites' pages, bounds, slow and rude clients, TLS, the
dashboard's files, health. Left out: metrics (metrics_test.py), the dashboard in a browser (tests/e2e).
"""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from random import Random

from web_client import CREDENTIALS, PASSWORD, TIMEOUT_S, TOKEN, Reply, ServerProcess, WebServer, basic, make_certificate, responses, until_closed

JSON = {"Content_Type": "application/json"}
VERSION = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "spdk_get_version"})


def request_bytes(body=VERSION, path="/rpc", extra=""):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}").encode()


class Served(unittest.TestCase):
    """One server for all cases of a class."""
    options = ()
    credentials = None
    patient = False

    @classmethod
    def setUpClass(cls):
        cls.web = WebServer(*cls.options, credentials=cls.credentials, patient=cls.patient)

    @classmethod
    def tearDownClass(cls):
        status, text = cls.web.close()
        assert status == 0, text


class JsonRpc(Served):
    def test_both_paths_answer_as_the_socket_does(self):
        expected = self.web.server.client.call("spdk_get_version")
        for path in ("/", "/rpc"):
            reply = self.web.call("spdk_get_version", path=path)
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.headers["Content-Type"], "application/json")
            self.assertEqual(reply.headers["Cache-Control"], "no-store")
            self.assertEqual(reply.json(), {"jsonrpc": "2.0", "id": 1, "result": expected})

    def test_a_failed_method_is_200_with_the_error(self):
        reply = self.web.call("bdev_get_bdevs", {"name": "nope"})
        self.assertEqual((reply.status, reply.json()["error"]["code"]), (200, -19))
        self.assertEqual(self.web.call("no_such_method").json()["error"]["code"], -32601)

    def test_batches_and_notifications(self):
        batch = [{"jsonrpc": "2.0", "id": number, "method": "spdk_get_version"} for number in range(3)]
        batch.append({"jsonrpc": "2.0", "method": "spdk_get_version"})
        reply = self.web.ask("POST", "/rpc", json.dumps(batch), **JSON)
        self.assertEqual(sorted(one["id"] for one in reply.json()), [0, 1, 2])
        silent = self.web.ask("POST", "/rpc", json.dumps({"method": "spdk_get_version"}), **JSON)
        self.assertEqual((silent.status, silent.body), (204, b""))
        self.assertEqual(self.web.ask("POST", "/rpc", json.dumps([{"method": "spdk_get_version"}]), **JSON).status, 204)
        long = self.web.ask("POST", "/rpc", json.dumps([{"id": 1, "method": "spdk_get_version"}] * 1025), **JSON)
        self.assertEqual(long.json()["error"]["code"], -32600)

    def test_what_is_no_json_is_400(self):
        for body in ("", "{", "nonsense", "\xff", "[" * 100, '{"a": 1} {"b": 2}'):
            reply = self.web.ask("POST", "/rpc", body.encode("latin-1"), **JSON)
            self.assertEqual((reply.status, reply.json()["error"]["code"]), (400, -32700), body)

    def test_chunked_bodies(self):
        connection = self.web.connection()
        connection.request("POST", "/rpc", body=iter([VERSION[:10].encode(), VERSION[10:].encode()]), headers={"Content-Type": "application/json"},
                           encode_chunked=True)
        self.assertEqual(Reply(connection.getresponse()).status, 200)
        connection.close()

    def test_one_connection_serves_many_requests(self):
        connection = self.web.connection()
        connection.connect()
        first = connection.sock
        for _ in range(20):
            connection.request("POST", "/rpc", body=VERSION, headers={"Content-Type": "application/json"})
            self.assertEqual(Reply(connection.getresponse()).status, 200)
        self.assertIs(connection.sock, first)
        connection.close()

    def test_pipelined_requests_are_answered_in_order(self):
        bodies = [json.dumps({"id": number, "method": "spdk_get_version"}) for number in range(10)]
        with self.web.raw(b"".join(request_bytes(body) for body in bodies)) as client:
            self.assertEqual([json.loads(body)["id"] for _, body in responses(client, 10)], list(range(10)))

    def test_other_paths_and_methods(self):
        self.assertEqual(self.web.ask("GET", "/nope").status, 404)
        self.assertEqual(self.web.ask("GET", "/../etc/passwd").status, 404)
        self.assertEqual(self.web.ask("GET", "/%2e%2e/etc/passwd").status, 404)
        for method, path, allowed in (("GET", "/rpc", "POST"), ("PUT", "/rpc", "POST"), ("DELETE", "/", "GET, HEAD, POST"), ("POST", "/metrics", "GET, HEAD")):
            reply = self.web.ask(method, path)
            self.assertEqual((reply.status, reply.headers["Allow"]), (405, allowed), (method, path))

    def test_changes_are_made_and_seen_at_the_socket(self):
        self.assertEqual(self.web.call("bdev_null_create", {"name": "byweb", "num_blocks": 8, "block_size": 512}).json()["result"], "byweb")
        self.assertEqual(len(self.web.server.client.call("bdev_get_bdevs", {"name": "byweb"})), 1)

    def test_a_client_that_leaves_while_its_call_waits(self):
        call = json.dumps({"id": 1, "method": "notify_get_notifications", "params": {"id": 1 << 40, "timeout_ms": 60000}})
        schema = self.web.server.client.call("rpc_get_methods")
        self.assertIn("notify_get_notifications", schema)
        client = self.web.raw(request_bytes(call))
        client.close()
        self.assertEqual(self.web.call("spdk_get_version").status, 200)


class OtherSites(Served):
    """Without credentials, on loopback: what a browser sends in the name of another site's page."""

    def test_host_must_name_the_loopback(self):
        for host in ("evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""):
            self.assertEqual(self.web.call("spdk_get_version", Host=host).status, 403 if host else 403, host)
            self.assertEqual(self.web.ask("GET", "/metrics", Host=host).status, 403, host)
        for host in ("localhost", f"127.0.0.1:{self.web.port}", "[::1]:1"):
            self.assertEqual(self.web.call("spdk_get_version", Host=host).status, 200, host)

    def test_origin_must_be_this_server(self):
        here = f"127.0.0.1:{self.web.port}"
        self.assertEqual(self.web.call("spdk_get_version", Host=here, Origin=f"http://{here}").status, 200)
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{here}"):
            self.assertEqual(self.web.call("spdk_get_version", Host=here, Origin=origin).status, 403, origin)

    def test_browsers_say_that_another_site_asks(self):
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            self.assertEqual(self.web.call("spdk_get_version", Sec_Fetch_Site=site).status, status, site)

    def test_the_type_must_be_json(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; a=application/json", ""):
            self.assertEqual(self.web.ask("POST", "/rpc", VERSION, Content_Type=kind).status, 415, kind)
        self.assertEqual(self.web.ask("POST", "/rpc", VERSION, Content_Type="Application/JSON; charset=utf-8").status, 200)
        with self.web.raw(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(VERSION), VERSION.encode())) as client:
            self.assertEqual(responses(client, 1)[0][0], 415)


class Dashboard(Served):
    def test_files_have_types_tags_and_a_policy(self):
        page = self.web.ask("GET", "/")
        self.assertEqual((page.status, page.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", page.headers["Content-Security-Policy"])
        self.assertIn("frame-ancestors 'none'", page.headers["Content-Security-Policy"])
        self.assertEqual(page.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(self.web.ask("GET", "/index.html").body, page.body)
        again = self.web.ask("GET", "/", If_None_Match=page.headers["ETag"])
        self.assertEqual((again.status, again.body, again.headers["ETag"]), (304, b"", page.headers["ETag"]))
        self.assertEqual(self.web.ask("GET", "/", If_None_Match='"other"').status, 200)
        head = self.web.ask("HEAD", "/")
        self.assertEqual((head.status, head.body, int(head.headers["Content-Length"])), (200, b"", len(page.body)))

    def test_every_file_is_served_as_it_is(self):
        folder = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "web", "dashboard")
        types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        seen = 0
        for name in sorted(os.listdir(folder)):
            kind = types.get(name.rpartition(".")[2])
            if kind is None:
                continue
            reply = self.web.ask("GET", "/" + name)
            self.assertEqual(reply.status, 200, name)
            self.assertTrue(reply.headers["Content-Type"].startswith(kind), name)
            with open(os.path.join(folder, name), "rb") as file:
                self.assertEqual(reply.body, file.read(), name)
            seen += 1
        self.assertGreater(seen, 2)


class Credentials(Served):
    credentials = CREDENTIALS
    options = ("--http-max-failures", "1000")

    def test_nothing_without_credentials_but_health_and_the_page(self):
        for reply in (self.web.call("spdk_get_version"), self.web.ask("GET", "/metrics"), self.web.call("spdk_get_version", Authorization="Basic"),
                      self.web.call("spdk_get_version", Authorization=basic("operator", "wrong")), self.web.call("spdk_get_version", Authorization="Bearer x"),
                      self.web.call("spdk_get_version", Authorization=basic("nobody", PASSWORD)), self.web.call("spdk_get_version", Authorization="Bearer ")):
            self.assertEqual(reply.status, 401)
            self.assertEqual(reply.headers["WWW-Authenticate"], 'Basic realm="catnap", charset="UTF-8"')
        # The page asks itself: the browser must not.
        self.assertEqual(self.web.call("spdk_get_version", Sec_Fetch_Mode="cors").headers["WWW-Authenticate"], 'Bearer realm="catnap"')
        for path in ("/healthz", "/readyz", "/"):
            self.assertEqual(self.web.ask("GET", path).status, 200)

    def test_an_administrator_may_all(self):
        for name in ("one", "two"):  # the second time without hashing
            reply = self.web.call("bdev_null_create", {"name": name, "num_blocks": 8, "block_size": 512}, Authorization=basic("operator", PASSWORD))
            self.assertEqual((reply.status, reply.json().get("result")), (200, name))

    def test_a_body_waits_while_the_password_is_hashed(self):
        # A fresh server, so that nothing is known yet; the body is larger than any buffer on the way.
        web = WebServer(credentials=CREDENTIALS)
        try:
            params = {"name": "x" * 300000}
            reply = web.call("bdev_get_bdevs", params, Authorization=basic("operator", PASSWORD))
            self.assertEqual((reply.status, reply.json()["error"]["code"]), (200, -19))
        finally:
            self.assertEqual(web.close()[0], 0)

    def test_half_a_body_behind_a_hashed_password_ends(self):
        web = WebServer("--http-timeout-s", "1", credentials=CREDENTIALS)
        try:
            with web.raw(request_bytes(extra=f"Authorization: {basic('operator', PASSWORD)}\r\n")[:-5]) as client:
                self.assertEqual(until_closed(client), b"")
        finally:
            self.assertEqual(web.close()[0], 0)

    def test_a_reader_may_only_look(self):
        for authorization in ("Bearer " + TOKEN, "bearer " + TOKEN, basic("viewer", TOKEN)):
            self.assertIn("result", self.web.call("bdev_get_bdevs", Authorization=authorization).json())
            refused = self.web.call("bdev_null_create", {"name": "no", "num_blocks": 8, "block_size": 512}, Authorization=authorization).json()
            self.assertEqual(refused["error"]["code"], -13)
            self.assertEqual(self.web.ask("GET", "/metrics", Authorization=authorization).status, 200)
        self.assertNotIn("no", [bdev["name"] for bdev in self.web.server.client.call("bdev_get_bdevs")])

    def test_any_host_and_type_but_no_other_sites(self):
        self.assertEqual(self.web.ask("POST", "/", VERSION, Host="target.example", Authorization="Bearer " + TOKEN).status, 200)
        self.assertEqual(self.web.call("spdk_get_version", Host="target.example", Origin="http://evil.example", Authorization="Bearer " + TOKEN).status, 403)

    def test_secrets_are_not_in_the_log(self):
        text = self.web.server.log_text()
        for secret in (PASSWORD, TOKEN, basic("operator", PASSWORD)[6:]):
            self.assertNotIn(secret, text)


class Guessing(Served):
    credentials = CREDENTIALS
    options = ("--http-max-failures", "3")

    def test_guesses_are_limited(self):
        self.assertEqual(self.web.call("spdk_get_version", Authorization=basic("operator", PASSWORD)).status, 200)
        self.assertEqual([self.web.call("spdk_get_version", Authorization="Bearer guess").status for _ in range(5)], [401, 401, 401, 429, 429])
        late = self.web.call("spdk_get_version", Authorization="Bearer " + TOKEN)
        self.assertEqual((late.status, late.headers["Retry-After"]), (429, "60"))
        self.assertEqual(self.web.call("spdk_get_version", Authorization=basic("operator", PASSWORD)).status, 200, "known before")


class Bounds(Served):
    patient = True
    options = ("--http-max-request-kib", "16", "--http-max-header-kib", "8", "--http-max-connections", "6", "--http-max-connections-per-address", "5",
               "--http-timeout-s", "1", "--http-idle-timeout-s", "1")

    def setUp(self):
        self.timeouts = self.count("http_timeouts_total")

    def count(self, name):
        return float(re.search(rf"(?m)^catnap_{name} (\S+)$", self.web.ask("GET", "/metrics").body.decode()).group(1))

    def still_serves(self):
        self.assertEqual(self.web.call("spdk_get_version").status, 200)

    def test_bodies(self):
        body = json.dumps({"id": 1, "method": "spdk_get_version", "params": {"x": "y" * (16 << 10)}})
        self.assertEqual(self.web.ask("POST", "/rpc", body, **JSON).status, 413)
        # Refused by its head: nobody waits for the body.
        for length in (str(1 << 40), "9" * 40):
            with self.web.raw(f"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()) as client:
                self.assertIn(until_closed(client).split(b" ")[1:2], ([b"413"], [b"400"]))
        chunked = b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.web.raw(chunked) as client:
            try:
                for _ in range(64):
                    client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            except OSError:
                pass  # it has hung up already
            until_closed(client)
        self.still_serves()

    def test_headers(self):
        for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 100) for i in range(200)) + b"\r\n",
                     b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 20000, b"\x00" * 20000, b"\x16\x03\x01\x02\x00" * 4000):
            with self.web.raw() as client:
                try:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # it hung up before all was sent
                self.assertNotIn(b" 200 ", until_closed(client)[:20])
        self.still_serves()

    def test_half_requests_end(self):
        halves = [b"", b"POST", b"POST /rpc HTTP/1.1\r\nHost: localhost\r\n", request_bytes()[:-5], request_bytes(extra="Expect: 100-continue\r\n")[:-5]]
        for client in [self.web.raw(data) for data in halves]:
            with client:
                self.assertNotIn(b" 200 ", until_closed(client))
        self.still_serves()

    def test_trickling_does_not_help(self):
        with self.web.raw(b"GET / HTTP/1.1\r\n") as client:
            client.settimeout(0.2)
            sent = 0
            closed = False
            while not closed and sent < 300:
                try:
                    client.sendall(b"X")
                    sent += 1
                    closed = client.recv(1000) == b""
                except TimeoutError:
                    continue
                except OSError:
                    closed = True
            self.assertTrue(closed)

    def test_silence_ends_a_connection(self):
        connection = self.web.connection()
        connection.request("POST", "/rpc", body=VERSION, headers={"Content-Type": "application/json"})
        self.assertEqual(Reply(connection.getresponse()).status, 200)
        self.assertEqual(until_closed(connection.sock), b"")
        connection.close()

    def test_who_does_not_read_is_cut_off(self):
        batch = json.dumps([{"id": number, "method": "rpc_get_schema"} for number in range(40)])
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(TIMEOUT_S)
            client.connect(("127.0.0.1", self.web.port))
            client.sendall(request_bytes(batch))
            # All that is there is read when the server has given up: it ended within the answer.
            while self.count("http_timeouts_total") == self.timeouts:
                self.still_serves()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # what is on its way need not drip
            head, _, rest = until_closed(client).partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
        self.assertGreater(length, 4 << 20, "more than the buffers on the way take")
        self.assertLess(len(rest), length)

    def test_connections(self):
        web = WebServer("--http-max-connections-per-address", "5")  # which has more patience with those who are held
        try:
            held = [web.raw(b"GET") for _ in range(5)]
            with web.raw(request_bytes()) as refused:
                self.assertEqual(until_closed(refused), b"", "more than an address may have")
            for client in held:
                # Until the server has ended it too: before, it counts.
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(until_closed(client), b"")
                client.close()
            self.assertEqual(web.call("spdk_get_version").status, 200)
        finally:
            self.assertEqual(web.close()[0], 0)

    def test_a_full_house_waits(self):
        web = WebServer("--http-max-connections", "2", "--http-timeout-s", "1")
        try:
            held = [web.raw(b"GET") for _ in range(2)]
            # Served when the others' time is over.
            self.assertEqual(web.call("spdk_get_version").status, 200)
            for client in held:
                client.close()
        finally:
            self.assertEqual(web.close()[0], 0)


class Mutations(Served):
    """Requests with pieces left out, doubled, swapped and overwritten, by a seed that is printed when something is wrong."""
    credentials = CREDENTIALS
    patient = True
    options = ("--http-timeout-s", "1", "--http-max-failures", "100000", "--http-max-connections", "32")
    AT_A_TIME = 16  # some are of the kind that is cut off when its time is over
    ROUNDS = 20000 if os.environ.get("CATNAP_SOAK") == "1" else 150

    def mutated(self, random):
        seeds = [request_bytes(extra=f"Authorization: Bearer {TOKEN}\r\n"), request_bytes(extra=f"Authorization: {basic('operator', 'x')}\r\n"),
                 b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode(), b"GET / HTTP/1.0\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer %s\r\n\r\n5\r\n{\"id\"\r\n0\r\n\r\n" % TOKEN.encode()]
        data = bytearray(random.choice(seeds) * random.randint(1, 3))
        for _ in range(random.randint(0, 6)):
            at, length = random.randrange(len(data) + 1), random.randint(0, 20)
            kind = random.randrange(4)
            if kind == 0:
                del data[at:at + length]
            elif kind == 1:
                data[at:at] = data[at:at + length] * random.randint(1, 50)
            elif kind == 2:
                data[at:at + length] = random.randbytes(length)
            else:
                data[at:at] = random.choice([b"\r\n", b"\r\n\r\n", b"\0", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b":", b"%00"])
        return bytes(data)

    def one_round(self, seed):
        """Why it is over with the server, or nothing."""
        data = self.mutated(Random(seed))
        try:
            with self.web.raw() as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)  # the first of its answer, or its end
        except OSError:
            pass  # it hung up before all was sent
        return None if self.web.server.process.poll() is None else f"the server has ended; one of the {self.AT_A_TIME} seeds up to about {seed} did it"

    def test_nothing_makes_it_fall(self):
        with ThreadPoolExecutor(self.AT_A_TIME) as pool:
            for ended in pool.map(self.one_round, range(self.ROUNDS)):
                self.assertIsNone(ended)
        self.assertEqual(self.web.call("spdk_get_version", Authorization="Bearer " + TOKEN).status, 200)


class Health(unittest.TestCase):
    def test_ready_when_it_is(self):
        web = WebServer("--wait-for-rpc", wait=False)
        try:
            self.assertEqual(web.ask("GET", "/healthz").status, 200)
            waiting = web.ask("GET", "/readyz")
            self.assertEqual((waiting.status, waiting.body), (503, b"it waits for framework_start_init\n"))
            self.assertIn("result", web.call("framework_start_init").json())
            ready = web.ask("GET", "/readyz", Host="any.example")
            self.assertEqual((ready.status, ready.body), (200, b"ok\n"))
        finally:
            self.assertEqual(web.close()[0], 0)

    def test_ends_with_calls_and_clients_of_every_kind_open(self):
        web = WebServer("--wait-for-rpc", wait=False)
        waiting = web.raw(request_bytes(json.dumps({"id": 1, "method": "framework_wait_init"})))
        half, silent = web.raw(b"POST /rpc HT"), web.raw()
        self.assertEqual(web.ask("GET", "/healthz").status, 200)
        status, text = web.close()
        self.assertEqual(status, 0, text)
        for client in (waiting, half, silent):
            until_closed(client)
            client.close()


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="catnap_tls_")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.files = {name: make_certificate(cls.folder.name, name) for name in ("one", "two")}

    def test_rpc_over_tls(self):
        cert, key = self.files["one"]
        web = WebServer("--http-cert", cert, "--http-key", key, "--http-timeout-s", "3", credentials=CREDENTIALS)
        try:
            context = ssl.create_default_context(cafile=cert)
            connection = http.client.HTTPSConnection("localhost", web.port, context=context, timeout=TIMEOUT_S)
            headers = {"Authorization": "Bearer " + TOKEN, "Origin": f"https://localhost:{web.port}"}
            for method in ("spdk_get_version", "rpc_get_schema", "rpc_get_schema"):
                connection.request("POST", "/rpc", body=json.dumps({"id": 1, "method": method}), headers=headers)
                self.assertIn("result", json.loads(connection.getresponse().read()))
            self.assertEqual(connection.sock.version(), "TLSv1.3")
            connection.close()
            # Pipelined: the library holds bytes that no socket shows.
            with context.wrap_socket(web.raw(), server_hostname="localhost") as client:
                client.sendall(request_bytes(extra=f"Authorization: Bearer {TOKEN}\r\n") * 8)
                self.assertEqual([status for status, _ in responses(client, 8)], [200] * 8)
            with self.assertRaises(ssl.SSLCertVerificationError):
                ssl.create_default_context(cafile=self.files["two"][0]).wrap_socket(web.raw(), server_hostname="localhost")
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.set_ciphers("AES128-SHA256@SECLEVEL=0")  # without forward secrecy
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                old.wrap_socket(web.raw(), server_hostname="localhost")
            for data in (request_bytes(), b"\x16\x03\x01"):  # no TLS at all, and half a handshake
                with web.raw(data) as client:
                    self.assertNotIn(b" 200 ", until_closed(client))
        finally:
            status, text = web.close()
            self.assertEqual(status, 0, text)

    def test_a_key_of_another_certificate_is_refused(self):
        status, text = refused("--http", "127.0.0.1:0", "--http-cert", self.files["one"][0], "--http-key", self.files["two"][1])
        self.assertNotEqual(status, 0)
        self.assertRegex(text, "--http-key '.*two.key' is not the key of --http-cert '.*one.cert'")

    def test_a_key_that_others_can_read_is_refused(self):
        cert, key = self.files["two"]
        os.chmod(key, 0o644)
        status, text = refused("--http", "127.0.0.1:0", "--http-cert", cert, "--http-key", key)
        os.chmod(key, 0o600)
        self.assertNotEqual(status, 0)
        self.assertIn("others must not have access", text)


def refused(*options):
    """Exit status and output of a catnapd that does not start."""
    from server_process import PROGRAM
    with tempfile.TemporaryDirectory(prefix="catnap_refused_") as folder:
        done = subprocess.run([PROGRAM, "-r", os.path.join(folder, "rpc.sock"), *options], capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr


class Start(unittest.TestCase):
    def test_wrong_options_are_refused_in_words(self):
        cases = [
            (("--http", "0.0.0.0:0"), "off loopback nobody is served without credentials"),
            (("--http", "[::]:0"), "off loopback nobody is served without credentials"),
            (("--http", "localhost"), "it is ADDRESS:PORT"),
            (("--http", "127.0.0.1:0", "--http-cert", "/x"), "--http-cert and --http-key belong together"),
            (("--http-credentials", "/x"), "--http-credentials is given without --http"),
            (("--http", "127.0.0.1:0", "--http-credentials", "/nonexistent"), "No such file"),
            (("--http", "127.0.0.1:0", "--http-timeout-s", "0"), "--http-timeout-s"),
        ]
        for options, reason in cases:
            status, text = refused(*options)
            self.assertNotEqual(status, 0, options)
            self.assertIn(reason, text)

    def test_a_port_that_is_taken_is_named(self):
        web = WebServer()
        try:
            status, text = refused("--http", f"127.0.0.1:{web.port}")
            self.assertNotEqual(status, 0)
            self.assertIn(f"127.0.0.1:{web.port}: bind: Address already in use", text)
        finally:
            self.assertEqual(web.close()[0], 0)

    def test_off_without_the_option(self):
        server = ServerProcess()
        self.addCleanup(server.clean)
        self.assertNotIn("HTTP", server.log_text())
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
