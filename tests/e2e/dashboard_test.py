#!/usr/bin/env -S /usr/bin/python3
"""The dashboard in headless Chromium, against the real catnapd: what stands on the page is what the RPCs say, and what fails is said. What it looks like, on
any width, in both colours, by keyboard, is in dashboard_looks.py; both run here.

The figures are computed anew from the replies that the page got, by scripts/top's code, which shares nothing with the page's. Left out: other browsers.
"""
import hashlib
import json
import re
import sys
import time

import dashboard_looks  # noqa: F401 (its cases)
from browser import programs
from dashboard_rig import BLOCK, CASES, NQN, Rig, rows_of
from harness import ROOT, Catnapd, free_port, options, wait_for

sys.path.insert(0, str(ROOT / "scripts"))
from catnap_top import sample, views  # noqa: E402 (needs the path above)

# The figures that stand on the page together with the two newest replies, when a reply has just been drawn.
SNAPSHOT = """
const done = arguments[arguments.length - 1];
const before = recorded.answered;
const text = (id) => document.getElementById(id).textContent;
const look = () => {
  if (recorded.answered === before || recorded.asked !== recorded.answered) return setTimeout(look, 5);
  requestAnimationFrame(() => setTimeout(() => {
    const rows = [...document.querySelectorAll("#volumes-body tr")].map((row) => ({name: row.querySelector(".name").textContent,
      level: row.getAttribute("aria-level"), cells: [...row.querySelectorAll("td")].map((cell) => cell.textContent)}));
    done({replies: recorded.replies.slice(-2), iops: text("value-iops"), iopsParts: text("parts-iops"), bytes: text("value-bytes"), latency: text("value-latency"), latencyParts: text("parts-latency"),
      rows, shares: [...document.querySelectorAll(".reactor .share")].map((one) => one.textContent), asked: recorded.asked === recorded.answered});
  }, 20));
};
look();
"""


@CASES.case("the page loads without a complaint, from one origin only")
def loads(rig):
  rig.browser.complaints(), rig.browser.requested()
  page = rig.open()
  urls = page.requested()
  assert any(url.endswith("/rpc") for url in urls), urls
  foreign = [url for url in urls if not url.startswith((rig.url, "data:"))]
  assert not foreign, f"the page asks others: {foreign}"
  assert not page.complaints(), page.complaints()
  assert page.run("return document.querySelectorAll('[style], style, script:not([src])').length") == 0, "the page has inline style or script"
  for landmark in ("header", "main", "footer", "h1"):
    assert page.run("return document.querySelectorAll(arguments[0]).length", landmark) == 1, f"not one {landmark}"
  unnamed = page.run("return [...document.querySelectorAll('section')].filter((s) => !document.getElementById(s.getAttribute('aria-labelledby'))?.textContent).length")
  assert unnamed == 0, "a section without a name"


def sample_of(recorded):
  """A reply of the page as scripts/top's sample."""
  made = sample.Sample()
  requests = {each["id"]: each for each in json.loads(recorded["request"])}
  for reply in json.loads(recorded["reply"]):
    method = requests[reply["id"]]["method"]
    if "result" in reply and method == "nvmf_get_io_stats":
      # Asked for by kinds, in two calls that are a moment apart: rates are those of the totals, and so is the time that counts.
      result = reply["result"]
      merged = made.answers.setdefault(method, {})
      merged.update(result if "total" in result or "total" not in merged else {key: result[key] for key in result if key != "ticks"})
    elif "result" in reply:
      made.answers[method] = reply["result"]
  return made


def number(text):
  """12.3 k -> 12300; "-" -> None. With what the last digit is worth."""
  match = re.match(r"^(<?)([\d.]+)\s*(k|M|G)?", text.replace("\u00a0", " "))
  if not match:
    return None, 0
  scale = {"k": 1e3, "M": 1e6, "G": 1e9, None: 1}[match.group(3)]
  places = len(match.group(2).split(".")[1]) if "." in match.group(2) else 0
  return float(match.group(2)) * scale, scale * 10 ** -places


