# For lints that run a compiler over many files: two at a time, only what changed since it was last found good, with a bound on time.
# Owner: the lint's own process. Left out: what is run (the lints).
"""judge_all() runs a command per file and remembers by content which files were good."""

import concurrent.futures
import json
import pathlib
import subprocess
import time


def version_of(tool):
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout


def load(cache):
    try:
        return set(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()


def run_one(command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def judge_all(keys, command_of, cache, cwd, jobs=2, budget_s=None):
    """Runs command_of(path) for every path of `keys` ({path: content key}) that was not found good before.

    Returns ({path: output} of the bad ones, [paths there was no time for]). What was good is remembered in `cache`, under its content key, so
    a later run goes on where the time ran out.
    """
    cache = pathlib.Path(cache)
    good = load(cache) & set(keys.values())
    waiting = [path for path, key in keys.items() if key not in good]
    bad, left = {}, []
    start = time.monotonic()

    def work(path):
        if budget_s is not None and time.monotonic() - start > budget_s:
            return path, None, ""
        return path, *run_one(command_of(path), cwd)

    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        for number, (path, status, output) in enumerate(pool.map(work, waiting), 1):
            if status is None:
                left.append(path)
            elif status == 0:
                good.add(keys[path])
            else:
                bad[path] = output
            if status is not None and number % 20 == 0:
                print(f"  {number} of {len(waiting)} files", flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(sorted(good)), encoding="utf-8")
    return bad, left
