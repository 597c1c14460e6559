"""What the matrix measures: cases, and the byte shapes that each has for the bare TCP yardstick.

Left out: how a case is run (measure.py).
"""
import dataclasses
import itertools

# NVMe/TCP PDUs: command capsule, C2HData and H2CData headers, response capsule, R2T (NVMe/TCP transport specification 1.0, section 3.6.2).
COMMAND, DATA_HEADER, RESPONSE, R2T = 72, 24, 24, 24
IN_CAPSULE = 4096  # catnapd's default; larger writes are asked for by R2T

PATTERNS = ("randread", "randwrite", "randrw")
SIZES = (512, 4096, 16384, 131072, 1048576)
DEPTHS = (1, 8, 32, 128)
CONNECTIONS = (1, 4, 16, 64, 256)
MODES = ("adaptive", "poll", "interrupt")
BDEVS = ("malloc", "null", "uring")


@dataclasses.dataclass(frozen=True)
class Case:
  """One cell of the matrix; the defaults are its centre."""
  pattern: str = "randread"
  size: int = 4096
  depth: int = 32
  connections: int = 1
  mode: str = "adaptive"
  digests: bool = False
  tls: bool = False
  bdev: str = "malloc"
  # At a fixed rate: of what catnapd reaches in poll mode at this depth; so many I/Os at once.
  load_percent: int = 0
  burst: int = 1

  def name(self):
    parts = [self.pattern, f"{self.size // 1024} KiB" if self.size >= 1024 else f"{self.size} B", f"depth {self.depth}"]
    if self.connections > 1:
      parts.append(f"{self.connections} connections")
    if self.digests:
      parts.append("digests")
    if self.tls:
      parts.append("TLS")
    if self.bdev != "malloc":
      parts.append(self.bdev)
    if self.load_percent:
      parts.append(f"{self.load_percent} % load" + (f" in bursts of {self.burst}" if self.burst > 1 else ""))
    return ", ".join(parts) + f" ({self.mode})"

  def shapes(self):
    """(bytes of a request, bytes of an answer), both sides' PDUs added up; of a mix, the mean."""
    read = (COMMAND, DATA_HEADER + self.size + RESPONSE)
    write = (COMMAND + self.size, RESPONSE) if self.size <= IN_CAPSULE else (COMMAND + DATA_HEADER + self.size, R2T + RESPONSE)
    if self.pattern.endswith("read"):
      return read
    if self.pattern.endswith("write"):
      return write
    return (read[0] + write[0]) // 2, (read[1] + write[1]) // 2


# The goals of a target that beats a polling one: least fractions of the yardstick.
GOALS = {
  Case(depth=1): 0.60,
  Case(pattern="randwrite", depth=1): 0.60,
  Case(): 0.48,
  Case(pattern="randwrite"): 0.48,
  Case(pattern="randrw"): 0.48,
  Case(depth=128): 0.58,
  Case(pattern="randwrite", depth=128): 0.58,
  Case(pattern="read", size=131072, depth=16): 1.0,
  Case(pattern="write", size=131072, depth=16): 1.0,
}


def goals():
  """What has a goal, and what those goals are relative to."""
  return [*GOALS, Case(depth=1, mode="poll")] + [Case(pattern=pattern, size=131072, depth=16, digests=True) for pattern in ("read", "write")]


def axes():
  """The centre, and each dimension varied by itself."""
  found = [Case()]
  for field, values in (("pattern", PATTERNS), ("size", SIZES), ("depth", DEPTHS), ("connections", CONNECTIONS), ("mode", MODES), ("digests", (False, True)),
                        ("bdev", BDEVS)):
    found += [dataclasses.replace(Case(), **{field: value}) for value in values]
  found += [Case(size=131072, depth=16, pattern=pattern, digests=digests) for pattern in ("read", "write") for digests in (False, True)]
  found += [Case(depth=1, mode=mode) for mode in MODES]
  found += tls()
  return list(dict.fromkeys(found))


def together(chosen):
  """Lists of cases that are compared with each other: alike but for mode, digests and TLS."""
  groups = {}
  for case in chosen:
    groups.setdefault(dataclasses.replace(case, mode="", digests=False, tls=False), []).append(case)
  return list(groups.values())


def tls():
  """With TLS and without: what it costs small and large I/O."""
  shapes = [Case(), Case(depth=1), Case(pattern="randwrite"), *(Case(pattern=pattern, size=131072, depth=16) for pattern in ("read", "write"))]
  return [dataclasses.replace(case, tls=secure) for case in shapes for secure in (False, True)]


def rates():
  """A fixed load, evenly spaced and in bursts."""
  return [Case(load_percent=percent, burst=burst, mode=mode) for percent in (5, 20, 50) for burst in (1, 16) for mode in ("adaptive", "poll")]


def everything():
  """The whole product: days."""
  return [Case(*values) for values in itertools.product(PATTERNS, SIZES, DEPTHS, CONNECTIONS, MODES, (False, True), (False, True), BDEVS)]


def in_order(chosen):
  """Kinds and sizes of bdevs after one another: each has a server of its own."""
  return sorted(chosen, key=lambda case: (case.bdev, case.connections * case.size, dataclasses.astuple(case)))


def small():
  """For each test run: five cells that no change should make slower unnoticed."""
  return [Case(), Case(pattern="randwrite"), Case(depth=1), *(Case(pattern=pattern, size=131072, depth=16) for pattern in ("read", "write"))]


SETS = {"tls": tls, "small": small, "goals": goals, "axes": axes, "rates": rates, "everything": everything}