def agrees_in_ns(text, value, what):
  """A latency on the page."""
  shown, last_digit = number(text)
  unit = next(scale for name, scale in (("ns", 1), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)) if text.endswith(name))
  assert abs(shown * unit - value) <= last_digit * unit * 0.51 + value * 1e-9, f"{what}: the page says {text}, the replies {value} ns"


def agrees(text, value, what):
  shown, last_digit = number(text)
  if text.startswith("<"):
    assert 0 < value < shown, f"{what}: the page says {text}, the replies {value}"
    return
  assert shown is not None and abs(shown - value) <= last_digit * 0.51 + value * 1e-9, f"{what}: the page says {text}, the replies {value}"


def compare(shot, configuration):
  """The figures on the page against the replies they were made of; None if there was no I/O between these. Configuration comes less often, so its newest
  reply is given."""
  before, now = (sample_of(each) for each in shot["replies"])
  for method in ("nvmf_get_subsystems", "bdev_get_bdevs"):
    now.answers.setdefault(method, configuration[method])
  if not (before.get("bdev_get_iostat") and now.get("bdev_get_iostat")):
    return None  # a picture between two looks at the disks
  sums = views.total_seen(before, now)
  if not sums["iops"]:
    return None
  agrees(shot["iops"], sums["iops"], "IOPS")
  agrees(shot["bytes"], sums["bytes"], "throughput")
  by_bdev = {row["bdev"]: row for row in views.namespaces(before, now)}
  for row in shot["rows"]:
    bdev = row["name"].split(": ")[-1]
    if row["level"] == "2" and bdev in by_bdev:
      agrees(row["cells"][0], by_bdev[bdev]["iops"], f"IOPS of {bdev}")
      agrees(row["cells"][1], by_bdev[bdev]["read_bytes"], f"reads of {bdev}")
      agrees(row["cells"][2], by_bdev[bdev]["write_bytes"], f"writes of {bdev}")
      if by_bdev[bdev]["p99"] is not None:
        agrees_in_ns(row["cells"][5], by_bdev[bdev]["p99"], f"p99 of {bdev}")
  agrees_in_ns(re.search(r"p99 (<?[\d.]+\s(?:µs|ms|ns|s))", shot["latencyParts"]).group(1), sums["p99"], "p99 of all I/O")
  for shown, row in zip(shot["shares"], views.reactors(before, now)):
    agrees(shown, row["awake"] * 100, f"awake share of {row['name']}")
  return sums


@CASES.case("figures are what the replies say")
def figures(rig):
  page = rig.open(pace_ms=1000)
  configuration = {method: rig.server.rpc.call(method) for method in ("nvmf_get_subsystems", "bdev_get_bdevs")}
  host = rig.connect()
  try:
    page.until("return document.querySelectorAll('#host-list li').length > 0", "the host in the list", 30)
    seen = 0
    deadline = time.monotonic() + 60
    while seen < 3:
      assert time.monotonic() < deadline, "no three pictures with load within 60 s"
      page.run("window.pictured = null; const [code, done] = [arguments[0], (shot) => { window.pictured = shot; }]; new Function(code)(done)", SNAPSHOT)
      while not page.run("return window.pictured"):
        host.write(1, (seen % 16) * BLOCK, b"x" * BLOCK, BLOCK)
        for at in range(20):
          host.read(2, at * BLOCK, BLOCK, BLOCK)
      shot = page.run("return window.pictured")
      sums = compare(shot, configuration)
      if sums:
        seen += 1
        print(f"the replies say {sums['iops']:.3f} IOPS, the page {shot['iops']!r}", flush=True)
    page.page.find_element("id", "busiest").click()

    def busiest_is_first():
      for at in range(20):
        host.read(2, at * BLOCK, BLOCK, BLOCK)
      return rows_of(page)[1:3] == ["2: Thru0", "Null0"]

    wait_for(busiest_is_first, 30, "the busiest namespace on top, with its stack")
  finally:
    host.close()


