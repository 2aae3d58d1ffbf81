// The map. A node is a namespace, a repository, or content of a repository. Its areas are the bytes of
// each mode. The nodes of a repository's tags are made when they are needed.

const modes = {
  unique: "Area: bytes that nothing outside of the cell keeps. The removal of everything in a cell would free at least these.",
  shared: "Area: a fair share of the bytes that several repositories keep: each blob is divided by their number. Inside a repository: bytes of a tag that another tag, an untagged manifest, damage or another repository keeps too. Each tag has all of them.",
  garbage: "Area: garbage that the repository still links. gc removes it.",
};
let mode = "unique";

const makeNode = (name, parent, more) => ({ name, parent, unique: 0, shared: 0, garbage: 0, pushed: 0, ...more });
const makeDir = (name, parent, path) => makeNode(name, parent, { path, names: new Map(), repositories: 0 });
const root = makeDir("all repositories", null, "");

function buildTree() {
  for (const r of repositories) {
    const pushed = seconds(r.last_push);
    const add = node => {
      node.unique += r.unique;
      node.shared += r.shared ? r.fair - r.unique : 0;
      node.garbage += r.garbage;
      node.pushed = Math.max(node.pushed, pushed);
      node.repositories++;
    };
    let node = root;
    add(node);
    for (const name of r.name.split("/")) {
      if (!node.names.has(name)) node.names.set(name, makeDir(name, node, node === root ? name : node.path + "/" + name));
      node = node.names.get(name);
      add(node);
    }
    node.repository = r;
  }
  for (const { namespace, bytes } of audit.common) {
    let node = root;
    for (const name of namespace ? namespace.split("/") : []) {
      node.unique += bytes;
      node = node.names.get(name);
    }
    node.unique += bytes;
    node.common = bytes;
  }
  root.unlinked = bill.garbage - root.garbage;
  root.garbage = bill.garbage;
}

function childrenOf(node) {
  if (node.children) return node.children;
  const children = [...node.names.values()];
  const add = (name, unique, all, more) => {
    if (all > 0) children.push(makeNode(name, node, { unique, shared: all - unique, ...more }));
  };
  const r = node.repository;
  if (r) {
    let rest = r.unique - r.untagged_unique - r.more.unique;
    for (const [name, pushed, logical, all, unique] of r.tag_list) {
      add(name, unique, all, { tag: r.name + ":" + name, pushed, logical });
      rest -= unique;
    }
    if (rest > 0) add("kept by several", rest, rest, { about: "kept by several tags of this repository, or by tags and also by untagged manifests or damage, and by no other repository" });
    add("untagged", r.untagged_unique, r.untagged_bytes, { about: "kept by untagged manifests or damage" });
    add(plural(r.more.count, "more tag"), r.more.unique, r.more.bytes, { about: "the smaller tags, together" });
    if (r.garbage > 0 && children.length) children.push(makeNode("garbage", node, { garbage: r.garbage }));
  }
  add("kept by several repositories", node.common, node.common, { about: "kept by several repositories of this namespace, and by no other repository" });
  if (node.unlinked > 0) children.push(makeNode("linked by nobody", node, { garbage: node.unlinked, about: "no repository has a link to it" }));
  return node.children = children;
}

const isOpen = node => Boolean(node.names) && childrenOf(node).length > 0;

// shown returns the children with an area, the largest first. The smallest ones are merged into one.
function shown(node, most) {
  const all = childrenOf(node).filter(c => c[mode] > 0).sort((a, b) => b[mode] - a[mode]);
  if (all.length <= most) return all;
  const rest = all.slice(most - 1), merged = makeNode(count(rest.length) + " more", node, { about: "the smallest, together" });
  for (const c of rest) for (const key in modes) merged[key] += c[key];
  return [...all.slice(0, most - 1), merged];
}

