#!/usr/bin/env -S /usr/bin/python3
"""scripts/top against the real catnapd: on pseudo terminals of several kinds and sizes, and as plain text; while the server restarts, too.

Left out: its arithmetic and what each key does (tests/unit/top).
"""

import os
import re
import subprocess
import unittest

from server_process import ROOT, ServerProcess
from terminal import OnTerminal, Screen

TOP = os.path.join(ROOT, "scripts", "top")
NQN = "nqn.2026-11.io.example:disks"
HOSTILE = "evil\x1b[2J\x1b]0;title\x07\nname"


class ParsedScreen(unittest.TestCase):
    """The tests' own terminal: what it does not understand would hide what is shown."""

    def test_the_parser(self):
        screen = Screen(4, 10)
        screen.feed("hello\x1b[2;3Hworld\x1b[1;1H\x1b[K\x1b[3;1Habc\x1b[1;31mred\x1b[m\x1b[3;2H\x1b[P\x1b(B")
        self.assertEqual(screen.text(), "\n  world\nacred\n")
        screen.feed("\x1b[4;1Hlast\nnew\x1b")
        screen.feed("[1;1Htop")
        self.assertEqual(screen.text(), "toporld\nacred\nlast\n    new")
        screen.feed("\x1b[J")
        self.assertEqual(screen.text(), "top\n\n\n")


class Top(unittest.TestCase):
    def setUp(self):
        self.server = ServerProcess()
        self.addCleanup(self.server.clean)
        self.addCleanup(self.end)
        self.configure()

    def configure(self):
        call = self.server.client.call
        call("nvmf_create_transport", {"trtype": "TCP"})
        call("nvmf_create_subsystem", {"nqn": NQN, "allow_any_host": True})
        for name in ("Null0", "Null1"):
            call("bdev_null_create", {"name": name, "num_blocks": 1 << 18, "block_size": 4096})
            call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": name}})

    def end(self):
        if self.server.process.returncode is None:
            self.assertEqual(self.server.stop(), 0, self.server.log_text())

    def on_terminal(self, *options, **terminal):
        top = OnTerminal([TOP, "-s", self.server.path, "-d", "0.2", *options], **terminal)
        self.addCleanup(top.close)
        return top

    def quit(self, top):
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_all_views_on_terminals_of_all_kinds(self):
        for term in ("vt100", "xterm-256color", "linux"):
            with self.subTest(term):
                top = self.on_terminal(columns=150, term=term)
                top.until(lambda text: re.search(r"reactor_0 +adaptive +[\d.]+ +[\d.]+", text), "a reactor with its shares")
                for key, words in [("2", ["app_thread", "POLLERS"]), ("3", ["POLLER", "no pollers"]), ("4", [NQN, "Null0", "Null1", "1Gi"]),
                                   ("5", ["HOST", "no hosts"]), ("1", ["control", "WHY AWAKE", "asleep"])]:
                    top.type(key)
                    top.until(lambda text, wanted=words: all(word in text for word in wanted), words)
                self.quit(top)

    def test_keys_filter_sort_delay_and_help(self):
        top = self.on_terminal("-v", "namespaces", columns=120)
        top.until(lambda text: "Null0" in text and "Null1" in text, "both disks")
        top.type("/")
        top.until(lambda text: "Only rows with this" in text, "the question")
        top.type("null1x\x7f\r")
        top.until(lambda text: "Null1" in text and "Null0" not in text and "only 'null1'" in text, "one disk")
        top.type("=")
        top.until(lambda text: "Null0" in text, "both disks again")
        top.type("i")
        top.until(lambda text: "Null0" not in text and "idle ones are hidden" in text, "no idle disks")
        top.type("i")
        top.type("d")
        top.until(lambda text: "Change delay from 0.2 s to:" in text, "the question")
        top.type("\x1b")
        top.until(lambda text: "Change delay" not in text, "no question after Escape")
        top.type("d0\r")
        top.until(lambda text: "'0' is no delay" in text, "the refusal of a delay of 0")
        top.type("h")
        top.until(lambda text: "Keys of catnap top" in text and "PgUp" in text, "the help")
        top.type(" ")
        top.until(lambda text: "SUBSYSTEM" in text, "the table again")
        top.type("y")
        top.until(lambda text: "no command on 'y'" in text, "a word about an unknown key")
        self.quit(top)

    def test_sizes_change_and_nothing_breaks(self):
        top = self.on_terminal(rows=40, columns=160)
        top.until(lambda text: "WHY AWAKE" in text, "the last column")
        for rows, columns in ((24, 80), (10, 40), (5, 20), (3, 10), (1, 4), (50, 200)):
            top.resize(rows, columns)
            first = "catnap top"[:columns - 2]
            top.until(lambda text, wanted=first: text.startswith(wanted), f"a drawing on {columns} columns, {rows} rows")
        top.until(lambda text: "WHY AWAKE" in text, "the last column again")
        self.quit(top)

    def test_it_survives_a_restart_of_the_server(self):
        top = self.on_terminal("-v", "namespaces", columns=120)
        first = self.server.process.pid
        top.until(lambda text: f"process {first}" in text and "Null0" in text, "the first server")
        self.server.process.kill()
        self.server.wait()
        shown = top.until(lambda text: "no contact with" in text, "words about the outage")
        self.assertNotIn("Null0", shown, "rows of a dead server")
        self.assertIn("Trying again", shown)
        fresh = subprocess.Popen([self.server.process.args[0], "-r", self.server.path], stdout=self.server.log, stderr=self.server.log)
        try:
            top.until(lambda text: f"process {fresh.pid}" in text, "the second server")
            top.until(lambda text: "no namespaces" in text, "its empty list")
            self.quit(top)
        finally:
            fresh.terminate()
            self.assertEqual(fresh.wait(60), 0)

    def test_names_do_not_reach_the_terminal_as_they_are(self):
        self.server.client.call("bdev_null_create", {"name": HOSTILE, "num_blocks": 8192, "block_size": 512})
        self.server.client.call("nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": HOSTILE}})
        shown = "evil?[2J?]0;title??name"
        top = self.on_terminal("-v", "namespaces", columns=160)
        top.until(lambda text: shown in text, "the name with ? for what steers")
        self.quit(top)
        done = self.batch("-v", "namespaces", "-n", "1")
        self.assertIn(shown, done.stdout)
        self.assertNotIn("\x1b", done.stdout)

    def batch(self, *options):
        return subprocess.run([TOP, "-b", "-s", self.server.path, "-d", "0.2", *options], capture_output=True, text=True, timeout=120, check=False)

    def test_plain_text(self):
        done = self.batch("-v", "all", "-n", "2")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.count("catnap top - "), 2)
        for word in ("reactor_0", "app_thread", "POLLER", NQN, "HOST"):
            self.assertIn(word, done.stdout)
        self.assertIn(f"process {self.server.process.pid}", done.stdout)
        narrow = self.batch("-n", "1", "-w", "40").stdout
        self.assertTrue(all(len(line) <= 40 for line in narrow.split("\n")), narrow)

    def test_a_reader_that_leaves_ends_it(self):
        top = subprocess.Popen([TOP, "-b", "-s", self.server.path, "-d", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        top.stdout.readline()
        top.stdout.close()
        self.assertEqual(top.wait(60), 0)
        self.assertEqual(top.stderr.read(), b"")
        top.stderr.close()

    def test_a_terminal_that_can_do_nothing_is_told(self):
        top = self.on_terminal(term="dumb")
        top.until(lambda text: "move its cursor" in text, "the reason")
        self.assertEqual(top.end(), 2)


if __name__ == "__main__":
    unittest.main()
