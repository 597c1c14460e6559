#!/usr/bin/env -S /usr/bin/python3
"""/metrics of the real catnapd: read by Prometheus' own parser, compared with what hosts did and measured, bounded; and docs/metrics.md, the alert rules and
the Grafana dashboard name only what is there.

`metrics_test.py --write-docs` brings docs/metrics.md up to date. Left out: who may read them (http_test.py), what a scrape costs (tests/e2e/idle_test.py).
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

from prometheus_client.parser import text_string_to_metric_families

from web_client import ROOT, WebServer
from server_process import free_tcp_port

PERF = os.environ.get("CATNAP_PERF", os.path.join(ROOT, "build", "debug", "bin", "catnap-perf"))
NQN = "nqn.2026-11.io.catnap:metrics"
HOST = "nqn.2026-11.io.catnap:busy-host"
SECONDS = 6 if os.environ.get("CATNAP_SOAK") == "1" else 1.5
DOCS = os.path.join(ROOT, "docs", "metrics.md")
TYPES = {"counter", "gauge", "histogram"}



class Metrics:
    """One page of metrics, parsed."""

    def __init__(self, text):
        self.text = text
        self.families = {}
        for family in text_string_to_metric_families(text):
            name = family.name + ("_total" if family.type == "counter" else "")
            if name in self.families:
                raise AssertionError(f"{name} is there twice")
            self.families[name] = family

    def samples(self, name, **labels):
        """Values of the samples of this name that have these labels, by all their labels."""
        return {tuple(sorted(sample.labels.items())): sample.value for family in self.families.values() for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()}

    def value(self, name, **labels):
        found = self.samples(name, **labels)
        if len(found) != 1:
            raise AssertionError(f"{name} {labels}: {len(found)} samples")
        return next(iter(found.values()))

    def step_of(self, name, part, **labels):
        """The end of the step that this part of all was not above, as catnap-perf says it; PromQL's histogram_quantile guesses a place within it."""
        buckets = sorted((float(dict(key)["le"]), value) for key, value in self.samples(name + "_bucket", **labels).items())
        return next(end for end, so_far in buckets if so_far > int(part * buckets[-1][1]))


