"""Holds cases to what was recorded (recorded.json): a regression by half must be found, and a busy neighbour must not look like one.

A case is slow when both its figures are: the median of pairs, which one disturbed pair does not move, and the best run of catnapd against the best of the
yardstick, which disturbances can only lower in both. One that looks slow is measured again before it is called slow, and where the yardstick itself was
uneven it is not judged. Left out: measuring (measure.py), which cases (cases.py).
"""
import json
import statistics

from .measure import Pair

# How far below its record a case may come: twice the spread that it had then, within bounds. Machines differ in how well they do TCP and copies; and
# half the speed (0.5) must be told from all that is allowed (0.6 and more).
LEAST_SLACK, MOST_SLACK = 0.3, 0.4
ROUNDS = 3  # of pairs, for a case that looks slow
MOST_UNEVEN = 1.5  # the yardstick's upper quartile by its lower one


def quartiles(values):
  lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
  return lower, middle, upper


def best(result):
  return max(pair.catnap["iops"] for pair in result.pairs) / max(pair.bound["iops"] for pair in result.pairs)


def record_of(result):
  """What recorded.json keeps of a case."""
  lower, middle, upper = quartiles(result.values(Pair.fraction))
  return {"median": round(middle, 3), "best": round(best(result), 3), "spread": round((upper - lower) / middle, 3)}


def least_part(record):
  return 1 - min(MOST_SLACK, max(LEAST_SLACK, 2 * record["spread"]))


def uneven(result):
  lower, _, upper = quartiles(result.values(lambda pair: pair.bound["iops"]))
  return upper > MOST_UNEVEN * lower


class Verdict:
  """A case as it was measured, beside its record."""

  def __init__(self, result, record):
    self.median, self.best = result.fraction(), best(result)
    least = least_part(record)
    self.least_median, self.least_best = record["median"] * least, record["best"] * least
    self.slow = self.median < self.least_median and self.best < self.least_best
    self.pairs = len(result.pairs)

  def __str__(self):
    return (f"of the yardstick the median of {self.pairs} pairs is {self.median:.2f} (at least {self.least_median:.2f}), "
            f"the best {self.best:.2f} (at least {self.least_best:.2f})")


def judge(bench, case, record):
  """(Verdict, all that was measured). Measures again while the case looks slow, up to ROUNDS times in all."""
  result = bench.measure(case)
  for _ in range(ROUNDS - 1):
    if not Verdict(result, record).slow:
      break
    result.pairs += bench.measure(case).pairs
  return Verdict(result, record), result


def read(path):
  return json.loads(path.read_text(encoding="utf-8"))


def write(path, results):
  path.write_text(json.dumps({result.case.name(): record_of(result) for result in results}, indent=1) + "\n", encoding="utf-8")
