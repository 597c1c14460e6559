"""One look at the server: the answers that a view needs, asked for in one batch, over a connection that is made anew when it was lost.

Left out: what the answers mean (views.py).
"""

import time

from catnap_rpc.client import Client, NotConnected, RpcFailure

# Subsystems whose queue pairs are asked for at a time; more of them take turns.
QUEUES_PER_SAMPLE = 256
ALWAYS = [("framework_get_reactors", None), ("bdev_get_iostat", None), ("nvmf_get_subsystems", None), ("nvmf_get_stats", None),
          ("bdev_raid_get_bdevs", {"category": "all"}), ("nvmf_get_io_stats", {"kinds": ["total"]})]
OF_VIEW = {
    "reactors": [],
    "threads": [("thread_get_stats", None)],
    "pollers": [("thread_get_pollers", None)],
    "namespaces": [("bdev_get_bdevs", None), ("nvmf_get_io_stats", {"kinds": ["namespaces"], "histograms": True})],
    "hosts": [("nvmf_get_io_stats", {"kinds": ["connections"]})],
}


# Answers that are long and change rarely are used for so long: only sizes of disks are taken from them.
RARELY, RARELY_S = {"bdev_get_bdevs"}, 10.0


class Sample:
    """The answers by method; a method that was refused or is not there is absent, and its reason stands in `refused`."""

    def __init__(self):
        self.answers = {}
        self.refused = {}
        self.queues = {}  # NQN -> queue pairs

    def get(self, method, otherwise=None):
        return self.answers.get(method, otherwise)

    @property
    def pid(self):
        return self.get("framework_get_reactors", {}).get("pid")

    def subsystems(self):
        return [each for each in self.get("nvmf_get_subsystems", []) if each.get("subtype") == "NVMe"]

    def seconds_since(self, before):
        """By the server's own clock; None when it is another server, or no time went by."""
        now, then = self.get("bdev_get_iostat"), before.get("bdev_get_iostat")
        if now is None or then is None or self.pid != before.pid:
            return None
        seconds = (now["ticks"] - then["ticks"]) / now["tick_rate"]
        return seconds if seconds > 0 else None


class Source:
    """Takes samples. RpcFailure when there is no answer; the next sample connects again."""

    def __init__(self, address, timeout_s):
        self.address = address
        self.timeout_s = timeout_s
        self.version = ""
        self._client = None
        self._queues_from = 0
        self._kept = {}  # method -> (when, answer)

    def close(self):
        self._kept = {}
        if self._client is not None:
            self._client.close()
            self._client = None

    def _batch(self, calls):
        if self._client is None:
            self._client = Client(self.address, self.timeout_s)
            self.version = ""
        try:
            return self._client.call_batch(calls)
        except RpcFailure:
            self.close()
            raise

    def sample(self, views):
        calls = list(ALWAYS)
        for view in views:
            calls += [call for call in OF_VIEW[view] if call not in calls]
        if not self.version:
            calls.append(("spdk_get_version", None))
        sample = Sample()
        now = time.monotonic()
        for method, (when, answer) in self._kept.items():
            if now - when < RARELY_S:
                calls = [call for call in calls if call[0] != method]
                sample.answers[method] = answer
        for (method, _), reply in zip(calls, self._batch(calls)):
            if "error" in reply:
                sample.refused[method] = reply["error"].get("message", "")
            elif method == "nvmf_get_io_stats":
                sample.answers.setdefault(method, {}).update(reply["result"])  # one answer per kind
            else:
                sample.answers[method] = reply["result"]
                if method in RARELY:
                    self._kept[method] = (now, reply["result"])
        self.version = sample.get("spdk_get_version", {}).get("version", self.version)
        if "hosts" in views:
            self._ask_for_queues(sample)
        return sample

    def _ask_for_queues(self, sample):
        names = [each["nqn"] for each in sample.get("nvmf_get_subsystems", [])]
        if len(names) > QUEUES_PER_SAMPLE:
            first = self._queues_from % len(names)
            names = (names[first:] + names[:first])[:QUEUES_PER_SAMPLE]
            self._queues_from = first + QUEUES_PER_SAMPLE
        replies = self._batch([("nvmf_subsystem_get_qpairs", {"nqn": name}) for name in names])
        sample.queues = {name: reply["result"] for name, reply in zip(names, replies) if "result" in reply}


def reason(failure):
    """One line of what went wrong."""
    if isinstance(failure, NotConnected):
        return failure.message.split("Error details: ")[-1]
    return failure.message.split("\n")[0]