class Target:
    """A catnapd with a subsystem at a port of its own."""

    def __init__(self, *options):
        self.web = WebServer(*options)
        self.call = self.web.server.client.call
        self.nvme_port = str(free_tcp_port())
        self.call("nvmf_create_transport", {"trtype": "TCP"})

    def subsystem(self, nqn, bdevs):
        self.call("nvmf_create_subsystem", {"nqn": nqn, "allow_any_host": True, "max_namespaces": 2000})
        for bdev in bdevs:
            self.call("nvmf_subsystem_add_ns", {"nqn": nqn, "namespace": {"bdev_name": bdev}})
        self.call("nvmf_subsystem_add_listener",
                  {"nqn": nqn, "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": self.nvme_port}})

    def perf_command(self, *options):
        return [PERF, "--traddr", "127.0.0.1", "--trsvcid", self.nvme_port, "--nqn", NQN, "--json", "--wait", *options]

    def perf(self, *options):
        done = subprocess.run(self.perf_command(*options), capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def host(self, hostnqn, *options):
        """A host that goes on with I/O while the block runs."""
        with subprocess.Popen(self.perf_command("--hostnqn", hostnqn, "--seconds", "300", *options), stdout=subprocess.DEVNULL) as process:
            try:
                busy = time.monotonic() + 60
                while not any(entry["hostnqn"] == hostnqn and entry["read"]["ios"] > 0 for entry in self.call("nvmf_get_io_stats")["connections"]):
                    if time.monotonic() > busy:
                        raise AssertionError(f"no I/O of {hostnqn} within 60 s")
                yield
            finally:
                process.kill()

    def metrics(self):
        reply = self.web.ask("GET", "/metrics")
        if reply.status != 200 or reply.headers["Content-Type"] != "text/plain; version=0.0.4; charset=utf-8":
            raise AssertionError(f"{reply.status} {reply.headers}")
        return Metrics(reply.body.decode())

    def close(self):
        status, text = self.web.close()
        if status != 0:
            raise AssertionError(text)


class Page(unittest.TestCase):
    """A target with something of every kind."""

    @classmethod
    def setUpClass(cls):
        cls.target = Target()
        cls.addClassCleanup(cls.target.close)
        call = cls.target.call
        call("bdev_malloc_create", {"name": "memory", "num_blocks": 16384, "block_size": 512})
        call("bdev_null_create", {"name": 'odd "name\\', "num_blocks": 8, "block_size": 512})
        for member in ("left", "right"):
            call("bdev_null_create", {"name": member, "num_blocks": 16384, "block_size": 512})
        call("bdev_raid_create", {"name": "array", "raid_level": "raid0", "strip_size_kb": 16, "base_bdevs": ["left", "right"]})
        call("bdev_null_create", {"name": "faulty", "num_blocks": 16384, "block_size": 512})
        call("bdev_error_create", {"base_name": "faulty"})
        call("bdev_error_inject_error", {"name": "EE_faulty", "io_type": "read", "error_type": "failure", "num": 1000000})
        cls.target.subsystem(NQN, ["memory", "array", "EE_faulty"])
        call("bdev_nvme_attach_controller", {"name": "self", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": cls.target.nvme_port, "subnqn": NQN})
        cls.report = cls.target.perf("--pattern", "randrw", "--seconds", "0.5", "--queues", "2", "--depth", "4")
        subprocess.run(cls.target.perf_command("--nsid", "3", "--seconds", "0.1"), capture_output=True, timeout=60, check=False)
        with cls.target.host(HOST, "--rate", "200", "--depth", "2"):
            cls.page = cls.target.metrics()

    def test_every_family_has_help_type_and_a_good_name(self):
        helps = set(re.findall(r"^# HELP (\S+) \S.*$", self.page.text, re.M))
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.page.text, re.M))
        self.assertEqual(helps, set(types))
        self.assertLessEqual(set(types.values()), TYPES)
        names = re.findall(r"^# TYPE (\S+) ", self.page.text, re.M)
        self.assertEqual(len(names), len(set(names)), "each family stands in one place")
        for name, kind in types.items():
            self.assertRegex(name, r"^catnap_[a-z][a-z0-9_]*$")
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
            if kind == "histogram":
                self.assertTrue(name.endswith("_seconds"), name)
            self.assertNotRegex(name, r"_(us|ms|ns|kib|mib|percent)(_|$)", "base units")
        samples = set(re.findall(r"^(catnap_[a-z0-9_]+)", self.page.text, re.M))
        for sample in samples:
            self.assertTrue(sample in types or re.sub(r"_(bucket|sum|count)$", "", sample) in types, sample)
        lines = [line.rsplit(" ", 1)[0] for line in self.page.text.splitlines() if not line.startswith("#")]
        self.assertEqual(len(lines), len(set(lines)), "no series is there twice")

    def test_histograms_rise_to_their_count(self):
        seen = 0
        for name, family in self.page.families.items():
            if family.type != "histogram":
                continue
            for key in {tuple(sorted((label, value) for label, value in sample.labels.items() if label != "le")) for sample in family.samples}:
                labels = dict(key)
                buckets = sorted((float(dict(full)["le"]), value) for full, value in self.page.samples(name + "_bucket", **labels).items()
                                 if {label for label, _ in full} == set(labels) | {"le"})
                values = [value for _, value in buckets]
                self.assertEqual(values, sorted(values), (name, labels))
                self.assertEqual(buckets[-1][0], float("inf"))
                self.assertEqual(self.page.value(name + "_count", **labels), values[-1])
                seen += 1
        self.assertGreater(seen, 8)

    def test_io_of_hosts_is_what_they_did(self):
        reads, writes = (self.report[kind]["ios"] for kind in ("read", "write"))
        self.assertGreater(self.page.value("catnap_namespace_errors_total", nsid="3", op="read"), 0)
        self.assertGreater(self.page.value("catnap_command_errors_total", type="media", code="0x81"), 0)  # Unrecovered Read Error
        for op, ios in (("read", reads), ("write", writes)):
            by_namespace = self.page.value("catnap_namespace_commands_total", subsystem=NQN, nsid="1", bdev="memory", op=op)
            self.assertGreaterEqual(by_namespace, ios)  # the warm-up, and what was under way at its end
            # Each count by itself, while a host goes on.
            for same in (self.page.value("catnap_namespace_latency_seconds_count", subsystem=NQN, nsid="1", op=op),
                         self.page.value("catnap_namespace_bytes_total", subsystem=NQN, nsid="1", op=op) / 4096):
                self.assertLess(abs(same - by_namespace), 1000)
            by_hosts = sum(self.page.samples("catnap_host_commands_total", subsystem=NQN, op=op).values())
            # One host goes on, and namespaces are read first.
            in_all = sum(self.page.samples("catnap_namespace_commands_total", subsystem=NQN, op=op).values())
            self.assertLessEqual(in_all, by_hosts)
            self.assertLess(by_hosts, in_all + 1000)
            self.assertGreaterEqual(self.page.value("catnap_command_latency_seconds_count", op=op), in_all)
            self.assertLess(self.page.value("catnap_command_latency_seconds_count", op=op), in_all + 1000)
            # A null bdev of the array got nothing of this.
            self.assertGreaterEqual(self.page.value("catnap_bdev_ios_total", bdev="memory", op=op), by_namespace)
        stats = self.target.call("nvmf_get_io_stats")
        again = self.target.metrics()
        for entry in stats["namespaces"]:
            self.assertLessEqual(entry["read"]["ios"], again.value("catnap_namespace_commands_total", subsystem=NQN, nsid=str(entry["nsid"]), op="read"))
        self.assertEqual(sum(count for _, count in stats["total"]["read"]["histogram"]), stats["total"]["read"]["ios"])

    def test_connections_that_went_are_still_counted_for_their_host(self):
        self.assertEqual(len(self.page.samples("catnap_host_commands_total", subsystem=NQN, op="read")), 2)
        connections = self.page.samples("catnap_connection_commands_total", op="read")
        self.assertEqual({dict(key)["host"] for key in connections}, {HOST})
        # It goes on, and hosts are read before connections.
        self.assertGreaterEqual(sum(connections.values()), self.page.value("catnap_host_commands_total", host=HOST, op="read"))

    def test_reactors_time_adds_up(self):
        before, after = self.target.metrics(), self.target.metrics()
        for reactor in ("control", "reactor_0"):
            states = [after.value("catnap_reactor_seconds_total", reactor=reactor, state=state) for state in ("busy", "spin", "sleep")]
            self.assertGreater(sum(states), 0.4)
        self.assertGreater(sum(after.samples("catnap_reactor_wakeups_total").values()), sum(before.samples("catnap_reactor_wakeups_total").values()))

    def test_states_of_arrays_and_paths(self):
        self.assertEqual(self.page.value("catnap_raid_state", raid="array", level="raid0", state="online"), 1)
        self.assertEqual(self.page.value("catnap_raid_members", raid="array", state="in_sync"), 2)
        self.assertEqual(self.page.value("catnap_nvme_controller_enabled", controller="self"), 1)
        for name in ("catnap_state_file_durable", "catnap_configuration_pending", "catnap_http_certificate_expiry_timestamp_seconds"):
            self.assertEqual(self.page.samples(name), {}, "there is no state file, and no TLS")

    def test_names_from_outside_come_through(self):
        self.assertEqual(self.page.value("catnap_bdev_ios_total", bdev='odd "name\\', op="read"), 0)

    def test_errors_are_counted_by_kind(self):
        calls = self.page.samples("catnap_rpc_calls_total", method="bdev_null_create", result="ok")
        self.assertEqual(list(calls.values()), [4])
        self.target.web.call("bdev_get_bdevs", {"name": "nope"})
        self.target.web.call("nobody_knows_this")
        page = self.target.metrics()
        self.assertEqual(page.value("catnap_rpc_calls_total", method="bdev_get_bdevs", result="error"), 1)
        self.assertEqual(page.value("catnap_rpc_calls_total", method="unknown", result="error"), 1)
        self.assertEqual(page.value("catnap_rpc_latency_seconds_count"), sum(page.samples("catnap_rpc_calls_total").values()))

    def test_docs_alerts_and_grafana_name_what_is_there(self):
        with open(DOCS, encoding="utf-8") as file:
            self.assertEqual(documented(file.read()), families_of(self.page.text), "run tests/protocol/web/metrics_test.py --write-docs")
        known = set(families_of(self.page.text))
        for path in ("packaging/prometheus/alerts.yml", "packaging/grafana/catnap.json"):
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                text = file.read()
            expressions = re.findall(r"expr: (.*)", text) if path.endswith("yml") else list(expressions_of(json.loads(text)))
            self.assertGreater(len(expressions), 5, path)
            for expression in expressions:
                names = re.findall(r"\bcatnap_[a-z0-9_]+", expression)
                self.assertTrue(names, expression)
                for name in names:
                    self.assertTrue(name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known, f"{path}: {name}")
                self.assertEqual(expression.count("("), expression.count(")"), expression)
                for matchers in re.findall(r"\{([^{}]*)\}", expression):
                    for label in re.findall(r"(\w+)\s*[=!]", matchers):
                        self.assertIn(label, self.labels_of(names), f"{path}: {expression}")
                for grouping in re.findall(r"by \(([^)]*)\)", expression):
                    for label in re.split(r",\s*", grouping):
                        self.assertIn(label, self.labels_of(names) | {"le", "instance"}, f"{path}: {expression}")

    def labels_of(self, names):
        return {label for family in self.page.families.values() for sample in family.samples for label in sample.labels
                if any(name.startswith(family.name) for name in names)} | {"job", "instance"}


class Latency(unittest.TestCase):
    """What /metrics says of latencies is what the host measured: as many I/Os, no shorter than the delayed device takes, and not longer than the host saw
    them. That they agree within 5 % is asserted where both were on time: on a machine that others keep busy one of the two may be kept from its CPU between
    an answer and its look at the clock, and then they differ because times did, not because anybody counted wrongly."""
    DELAY_US = {"read": 300000, "write": 600000}
    DEPTH, QUEUES = 100, 2
    ON_TIME = 1.04  # within a step of what the device takes
    # What a process may be kept from its CPU for, in microseconds.
    SLICE_US = 250000

    def setUp(self):
        self.target = Target()
        self.addCleanup(self.target.close)
        call = self.target.call
        call("bdev_null_create", {"name": "base", "num_blocks": 1 << 20, "block_size": 512})
        call("bdev_delay_create", {"base_bdev_name": "base", "name": "slow",
                                   **{f"{which}_{op}_latency": delay for op, delay in self.DELAY_US.items() for which in ("avg", "p99")}})
        self.target.subsystem(NQN, ["slow"])

    def figures(self, page, report):
        """(what, op, {figure: (the target's, the host's) in us}, (the target's, the host's) number)"""
        host = dict(next(iter(page.samples("catnap_host_commands_total"))))["host"]
        for name, labels in (("catnap_namespace_latency_seconds", {"subsystem": NQN, "nsid": "1"}), ("catnap_host_latency_seconds", {"subsystem": NQN, "host": host}),
                             ("catnap_command_latency_seconds", {})):
            for op, measured in ((op, report[op]) for op in self.DELAY_US):
                count = page.value(name + "_count", op=op, **labels)
                mean = page.value(name + "_sum", op=op, **labels) / count
                median = page.step_of(name, 0.5, op=op, **labels)
                yield name, op, {"mean": (mean * 1e6, measured["mean_us"]), "median": (median * 1e6, measured["p50_us"])}, (count, measured["ios"])

    def test_what_the_target_counts_is_what_the_host_measured(self):
        self.assertEqual(self.target.metrics().samples("catnap_namespace_latency_seconds_count"), {}, "nothing before the first I/O")
        report = self.target.perf("--pattern", "randrw", "--warm-up", "0", "--seconds", str(SECONDS), "--depth", str(self.DEPTH), "--queues", str(self.QUEUES))
        page = self.target.metrics()
        compared = 0
        for name, op, figures, (counted, measured) in self.figures(page, report):
            with self.subTest(name, op=op):
                self.assertGreaterEqual(counted, measured)
                self.assertLessEqual(counted, measured + self.DEPTH * self.QUEUES)  # under way at the end
                for figure, (ours, theirs) in figures.items():
                    self.assertGreaterEqual(ours, self.DELAY_US[op] * 0.97, figure)  # counted in steps of 3 %
                    self.assertLessEqual(ours, theirs * 1.05 + self.SLICE_US, figure)
                    on_time = max(ours, theirs) <= self.DELAY_US[op] * self.ON_TIME
                    print(f"  {name} {op} {figure}: {ours / theirs:.4f} of what catnap-perf measured{'' if on_time else ', late'}", flush=True)
                    if on_time:
                        self.assertLess(abs(ours / theirs - 1), 0.05, figure)
                        compared += 1
        print(f"  {compared} of 12 figures compared within 5 %", flush=True)


class Kept(unittest.TestCase):
    """The state file's families; without --state there is none of their series."""

    def test_the_state_file_is_watched(self):
        folder = tempfile.TemporaryDirectory(prefix="catnap_metrics_")
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "state.json")
        waits = {"method": "bdev_aio_create", "params": {"name": "later", "filename": os.path.join(folder.name, "not-there"), "block_size": 512}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"subsystems": [{"subsystem": "bdev", "config": [waits]}]}, file)
        target = Target("--state", path)
        self.addCleanup(target.close)
        before = target.metrics()
        self.assertEqual(before.value("catnap_state_file_durable"), 1)
        self.assertEqual(before.value("catnap_configuration_pending"), 1)
        target.call("bdev_null_create", {"name": "n0", "num_blocks": 8, "block_size": 512})
        after = target.metrics()
        self.assertEqual(after.value("catnap_state_file_bytes"), os.path.getsize(path))
        self.assertGreater(after.value("catnap_state_file_bytes"), before.value("catnap_state_file_bytes"))
        self.assertGreater(after.value("catnap_state_file_writes_total"), before.value("catnap_state_file_writes_total"))
        target.call("bdev_aio_delete", {"name": "later"})
        self.assertEqual(target.metrics().value("catnap_configuration_pending"), 0)


