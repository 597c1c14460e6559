// Puts the page together: asks, shows what came, and says when nothing came.
// Left out: everything else; each part has a file of its own.

import { ConnectionState, PaceSwitch, SignIn, ThemeSwitch } from "./chrome.js";
import { setText } from "./dom.js";
import { count } from "./format.js";
import { Poller } from "./poller.js";
import { RpcClient } from "./rpc.js";
import { Target } from "./target.js";
import { FiguresView } from "./view_figures.js";
import { ArraysView, AttentionView, EventsView, HostsView, PathsView } from "./view_lists.js";
import { ReactorsView } from "./view_reactors.js";
import { VolumesView } from "./view_volumes.js";

const at = (id) => document.getElementById(id);

const client = new RpcClient();
const target = new Target(client);
const connection = new ConnectionState({ pill: at("phase"), banner: at("banner"), main: at("main"), signIn: at("sign-in") });
const views = [
  new AttentionView({ section: at("attention"), list: at("findings"), calm: at("calm") }),
  new FiguresView(at("figures")),
  new ReactorsView({ list: at("reactor-list"), note: at("reactors-note"), button: at("wakers") }, (wanted) => {
    target.wantWakers = wanted;
    poller.now();
  }),
  new VolumesView({ table: at("volumes-table"), body: at("volumes-body"), filter: at("filter"), busiest: at("busiest"), note: at("volumes-note"), empty: at("volumes-empty") }),
  new ArraysView(at("array-list")),
  new PathsView(at("path-list")),
  new HostsView(at("host-list")),
  new EventsView(at("event-list"), at("spoken")),
];

function draw() {
  for (const view of views) view.update(target);
  setText(at("version"), target.version);
}

function drawTitle(phase) {
  const iops = target.totals?.iops;
  const now = { live: iops === undefined ? "" : `${count(iops)} IOPS`, failed: "no contact", paused: "paused" }[phase] ?? "";
  document.title = `${now}${now ? " · " : ""}${location.hostname || "catnap"} · catnap`;
}

function told(state) {
  connection.told(state);
  drawTitle(state.phase);
  if (state.phase === "live") return;
  target.breakOff();
  draw();
}

const poller = new Poller(async () => {
  await target.ask(poller.intervalMs / 1000);
  draw();
}, told);
const pace = new PaceSwitch(at("pace"), (milliseconds) => poller.setInterval(milliseconds));
poller.intervalMs = pace.milliseconds || 1000;
new ThemeSwitch(at("theme"));
new SignIn(at("sign-in"), (user, password) => {
  client.signIn(user, password);
  poller.now();
});
setText(at("place"), location.host);
draw();
poller.start();
