// The frame of the page: state of the connection, pace, colour scheme, sign-in, and the figures at the top.
// Left out: the sections below (view_*.js).

import { h, setAttribute, setShown, setText } from "./dom.js";
import { clock, duration } from "./format.js";

const THEMES = ["auto", "light", "dark"];
const PACES = [[500, "0.5 s"], [1000, "1 s"], [2000, "2 s"], [5000, "5 s"], [10000, "10 s"], [0, "paused"]];

/** The reader's choices outlive the page where the browser permits it. */
function remembered(name, fallback) {
  try {
    return localStorage.getItem(`catnap.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`catnap.${name}`, value);
  } catch {
    // For this visit only, then.
  }
}

export class ThemeSwitch {
  constructor(button) {
    this.button = button;
    this.theme = THEMES.includes(remembered("theme", "auto")) ? remembered("theme", "auto") : "auto";
    button.addEventListener("click", () => this.#choose(THEMES[(THEMES.indexOf(this.theme) + 1) % THEMES.length]));
    this.#show();
  }

  #choose(theme) {
    this.theme = theme;
    remember("theme", theme);
    this.#show();
  }

  #show() {
    if (this.theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
    setText(this.button, { auto: "Colours: system", light: "Colours: light", dark: "Colours: dark" }[this.theme]);
  }
}

export class PaceSwitch {
  constructor(select, chosen) {
    for (const [milliseconds, label] of PACES) select.append(h("option", { value: milliseconds }, label));
    const known = PACES.some(([milliseconds]) => String(milliseconds) === remembered("pace", ""));
    select.value = known ? remembered("pace", "1000") : "1000";
    select.addEventListener("change", () => {
      if (select.value !== "0") remember("pace", select.value);
      chosen(Number(select.value));
    });
    this.milliseconds = Number(select.value);
  }
}

/** Says at all times whether the numbers are live, and what to do if they are not. */
export class ConnectionState {
  constructor({ pill, banner, main, signIn }) {
    Object.assign(this, { pill, banner, main, signIn });
    this.lastGood = null;
    this.state = { phase: "asking" };
    this.what = h("strong");
    this.more = h("span");
    banner.append(this.what, " ", this.more);
  }

  told(state) {
    this.state = state;
    if (state.phase === "live") this.lastGood = new Date();
    const failed = state.phase === "failed";
    this.main.dataset.live = state.phase === "live";
    setText(this.pill, { live: "live", paused: "paused", hidden: "paused", failed: "not live", asking: "asking…" }[state.phase]);
    setAttribute(this.pill, "data-phase", state.phase);
    setShown(this.banner, failed || state.phase === "paused");
    setShown(this.signIn, failed && state.failure.kind === "credentials");
    if (failed) this.#explain(state);
    if (state.phase === "paused") this.#say("Paused.", `Nothing is asked of the target. Values are of ${this.lastGood ? clock(this.lastGood) : "no time yet"}.`);
  }

  #explain({ failure, since, retryInMs }) {
    const titles = { gone: "No contact.", late: "No answer.", credentials: "Sign in.", forbidden: "Not permitted.", refused: "Refused.", garbage: "Not a target?",
      page: "This page has a fault." };
    const values = this.lastGood ? `What stands below is of ${clock(this.lastGood)}; rates are left out.` : "There is nothing to show yet.";
    const next = retryInMs === null ? "" : `Trying again every ${duration(retryInMs / 1000)}, since ${clock(since)}.`;
    this.#say(titles[failure.kind], [failure.message, values, next].filter(Boolean).join(" "));
  }

  #say(what, more) {
    setText(this.what, what);
    setText(this.more, more);
  }
}

export class SignIn {
  constructor(form, submitted) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const fields = new FormData(form);
      submitted(fields.get("user").trim(), fields.get("password"));
      form.elements.password.value = "";
    });
  }
}
