// The page of a lab. It listens to the boot server, which knows all that happens, and draws what it hears. Text from the lab goes
// into the page as text only.
"use strict";

const STAGES = ["power-on", "script", "kernel", "initrd", "rootfs", "config", "ready"];
const MOST_EVENTS = 200;
const MOST_LINES = 500;
const $ = (id) => document.getElementById(id);

const lab = { name: "", nodes: new Map(), etcd: null, look: null, events: [], memory: [], last: 0 };
// How far this computer's clock is behind the host's.
let clockOffset = 0;
const now = () => Date.now() + clockOffset;

// --- What is heard -------------------------------------------------------------------------------------------------

let silentSince = null;
let source = null;

function listen() {
  source = new EventSource("events");
  const on = (name, take) => source.addEventListener(name, (message) => {
    heard();
    take(JSON.parse(message.data));
    drawSoon();
  });
  source.onopen = heard;
  source.onerror = () => {
    silentSince ??= Date.now();
    // The browser tries again by itself unless it was sent away.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    drawSoon();
  };
  on("past", (past) => {
    clockOffset = past.now_ms - Date.now();
    lab.events = past.events.slice(-MOST_EVENTS);
    lab.memory = past.memory;
  });
  on("snapshot", (status) => {
    lab.name = status.lab;
    lab.last = status.id;
    lab.etcd = status.etcd ?? null;
    setNodes(status.nodes);
    $("version").textContent = `virtlab ${status.version}`;
  });
  on("change", (event) => {
    // After a lost connection the browser may be told twice.
    if (event.id <= lab.last) return;
    lab.last = event.id;
    apply(event);
    lab.events.push(event);
    if (lab.events.length > MOST_EVENTS) lab.events.shift();
  });
  on("look", (look) => {
    lab.look = look;
    const last = lab.memory.at(-1);
    if (look.memory && (!last || look.memory.at_ms - last.at_ms >= 5000)) {
      lab.memory.push(look.memory);
      if (lab.memory.length > 720) lab.memory.shift();
    }
  });
}

function heard() {
  if (silentSince !== null) {
    silentSince = null;
    drawSoon();
  }
}

function setNodes(nodes) {
  const old = lab.nodes;
  lab.nodes = new Map();
  for (const node of nodes) {
    const known = old.get(node.index);
    lab.nodes.set(node.index, { stages: {}, power: null, ...known, ...node, ip: node.ip ?? known?.ip, row: known?.row });
  }
  for (const [index, node] of old) {
    if (!lab.nodes.has(index)) {
      node.row?.tr.remove();
      if (shown.node === index) closeConsole();
    }
  }
}

// As the boot server's own timeline takes an event in.
function apply(event) {
  if (event.etcd) lab.etcd = event.etcd;
  if (event.nodes) setNodes(event.nodes);
  const node = lab.nodes.get(event.node);
  if (!node) return;
  if (event.stage) {
    if (event.stage === "power-on" || event.stage === "script") {
      const place = STAGES.indexOf(event.stage);
      for (const stage of STAGES.slice(place)) delete node.stages[stage];
    }
    if (event.from && event.stage !== "power-on" && event.stage !== "ready") node.ip = event.from;
    node.stages[event.stage] = { at_ms: event.at_ms, bytes: event.bytes };
  }
  if (event.power) {
    node.power = event.power;
    if (event.new_boot) node.stages = {};
  }
  if (event.wanted) node.wanted = event.wanted;
  if (event.ip) node.ip = event.ip;
}

// --- What follows from it ------------------------------------------------------------------------------------------

