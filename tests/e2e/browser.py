"""Headless Chromium for tests of the dashboard, driven through Debian's chromedriver and python3-selenium.

Owner: the test that made it. Left out: what a page should be like (dashboard_test.py).
"""
import json
import os
import shutil
import tempfile
import time

from harness import skip

try:
  from selenium import webdriver
  from selenium.common.exceptions import WebDriverException
  from selenium.webdriver.chrome.service import Service
  from selenium.webdriver.common.keys import Keys  # noqa: F401 (for the tests)
except ImportError:
  webdriver = Keys = None

START_TIMEOUT_S = 60
# Remembers what the page asked and was told, before any script of the page runs. Lists are bounded, as a test may look at a page for long.
RECORDER = """
window.recorded = {asked: 0, answered: 0, replies: []};
const realFetch = window.fetch;
window.fetch = async (...given) => {
  window.recorded.asked += 1;
  const reply = await realFetch(...given);
  const text = await reply.clone().text();
  window.recorded.answered += 1;
  window.recorded.replies.push({request: given[1].body, reply: text});
  if (window.recorded.replies.length > 8) window.recorded.replies.shift();
  return reply;
};
"""


def programs():
  """Paths of browser and driver; ends the test as skipped when they are not here."""
  found = {name: shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/lib/chromium") for name in ("chromium", "chromedriver")}
  for name, path in found.items():
    if path is None:
      skip(f"no {name} (Debian packages chromium and chromium-driver)")
  if webdriver is None:
    skip("no Selenium for Python (Debian package python3-selenium)")
  return found["chromium"], found["chromedriver"]


class Browser:
  """One browser with one page. `page` is Selenium's driver."""

  def __init__(self):
    chromium, driver = programs()
    self.profile = tempfile.mkdtemp(prefix="catnap-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1440,1100",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={self.profile}"]
    if os.geteuid() == 0:
      arguments.append("--no-sandbox")  # Chromium's sandbox is not for root
    for argument in arguments:
      options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
      self.page = webdriver.Chrome(service=Service(driver), options=options)
    except WebDriverException as problem:
      shutil.rmtree(self.profile, ignore_errors=True)
      raise AssertionError(f"the browser does not start: {problem}") from problem
    self.page.set_page_load_timeout(START_TIMEOUT_S)
    self.page.set_script_timeout(START_TIMEOUT_S)
    self.page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORDER})

  def close(self):
    self.page.quit()
    shutil.rmtree(self.profile, ignore_errors=True)

  def run(self, script, *arguments):
    """What the script returns."""
    return self.page.execute_script(script, *arguments)

  def until(self, script, what, timeout_s=30, *arguments):
    """Waits until the script returns something true; returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
      result = self.run(script, *arguments)
      if result:
        return result
      if time.monotonic() > deadline:
        raise AssertionError(f"waited {timeout_s} s in vain for {what}; the page says: {self.run('return document.body.innerText')[:1500]}")
      time.sleep(0.05)

  def size(self, width, height):
    self.page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

  def prefers(self, **features):
    """Media features, as color_scheme="dark"."""
    self.page.execute_cdp_cmd("Emulation.setEmulatedMedia",
                              {"features": [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]})

  def complaints(self):
    """Errors in the console since the last call."""
    return [entry["message"] for entry in self.page.get_log("browser") if entry["level"] == "SEVERE"]

  def requested(self):
    """URLs asked for since the last call, as the network part of the browser saw them."""
    urls = []
    for entry in self.page.get_log("performance"):
      message = json.loads(entry["message"])["message"]
      if message["method"] == "Network.requestWillBeSent":
        urls.append(message["params"]["request"]["url"])
    return urls
