"""What the figures are held to, besides the fractions in cases.py: what sleeping may cost at a fixed rate, what waiting may cost at depth 1, and digests.

Left out: measuring (measure.py); the goals' reasons (docs/performance.md).
"""
import dataclasses
import statistics

from . import cases

MOST_CPU_RATIO = 1.6  # of a bare epoll loop's at the same rate
SPINS_P99_US, SLEEPS_P99_US = 15, 40  # above poll mode's
SPINS_FROM_CPU = 0.95  # of poll mode's at the same load: with less it has slept
DEPTH_1_IOPS = 0.05
NOISE = 0.02  # of medians of ratios that should be 1
LEAST_WITH_DIGESTS = 0.85


def _line(kept, text):
  return kept, f"[{'     OK ' if kept else ' FAILED '}] {text}"


def _fractions(found):
  for case, goal in cases.GOALS.items():
    if case in found:
      fraction = found[case].fraction()
      yield _line(fraction >= goal, f"{case.name()}: {fraction:.2f} of the yardstick, at least {goal:.2f}")


def _ratio(key, of, to):
  """Median over rounds of one case's figure to that of the other in the same round."""
  return statistics.median(one.catnap[key] / max(other.catnap[key], 1e-9) for one, other in zip(of.pairs, to.pairs))


def _more(key, of, than):
  return statistics.median(one.catnap[key] - other.catnap[key] for one, other in zip(of.pairs, than.pairs))


def _least(key, result):
  return min(pair.catnap[key] for pair in result.pairs)


def _late(case, result, poll, cpu):
  """The 99th percentile beside poll mode's: the median of rounds, and the quietest round of each. Who takes the CPU for a millisecond makes it late in any
  mode, and is seen in most rounds on some machines; late by the mode's own fault it is in both figures."""
  bound = SPINS_P99_US if cpu >= SPINS_FROM_CPU else SLEEPS_P99_US
  more, quiet = _more("p99_us", result, poll), _least("p99_us", result) - _least("p99_us", poll)
  bare = min(pair.bound["p99_us"] for pair in result.pairs) - _least("p99_us", poll)
  return _line(min(more, quiet) <= bound, f"{case.name()}: 99 % within {more:.0f} us more than poll mode, {quiet:.0f} in the quietest round, at most {bound} "
               f"(the bare loop, which sleeps: {bare:.0f} in its quietest)")


def _rates(found):
  for case, result in found.items():
    poll = found.get(dataclasses.replace(case, mode="poll"))
    if not case.load_percent or case.mode != "adaptive" or poll is None:
      continue
    ratio = result.cpu_ratio()
    yield _line(ratio <= MOST_CPU_RATIO, f"{case.name()}: CPU per I/O {ratio:.2f} of a bare epoll loop's, at most {MOST_CPU_RATIO}")
    cpu = _ratio("target_cpu_us_per_io", result, poll)
    yield _line(cpu <= 1 + NOISE, f"{case.name()}: CPU per I/O {cpu:.2f} of poll mode's, at most 1 (and {NOISE} for noise)")
    yield _late(case, result, poll, cpu)


def _depth_1(found):
  adaptive, poll = found.get(cases.Case(depth=1)), found.get(cases.Case(depth=1, mode="poll"))
  if adaptive and poll:
    ratio = _ratio("iops", adaptive, poll)
    yield _line(ratio >= 1 - DEPTH_1_IOPS, f"depth 1: adaptive {ratio:.2f} of poll mode's IOPS")
    more = _more("p99_us", adaptive, poll)
    yield _line(more <= SPINS_P99_US, f"depth 1: 99 % within {more:.0f} us more than poll mode, at most {SPINS_P99_US}")


def _digests(found):
  for case, result in found.items():
    plain = found.get(dataclasses.replace(case, digests=False))
    if case.digests and plain and case.size >= 131072:
      ratio = _ratio("iops", result, plain)
      yield _line(ratio >= LEAST_WITH_DIGESTS, f"{case.name()}: {ratio:.2f} of it without digests, at least {LEAST_WITH_DIGESTS}")


def judge(results):
  """(kept, text) of each goal that the results say something about."""
  found = {result.case: result for result in results}
  return [line for part in (_fractions, _rates, _depth_1, _digests) for line in part(found)]
