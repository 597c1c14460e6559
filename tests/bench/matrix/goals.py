"""What the figures are held to, besides the fractions in cases.py: what sleeping may cost at a fixed rate, what waiting may cost at depth 1, and digests.

Left out: measuring (measure.py); the goals' reasons (docs/performance.md).
"""
import dataclasses

from . import cases

MOST_CPU_RATIO = 1.6  # of a bare epoll loop's at the same rate
SPINS_P99_US, SLEEPS_P99_US = 15, 40  # above poll mode's
SPINS_FROM_PERCENT = 50  # of the maximum: there gaps are short enough for an adaptive reactor to look
DEPTH_1_IOPS = 0.05
LEAST_WITH_DIGESTS = 0.85


def _line(kept, text):
  return kept, f"[{'     OK ' if kept else ' FAILED '}] {text}"


def _fractions(found):
  for case, goal in cases.GOALS.items():
    if case in found:
      fraction = found[case].fraction()
      yield _line(fraction >= goal, f"{case.name()}: {fraction:.2f} of the yardstick, at least {goal:.2f}")


def _p99(result):
  return result.median(lambda pair: pair.catnap["p99_us"])


def _cpu(result):
  return result.median(lambda pair: pair.catnap["target_cpu_us_per_io"])


def _rates(found):
  for case, result in found.items():
    poll = found.get(dataclasses.replace(case, mode="poll"))
    if not case.load_percent or case.mode != "adaptive" or poll is None:
      continue
    ratio = result.cpu_ratio()
    yield _line(ratio <= MOST_CPU_RATIO, f"{case.name()}: CPU per I/O {ratio:.2f} of a bare epoll loop's, at most {MOST_CPU_RATIO}")
    yield _line(_cpu(result) <= _cpu(poll), f"{case.name()}: CPU per I/O {_cpu(result):.2f} us, poll mode {_cpu(poll):.2f}")
    bound = SPINS_P99_US if case.load_percent >= SPINS_FROM_PERCENT else SLEEPS_P99_US
    yield _line(_p99(result) <= _p99(poll) + bound, f"{case.name()}: 99 % within {_p99(result):.0f} us, poll mode {_p99(poll):.0f}, at most {bound} more")


def _depth_1(found):
  adaptive, poll = found.get(cases.Case(depth=1)), found.get(cases.Case(depth=1, mode="poll"))
  if adaptive and poll:
    ratio = adaptive.median(lambda pair: pair.catnap["iops"]) / poll.median(lambda pair: pair.catnap["iops"])
    yield _line(abs(ratio - 1) <= DEPTH_1_IOPS or ratio > 1, f"depth 1: adaptive {ratio:.2f} of poll mode's IOPS")
    yield _line(_p99(adaptive) <= _p99(poll) + SPINS_P99_US, f"depth 1: 99 % within {_p99(adaptive):.0f} us, poll mode {_p99(poll):.0f}")


def _digests(found):
  for case, result in found.items():
    plain = found.get(dataclasses.replace(case, digests=False))
    if case.digests and plain and case.size >= 131072:
      ratio = result.median(lambda pair: pair.catnap["iops"]) / plain.median(lambda pair: pair.catnap["iops"])
      yield _line(ratio >= LEAST_WITH_DIGESTS, f"{case.name()}: {ratio:.2f} of it without digests, at least {LEAST_WITH_DIGESTS}")


def judge(results):
  """(kept, text) of each goal that the results say something about."""
  found = {result.case: result for result in results}
  return [line for part in (_fractions, _rates, _depth_1, _digests) for line in part(found)]