// squarify places nodes in a box, by the algorithm of Bruls, Huizing and van Wijk: a row takes nodes as
// long as its cells become squarer.
function squarify(nodes, x, y, width, height) {
  const placed = [];
  let sum = nodes.reduce((total, n) => total + n[mode], 0);
  for (let i = 0; i < nodes.length && width > 0 && height > 0;) {
    const side = Math.min(width, height), scale = width * height / sum;
    let area = 0, last = Infinity, end = i;
    for (; end < nodes.length; end++) {
      const next = area + nodes[end][mode] * scale, thick = next / side;
      const worst = Math.max(thick * thick / (nodes[end][mode] * scale), nodes[i][mode] * scale / (thick * thick));
      if (end > i && worst > last) break;
      area = next;
      last = worst;
    }
    const thick = area / side, isColumn = width >= height;
    let at = isColumn ? y : x;
    for (; i < end; i++) {
      const long = nodes[i][mode] * scale / thick;
      placed.push(isColumn ? { node: nodes[i], x, y: at, width: thick, height: long } : { node: nodes[i], x: at, y, width: long, height: thick });
      at += long;
      sum -= nodes[i][mode];
    }
    if (isColumn) { x += thick; width -= thick; } else { y += thick; height -= thick; }
  }
  return placed;
}

const ages = [[7, "this week"], [31, "this month"], [92, "3 months"], [366, "a year"], [Infinity, "older"]];
function ageClass(node) {
  const days = (now - node.pushed) / 86400;
  return "age" + (node.pushed ? ages.findIndex(([limit]) => days <= limit) : 5);
}

let current = root, cells = [];

// place sets the position in percent of the parent, so that the map also fits on paper.
function place(e, cell, box) {
  e.style.left = 100 * (cell.x - box.x) / box.width + "%";
  e.style.top = 100 * (cell.y - box.y) / box.height + "%";
  e.style.width = 100 * cell.width / box.width + "%";
  e.style.height = 100 * cell.height / box.height + "%";
}

// label returns the name of a cell, and its size, as far as there is room for them.
function label({ node, width, height }) {
  const letter = 6.4, bytes = size(node[mode]);
  if (height < 17 || width < Math.min(88, 12 + letter * node.name.length)) return [];
  const hasSize = width > 24 + letter * (node.name.length + bytes.length);
  return [element("b", {}, node.name, ...hasSize ? [element("small", {}, bytes)] : [])];
}

const headHeight = 21; // of a cell that shows its children

function drawCell(cell, index, box) {
  const { node } = cell;
  const inner = { x: cell.x + 2, y: cell.y + headHeight, width: cell.width - 6, height: cell.height - headHeight - 4 };
  const hasInner = isOpen(node) && !(mode === "shared" && node.repository) && inner.width > 60 && inner.height > 30;
  const e = element("button", { type: "button", class: "cell " + (hasInner ? "group" : ageClass(node)), "data-index": index, tabindex: index ? -1 : 0,
    "aria-label": `${node.name}, ${size(node[mode])}${isOpen(node) ? ", opens" : ""}` }, ...label(cell));
  place(e, cell, box);
  if (!hasInner) return e;
  const frame = element("span", { class: "cell group", "aria-hidden": "true" });
  frame.style.border = "0";
  place(frame, inner, { x: cell.x + 1, y: cell.y + 1, width: cell.width - 2, height: cell.height - 2 });
  for (const small of squarify(shown(node, Math.min(40, Math.ceil(inner.width * inner.height / 400))), inner.x, inner.y, inner.width, inner.height)) {
    if (small.width < 3 || small.height < 3) continue;
    const tile = element("span", { class: "cell " + ageClass(small.node) }, ...label(small));
    tile.node = small.node;
    place(tile, small, inner);
    frame.append(tile);
  }
  e.append(frame);
  return e;
}

function drawMap() {
  const map = $("map"), box = { x: 0, y: 0, width: map.clientWidth || 1, height: map.clientHeight || 1 };
  cells = squarify(shown(current, 250), 0, 0, box.width, box.height).filter(c => c.width >= 2 && c.height >= 2);
  map.replaceChildren(...cells.map((cell, i) => drawCell(cell, i, box)));
  if (!cells.length) map.append(element("p", {}, `Nothing here has ${mode} bytes.`));
  map.setAttribute("aria-label", `${current.name}: ${plural(cells.length, "cell")}`);
  const crumbs = [];
  for (let node = current; node; node = node.parent) crumbs.unshift(node);
  $("crumbs").replaceChildren(...crumbs.map(node => node === current ? element("span", { "aria-current": "location" }, node.name) : element("a", { href: address(node) }, node.name)));
  $("mode-help").textContent = modes[mode];
  showDetail(current);
}

