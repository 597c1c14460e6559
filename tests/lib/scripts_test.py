#!/usr/bin/env -S /usr/bin/python3
# Tests of scripts/lib/deps.sh, scripts/test and scripts/quickstart with apt, dpkg-query and sudo replaced by small fakes.
# Owner: its process. Left out: real installation and real builds (CI itself starts from a bare machine).
"""Unit tests of the shell scripts that newcomers run first."""

import os
import pathlib
import shutil
import socket
import stat
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Fakes(unittest.TestCase):
    """A folder of fake programs that is searched first; each writes its call to `calls`."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = pathlib.Path(folder.name)
        self.bin.chmod(0o777)
        self.calls = self.bin / "calls"
        self.calls.touch()
        self.calls.chmod(0o666)
        self.fake("apt-get", "exit 0")
        # Everything is installed but what MISSING names.
        self.fake("dpkg-query", 'for last; do :; done; [[ " $MISSING " == *" $last "* ]] && exit 1; echo -n "install ok installed"')

    def fake(self, name, body):
        path = self.bin / name
        path.write_text(f'#!/bin/bash\n[[ {name} == dpkg-query ]] || echo "{name} $*" >>"{self.calls}"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)

    def bash(self, text, missing="", as_user=False, path=None):
        command = ["bash", "-c", text]
        if as_user and os.geteuid() == 0:
            command = [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        environment = {**os.environ, "MISSING": missing, "PATH": path or f"{self.bin}:{os.environ['PATH']}"}
        return subprocess.run(command, cwd=self.bin if as_user else ROOT, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)

    def install(self, *packages, **how):
        # A copy where every user can read it: the tree itself may lie in somebody's private folder.
        shutil.copy(ROOT / "scripts/lib/deps.sh", self.bin / "deps.sh")
        (self.bin / "deps.sh").chmod(0o644)
        return self.bash(f"set -euo pipefail; source {self.bin}/deps.sh; deps_install tests {' '.join(packages)}", **how)


class Installing(Fakes):
    def test_nothing_is_installed_when_nothing_is_missing(self):
        done = self.install("g++", "cmake")
        self.assertEqual((done.returncode, done.stdout, self.calls.read_text()), (0, "", ""))

    @unittest.skipUnless(os.geteuid() == 0, "installs without sudo only as root")
    def test_root_installs_only_what_is_missing(self):
        done = self.install("g++", "cmake", "ninja-build", missing="cmake ninja-build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cmake ninja-build", done.stdout)
        last = self.calls.read_text().splitlines()[-1]
        self.assertTrue(last.startswith("apt-get install"), last)
        self.assertTrue(last.endswith("cmake ninja-build") and "g++" not in last, last)

    def test_an_ordinary_user_installs_with_sudo(self):
        self.fake("sudo", 'exec "$@"')
        done = self.install("g++", missing="g++", as_user=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("sudo env DEBIAN_FRONTEND=noninteractive apt-get install", self.calls.read_text())

    def test_an_ordinary_user_without_sudo_is_told_what_is_missing(self):
        for name in ("bash", "grep", "env"):
            os.symlink(shutil.which(name), self.bin / name)
        done = self.install("g++", "cmake", missing="cmake", as_user=True, path=str(self.bin))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cmake", done.stderr)
        self.assertIn("sudo", done.stderr)
        self.assertEqual(self.calls.read_text(), "")


class CommandLines(Fakes):
    def test_unknown_arguments_are_refused_by_name(self):
        for arguments, told in (("--fast", "--fast"), ("--preset speed", "speed"), ("-R", "-R")):
            with self.subTest(arguments):
                done = self.bash(f"scripts/test {arguments}")
                self.assertEqual(done.returncode, 2)
                self.assertIn(told, done.stderr)

    def test_help(self):
        for script in ("scripts/test", "scripts/quickstart"):
            with self.subTest(script):
                done = self.bash(f"{script} --help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn("usage: " + script, done.stdout)

    def test_a_port_that_is_taken_is_named_before_anything_is_built(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            for option in (f"--http 127.0.0.1:{port}", f"--http=127.0.0.1:{port}"):
                with self.subTest(option):
                    done = self.bash(f"scripts/quickstart {option}")
                    self.assertEqual((done.returncode, done.stdout), (1, ""))
                    self.assertIn(f"port {port} of 127.0.0.1 is taken, where the dashboard would listen", done.stderr)
                    self.assertIn("--http 127.0.0.1:PORT", done.stderr)
        self.assertEqual(self.calls.read_text(), "")

    def test_scripts_are_executable(self):
        for script in ("scripts/test", "scripts/quickstart", "scripts/rpc.py", ".ci/run"):
            self.assertTrue((ROOT / script).stat().st_mode & stat.S_IXUSR, script)


if __name__ == "__main__":
    unittest.main(verbosity=2)
