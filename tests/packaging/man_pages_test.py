#!/usr/bin/env -S /usr/bin/python3
"""The manual pages as built: every option that a program prints with --help stands in its page and the other way round, and groff has no complaint.

The pages are made from --help, so what can go wrong is reading it (packaging/man/make_man.py) and what the templates say in words.
"""

import argparse
import gzip
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging" / "man"))

import make_man  # noqa: E402 (needs the path above)

BUILD = ROOT / "build" / "release"
PROGRAMS = {"catnapd.8": ["bin/catnapd"], "catnap-perf.1": ["bin/catnap-perf"], "catnap-rpc.1": [ROOT / "scripts/rpc.py"],
            "catnap-top.1": [ROOT / "scripts/top"]}


def page(name):
    with gzip.open(BUILD / "packaging" / f"{name}.gz", "rt", encoding="utf-8") as file:
        return file.read()


def plain(text):
    return re.sub(r"\\f.", "", text).replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'").replace("\\e", "\\")


def printed(command):
    return subprocess.run([str(BUILD / command[0]) if isinstance(command[0], str) else str(command[0]), "--help"], capture_output=True, text=True,
                          timeout=60, check=True, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"}).stdout


def options_of(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))


class Pages(unittest.TestCase):
    def test_every_option_of_help_stands_there_and_no_other(self):
        for name, command in PROGRAMS.items():
            with self.subTest(name):
                text = plain(page(name))
                missing = options_of(printed(command)) - options_of(text)
                self.assertFalse(missing, "not on the page")
                if name != "catnap-rpc.1":  # whose commands have options of their own
                    self.assertFalse(options_of(text) - options_of(printed(command)), "on the page only")

    def test_every_command_of_rpc_stands_there(self):
        sys.path.insert(0, str(ROOT / "scripts"))
        from catnap_rpc.cli import command_names, make_parser
        text = plain(page("catnap-rpc.1"))
        for name in command_names(make_parser()):
            self.assertIn(f".SS {name}\n", text)

    def test_nothing_is_left_of_the_template(self):
        for name in PROGRAMS:
            self.assertNotRegex(page(name), r"@[A-Z]+@")

    def test_groff_has_no_complaint(self):
        if not shutil.which("groff"):
            self.skipTest("groff is not installed")
        for name in PROGRAMS:
            done = subprocess.run(["groff", "-ww", "-z", "-man", "-Tutf8", "-K", "utf8"], input=page(name), capture_output=True, text=True, timeout=60,
                                  check=False)
            self.assertEqual(done.stderr, "", name)


class Reading(unittest.TestCase):
    def test_both_layouts_of_help_are_understood(self):
        text = ("Usage: x [OPTIONS]\n\nOptions:\n  -h,--help                   Print this\n  --a-very-long-name TEXT [default] \n"
                "                              Said on\n                              two lines\n\nMore of them:\n  -x                          Short\n")
        self.assertEqual(make_man.sections_of(text),
                         [("Options", [("-h,--help", "Print this"), ("--a-very-long-name TEXT [default]", "Said on two lines")]),
                          ("More of them", [("-x", "Short")])])

    def test_what_roff_takes_for_commands_is_escaped(self):
        self.assertEqual(make_man.roff(".TH"), "\\&.TH")
        self.assertEqual(make_man.roff("a-b\\c"), "a\\-b\\ec")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=BUILD)
    args, rest = parser.parse_known_args()
    BUILD = args.build
    if not (BUILD / "packaging" / "catnapd.8.gz").exists():
        print("SKIPPED: the pages are not built (target catnap_package_files)", flush=True)
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *rest])