@CASES.case("lists are what the RPCs say: sizes, stacks, hosts, arrays, events")
def lists(rig):
  page = rig.open()
  call = rig.server.rpc.call
  assert rows_of(page) == [NQN, "1: Mirror0", "Disk0", "Disk1", "2: Thru0", "Null0"], rows_of(page)
  about = page.run("return [...document.querySelectorAll('#volumes-body tr .sub')].map((one) => one.textContent.replaceAll('\\u00a0', ' '))")
  for device in call("bdev_get_bdevs"):
    size = device["num_blocks"] * device["block_size"] >> 20
    wanted = f"{size >> 10} GiB" if size % 1024 == 0 else f"{size} MiB"
    assert any(wanted in one for one in about), f"{device['name']}: no {wanted} in {about}"
  with_host = rig.connect()
  try:
    queues = call("nvmf_subsystem_get_qpairs", nqn=NQN)
    wanted = f"1 controller · {sum(queue['qid'] > 0 for queue in queues)} I/O queue"
    page.until("return document.querySelector('#host-list').innerText.replaceAll('\\u00a0', ' ').includes(arguments[0])", wanted, 30, wanted)
    shown = page.run("return document.querySelector('#host-list').innerText.replaceAll('\\u00a0', ' ')")
    assert queues[0]["hostnqn"] in shown and NQN in shown, shown
    assert queues[0]["thread"] in shown, shown
  finally:
    with_host.close()
  page.until("return document.querySelectorAll('#host-list li').length === 0", "the host's leaving")
  assert f"nvme connect -t tcp -a 127.0.0.1 -s {rig.port} -n {NQN}" in page.run("return document.body.innerText"), "the empty list does not say how to connect"
  page.until("return document.querySelector('#event-list li').textContent.includes('host disconnected')", "the event of the host's leaving, which comes by itself")
  events = call("notify_get_notifications")
  assert page.run("return document.querySelectorAll('#event-list li').length") == min(len(events), 200)
  assert page.run("return document.querySelector('#event-list time').dateTime") == events[-1]["time"]
  call("bdev_null_create", name="Fresh0", num_blocks=8192, block_size=512)
  page.until("return document.querySelector('#event-list li').textContent.includes('Fresh0: bdev appeared')", "the new event on top")
  page.until("return document.querySelector('#spoken').textContent.includes('Fresh0')", "the spoken event")
  page.until("return [...document.querySelectorAll('#volumes-body .name')].some((one) => one.textContent === 'Fresh0')", "the new bdev in the tree")
  call("bdev_null_delete", name="Fresh0")


