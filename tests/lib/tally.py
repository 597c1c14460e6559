#!/usr/bin/env -S /usr/bin/python3
# Counts what really ran: the single cases inside the programs that ctest started, from ctest's JUnit files. Called by scripts/test.
# Owner: its process. Left out: running anything.
"""Usage: tally.py FILE...

FILE is STAGE.xml (ctest --output-junit of one stage), or STAGE.failed (a stage that could not run; its text says why).
A GoogleTest program, a Python unittest program (run it with -v), a program of tests/e2e/harness.py and one that prints TAP lines count by
their cases, any other by its exit status. A program that dies counts one failure of its own, besides the cases it had finished. Prints each stage's numbers, each skipped case
with its reason, each failed one, and a last line "N passed, N failed, N skipped". Exit status 1 on any failure, or when nothing ran.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Case:
    """One counted test. `reason` says why it was skipped or how it failed."""

    name: str
    outcome: str
    reason: str = ""


_GTEST_EVENT = re.compile(r"\[ RUN      \] (?P<run>\S+)|\[\s+(?P<result>OK|FAILED|SKIPPED) +\] (?P<name>[^\s,]+)[^\n]*\(\d+ ms\)")
_GTEST_DISABLED = re.compile(r"YOU HAVE (\d+) DISABLED TEST")
_UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in [\d.]+s$", re.MULTILINE)
_UNITTEST_VERDICT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
_UNITTEST_BAD = re.compile(r"^(?:FAIL|ERROR): (.+)$", re.MULTILINE)
_UNITTEST_SKIP = re.compile(r"^(.*?)(?: \.\.\.)? skipped (['\"])(.*)\2$", re.MULTILINE)
_HARNESS_CASE = re.compile(r"^\[\s+(OK|FAILED)\s+\] (.+) \([\d.]+ s\)$", re.MULTILINE)
_HARNESS_SKIP = re.compile(r"^\[ SKIPPED\] (.+?): (.+)$", re.MULTILINE)
_HARNESS_SUM = re.compile(r"^.+: \d+ passed, \d+ failed, (\d+) not run, \d+ s$", re.MULTILINE)
_SKIP_REASON = re.compile(r"^SKIPPED: (.+)$", re.MULTILINE)
_TAP = re.compile(r"^(ok|not ok)\b(?: (\d+))?(?: -)? ?(.*)$", re.MULTILINE)


def gtest_cases(output):
    """Cases of a GoogleTest program. One that began and did not end is not listed here: the program died in it."""
    cases, began, unfinished = {}, 0, ""
    for event in _GTEST_EVENT.finditer(output):
        if event["run"]:
            began, unfinished = event.end(), event["run"]
            continue
        name = event["name"]
        if name != unfinished:
            continue  # the list at the end repeats what was told
        between, unfinished = output[began:event.start()].strip(), ""
        if event["result"] == "SKIPPED":
            cases[name] = Case(name, SKIPPED, between.rsplit("Skipped\n", 1)[-1].strip().replace("\n", " ") or "no reason given")
        else:
            cases[name] = Case(name, PASSED if event["result"] == "OK" else FAILED)
    found = list(cases.values())
    disabled = _GTEST_DISABLED.search(output)
    if disabled:
        found += [Case(f"disabled test {number + 1}", SKIPPED, "disabled in the source") for number in range(int(disabled.group(1)))]
    return found, f"died in {unfinished}" if unfinished else ""


def unittest_cases(output):
    """Cases of a Python unittest program: numbers from its summary, names where it told them."""
    total = int(_UNITTEST_RAN.findall(output)[-1])
    verdict = _UNITTEST_VERDICT.search(output, _UNITTEST_RAN.search(output).end())
    counts = {key: int(value) for key, value in re.findall(r"([a-z ]+)=(\d+)", verdict.group(1) or "")} if verdict else {}
    counts = {key.strip(): value for key, value in counts.items()}
    bad = [name for name in _UNITTEST_BAD.findall(output)]
    failed = [Case(name, FAILED) for name in bad]
    failed += [Case("unexpected success", FAILED)] * counts.get("unexpected successes", 0)
    told = [Case(match[0].split("\n")[-1].strip() or "?", SKIPPED, match[2]) for match in _UNITTEST_SKIP.findall(output)]
    skipped = told[:counts.get("skipped", 0)]
    skipped += [Case("unnamed", SKIPPED, "reason not told: run the program with -v")] * (counts.get("skipped", 0) - len(skipped))
    passed = max(0, total - len(skipped) - min(total, counts.get("failures", 0) + counts.get("errors", 0)) - counts.get("unexpected successes", 0))
    return [Case(f"case {number + 1}", PASSED) for number in range(passed)] + failed + skipped


def tap_cases(output):
    cases = []
    for verdict, number, text in _TAP.findall(output):
        name, _, directive = text.partition("# ")
        if directive.upper().startswith("SKIP"):
            cases.append(Case(name.strip() or number, SKIPPED, directive[4:].strip(": ") or "no reason given"))
        else:
            cases.append(Case(name.strip() or number, PASSED if verdict == "ok" else FAILED))
    return cases


def harness_cases(output):
    """Cases of a tests/e2e program; what could not run since the guest was gone has failed."""
    cases = [Case(name, PASSED if verdict == "OK" else FAILED) for verdict, name in _HARNESS_CASE.findall(output)]
    cases += [Case(name, SKIPPED, reason) for name, reason in _HARNESS_SKIP.findall(output)]
    sums = _HARNESS_SUM.search(output)
    return cases + [Case("a case that could not run", FAILED)] * (int(sums.group(1)) if sums else 0)


def program_cases(status, message, output):
    """Cases of one ctest entry. `status` is JUnit's: run, fail, notrun, disabled."""
    if status in ("notrun", "disabled"):
        told = _SKIP_REASON.search(output)
        return [Case("", SKIPPED, told.group(1) if told else message or "not run")]
    died = ""
    if "[==========] Running" in output:
        cases, died = gtest_cases(output)
    elif _UNITTEST_RAN.search(output):
        cases = unittest_cases(output)
    elif _HARNESS_CASE.search(output):
        cases = harness_cases(output)
    elif re.search(r"^(?:TAP version|1\.\.\d+$)", output, re.MULTILINE):
        cases = tap_cases(output)
    else:
        return [Case("", PASSED if status == "run" else FAILED, message)]
    if status == "fail" and not any(case.outcome == FAILED for case in cases):
        cases.append(Case("", FAILED, died or message or "the program ended with an error although no case failed"))
    if status == "run" and not cases:
        cases.append(Case("", FAILED, "the program ran no case"))
    return cases