function showDetail(node) {
  const { repository: r } = node, facts = [];
  const fact = (name, value) => { if (value) facts.push(element("span", {}, name + " ", element("strong", {}, value))); };
  if (node.repositories > 1 || node === root) fact("repositories", count(node.repositories));
  if (r) fact("tags", count(r.tags));
  for (const key in modes) if (node[key] > 0) fact(key === "shared" && node.repositories ? "share of what is shared" : key, size(node[key]));
  if (node.logical) fact("pull", size(node.logical));
  if (r) fact("untagged", r.untagged && size(r.untagged));
  fact("last push", date(node.pushed));
  const lines = [element("strong", {}, node.tag || node.path || node.name), element("div", {}, ...facts)];
  if (node.about) lines.push(element("span", {}, node.about));
  if (node.tag) lines.push(element("code", {}, `regsweep audit --without '${node.tag.replaceAll("'", "'\\''")}'`));
  $("detail").replaceChildren(...lines);
}

const address = node => "#/" + node.path.split("/").map(encodeURIComponent).join("/");

// go opens a node. The address says which node is open, so that the browser's back button works.
function go(node) { location.hash = address(node); }

function showAddress() {
  const before = current, focus = document.activeElement, wasInMap = $("map").contains(focus) || $("crumbs").contains(focus);
  const path = location.hash.slice(2);
  current = root;
  try {
    for (const name of path ? path.split("/") : []) current = current.names.get(decodeURIComponent(name)) ?? current;
  } catch { current = root; } // an address that is not encoded well
  drawMap();
  if (!wasInMap) return;
  focusCell(Math.max(0, cells.findIndex(c => c.node === before)));
}

function focusCell(index) {
  const buttons = $("map").querySelectorAll(":scope > button");
  if (!buttons[index]) return;
  for (const b of buttons) b.tabIndex = -1;
  buttons[index].tabIndex = 0;
  buttons[index].focus({ preventScroll: true });
}

// neighbour returns the index of the nearest cell beyond an edge of a cell, at best opposite its middle.
function neighbour(index, dx, dy) {
  const from = cells[index], x = from.x + from.width / 2, y = from.y + from.height / 2;
  let best = index, least = Infinity;
  cells.forEach((c, i) => {
    const along = dx > 0 ? c.x - from.x - from.width : dx < 0 ? from.x - c.x - c.width : dy > 0 ? c.y - from.y - from.height : from.y - c.y - c.height;
    const across = dx ? Math.max(0, c.y - y, y - c.y - c.height) : Math.max(0, c.x - x, x - c.x - c.width);
    if (along > -1 && along + 3 * across < least) { best = i; least = along + 3 * across; }
  });
  return best;
}

function startMap() {
  const map = $("map");
  const cellOf = event => { const e = event.target.closest("#map > button"); return e && cells[e.dataset.index]; };
  map.addEventListener("click", event => { const cell = cellOf(event); if (cell) isOpen(cell.node) ? go(cell.node) : showDetail(cell.node); });
  map.addEventListener("focusin", event => { const cell = cellOf(event); if (cell) showDetail(cell.node); });
  map.addEventListener("pointerover", event => {
    const cell = cellOf(event);
    if (cell) showDetail(event.target.closest("span.cell:not(.group)")?.node ?? cell.node);
  });
  map.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], cell = cellOf(event);
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (step && cell) focusCell(neighbour(cells.indexOf(cell), ...step));
    else if (event.key === "Home") focusCell(0);
    else if (event.key === "Escape" && current.parent) go(current.parent);
    else return;
    event.preventDefault();
  });
  $("modes").append(...Object.keys(modes).map(key => element("label", {},
    element("input", { type: "radio", name: "mode", checked: key === mode, autocomplete: "off", onchange: () => { mode = key; drawMap(); } }), key)));
  $("legend").append(...[...ages.map(([, name]) => name), "no date"].map((name, i) => element("li", {}, element("i", { class: "age" + i }), name)));
  addEventListener("hashchange", showAddress);
  let width = map.clientWidth;
  new ResizeObserver(() => { if (map.clientWidth !== width && !matchMedia("print").matches) { width = map.clientWidth; drawMap(); } }).observe(map);
  showAddress();
}
