"""Figures as JSON, Markdown and bars. Left out: measuring (measure.py), drawing (svg.py)."""
import json

from . import cases, svg
from .measure import Pair


def spread(values, digits):
  return f"{values[0]:.{digits}f} to {values[-1]:.{digits}f}"


def row(result):
  """One result as plain values."""
  case = result.case
  return {
    "case": case.name(), "pattern": case.pattern, "size": case.size, "depth": case.depth, "connections": case.connections, "mode": case.mode,
    "digests": case.digests, "tls": case.tls, "bdev": case.bdev, "load_percent": case.load_percent, "burst": case.burst, "rate": result.rate, "pairs": len(result.pairs),
    "fraction": round(result.fraction(), 3), "fractions": [round(value, 3) for value in result.values(Pair.fraction)],
    "iops": round(result.median(lambda pair: pair.catnap["iops"])), "bound_iops": round(result.median(lambda pair: pair.bound["iops"])),
    "p50_us": result.median(lambda pair: pair.catnap["p50_us"]), "p99_us": result.median(lambda pair: pair.catnap["p99_us"]),
    "bound_p99_us": result.median(lambda pair: pair.bound["p99_us"]),
    "cpu_us_per_io": result.median(lambda pair: pair.catnap["target_cpu_us_per_io"]),
    "bound_cpu_us_per_io": result.median(lambda pair: pair.bound["target_cpu_us_per_io"]),
    "cpu_ratio": round(result.median(Pair.cpu_ratio), 3), "goal": cases.GOALS.get(case),
  }


def markdown(rows, heading):
  lines = [f"# {heading}", "", "IOPS of catnapd against the bare TCP yardstick with the same bytes, in pairs: median, and lowest to highest. CPU is the server's.", "",
           "| Case | Of the yardstick | Spread | Goal | IOPS | Half within, 99 % within (us) | CPU per I/O (us) | of the yardstick's |",
           "| --- | --- | --- | --- | --- | --- | --- | --- |"]
  for each in rows:
    goal = "" if each["goal"] is None else f"{each['goal']:.2f} {'met' if each['fraction'] >= each['goal'] else 'missed'}"
    lines.append(f"| {each['case']} | {each['fraction']:.2f} | {spread(each['fractions'], 2)} | {goal} | {each['iops']:,} | {each['p50_us']:.0f}, "
                 f"{each['p99_us']:.0f} | {each['cpu_us_per_io']:.2f} | {each['cpu_ratio']:.2f} |")
  return "\n".join(lines) + "\n"


def write(results, folder, heading):
  """report.json, report.md, fractions.svg in `folder`, which is made if missing."""
  folder.mkdir(parents=True, exist_ok=True)
  rows = [row(result) for result in results]
  (folder / "report.json").write_text(json.dumps(rows, indent=1) + "\n")
  (folder / "report.md").write_text(markdown(rows, heading) + "\n![Fractions of the yardstick](fractions.svg)\n")
  (folder / "fractions.svg").write_text(svg.bars([(each["case"], each["fraction"], each["fractions"][0], each["fractions"][-1], each["goal"]) for each in rows],
                                                 "Part of what bare TCP reaches"))
