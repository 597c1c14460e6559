#!/usr/bin/env -S /usr/bin/python3
"""What scripts/rpc.py makes of the server's declarations, how it shows results, completes commands and waits for long operations; without catnapd.

Left out: the requests of hand-written commands (rpc_py_unit_test.py).
"""

import argparse
import io
import subprocess
import unittest

from rpc_py_unit_test import run

from catnap_rpc import cli, output, schema, waiting
from catnap_rpc.client import RpcFailure
from catnap_rpc.command import Arg, Command, number

METHOD = {"name": "thing_create", "description": "Makes a thing", "aliases": [], "phase": "runtime", "changes_state": True, "result": "name of the thing",
          "params": [{"name": "name", "type": "string", "required": True, "description": "Its name"},
                     {"name": "block_size", "type": "integer", "required": False, "description": "Bytes", "default": 512, "minimum": 512, "maximum": 4096},
                     {"name": "readonly", "type": "boolean", "required": False, "description": "Refuse writes", "default": False},
                     {"name": "kinds", "type": "array of string", "required": False, "description": "Kinds"},
                     {"name": "place", "type": "object", "required": False, "description": "Where"},
                     {"name": "old", "type": "any", "required": False, "description": "No effect", "ignored": True}]}


def parser_of(command):
    parser = argparse.ArgumentParser()
    command.add_to(parser.add_subparsers())
    return parser


class Declarations(unittest.TestCase):
    def params(self, command, *words):
        return command.params(parser_of(command).parse_args([command.method, *words]))

    def test_a_method_without_a_command_gets_one(self):
        command = schema.command_of(METHOD)
        self.assertEqual(self.params(command, "--name", "T"), {"name": "T"})
        self.assertEqual(self.params(command, "--name", "T", "--block-size", "1024", "--no-readonly", "--kinds", "a,b", "--place", '{"x": 1}'),
                         {"name": "T", "block_size": 1024, "readonly": False, "kinds": ["a", "b"], "place": {"x": 1}})
        self.assertNotIn("--old", [name for arg in command.args for name in arg.flags])

    def test_a_command_keeps_its_spellings_and_gets_the_rest(self):
        size = number("-b", "--block-size", help="size of a block")
        command = Command("thing_create", "Make a thing", Arg("name", help="its name"), size)
        schema.complete(command, METHOD)
        self.assertEqual(self.params(command, "T", "-b", "512", "--readonly"), {"name": "T", "block_size": 512, "readonly": True})
        helps = {arg.flags[0]: arg.options["help"] for arg in command.args}
        self.assertEqual(helps["-b"], "size of a block (default 512, 512 to 4096)")
        self.assertEqual(size.options["help"], "size of a block", "commands that share an argument keep their own texts")

    def test_every_method_has_a_command_that_can_be_asked_for_help(self):
        for name in schema.load():
            with self.subTest(name):
                status, text, _ = run([name, "--help"])
                self.assertEqual(status, 0)
                self.assertIn(name, text)


class Shown(unittest.TestCase):
    def tearDown(self):
        output.Output.form = "json"

    def test_tables(self):
        rows = [{"name": "A", "size": 1}, {"name": "Bee", "more": [1, 2]}]
        self.assertEqual(output.table_text(rows), "NAME  SIZE  MORE\nA     1\nBee         [1, 2]")
        self.assertEqual(output.table_text({"tick_rate": 1, "threads": rows}), output.table_text(rows), "the list is the substance")
        self.assertEqual(output.table_text({"a": 1, "b": True}), "NAME  VALUE\na     1\nb     true")
        self.assertEqual(output.table_text(["x", "y"]), "x\ny")
        self.assertEqual(output.table_text("text"), "text")
        self.assertEqual(output.table_text([]), "")

    def test_completion_scripts_are_shell(self):
        for shell in ("bash", "zsh"):
            status, text, _ = run(["completion", shell])
            self.assertEqual(status, 0)
            self.assertIn("nvmf_create_subsystem", text)
        words = ("source /dev/stdin; COMP_WORDS=(rpc.py -s /run/x nvmf_subsystem_add_li); COMP_CWORD=3; _catnap_rpc; echo \"${COMPREPLY[@]}\"\n"
                 "COMP_WORDS=(rpc.py bdev_set_qos_limit --rw-i); COMP_CWORD=2; _catnap_rpc; echo \"${COMPREPLY[@]}\"")
        done = subprocess.run(["bash", "-c", words], input=run(["completion", "bash"])[1], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout, "nvmf_subsystem_add_listener\n--rw-ios-per-sec\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Arrays:
    """A server whose array is busy for some questions."""

    def __init__(self, *percents):
        self.left = list(percents)

    def call(self, method, params=None):
        assert (method, params) == ("bdev_raid_get_bdevs", {"category": "all"})
        array = {"name": "R", "uuid": "u"}
        if self.left:
            array["process"] = {"type": "rebuild", "target": "M1", "progress": {"blocks": 1, "percent": self.left.pop(0)}}
        return [array]


class Waiting(unittest.TestCase):
    def test_until_the_array_is_at_rest(self):
        pauses, terminal = [], Terminal()
        waiting.wait_for_array(Arrays(10, 60), "R", terminal, pauses.append)
        self.assertEqual(len(pauses), 2)
        self.assertIn(" 60 %  rebuild M1", terminal.getvalue())
        self.assertTrue(terminal.getvalue().endswith("\n"))

    def test_without_a_terminal_nothing_is_drawn(self):
        stream = io.StringIO()
        waiting.wait_for_array(Arrays(10), "u", stream, lambda _: None)
        self.assertEqual(stream.getvalue(), "")

    def test_a_missing_array_is_an_error(self):
        with self.assertRaisesRegex(RpcFailure, "Q is gone"):
            waiting.wait_for_array(Arrays(), "Q", io.StringIO(), lambda _: None)

    def test_commands_that_start_something_long_have_it(self):
        parser = cli.make_parser()
        for name in cli.WAITS_FOR_ARRAY:
            self.assertIn("--wait", cli.command_parsers(parser)[name].format_help())


if __name__ == "__main__":
    unittest.main()