def stage_cases(path):
    """All cases of one stage, named "STAGE: PROGRAM CASE"."""
    stage = path.stem
    if path.suffix == ".failed":
        return [Case(stage, FAILED, path.read_text(encoding="utf-8").strip())]
    text = re.sub(r"[^\t\n\r\x20-\U0010FFFF]", "?", path.read_text(encoding="utf-8", errors="replace"))
    cases = []
    for test in ElementTree.fromstring(text).iter("testcase"):
        note = test.find("failure") if test.find("failure") is not None else test.find("skipped")
        message = note.get("message", "") if note is not None else ""
        status = "fail" if test.find("failure") is not None else test.get("status", "run")
        for case in program_cases(status, message, test.findtext("system-out", "")):
            cases.append(Case(f"{stage}: {test.get('name')} {case.name}".strip(), case.outcome, case.reason))
    return cases


def count(cases, outcome):
    return sum(case.outcome == outcome for case in cases)


def total_line(cases):
    return f"{count(cases, PASSED)} passed, {count(cases, FAILED)} failed, {count(cases, SKIPPED)} skipped"


def print_report(stages):
    everything = [case for cases in stages.values() for case in cases]
    print("\nBy stage")
    for stage, cases in stages.items():
        print(f"  {stage}: {total_line(cases)}")
    for outcome, title in ((SKIPPED, "Skipped"), (FAILED, "Failed")):
        if count(everything, outcome):
            print(f"\n{title}")
        for case in everything:
            if case.outcome == outcome:
                print(f"  {case.name}{': ' + case.reason if case.reason else ''}")
    print()
    if not everything:
        print("No test ran: that is a failure.")
    print(total_line(everything))
    return 1 if count(everything, FAILED) or not count(everything, PASSED) else 0


def main():
    stages = {}
    for path in map(pathlib.Path, sys.argv[1:]):
        try:
            stages.setdefault(path.stem, []).extend(stage_cases(path))
        except (OSError, ElementTree.ParseError) as error:
            stages.setdefault(path.stem, []).append(Case(path.stem, FAILED, f"its results cannot be read: {error}"))
    sys.exit(print_report(stages))


if __name__ == "__main__":
    main()