class Bounds(unittest.TestCase):
    def test_further_objects_are_other(self):
        target = Target("--metrics-max-objects", "3", "--metrics-max-histograms", "2")
        self.addCleanup(target.close)
        for number in range(6):
            target.call("bdev_malloc_create", {"name": f"m{number}", "num_blocks": 2048, "block_size": 512})
        target.subsystem(NQN, [f"m{number}" for number in range(6)])
        for nsid in range(1, 7):
            target.perf("--pattern", "randread", "--seconds", "0.1", "--nsid", str(nsid))
        page = target.metrics()
        for name, label in (("catnap_namespace_commands_total", "nsid"), ("catnap_bdev_ios_total", "bdev")):
            rows = {dict(key)[label]: value for key, value in page.samples(name, op="read").items()}
            self.assertEqual(len(rows), 4, rows)
            self.assertGreater(rows["other"], 0)
        histograms = {dict(key)["nsid"]: value for key, value in page.samples("catnap_namespace_latency_seconds_count", op="read").items()}
        self.assertEqual(set(histograms), {"1", "2", "other"})
        self.assertEqual(sum(histograms.values()), sum(page.samples("catnap_namespace_commands_total", op="read").values()))
        # What was counted for a namespace goes with it.
        target.call("nvmf_subsystem_remove_ns", {"nqn": NQN, "nsid": 1})
        self.assertNotIn("1", {dict(key)["nsid"] for key in target.metrics().samples("catnap_namespace_commands_total", op="read")})
        target.call("nvmf_delete_subsystem", {"nqn": NQN})
        page = target.metrics()
        self.assertEqual(page.samples("catnap_namespace_commands_total", op="read"), {})
        self.assertEqual(page.samples("catnap_host_commands_total", op="read"), {})


