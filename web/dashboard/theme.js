// The colour scheme, before anything is drawn: the reader's choice, else the system's. A classic script, so that it runs first.
// Left out: the switch itself (app.js).
(() => {
  try {
    const chosen = localStorage.getItem("catnap.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage may be forbidden; the system's scheme stays.
  }
})();
