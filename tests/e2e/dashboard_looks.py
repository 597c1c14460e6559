"""dashboard_test's cases about what the page is like whatever it shows: names are text, any width, contrast, keyboard, motion, units of numbers, what it
calls wrong.

Left out: whether the figures are true (dashboard_test.py).
"""
from browser import Keys
from dashboard_rig import CASES, NQN, in_module, rows_of

HOSTILE = "<img src=x onerror=document.body.remove()>\"'&amp;"
# Text colour and the colours behind it, for everything that shows text; computed by the browser. Ends of the list are the page's own ground.
CONTRASTS = """
const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
const luminance = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (!node.textContent.trim()) continue;
  const element = node.parentElement;
  if (!element.checkVisibility() || element.closest("script, .unseen, .skip, option, svg")) continue;
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(rgba(getComputedStyle(at).backgroundColor));
  let ground = chain.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  const text = over(rgba(getComputedStyle(element).color), ground);
  const [light, dark] = [luminance(text), luminance(ground)].sort((a, b) => b - a);
  found.push([(light + 0.05) / (dark + 0.05), node.textContent.trim().slice(0, 40), element.className]);
}
return found.sort((a, b) => a[0] - b[0]);
"""


@CASES.case("names are text, whatever stands in them")
def hostile(rig):
  page = rig.open()
  call = rig.server.rpc.call
  call("bdev_null_create", name=HOSTILE, num_blocks=8192, block_size=512)
  try:
    page.until("return [...document.querySelectorAll('#volumes-body .name')].some((one) => one.textContent === arguments[0])", "the name as it is", 30, HOSTILE)
    assert page.run("return document.querySelector('#event-list li').textContent").find(HOSTILE) >= 0
    assert page.run("return [...document.images].map((one) => one.getAttribute('src'))") == ["icon.svg"], "a name became an element"
    assert not (complaints := page.complaints()), complaints
  finally:
    call("bdev_null_delete", name=HOSTILE)


@CASES.case("no sideways scrolling from 320 to 1440 pixels, and nothing is cut off")
def widths(rig):
  page = rig.open()
  for width in (320, 375, 412, 600, 768, 1024, 1440):
    page.size(width, 900)
    wide, sticking_out = page.run("""
      const out = [...document.querySelectorAll("main *, header *")].filter((one) => one.checkVisibility() && !one.closest(".unseen, thead, .skip")
        && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.tagName + "." + one.className);
      return [document.documentElement.scrollWidth, out];""")
    assert wide <= width, f"{width} pixels: the page is {wide} wide"
    assert not sticking_out, f"{width} pixels: {sticking_out[:5]} stick out"
  page.size(375, 900)
  small = page.run("return [...document.querySelectorAll('button, select, input')]"
                   ".map((one) => one.type === 'checkbox' ? one.closest('label') : one).filter((one) => one.checkVisibility() && one.offsetHeight < 40).length")
  assert small == 0, "a control is too small for a finger"


@CASES.case("numbers have sane units, also at their borders")
def numbers(rig):
  page = rig.open()
  for function, value, wanted in [
      ("count", 0, "0"), ("count", 0.2, "<1"), ("count", 999, "999"), ("count", 999.6, "1.00 k"), ("count", 12345, "12.3 k"), ("count", 1e6, "1.00 M"),
      ("count", None, "–"), ("throughput", 0, "0 B/s"), ("throughput", 4096000, "4.10 MB/s"), ("throughput", 999_999, "1.00 MB/s"), ("size", 64 << 20, "64 MiB"),
      ("size", 3 << 29, "1.50 GiB"), ("latency", 400, "<1 µs"), ("latency", 84_200, "84.2 µs"), ("latency", 2_000_000, "2.00 ms"), ("latency", None, "–"),
      ("percent", 0, "0 %"), ("percent", 0.0001, "<0.1 %"), ("percent", 0.0123, "1.2 %"), ("percent", 1, "100 %"), ("duration", 8, "8 s"),
      ("duration", 180, "3 min"), ("duration", 7500, "2 h 5 min")]:
    shown = in_module(page, "format.js", "return it[given[0]](given[1])", function, value)
    assert shown.replace("\u00a0", " ") == wanted, f"{function}({value}) is {shown!r}, not {wanted!r}"
  steps = [[10, 1], [20, 98], [30, 1]]
  for part, wanted in ((0.5, 20), (0.99, 30), (1, 30), (0, 10)):
    assert in_module(page, "latency.js", "return it.percentile(given[0], given[1])", steps, part) == wanted, part
  assert in_module(page, "latency.js", "return it.percentile([], 0.5)") is None


