#!/usr/bin/env -S /usr/bin/python3
# Tests of tally.py: the total counts what ran, and a program that dies never counts as passed.
# Owner: its process. Left out: ctest itself.
"""Unit tests; samples are output as GoogleTest 1.12, unittest of Python 3.11 and ctest 3.25 print it."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tally  # noqa: E402

GTEST = """[==========] Running 4 tests from 1 test suite.
[ RUN      ] A.good
[       OK ] A.good (0 ms)
[ RUN      ] A.bad
a.cpp:3: Failure
[  FAILED  ] A.bad (1 ms)
[ RUN      ] In/A.skip/0
a.cpp:9: Skipped
no io_uring here

[  SKIPPED ] In/A.skip/0 (0 ms)
[ RUN      ] In/A.bad/1
noise without a newline[  FAILED  ] In/A.bad/1, where GetParam() = 7 (0 ms)
[==========] 4 tests from 1 test suite ran. (1 ms total)
[  PASSED  ] 1 test.
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] In/A.skip/0
[  FAILED  ] 2 tests, listed below:
[  FAILED  ] A.bad
[  FAILED  ] In/A.bad/1, where GetParam() = 7

  YOU HAVE 1 DISABLED TEST
"""
UNITTEST = """test_a (m.C.test_a) ... ok
test_b (m.C.test_b)
What b shows. ... FAIL
test_c (m.C.test_c) ... skipped 'no QEMU'

======================================================================
FAIL: test_b (m.C.test_b)
What b shows.
----------------------------------------------------------------------
Ran 3 tests in 0.001s

FAILED (failures=1, skipped=1)
"""


def outcomes(cases):
    return [tally.count(cases, outcome) for outcome in (tally.PASSED, tally.FAILED, tally.SKIPPED)]


class Programs(unittest.TestCase):
    def test_googletest_cases_count_once_each(self):
        cases = tally.program_cases("fail", "Failed", GTEST)
        self.assertEqual(outcomes(cases), [1, 2, 2])
        self.assertIn(tally.Case("In/A.skip/0", tally.SKIPPED, "no io_uring here"), cases)

    def test_a_googletest_program_that_dies_has_failed(self):
        cases = tally.program_cases("fail", "SEGFAULT", "[==========] Running 2 tests\n[ RUN      ] A.a\n[       OK ] A.a (0 ms)\n[ RUN      ] A.b\n")
        self.assertEqual(outcomes(cases), [1, 1, 0])
        self.assertEqual(cases[-1].reason, "died in A.b")

    def test_a_leak_after_all_cases_passed_is_a_failure(self):
        cases = tally.program_cases("fail", "Failed", "[==========] Running 1 test\n[ RUN      ] A.a\n[       OK ] A.a (0 ms)\n")
        self.assertEqual(outcomes(cases), [1, 1, 0])

    def test_a_program_without_cases_has_failed(self):
        self.assertEqual(outcomes(tally.program_cases("run", "", "[==========] Running 0 tests from 0 test suites.\n")), [0, 1, 0])

    def test_unittest_cases(self):
        cases = tally.program_cases("fail", "Failed", UNITTEST)
        self.assertEqual(outcomes(cases), [1, 1, 1])
        self.assertIn(tally.Case("test_c (m.C.test_c)", tally.SKIPPED, "no QEMU"), cases)

    def test_unittest_that_all_passed(self):
        self.assertEqual(outcomes(tally.program_cases("run", "", "Ran 5 tests in 0.1s\n\nOK\n")), [5, 0, 0])

    def test_unittest_skips_without_a_name_are_still_skips(self):
        self.assertEqual(outcomes(tally.program_cases("run", "", "Ran 5 tests in 0.1s\n\nOK (skipped=2)\n")), [3, 0, 2])

    def test_tap_lines(self):
        cases = tally.program_cases("fail", "Failed", "1..3\nok 1 - a\nnot ok 2 - b\nok 3 - c # SKIP no guest\n")
        self.assertEqual(outcomes(cases), [1, 1, 1])
        self.assertEqual(cases[2], tally.Case("c", tally.SKIPPED, "no guest"))

    def test_end_to_end_programs(self):
        output = "[ RUN    ] two words\n[     OK ] two words (0.1 s)\n[ RUN    ] b\nwhy\n[ FAILED ] b (1.0 s)\nhost: 1 passed, 1 failed, 2 not run, 3 s\n"
        self.assertEqual(outcomes(tally.program_cases("fail", "Failed", output)), [1, 3, 0])
        output = "[ RUN    ] a\n[ SKIPPED] a: no cgroups: not root\n[ RUN    ] b\n[     OK ] b (0.1 s)\nx: 1 passed, 0 failed, 0 not run, 3 s\n"
        cases = tally.program_cases("run", "", output)
        self.assertEqual(outcomes(cases), [1, 0, 1])
        self.assertIn(tally.Case("a", tally.SKIPPED, "no cgroups: not root"), cases)
        skipped = tally.program_cases("notrun", "SKIP_RETURN_CODE=77", "SKIPPED: no QEMU here\n")
        self.assertEqual(skipped, [tally.Case("", tally.SKIPPED, "no QEMU here")])

    def test_other_programs_count_by_their_status(self):
        self.assertEqual(outcomes(tally.program_cases("run", "", "fine\n")), [1, 0, 0])
        self.assertEqual(outcomes(tally.program_cases("fail", "Timeout", "")), [0, 1, 0])
        self.assertEqual(outcomes(tally.program_cases("notrun", "SKIP_RETURN_CODE=77", "")), [0, 0, 1])


class Stages(unittest.TestCase):
    def in_folder(self, name, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / name
        path.write_text(text, encoding="utf-8")
        return path

    def test_a_stage_that_could_not_run_is_a_failure(self):
        cases = tally.stage_cases(self.in_folder("asan.failed", "does not build\n"))
        self.assertEqual(cases, [tally.Case("asan", tally.FAILED, "does not build")])

    def test_a_junit_file(self):
        text = """<?xml version="1.0"?><testsuite name="x" tests="2" failures="1">
<testcase name="a" status="run"><system-out>ok</system-out></testcase>
<testcase name="b" status="fail"><failure message="Timeout"/><system-out>bytes: \x01</system-out></testcase></testsuite>"""
        cases = tally.stage_cases(self.in_folder("release.xml", text))
        self.assertEqual([case.name for case in cases], ["release: a", "release: b"])
        self.assertEqual(outcomes(cases), [1, 1, 0])

    def test_no_test_at_all_is_a_failure(self):
        self.assertEqual(tally.print_report({"release": []}), 1)
        self.assertEqual(tally.print_report({"release": [tally.Case("a", tally.SKIPPED)]}), 1)
        self.assertEqual(tally.print_report({"release": [tally.Case("a", tally.PASSED)]}), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