@CASES.case("a degraded array and its rebuild are shown, with how far it is")
def arrays(rig):
  page = rig.open()
  call = rig.server.rpc.call
  call("bdev_raid_set_options", process_max_bandwidth_mb_sec=4)
  try:
    call("bdev_raid_remove_base_bdev", name="Disk1")
    page.until("return document.querySelector('#findings').innerText.includes('Mirror0')", "the degraded array among what needs attention")
    call("bdev_malloc_create", name="Disk2", num_blocks=(64 << 20) // BLOCK, block_size=BLOCK)
    call("bdev_raid_add_base_bdev", raid_bdev="Mirror0", base_bdev="Disk2")
    page.until("return document.querySelector('#array-list progress')?.checkVisibility() && document.querySelector('#array-list .doing').textContent",
               "the bar of the rebuild")
    first = page.until("const bar = document.querySelector('#array-list progress'); return bar.value > 0 && bar.value < 1 && bar.value", "some progress")
    page.until("return document.querySelector('#array-list progress').value > arguments[0]", "more progress", 30, first)
    assert "rebuild under way" in page.run("return document.querySelector('#findings').innerText")
    assert "rebuild of Disk2" in page.run("return document.querySelector('#array-list').innerText")
    assert page.run("return document.querySelector('#array-list progress').getAttribute('aria-label')") == "rebuild of Mirror0"
    call("bdev_raid_set_options", process_max_bandwidth_mb_sec=0)
    page.until("return !document.querySelector('#array-list progress').checkVisibility()", "the end of the rebuild")
    page.until("return document.querySelector('#attention').dataset.calm === 'true'", "calm")
  finally:
    call("bdev_raid_set_options", process_max_bandwidth_mb_sec=0)


@CASES.case("why a reactor is awake, and what wakes it")
def reactors(rig):
  page = rig.open()
  call = rig.server.rpc.call
  assert len(call("framework_get_reactors")["reactors"]) + 1 == page.run("return document.querySelectorAll('.reactor').length")
  page.until("return document.querySelector('.reactor .why').textContent.includes('asleep')", "a reactor asleep")
  call("reactor_set_mode", mode="poll")
  try:
    # On a machine that others use it sleeps while they need its CPU, which is told too.
    page.until("return document.querySelector('.reactor .why').textContent.includes('poll mode')", "poll mode as the reason")
    page.until("return document.querySelector('.reactor .mode').textContent === 'poll'", "the mode")
  finally:
    call("reactor_set_mode", mode="adaptive")
  page.until("return document.querySelector('.reactor .why').textContent.includes('asleep')", "a reactor asleep again")
  page.page.find_element("id", "wakers").click()
  host = rig.connect()
  try:
    def named():
      host.read(2, 0, BLOCK, BLOCK)
      return page.run("return [...document.querySelectorAll('.wakers li')].some((one) => one.textContent.includes('queue pair 127.0.0.1'))")
    wait_for(named, 30, "the connection's name among what wakes a reactor")
  finally:
    host.close()
  page.page.find_element("id", "wakers").click()


@CASES.case("a hidden page asks nothing, and is live again when it is seen")
def hidden(rig):
  page = rig.open()
  page.until("return /^[0-9]/.test(document.querySelector('#value-iops').textContent)", "the first rates")
  page.page.minimize_window()
  try:
    page.until("return document.hidden", "the page being hidden")
    page.until("return recorded.asked === recorded.answered", "the end of what was under way")
    page.requested()
    time.sleep(3)  # six times the pace: what is looked for is that nothing happens
    assert page.run("return document.hidden")
    urls = page.requested()
    assert not urls, f"a hidden page asks: {urls}"
    asked = page.run("return recorded.asked")
  finally:
    page.page.set_window_rect(0, 0, 1440, 1100)
  page.until("return !document.hidden && recorded.answered > arguments[0]", "a question when the page is seen again", 30, asked)
  page.until("return document.querySelector('#main').dataset.live === 'true'", "a live page")
  page.until("return document.querySelector('#figures path.line').getAttribute('d').split('M').length > 2", "a gap in the line for the time unseen")


@CASES.case("a server that is gone is said to be gone, and one that is back is live again")
def outage(rig):
  page = rig.open()
  host = rig.connect()
  for at in range(50):
    host.read(2, at * BLOCK, BLOCK, BLOCK)
  page.until("return /^[1-9]/.test(document.querySelector('#value-iops').textContent)", "some I/O on the page")
  rig.server.kill()
  page.until("return document.querySelector('#phase').textContent === 'not live'", "the page noticing")
  said = page.run("return document.querySelector('#banner').innerText")
  assert "No contact." in said and "Trying again" in said, said
  assert page.run("return document.querySelector('#banner').getAttribute('role')") == "alert"
  for figure in ("value-iops", "value-bytes", "value-latency"):
    assert page.run("return document.getElementById(arguments[0]).textContent", figure) == "–", f"{figure} still stands there"
  stale = page.run("return [...document.querySelectorAll('#volumes-body td')].map((cell) => cell.textContent).filter((text) => text !== '–')")
  assert not stale, f"rates of a dead server: {stale}"
  reactors_say = page.run("return [...document.querySelectorAll('.reactor .share, .reactor .why, #value-awake, #calm')].map((one) => one.textContent)")
  assert set(reactors_say) == {"–", "Now: not known.", "Not known."}, reactors_say
  assert "no contact" in page.run("return document.title")
  rig.start()
  page.until("return document.querySelector('#main').dataset.live === 'true' && !document.querySelector('#banner').checkVisibility()", "a live page")
  page.until("return document.querySelector('#findings').innerText.includes('restarted')", "the restart being told")
  page.until("return /^[0-9]/.test(document.querySelector('#value-iops').textContent)", "figures of the new server")


@CASES.case("what fails otherwise is said: an answer that never comes, a batch that is refused, one method that is")
def refusals(rig):
  page = rig.open()
  page.run("""
    window.answerWith = null;
    window.fetchBefore = window.fetch;
    window.fetch = (...given) => window.answerWith ? window.answerWith(...given) : fetchBefore(...given);""")
  for make, title, says in (
      ("() => Promise.resolve(new Response('busy\\n', {status: 503}))", "Refused.", "503: busy"),
      ("() => Promise.resolve(new Response('nothing here', {status: 403}))", "Not permitted.", "nothing here"),
      ("() => Promise.resolve(new Response('<html>', {status: 200}))", "Not a target?", "not JSON"),
      ("() => Promise.reject(new DOMException('late', 'TimeoutError'))", "No answer.", "within"),
      ("(_, given) => Promise.resolve(new Response(JSON.stringify(JSON.parse(given.body).map(({id}) => ({id, result: {reactors: 7}})))))",
       "This page has a fault.", "failed on what the target said")):
    page.run(f"window.answerWith = {make}; document.querySelector('#pace').dispatchEvent(new Event('change'))")
    page.until("return document.querySelector('#banner').innerText.startsWith(arguments[0])", title, 30, title)
    assert says in page.run("return document.querySelector('#banner').innerText"), (says, page.run("return document.querySelector('#banner').innerText"))
    assert page.run("return document.querySelector('#main').dataset.live") == "false"
  page.run("""
    window.answerWith = async (url, given) => {
      const replies = await (await fetchBefore(url, given)).json();
      const asked = new Map(JSON.parse(given.body).map((one) => [one.id, one.method]));
      const refused = (one) => asked.get(one.id) === "bdev_raid_get_bdevs";
      return new Response(JSON.stringify(replies.map((one) => refused(one) ? {id: one.id, error: {code: -1, message: "not for you"}} : one)));
    };
    document.querySelector('#pace').dispatchEvent(new Event('change'));""")
  page.until("return document.querySelector('#main').dataset.live === 'true'", "a live page")
  page.until("return [...document.querySelectorAll('.refused')].some((one) => one.checkVisibility() && one.textContent.includes('not for you'))",
             "the refusal of one method beside the figures of the others")


@CASES.case("credentials are asked for on the page; wrong ones are not enough, and who may only read sees all")
def credentials(rig):
  folder = rig.server.folder
  users = folder / "users"
  token = hashlib.sha256(b"correct horse battery staple").hexdigest()
  users.write_text(f"looker:read-only:sha256:{token}\n")
  users.chmod(0o600)
  port = free_port()
  guarded = Catnapd(rig.chosen.catnapd, ["--http", f"127.0.0.1:{port}", "--http-credentials", str(users)], name="catnapd-dashboard-guarded",
                    log_folder=rig.chosen.logs)
  page = rig.browser
  with guarded:
    guarded.rpc.call("bdev_null_create", name="Guarded0", num_blocks=8192, block_size=512)
    page.page.get(f"http://127.0.0.1:{port}/")
    page.until("return document.querySelector('#sign-in').checkVisibility()", "the form for credentials")
    assert "Sign in." in page.run("return document.querySelector('#banner').innerText")
    assert "Guarded0" not in page.run("return document.body.innerText")

    def sign_in(user, password):
      for name, value in (("user", user), ("password", password)):
        field = page.page.find_element("name", name)
        field.clear()
        field.send_keys(value)
      before = page.run("return recorded.answered")
      page.page.find_element("css selector", "#sign-in button").click()
      page.until("return recorded.answered > arguments[0]", "an answer", 30, before)

    sign_in("looker", "wrong")
    page.until("return document.querySelector('#sign-in').checkVisibility()", "the form again")
    sign_in("looker", "correct horse battery staple")
    page.until("return document.querySelector('#main').dataset.live === 'true'", "a live page")
    page.until("return document.body.innerText.includes('Guarded0')", "the disk")
    refused = page.run("return [...document.querySelectorAll('.refused')].filter((one) => one.checkVisibility()).map((one) => one.textContent)")
    assert not refused, f"who may only read does not see: {refused}"
    stored = page.run("return JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert "correct" not in stored and "looker" not in stored, "credentials are stored"


def main():
  chosen = options(__doc__)
  programs()
  rig = Rig(chosen)
  try:
    return CASES.run(rig, chosen.only)
  finally:
    rig.close()


if __name__ == "__main__":
  sys.exit(main())
