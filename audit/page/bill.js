"use strict";
// Names come from the storage and may contain anything. They are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const { audit, repositories } = data;
const bill = audit.bytes;
const now = Date.parse(audit.time) / 1000;
const $ = id => document.getElementById(id);

// element makes an element. Its children are elements or texts.
function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

// Texts of values

function size(n) {
  if (n < 1024) return Math.round(n) + " B";
  let unit = -1;
  for (; n >= 1023.95 && unit < 5; unit++) n /= 1024;
  return n.toFixed(1) + " " + "KMGTPE"[unit] + "iB";
}
const count = n => n.toLocaleString("en");
const plural = (n, noun) => count(n) + " " + (n === 1 ? noun : noun.replace(/y$/, "ie") + "s");
const date = seconds => seconds ? new Date(seconds * 1000).toISOString().slice(0, 10) : "";
const seconds = text => text ? Math.floor(Date.parse(text) / 1000) : 0;
function share(n, of = bill.total) {
  const percent = of ? 100 * n / of : 0;
  return n === 0 ? "" : percent < 0.1 ? "<0.1%" : percent.toFixed(percent < 9.95 ? 1 : 0) + "%";
}

// Bars: rows of a name, a bar from `from` to `from + n` of `of`, and the size. A step of the ladder has more.

function bars(id, rows, of) {
  $(id).append(...rows.flatMap(({ name, n, from = 0, color, step }) => {
    const fill = element("i", { class: n > of ? "over" : color });
    fill.style.left = (of ? 100 * from / of : 0) + "%";
    fill.style.width = (of ? Math.min(100, 100 * n / of) : 0) + "%";
    const title = element("span", {}, name);
    if (step) title.style.paddingLeft = step.depth + "em";
    return [title, element("span", { class: "bar" }, ...n > 0 ? [fill] : []), element("span", { class: "size" }, step?.not_counted ? "not counted" : size(n)),
      element("span", { class: "share" }, share(n, of)),
      ...step ? [element("span", { class: "by" }, step.freed_by), element("span", { class: "about" }, step.about)] : []];
  }));
}

function showHead() {
  document.title = "Storage audit: " + audit.root;
  $("about").append(element("code", {}, audit.root), " ", element("span", { class: "nowrap" }, `· ${audit.time.slice(0, 16).replace("T", " ")} UTC`));
  const verb = !audit.hides ? "free" : audit.versioning === "enabled" ? "hide" : "free or hide";
  const facts = [["In storage", size(bill.total)], ["Kept", size(bill.live)], ["gc would " + verb, size(audit.what_if[0].bytes)],
    ["Repositories", count(repositories.length)], ["Tags", count(repositories.reduce((sum, r) => sum + r.tags, 0))]];
  $("headline").append(...facts.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))));
}

function showLadder() {
  let end = 0; // of the parts so far
  const rows = audit.ladder.map(step => {
    const { name, bytes: n } = step, isSum = step.freed_by === "parts" || name === "logical";
    const from = name === "total" ? 0 : end;
    if (!isSum) end += n;
    return { name, n, from, color: name, step };
  });
  bars("ladder", rows, end);
  if (bill.tagged) $("logical").textContent = `Pulls of all tags would fetch ${(bill.logical / bill.tagged).toFixed(1)} times what the tagged blobs take.`;
}

function showKinds() {
  bars("kinds", audit.kinds.filter(k => k.blobs).sort((a, b) => b.bytes - a.bytes).map(k => ({ name: audit.kind_names[k.kind], n: k.bytes, color: "rest" })), bill.stored);
  $("hides").textContent = audit.hides ? `These bytes are freed ${audit.hides}.` : "";
  bars("what-if", audit.what_if.map(w => ({ name: w.choice, n: w.bytes, color: "garbage" })), bill.total);
}

// monthBar is a bar of a chart over the months.
function monthBar(n, most) {
  const bar = element("i");
  bar.style.height = n ? `max(1px, ${100 * n / most}%)` : 0;
  return bar;
}

function showGrowth() {
  const most = Math.max(...audit.growth), at = new Date(audit.time);
  if (!most) return;
  $("growth-section").hidden = false;
  $("growth").append(...audit.growth.map((n, i) => {
    const month = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() - 11 + i, 1));
    return element("figure", {}, element("div", {}, monthBar(n, most)), element("figcaption", {}, month.toLocaleString("en", { month: "short", timeZone: "UTC" })), element("span", {}, size(n)));
  }));
}

function sparkline(values) {
  const most = Math.max(...values);
  return element("span", { class: "spark", role: "img", "aria-label": "growth by month: " + values.map(size).join(", ") }, ...values.map(n => monthBar(n, most)));
}