function bootOf(node) {
  let reached = Object.entries(node.stages).map(([stage, it]) => ({ stage, at: it.at_ms }));
  reached.sort((a, b) => a.at - b.at || STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage));
  const ready = reached.findIndex((it) => it.stage === "ready");
  if (ready >= 0) reached = reached.slice(0, ready + 1);
  const start = reached[0]?.at;
  const spans = reached.slice(1).map((it, place) => ({
    stage: it.stage, from: reached[place].at - start, to: it.at - start,
  }));
  const closed = spans.at(-1)?.to ?? 0;
  const boots = start !== undefined && ready < 0 && (node.power ?? "running") === "running";
  return { spans, closed, start, open: boots ? Math.max(closed, now() - start) : null };
}

// The word for a node, and how it is to be taken. What was looked at before the last event is no news any more.
function stateOf(node) {
  const times = Object.values(node.stages).map((it) => it.at_ms);
  const looked = lab.look?.nodes.find((it) => it.index === node.index);
  const isNew = looked && lab.look.at_ms > Math.max(0, ...times);
  if (isNew && looked.state === "missing") return ["missing", "bad"];
  if (node.power === "off") return node.wanted === "off" ? ["stopped", "calm"] : ["off", "bad"];
  if (node.power === "paused") return ["paused", "calm"];
  if (isNew && looked.state === "cut off") return ["cut off", "bad"];
  if (node.stages.ready) return isNew && !looked.ready ? ["not ready", "bad"] : ["ready", "good"];
  const stage = STAGES.findLast((it) => node.stages[it]);
  return stage ? [stage, "busy"] : [node.power ?? "-", "calm"];
}