@CASES.case("what is wrong is found, worst first")
def attention(rig):
  page = rig.open()
  found = in_module(page, "attention.js", """
    const [answers, arrays] = given;
    const target = {arrays: () => arrays, answer: (method) => answers[method], previous: new Map(), reactors: [], errorCounts: new Map([["Disk7", 2]])};
    return it.findings(target).map((one) => `${one.weight}: ${one.what}`);""", {
        "bdev_nvme_get_controllers": [{"name": "Rem0", "ctrlrs": [{"state": "failed", "trid": {"traddr": "192.0.2.1", "trsvcid": "4420"}, "last_error": "refused"},
                                                                 {"state": "enabled", "trid": {"traddr": "192.0.2.2", "trsvcid": "4420"}, "last_error": ""}]}],
        "framework_get_state": {"enabled": True, "fault": "No space left on device"},
        "framework_get_pending": [{"method": "nvmf_subsystem_add_listener", "params": {"nqn": "nqn.a"}, "message": "Cannot assign requested address"}],
        "iobuf_get_stats": [{"module": "reactor_0", "waiting": 3}]},
                    [{"name": "R", "state": "online", "base_bdevs_list": [{"name": "A", "state": "in_sync"}, {"name": "B", "state": "failed", "reason": "I/O error"}]},
                     {"name": "Q", "state": "offline", "base_bdevs_list": []}])
  found = [one.replace("\u00a0", " ") for one in found]
  for wanted in ("bad: Array R: member B is failed", "bad: Array Q is offline", "bad: Path Rem0 by 192.0.2.1:4420 is failed", "bad: Configuration changes cannot be kept",
                 "warn: Waiting: nvmf_subsystem_add_listener nqn.a", "warn: reactor_0: 3 commands wait for a data buffer", "warn: Disk7: 2 I/O errors"):
    assert wanted in found, f"no {wanted!r} in {found}"
  assert len(found) == 7, found
  assert [one.split(":")[0] for one in found] == ["bad"] * 4 + ["warn"] * 3, found


@CASES.case("text stands out from its ground, light and dark, live and not")
def contrast(rig):
  page = rig.open()
  for scheme in ("light", "dark"):
    page.prefers(color_scheme=scheme)
    for live in ("true", "false"):
      page.run("document.querySelector('#main').dataset.live = arguments[0]; document.querySelector('#banner').hidden = false", live)
      worst = page.run(CONTRASTS)
      assert len(worst) > 30, "there is hardly any text"
      assert worst[0][0] >= 4.5, f"{scheme}, live {live}: contrast {worst[0][0]:.2f} of {worst[0][1]!r} ({worst[0][2]})"
    print(f"{scheme}: {len(worst)} texts, the faintest {worst[0][0]:.2f}:1 ({worst[0][1]!r})", flush=True)
  ground = page.run("return getComputedStyle(document.body).backgroundColor")
  page.run("document.querySelector('#theme').click()")
  assert page.run("return document.documentElement.dataset.theme") == "light"
  assert page.run("return getComputedStyle(document.body).backgroundColor") != ground, "the switch does not win over the system"
  page.page.get(rig.url)
  assert page.run("return document.documentElement.dataset.theme") == "light", "the choice is forgotten"


@CASES.case("everything can be reached and used by keyboard, and the focus is seen")
def keyboard(rig):
  page = rig.open()
  body = page.page.find_element("tag name", "body")
  reached = []
  for _ in range(30):
    page.page.switch_to.active_element.send_keys(Keys.TAB)
    where = page.run("""
      const at = document.activeElement, style = getComputedStyle(at);
      return [at.id || at.className || at.tagName, at.dataset.key ?? "", at.tagName === "BODY" || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)];""")
    if where[0] == "BODY" or (reached and where[:2] == reached[0][:2]):
      break
    reached.append(where)
  names = [where[0] for where in reached]
  for wanted in ("skip", "pace", "theme", "wakers", "busiest", "filter", "event-list"):
    assert wanted in names, f"{wanted} is not reached by Tab: {names}"
  assert sum(1 for where in reached if where[1]) == 1, f"the tree is one stop: {reached}"
  assert all(where[2] for where in reached), f"focus that is not seen: {[where[0] for where in reached if not where[2]]}"
  page.run("document.querySelector('#volumes-body tr').focus()")

  def press(key):
    page.page.switch_to.active_element.send_keys(key)
    return page.run("const row = document.activeElement; return [row.querySelector?.('.name')?.textContent, row.getAttribute('aria-expanded')]")

  assert press(Keys.ARROW_DOWN) == ["1: Mirror0", "true"]
  assert press(Keys.ARROW_RIGHT)[0].startswith("Disk")
  assert press(Keys.ARROW_LEFT) == ["1: Mirror0", "true"]
  rows = len(rows_of(page))
  assert press(Keys.ARROW_LEFT) == ["1: Mirror0", "false"]
  assert len(rows_of(page)) == rows - 2
  assert press(Keys.ENTER) == ["1: Mirror0", "true"]
  assert press(Keys.END)[0] == rows_of(page)[-1]
  assert press(Keys.HOME)[0] == NQN
  levels = page.run("return [...document.querySelectorAll('#volumes-body tr')].map((row) => [row.getAttribute('aria-level'), row.getAttribute('role')])")
  assert [level for level, _ in levels][:3] == ["1", "2", "3"] and {role for _, role in levels} == {"row"}, levels
  # Redrawing each half second does not take the focus away.
  asked = page.run("return recorded.answered")
  page.until("return recorded.answered > arguments[0] + 2", "three more replies", 30, asked)
  assert page.run("return document.activeElement.querySelector('.name')?.textContent") == NQN, "the focus is lost"
  filter_field = page.page.find_element("id", "filter")
  filter_field.send_keys("null0")
  assert rows_of(page) == [NQN, "2: Thru0", "Null0"], rows_of(page)
  filter_field.send_keys("x")
  assert "Nothing is named like" in page.run("return document.querySelector('#volumes-note').textContent")
  filter_field.clear()
  body.click()


@CASES.case("nothing moves for those who asked for that")
def motion(rig):
  page = rig.open()
  page.prefers(reduced_motion="reduce")
  moving = page.run("return [...document.querySelectorAll('*')].filter((one) => { const s = getComputedStyle(one); "
                    "return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none'; }).length")
  assert moving == 0, f"{moving} elements move"
  page.prefers(reduced_motion="no-preference")
  assert page.run("return [...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none').length") == 0, "something blinks"
