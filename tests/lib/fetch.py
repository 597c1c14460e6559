#!/usr/bin/env -S /usr/bin/python3
# Fetches from Debian's archive what tests would otherwise wait for: the guests' kernels and tools, and the clean root that the package is installed in.
# Called by scripts/test in the background of the build. Owner: its process. Left out: what is done with it, and judging: a test that finds it missing
# fetches it itself, and says why it cannot.
"""Fills build/e2e-cache and build/cache; what is there already is left alone."""

import pathlib
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "e2e" / "image"), str(TESTS / "packaging")]

import guest_image  # noqa: E402 (needs the paths above)
import package_test  # noqa: E402


def main():
    for name, fetch in (("guest image", guest_image.ensure_image), ("newer guest kernel", guest_image.ensure_newer_kernel), ("clean Debian", package_test.make_base)):
        started = time.monotonic()
        try:
            print(f"{name}: {fetch()}, {time.monotonic() - started:.0f} s", flush=True)
        except (Exception, SystemExit) as problem:  # the test that needs it will tell
            print(f"{name}: not fetched after {time.monotonic() - started:.0f} s: {problem}", flush=True)


if __name__ == "__main__":
    main()