def families_of(text):
    """{name: (type, help)} of a page."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    return {name: (types[name], help_text) for name, help_text in re.findall(r"^# HELP (\S+) (.*)$", text, re.M)}


def documented(text):
    """The same of docs/metrics.md."""
    return {name: (kind, help_text) for name, kind, help_text in re.findall(r"^\| `(catnap_\S+)` \| (\S+) \| [^|]* \| (.*) \|$", text, re.M)}


def expressions_of(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr":
                yield inner
            else:
                yield from expressions_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions_of(inner)


def write_docs():
    """Puts the table of families into docs/metrics.md, in the order of the page."""
    Page.setUpClass()
    page = Page.page
    Page.doClassCleanups()
    rows = ["| Metric | Type | Labels | What it is |", "| --- | --- | --- | --- |"]
    for name, (kind, help_text) in families_of(page.text).items():
        labels = {label for sample in page.families[name].samples for label in sample.labels} if name in page.families else set()
        labels -= {"le"}
        rows.append(f"| `{name}` | {kind} | {', '.join(sorted(labels))} | {help_text} |")
    with open(DOCS, encoding="utf-8") as file:
        text = file.read()
    text = re.sub(r"(?<=<!-- families -->\n).*?(?=<!-- end -->)", lambda _: "\n".join(rows) + "\n", text, flags=re.S)
    with open(DOCS, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    if "--write-docs" in sys.argv:
        write_docs()
    else:
        unittest.main()
