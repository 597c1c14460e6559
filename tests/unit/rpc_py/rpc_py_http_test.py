#!/usr/bin/env -S /usr/bin/python3
"""scripts/rpc.py over HTTP, its exit statuses, and how it shows refusals; against a stand-in for the server.

Left out: the real server's HTTP (tests/protocol/rpc/http_test.py and its like), requests of commands (rpc_py_unit_test.py).
"""

import base64
import errno
import http.server
import json
import os
import pty
import subprocess
import tempfile
import threading
import unittest

from rpc_py_unit_test import FakeServer, result, run

from catnap_rpc import cli

RPC_PY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "scripts", "rpc.py")
SECRET = "correct horse: battery"


class FakeHttp:
    """Answers each POST with what `answer(request, headers)` gives: (status, body)."""

    def __init__(self, answer):
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, request, dict(self.headers)))
                answered = answer(request, self.headers)
                if answered is None:
                    self.close_connection = True
                    return
                status, body = answered
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def answered(value):
    def answer(request, _):
        if isinstance(request, list):
            return 200, json.dumps([{"jsonrpc": "2.0", "id": one["id"], "result": value} for one in request]).encode()
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": value}).encode()
    return answer


def refused(code, message):
    return lambda request, _: (200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}).encode())


class Environment:
    """CATNAP_HTTP_CREDENTIALS for a while."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        self.before = os.environ.pop(cli.ENVIRONMENT, None)
        if self.value is not None:
            os.environ[cli.ENVIRONMENT] = self.value

    def __exit__(self, *_):
        os.environ.pop(cli.ENVIRONMENT, None)
        if self.before is not None:
            os.environ[cli.ENVIRONMENT] = self.before


class Http(unittest.TestCase):
    def test_calls_and_batches(self):
        with FakeHttp(answered(["a"])) as server, Environment(None):
            self.assertEqual(run(["--http", server.url, "bdev_get_bdevs"]), (0, '[\n  "a"\n]\n', ""))
            self.assertEqual(run(["--http", server.url + "/", "-b"], "bdev_get_bdevs\nspdk_get_version\n")[0], 0)
            self.assertEqual(run(["--http", server.url + "/other", "bdev_get_bdevs"])[0], 0)
        paths = [path for path, _, _ in server.seen]
        self.assertEqual(paths, ["/rpc", "/rpc", "/other"])
        self.assertEqual([one["method"] for one in server.seen[1][1]], ["bdev_get_bdevs", "spdk_get_version"])
        headers = server.seen[0][2]
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertNotIn("Authorization", headers)

    def test_credentials_come_from_a_file_or_the_environment(self):
        basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        with FakeHttp(answered(True)) as server, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "credentials")
            for text, header in ((f"me:{SECRET}", basic), ("0123abcd", "Bearer 0123abcd")):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text + "\nmore\n")
                os.chmod(path, 0o600)
                with self.subTest(header), Environment("other:one"):
                    self.assertEqual(run(["--http", server.url, "--http-credentials", path, "bdev_get_bdevs"])[0], 0)
                    self.assertEqual(server.seen[-1][2]["Authorization"], header, "the file wins")
                with self.subTest("environment"), Environment(text):
                    self.assertEqual(run(["--http", server.url, "bdev_get_bdevs"])[0], 0)
                    self.assertEqual(server.seen[-1][2]["Authorization"], header)
            os.chmod(path, 0o640)
            before = len(server.seen)
            status, _, err = run(["--http", server.url, "--http-credentials", path, "bdev_get_bdevs"])
            self.assertEqual((status, len(server.seen)), (1, before), "a file that others can read is not used")
            self.assertIn("chmod 600", err)
            self.assertIn("cannot be read", run(["--http", server.url, "--http-credentials", "/nonexistent", "bdev_get_bdevs"])[2])

    def test_credentials_are_never_on_the_command_line(self):
        status, _, err = run(["--http", "http://me:secret@127.0.0.1:1", "bdev_get_bdevs"])
        self.assertEqual(status, 1)
        self.assertIn("do not belong into the URL", err)
        options = cli.make_parser().format_help()
        self.assertNotIn("--http-password", options)

    def test_failures_have_their_words_and_statuses(self):
        for answer, status, says in [(lambda *_: (401, b"credentials are needed\n"), 3, "asks for credentials: credentials are needed"),
                                     (lambda *_: (403, b"Host is 'x'"), 3, "does not permit this: Host is 'x'"),
                                     (lambda *_: (503, b"catnapd is starting"), 1, "HTTP status 503: catnapd is starting"),
                                     (lambda *_: (200, b"<html>"), 1, "HTTP status 200: <html>"),
                                     (lambda *_: None, 3, "lost"),
                                     (refused(-17, "bdev A exists"), 1, '"message": "bdev A exists"')]:
            with self.subTest(says), FakeHttp(answer) as server, Environment(None):
                got, out, err = run(["--http", server.url, "bdev_get_bdevs"])
                self.assertEqual((got, out), (status, ""))
                self.assertIn(says, err)
        status, _, err = run(["--http", "http://127.0.0.1:1", "bdev_get_bdevs"])
        self.assertEqual(status, 3)
        self.assertIn("--http?", err)
        for wrong in ("gopher://x", "127.0.0.1:9420", "http://"):
            self.assertIn("is none of HTTP", run(["--http", wrong, "bdev_get_bdevs"])[2])

    def test_an_answer_that_never_comes(self):
        held = threading.Event()
        with FakeHttp(lambda *_: held.wait(30) and None) as server:
            status, _, err = run(["--http", server.url, "-t", "0.1", "bdev_get_bdevs"])
            held.set()
        self.assertEqual(status, 4)
        self.assertIn("Timeout", err)

    def test_a_server_that_is_killed_as_asked_is_no_error(self):
        with FakeHttp(lambda *_: None) as server:
            self.assertEqual(run(["--http", server.url, "spdk_kill_instance", "SIGKILL"])[0], 0)


class Refusals(unittest.TestCase):
    ERROR = {"code": -errno.EEXIST, "message": "bdev Malloc0 exists"}

    def answer(self, request):
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": self.ERROR}).encode()

    def test_one_line_for_people(self):
        with FakeServer(self.answer) as server:
            status, out, err = run(["-s", server.path, "-e", "line", "bdev_malloc_create", "-b", "Malloc0", "1", "512"])
            self.assertEqual((status, out, err), (1, "", "rpc.py: bdev_malloc_create: bdev Malloc0 exists (EEXIST, code -17)\n"))
            _, _, err = run(["-s", server.path, "-e", "line"], "# first\nbdev_null_create A 1 512\n")
            self.assertEqual(err, "rpc.py: bdev_null_create A 1 512: bdev_null_create: bdev Malloc0 exists (EEXIST, code -17)\n")
        _, _, err = run(["-s", "/nonexistent", "-e", "line", "bdev_get_bdevs"])
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn("No such file", err)

    def test_the_form_of_spdk_for_programs(self):
        with FakeServer(self.answer) as server:
            for chosen in ([], ["-e", "spdk"]):
                _, _, err = run(["-s", server.path, *chosen, "bdev_malloc_delete", "Malloc0"])
                self.assertEqual(json.loads(err.split("response:\n")[1]), self.ERROR)

    def test_a_terminal_gets_the_line_by_itself(self):
        ours, theirs = pty.openpty()
        with FakeServer(self.answer) as server:
            done = subprocess.run([RPC_PY, "-s", server.path, "bdev_malloc_delete", "Malloc0"], stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
        os.close(theirs)
        shown = os.read(ours, 4096).decode()
        os.close(ours)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(shown, "rpc.py: bdev_malloc_delete: bdev Malloc0 exists (EEXIST, code -17)\r\n")


class Statuses(unittest.TestCase):
    def test_help_tells_them_all(self):
        status, out, _ = run(["--help"])
        self.assertEqual(status, 0)
        words = " ".join(out.split())
        for each in ("0 done", "1 the server refused", "2 a wrong command line", "3 no connection", "4 no answer in time", "5 what --wait waited for",
                     "130 interrupted"):
            self.assertIn(each, words)

    def test_each(self):
        array = {"name": "R", "uuid": "u", "scrub": {"running": False, "finished": False}}
        with FakeServer(result([array])) as server:
            self.assertEqual(run(["-s", server.path, "bdev_get_bdevs"])[0], 0)
            self.assertEqual(run(["-s", server.path, "bdev_raid_start_scrub", "R", "--wait"])[0], 5, "it was stopped before its end")
            self.assertEqual(run(["-s", server.path, "raid_wait", "gone"])[0], 1)
        self.assertEqual(run(["--no-such-option"])[0], 2)
        self.assertEqual(run(["-s", "/nonexistent", "bdev_get_bdevs"])[0], 3)
        with FakeServer(lambda _: b"{") as server:
            self.assertEqual(run(["-s", server.path, "-t", "0.05", "bdev_get_bdevs"])[0], 4)


if __name__ == "__main__":
    unittest.main()