const short = (ms) => {
  const seconds = ms / 1000;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes}m${String(Math.floor(seconds % 60)).padStart(2, "0")}s`;
  return minutes < 6000 ? `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m` : `${Math.floor(minutes / 1440)}d`;
};
const size = (bytes) => {
  if (bytes === null || bytes === undefined) return "-";
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(2)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
};
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

function sentence(event) {
  const name = lab.nodes.get(event.node)?.name ?? `node ${event.node}`;
  if (event.stage) {
    const file = event.file ? ` ${event.file}` : "";
    return `${name}: ${event.stage}${file}${event.bytes ? `, ${bytesOf(event.bytes)}` : ""}`;
  }
  if (event.power) return `${name}: ${event.power}${event.new_boot ? ", boots" : ""}`;
  if (event.held) return `${name}: gets no config: ${event.held}`;
  if (event.wanted) return `${name}: wanted ${event.wanted}`;
  if (event.ip) return `${name}: has ${event.ip}`;
  if (event.etcd) return etcdSentence(event.etcd);
  return event.nodes ? `the lab has ${event.nodes.length} nodes` : "";
}
const bytesOf = (bytes) =>
  bytes < 1024 ? `${bytes} B` : bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const etcdSentence = (etcd) => etcd.healthy && etcd.leader
  ? `etcd: healthy, ${etcd.members} members, leader ${etcd.leader}`
  : `etcd: not healthy: ${(etcd.problems ?? []).join("; ")}`;

// --- How it is drawn -----------------------------------------------------------------------------------------------

let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

// Sets a text, and touches the document only if it is another one.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

function draw() {
  say($("lab"), lab.name || "virtlab");
  const boots = [...lab.nodes.values()].map((node) => ({ node, boot: bootOf(node), state: stateOf(node) }));
  drawSummary(boots);
  drawWrong();
  drawNodes(boots);
  drawVerdict();
  drawEtcd();
  drawMemory();
  drawEvents();
}

function drawSummary(boots) {
  if (boots.length) {
    const ready = boots.filter(({ state }) => state[0] === "ready").length;
    const etcd = lab.look?.etcd ?? lab.etcd;
    const leader = lab.look?.etcd ? lab.look.etcd.members.find((it) => it.leader)?.name : lab.etcd?.leader;
    const cluster = etcd ? (etcd.healthy ? `; etcd healthy, leader ${leader}` : "; etcd not healthy") : "";
    say($("summary"), `${ready} of ${boots.length} nodes ready${cluster}`);
    const title = `${lab.name}: ${ready} of ${boots.length} ready`;
    if (document.title !== title) document.title = title;
  }
  const connection = $("connection");
  connection.hidden = silentSince === null || Date.now() - silentSince < 1500;
  if (!connection.hidden) {
    const name = lab.name || "LAB";
    say(connection, `The boot server has not answered since ${clock(silentSince)}. Trying again; “virtlab create ${name}” brings it back.`);
  }
}

function drawWrong() {
  const wrong = lab.look?.wrong ?? [];
  const list = $("wrong").querySelector("ul");
  $("wrong").hidden = wrong.length === 0;
  const key = JSON.stringify(wrong);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...wrong.map(({ text, command }) => {
    const item = make("li", {}, make("span", { textContent: text }));
    if (command) {
      const copy = make("button", { type: "button", textContent: "Copy", ariaLabel: `Copy ${command}` });
      copy.onclick = () => navigator.clipboard?.writeText(command).then(() => { copy.textContent = "Copied"; });
      item.append(make("code", { textContent: command }), copy);
    }
    return item;
  }));
}

// The picture is drawn anew each second as long as clients are at work.
let verdictTimer = null;
function drawVerdict() {
  const drawn = lab.look?.verdict_ms;
  $("verdict").hidden = !drawn;
  if (!drawn || verdictTimer !== null) return;
  const image = $("verdict").querySelector("img");
  const isLive = now() - drawn < 20000;
  const source = `verdict.svg?${isLive ? Date.now() : drawn}`;
  if (image.getAttribute("src") !== source) image.src = source;
  if (isLive) verdictTimer = setTimeout(() => { verdictTimer = null; drawSoon(); }, 1000);
}

// A round number of milliseconds, and where the axis has its labels.
function axisOf(boots) {
  const longest = Math.max(10000, ...boots.map(({ boot }) => boot.closed)) * 1.02;
  // A node that is stuck does not make the bars of all others short.
  const open = Math.max(0, ...boots.map(({ boot }) => boot.open ?? 0));
  const end = Math.min(Math.max(longest, open), longest * 2);
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000, 86400].map((it) => it * 1000);
  const step = steps.find((it) => end / it <= 6) ?? 86400000;
  return { end: Math.ceil(end / step) * step, step };
}

let axisKey = "";
function drawNodes(boots) {
  const axis = axisOf(boots);
  const key = `${axis.end}/${axis.step}`;
  if (key !== axisKey) {
    axisKey = key;
    const ticks = [];
    for (let at = 0; at <= axis.end; at += axis.step) {
      const tick = make("span", { textContent: at < 120000 ? `${at / 1000} s` : short(at).replace(/m00s$/, "m") });
      tick.style.left = `${(at / axis.end) * 100}%`;
      ticks.push(tick);
    }
    $("axis").replaceChildren(...ticks);
  }
  const body = $("nodes").querySelector("tbody");
  for (const { node, boot, state } of boots) {
    const row = (node.row ??= newRow(node, body));
    const looked = lab.look?.nodes.find((it) => it.index === node.index);
    say(row.button, node.name);
    say(row.state, state[0]);
    if (row.state.className !== `state ${state[1]}`) row.state.className = `state ${state[1]}`;
    say(row.address, node.ip ?? looked?.ip ?? "-");
    say(row.memory, size(looked?.resident_bytes));
    drawBoot(row, boot, axis);
  }
  drawLegend(boots);
}

function newRow(node, body) {
  const button = make("button", { type: "button", className: "mono" });
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", "console");
  button.onclick = () => (shown.node === node.index ? closeConsole() : openConsole(node.index));
  const cell = (className, ...children) => {
    const td = make("td", { className }, ...children);
    td.setAttribute("role", "cell");
    return td;
  };
  const head = make("th", { scope: "row" }, button);
  head.setAttribute("role", "rowheader");
  const state = make("span", { className: "state" });
  const address = cell("address mono");
  const memory = cell("number");
  const track = make("span", { className: "track", ariaHidden: "true" });
  const words = make("span", { className: "hidden" });
  const tr = make("tr", {}, head, cell("", state), address, memory, cell("boot", track, words));
  tr.setAttribute("role", "row");
  tr.dataset.index = node.index;
  const after = [...body.children].find((other) => Number(other.dataset.index) > node.index);
  body.insertBefore(tr, after ?? null);
  return { tr, button, state, address, memory, track, words, key: "", bar: null, beyond: null };
}

function drawBoot(row, boot, axis) {
  const percent = (ms) => `${Math.min(100, (ms / axis.end) * 100)}%`;
  const key = JSON.stringify([boot.spans, axisKey, boot.open !== null]);
  if (row.key !== key) {
    row.key = key;
    const waits = boot.open === null ? 0 : boot.open - boot.closed;
    const slowest = boot.spans.reduce((most, it) => (!most || it.to - it.from > most.to - most.from ? it : most), null);
    const parts = boot.spans.map((span) => {
      const isSlowest = span === slowest && span.to - span.from >= waits && boot.spans.length > 1;
      const part = make("i", { className: `${span.stage}${isSlowest ? " slowest" : ""}` });
      part.title = `${span.stage} took ${short(span.to - span.from)}, until ${short(span.to)}`;
      part.style.left = percent(span.from);
      part.style.width = percent(span.to - span.from);
      return part;
    });
    row.bar = row.beyond = null;
    if (boot.open !== null) {
      row.bar = make("i", { className: "open" });
      row.bar.style.left = percent(boot.closed);
      row.beyond = make("span", { className: "beyond" });
      parts.push(row.bar, row.beyond);
    }
    row.track.replaceChildren(...parts);
    const words = boot.spans.map((span) => `${span.stage} after ${short(span.to)}`);
    if (boot.open !== null) words.push("waiting");
    say(row.words, words.join(", ") || "no boot was seen");
  }
  if (row.bar) {
    row.bar.style.width = percent(Math.max(0, Math.min(boot.open, axis.end) - boot.closed));
    row.bar.title = `waiting for ${short(boot.open - boot.closed)}`;
    say(row.beyond, boot.open > axis.end ? `${short(boot.open)} ▸` : "");
  }
}

let legendKey = "";
function drawLegend(boots) {
  const seen = STAGES.filter((stage) => boots.some(({ boot }) => boot.spans.some((span) => span.stage === stage)));
  const items = seen.map((stage) => [stage, stage]);
  if (boots.some(({ boot }) => boot.open !== null)) items.push(["open", "waiting"]);
  const key = items.join();
  if (key === legendKey) return;
  legendKey = key;
  $("legend").hidden = items.length === 0;
  $("legend").replaceChildren(...items.map(([className, text]) => make("li", {}, make("i", { className, ariaHidden: "true" }), text)));
}

function drawEtcd() {
  const now = lab.look?.etcd;
  const section = $("etcd");
  section.hidden = !now && !lab.etcd;
  if (section.hidden) return;
  const healthy = now ? now.healthy : lab.etcd.healthy;
  const leader = now ? now.members.find((it) => it.leader)?.name : lab.etcd.leader;
  say($("etcd-summary"), `${healthy ? "healthy" : "not healthy"}, ${leader ? `leader ${leader}` : "no leader"}`);
  $("etcd-summary").className = `state ${healthy ? "good" : "bad"}`;
  const table = section.querySelector("table");
  table.hidden = !now;
  const key = JSON.stringify(now?.members ?? []);
  if (table.dataset.key === key) return;
  table.dataset.key = key;
  table.tBodies[0].replaceChildren(...(now?.members ?? []).map((member) => {
    const health = make("td", {}, make("span", {
      className: `state ${member.healthy ? "good" : "bad"}`, textContent: member.healthy ? "healthy" : "not healthy",
    }));
    if (member.problem) health.append(make("small", { textContent: member.problem }));
    const name = make("th", { scope: "row", textContent: member.name });
    if (member.leader) name.append(make("small", { textContent: "leader" }));
    return make("tr", {}, name, health, make("td", { className: "mono", textContent: member.id ?? (member.client ? "client" : "no member") }));
  }));
}

let memoryKey = "";
function drawMemory() {
  const newest = lab.look?.memory ?? lab.memory.at(-1);
  if (!newest) return;
  const merged = newest.merged_bytes ? `, ${size(newest.merged_bytes)} of it merged` : "";
  const ksm = newest.saved_bytes === null ? "KSM is not available here"
    : newest.ksm_runs || newest.saved_bytes > 0
      ? `KSM ${newest.ksm_runs ? "runs and" : "is off, and still"} saves ${size(newest.saved_bytes)} on this host` : "KSM is off";
  say($("memory-summary"), `${size(newest.resident_bytes)} resident${merged}; ${ksm}`);
  const key = `${lab.memory.length}/${lab.memory.at(-1)?.at_ms}`;
  if (key === memoryKey) return;
  memoryKey = key;
  const points = lab.memory;
  const chart = $("chart");
  // An SVG element has no such property.
  chart.toggleAttribute("hidden", points.length < 2);
  if (points.length < 2) return;
  const [left, right, top, bottom] = [82, 472, 26, 152];
  const kinds = [["resident", "resident_bytes"], ["merged", "merged_bytes"], ["saved", "saved_bytes"]]
    .filter(([kind, field]) => kind === "resident" || points.some((it) => it[field] > 0));
  const most = Math.max(1, ...kinds.flatMap(([, field]) => points.map((it) => it[field] ?? 0)));
  const steps = [...Array(20).keys()].map((power) => 2 ** (power + 24));
  const step = steps.find((it) => most / it <= 3) ?? most;
  const end = Math.ceil(most / step) * step;
  const [from, to] = [points[0].at_ms, points.at(-1).at_ms];
  const x = (ms) => left + ((ms - from) / Math.max(1, to - from)) * (right - left);
  const y = (bytes) => bottom - (bytes / end) * (bottom - top);
  const draw = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const parts = [];
  for (let at = 0; at <= end; at += step) {
    parts.push(draw("line", { class: "grid", x1: left, x2: right, y1: y(at), y2: y(at) }));
    parts.push(draw("text", { x: left - 8, y: y(at) + 5, "text-anchor": "end" }, at ? size(at) : "0"));
  }
  parts.push(draw("text", { x: left, y: bottom + 20 }, clock(from)));
  parts.push(draw("text", { x: right, y: bottom + 20, "text-anchor": "end" }, clock(to)));
  kinds.forEach(([kind, field], place) => {
    let path = "";
    let pen = "M";
    for (const point of points) {
      const bytes = point[field];
      if (bytes === null || bytes === undefined) {
        pen = "M";
        continue;
      }
      path += `${pen}${x(point.at_ms).toFixed(1)} ${y(bytes).toFixed(1)}`;
      pen = "L";
    }
    parts.push(draw("path", { class: kind, d: path }));
    const label = left + place * 130;
    parts.push(draw("path", { class: kind, d: `M${label} 9h24` }));
    parts.push(draw("text", { class: "name", x: label + 30, y: 14 }, kind === "saved" ? "saved by KSM" : kind));
  });
  chart.replaceChildren(...parts);
}

let eventsKey = "";
function drawEvents() {
  const newest = lab.events.at(-1);
  const key = `${newest?.id}/${lab.events.length}/${lab.nodes.size}`;
  if (key === eventsKey) return;
  const list = $("log");
  const grew = eventsKey !== "" && list.firstChild ? lab.events.filter((it) => it.id > Number(list.firstChild.dataset.id)) : null;
  eventsKey = key;
  const item = (event) => {
    const time = make("time", { textContent: clock(event.at_ms), dateTime: new Date(event.at_ms).toISOString() });
    const li = make("li", {}, time, sentence(event));
    li.dataset.id = event.id;
    return li;
  };
  if (grew && grew.length < MOST_EVENTS) {
    list.prepend(...grew.reverse().map(item));
    while (list.children.length > MOST_EVENTS) list.lastChild.remove();
  } else {
    list.replaceChildren(...[...lab.events].reverse().map(item));
  }
}

// --- A console -----------------------------------------------------------------------------------------------------

const shown = { node: null, after: null, lines: [], rest: "", timer: 0, turn: 0 };

function openConsole(index) {
  closeConsole();
  Object.assign(shown, { node: index, after: null, lines: [], rest: "" });
  const node = lab.nodes.get(index);
  $("console").hidden = false;
  $("console-title").textContent = `Console of ${node.name}`;
  $("console-command").textContent = `virtlab console ${node.name}`;
  $("lines").textContent = "reading …";
  node.row.button.setAttribute("aria-expanded", "true");
  $("console").scrollIntoView({ block: "nearest" });
  readConsole(++shown.turn);
}

function closeConsole() {
  if (shown.node === null) return;
  clearTimeout(shown.timer);
  shown.turn += 1;
  const button = lab.nodes.get(shown.node)?.row?.button;
  shown.node = null;
  button?.setAttribute("aria-expanded", "false");
  if ($("console").contains(document.activeElement)) button?.focus();
  $("console").hidden = true;
}

async function readConsole(turn) {
  let text;
  try {
    const answer = await fetch(`console/${shown.node}${shown.after === null ? "" : `?after=${shown.after}`}`);
    if (turn !== shown.turn) return;
    if (answer.ok) {
      const part = await answer.json();
      if (turn !== shown.turn) return;
      // A server that is new begins to count anew, with all that there is.
      if (part.after !== shown.after) shown.lines = [];
      shown.lines = shown.lines.concat(part.lines).slice(-MOST_LINES);
      shown.after = part.after + part.lines.length;
      text = shown.lines.concat(part.rest ? [part.rest] : []).join("\n") || "it has written nothing yet";
    } else {
      text = `reading the console: ${await answer.text()}`;
    }
  } catch {
    text = null;
  }
  if (turn !== shown.turn) return;
  const pane = $("lines");
  if (text !== null && pane.textContent !== text) {
    pane.textContent = text;
    if ($("follow").checked) pane.scrollTop = pane.scrollHeight;
  }
  const again = () => (document.hidden ? (shown.timer = setTimeout(again, 1000)) : readConsole(turn));
  shown.timer = setTimeout(again, 1000);
}

$("close").onclick = closeConsole;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeConsole();
});

// --- All labs ------------------------------------------------------------------------------------------------------

async function lookForLabs() {
  try {
    const answer = await fetch("labs");
    if (answer.ok) drawLabs(await answer.json());
  } catch {
    // The boot server is away, which is said above.
  }
  const again = () => (document.hidden ? setTimeout(again, 2000) : lookForLabs());
  setTimeout(again, 10000);
}

let labsKey = "";
function drawLabs(labs) {
  const key = JSON.stringify(labs.map((it) => (it.own ? it.name : it)));
  if (key === labsKey) return;
  labsKey = key;
  $("labs").querySelector("ul").replaceChildren(...labs.map((other) => {
    const name = other.own || !other.url ? make("strong", { textContent: other.name })
      : make("a", { href: other.url, textContent: other.name });
    return make("li", {}, name, other.own ? ": this page" : `: ${other.ready} of ${other.nodes} nodes ready`);
  }));
}

// --- Begin ---------------------------------------------------------------------------------------------------------

listen();
lookForLabs();
// Bars that are open grow, and silence is noticed.
setInterval(() => {
  const boots = [...lab.nodes.values()].some((node) => bootOf(node).open !== null);
  if (!document.hidden && (boots || silentSince !== null)) drawSoon();
}, 500);
document.addEventListener("visibilitychange", drawSoon);
