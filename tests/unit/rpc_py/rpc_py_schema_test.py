#!/usr/bin/env -S /usr/bin/python3
"""What scripts/rpc.py makes of the server's declarations, how it shows results, completes commands and waits for long operations; without catnapd.

Left out: the requests of hand-written commands (rpc_py_unit_test.py).
"""

import argparse
import io
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
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


    # Given in another way: sizes in MiB, a name that SPDK's client spells otherwise, one option that says yes and no.
    SPELLED_OTHERWISE = {("bdev_malloc_create", "num_blocks"), ("bdev_null_create", "num_blocks"), ("bdev_nvme_add_error_injection", "name"),
                         ("bdev_nvme_remove_error_injection", "name"), ("bdev_nvme_send_cmd", "name"), ("nvmf_subsystem_allow_any_host", "disable")}

    def test_help_tells_every_parameter_with_its_default_and_bounds(self):
        parsers = cli.command_parsers(cli.make_parser())
        commands = {command.method: command for table in cli.TABLES for command in table.COMMANDS}
        for name, method in schema.load().items():
            text = " ".join(parsers[name].format_help().split())
            places = {schema.destination(arg): arg for arg in commands[name].args} if name in commands else None
            for param in method["params"]:
                if param.get("ignored") or (name, param["name"]) in self.SPELLED_OTHERWISE:
                    continue
                with self.subTest(f"{name} {param['name']}"):
                    arg = places and next((arg for place, arg in places.items() if place.split(".")[0] == param["name"]), None)
                    self.assertTrue(places is None or arg, "no way to give it")
                    if arg and arg.options.get("action") == "store_const" and not param.get("default"):
                        continue  # an option that is either given or not: its absence is the default
                    for bound in schema.bounds_text({key: value for key, value in param.items() if key != "one_of"}).split(", "):
                        self.assertIn(bound, text)


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

    def test_tables_of_known_methods_have_chosen_columns(self):
        bdev = {"name": "Disk0", "product_name": "Malloc disk", "num_blocks": 16384, "block_size": 4096, "uuid": "u", "supported_io_types": {"read": True}}
        self.assertEqual(output.table_text([bdev], "bdev_get_bdevs"), "NAME   PRODUCT      SIZE    BLOCK  CLAIMED BY  UUID\nDisk0  Malloc disk  64 MiB  4096               u")
        subsystem = {"nqn": "nqn.a", "subtype": "NVMe", "listen_addresses": [{"traddr": "192.0.2.1", "trsvcid": "4420"}], "allow_any_host": False,
                     "hosts": [{"nqn": "nqn.h"}], "namespaces": [{"nsid": 1, "bdev_name": "Disk0"}, {"nsid": 2, "bdev_name": "B"}]}
        self.assertEqual(output.table_text([subsystem], "nvmf_get_subsystems").split("\n")[1].split(),
                         ["nqn.a", "NVMe", "1:", "Disk0,", "2:", "B", "192.0.2.1:4420", "nqn.h"])
        for method, columns in output.COLUMNS.items():
            self.assertIn(method, schema.load())
            self.assertEqual(output.table_text([{"other": 1}], method).count("\n"), 1, f"{method}: what is not told is left empty")
            self.assertEqual(len({title for title, _ in columns}), len(columns))

    def test_names_in_tables_cannot_steer_the_terminal(self):
        self.assertEqual(output.table_text([{"name": "a\x1b[2Jb"}]), "NAME\na?[2Jb")

    def test_lists_of_objects_are_their_names(self):
        self.assertEqual(output.cell([{"name": "A", "x": 1}, {"nqn": "B"}]), "A, B")
        self.assertEqual(output.cell([{"x": 1}]), '[{"x": 1}]')

    def test_completion_scripts_are_shell(self):
        for shell in ("bash", "zsh"):
            status, text, _ = run(["completion", shell])
            self.assertEqual(status, 0)
            self.assertIn("nvmf_create_subsystem", text)
        for words, offered in self.COMPLETIONS:
            with self.subTest(words):
                self.assertEqual(self.completed("bash", words), offered)

    COMPLETIONS = [(["rpc.py", "-s", "/run/x", "nvmf_subsystem_add_li"], "nvmf_subsystem_add_listener"),
                   (["rpc.py", "bdev_set_qos_limit", "--rw-i"], "--rw-ios-per-sec"),
                   (["rpc.py", "-o", "table", "bdev_raid_start_scr"], "bdev_raid_start_scrub"),
                   (["rpc.py", "--http", "http://localhost:1", "bdev_raid_start_scrub", "--w"], "--wait"),
                   (["rpc.py", "--dry"], "--dry-run"), (["rpc.py", "nothing_like_it"], ""),
                   (["catnap-rpc", "spdk_get_v"], "spdk_get_version")]

    def completed(self, shell, words):
        """What the shell offers for the last of the words: through "complete", as it was declared."""
        quoted = " ".join(f"'{word}'" for word in words)
        script = (f"source /dev/stdin; complete -p {words[0]} >/dev/null || exit 9; function_of=$(complete -p {words[0]}); "
                  f"function_of=${{function_of#*-F }}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; ${{function_of%% *}}; echo \"${{COMPREPLY[*]}}\"")
        done = subprocess.run([shell, "-c", script], input=run(["completion", shell])[1], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def test_zsh_completes_too(self):
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed")
        with tempfile.NamedTemporaryFile("w", suffix=".zsh") as script:
            script.write(run(["completion", "zsh"])[1])
            script.flush()
            typed = f"autoload -U compinit; compinit -D -u; source {script.name}; print rea''dy\n"
            shown = typed_into(["zsh", "-f", "-i"], [(typed, "ready"), ("rpc.py -s /run/x nvmf_subsystem_add_li\t", "nvmf_subsystem_add_listener"),
                                                    ("\x15rpc.py bdev_set_qos_limit --rw-i\t", "--rw-ios-per-sec")])
        self.assertNotIn("command not found", shown)


def typed_into(command, steps, bound_s=60):
    """Types into a program on a terminal: each step is what to type and what must then appear. All that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="vt100", PS1="> ", COLUMNS="200")
        os.execvp(command[0], command)
    shown, deadline = "", time.monotonic() + bound_s
    try:
        for typed, wanted in steps:
            os.write(terminal, typed.encode())
            seen = ""
            while wanted not in seen:
                if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise AssertionError(f"typed {typed!r}, and {wanted!r} did not appear in {seen!r}")
                seen += os.read(terminal, 65536).decode(errors="replace")
            shown += seen
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Arrays:
    """A server whose array is busy for some questions; then `after` is what it tells of the past."""

    def __init__(self, *looks, after=None):
        self.looks = list(looks)
        self.after = after or {}

    def call(self, method, params=None):
        if method == "bdev_get_bdevs":
            return [{"name": "R", "num_blocks": 1000}]
        assert (method, params) == ("bdev_raid_get_bdevs", {"category": "all"})
        array = {"name": "R", "uuid": "u"}
        return [array | (self.looks.pop(0) if self.looks else self.after)]


def rebuild(percent):
    return {"process": {"type": "rebuild", "target": "M1", "progress": {"blocks": 1, "percent": percent}}}


def scrub(compared, **more):
    return {"scrub": {"running": True, "finished": False, "repair": False, "blocks_compared": compared, "blocks_passed_over": 0, "blocks_different": 0,
                      "blocks_unreadable": 0, "blocks_repaired": 0} | more}


class Waiting(unittest.TestCase):
    def wait(self, arrays, stream, name="R", **more):
        self.pauses = []
        waiting.wait_for_array(arrays, name, stream, self.pauses.append, **more)
        return stream.getvalue()

    def test_until_the_array_is_at_rest(self):
        shown = self.wait(Arrays(rebuild(10), rebuild(60)), Terminal())
        self.assertEqual(len(self.pauses), 2)
        lines = shown.split("\r")
        self.assertEqual(lines[2].rstrip(), "[" + "#" * 24 + "." * 16 + "]  60 %  rebuild of M1 on R")
        self.assertEqual(lines[3].strip(), "rebuild of R finished")
        self.assertEqual(len(lines[3].rstrip("\n")), len(lines[2]), "nothing of the bar stays behind the sentence")
        self.assertTrue(shown.endswith("\n"))

    def test_without_a_terminal_there_is_a_line_per_tenth(self):
        shown = self.wait(Arrays(*map(rebuild, (3, 4, 9, 10, 19, 35, 36))), io.StringIO(), name="u")
        self.assertEqual(shown, "".join(f"rebuild of M1 on R: {percent} %\n" for percent in (3, 10, 35)) + "rebuild of R finished\n")
        self.assertNotIn("\r", shown)

    def test_nothing_under_way_says_nothing(self):
        self.assertEqual(self.wait(Arrays(), Terminal()), "")

    def test_a_rebuild_that_was_stopped_is_an_error(self):
        with self.assertRaisesRegex(waiting.EndedBadly, "the rebuild of R was stopped"):
            self.wait(Arrays(rebuild(10), after={"last_rebuild": {"result": "stopped"}}), Terminal())

    def test_a_scrub_is_waited_for_and_judged(self):
        over = {"running": False, "finished": True}
        self.assertEqual(self.wait(Arrays(scrub(250), after=scrub(1000, **over)), io.StringIO()),
                         "scrub of R: 25 %\nscrub of R finished: 1000 blocks compared, 0 different, 0 unreadable\n")
        with self.assertRaisesRegex(waiting.EndedBadly, "3 different, 0 unreadable, 0 repaired"):
            self.wait(Arrays(scrub(250), after=scrub(1000, blocks_different=3, **over)), io.StringIO())
        self.wait(Arrays(scrub(250), after=scrub(1000, blocks_different=3, blocks_repaired=3, repair=True, **over)), io.StringIO())
        with self.assertRaisesRegex(waiting.EndedBadly, "the scrub of R was stopped"):
            self.wait(Arrays(after=scrub(10, running=False)), io.StringIO(), started="scrub")

    def test_a_missing_array_is_an_error(self):
        with self.assertRaisesRegex(RpcFailure, "Q is gone"):
            self.wait(Arrays(), io.StringIO(), name="Q")

    def test_commands_that_start_something_long_have_it(self):
        parser = cli.make_parser()
        for name in cli.WAITS_FOR_ARRAY:
            self.assertIn("--wait", cli.command_parsers(parser)[name].format_help())


if __name__ == "__main__":
    unittest.main()
