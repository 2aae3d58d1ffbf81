// Tables. Only the rows of one page are in the document, so a table may have any number of rows.

const pageRows = 25;

function table(id, noun, rows, columns, sortKey) {
  let filter = "", sort = columns.find(c => c.key === sortKey), descending = true, page = 0, matching = rows;
  const texts = rows.map(row => columns.filter(c => c.search).map(c => c.search(row)).join("\n").toLowerCase());
  const body = element("tbody"), status = element("span", { role: "status" });
  const turn = by => () => { page += by; draw(); };
  const back = element("button", { type: "button", "aria-label": "previous page", onclick: turn(-1) }, "‹");
  const next = element("button", { type: "button", "aria-label": "next page", onclick: turn(1) }, "›");
  const heads = columns.map(c => element("th", { class: c.number ? "number" : "", scope: "col" },
    c.value ? element("button", { type: "button", title: c.title || false, onclick: () => {
      descending = sort === c ? !descending : Boolean(c.number);
      sort = c;
      update();
    } }, c.key) : c.key));
  const label = `Filter ${noun.replace(/y$/, "ie")}s`;
  const search = element("input", { type: "search", placeholder: label, "aria-label": label, autocomplete: "off", oninput: () => { filter = search.value.trim().toLowerCase(); update(); } });
  function update() {
    matching = filter ? rows.filter((_, i) => texts[i].includes(filter)) : rows.slice();
    const sign = descending ? -1 : 1;
    if (sort) matching.sort((a, b) => { const x = sort.value(a), y = sort.value(b); return sign * (x < y ? -1 : x > y ? 1 : 0); });
    heads.forEach((head, i) => { if (columns[i] === sort) head.setAttribute("aria-sort", descending ? "descending" : "ascending"); else head.removeAttribute("aria-sort"); });
    page = 0;
    draw();
  }
  function draw() {
    const from = page * pageRows, rowsShown = matching.slice(from, from + pageRows);
    body.replaceChildren(...rowsShown.map(row => element("tr", {}, ...columns.map(c => element("td", { class: c.number ? "number" : c.class || "" }, c.show(row) ?? "")))));
    back.disabled = page === 0;
    next.disabled = from + pageRows >= matching.length;
    status.textContent = matching.length > pageRows ? `${count(from + 1)}–${count(from + rowsShown.length)} of ${plural(matching.length, noun)}` : plural(matching.length, noun);
  }
  const pager = element("div", { class: "pager" }, status, ...rows.length > pageRows ? [back, next] : []);
  $(id).append(element("div", { class: "toolbar" }, ...rows.length > 5 ? [search] : [], pager),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": noun + " table" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)));
  update();
}

function showTables() {
  const name = (key, show, more) => ({ key, value: row => row[key], search: row => row[key], show, ...more });
  const bytesColumn = (key, title) => ({ key, title, number: true, value: r => r[key], show: r => r[key] ? size(r[key]) : "–" });
  const countColumn = key => ({ key, number: true, value: row => row[key], show: row => count(row[key]) });
  table("repositories", "repository", repositories, [
    name("name", r => element("a", { href: address({ path: r.name }), onclick: () => $("map-title").scrollIntoView() }, r.name)), countColumn("tags"),
    bytesColumn("logical", "pulls of all tags"), bytesColumn("bytes", "everything that it keeps"), bytesColumn("unique", "kept by no other repository"),
    bytesColumn("shared", "kept by other repositories too"), bytesColumn("fair", "each blob divided by its number of repositories"), bytesColumn("untagged", "reached by no tag of the repository"),
    bytesColumn("garbage", "garbage that it still links"),
    { key: "last push", number: true, value: r => seconds(r.last_push), show: r => date(seconds(r.last_push)) },
    { key: "growth", show: r => sparkline(r.growth) },
  ], "bytes");
  table("blobs", "blob", audit.blobs, [
    name("digest", b => element("code", { title: b.digest }, b.digest.slice(0, 19))), bytesColumn("bytes"), name("kind", b => b.kind.replace("_", " "), { class: "nowrap" }),
    countColumn("manifests"), countColumn("repositories"),
    { key: "held by", class: "wide", search: b => b.holders.join(" "), show: b => b.repositories === 0 ? "nobody: garbage" : b.holders.join(", ") + (b.repositories > b.holders.length ? ` and ${count(b.repositories - b.holders.length)} more` : "") },
  ], "bytes");
  for (const [noun, list, all] of [["problem", audit.problems, audit.problem_count], ["note", audit.notes, audit.note_count]]) {
    if (!all) continue;
    const id = noun + "s";
    $(id + "-section").hidden = false;
    $(id + "-title").textContent = plural(all, noun);
    table(id, noun, list, [name("kind", p => p.kind.replaceAll("_", " ")), name("repository", p => p.repository), name("path", p => element("code", {}, p.path)),
      name("detail", p => p.detail), ...noun === "problem" ? [name("effect", p => String(p.effect).replaceAll("_", " "))] : []]);
    if (list.length < all) $(id).append(element("p", { class: "note" }, `Only the first ${count(list.length)} are shown.`));
  }
}

// All files of the script are there.

buildTree();
showHead();
showLadder();
showKinds();
showGrowth();
startMap();
showTables();
document.documentElement.dataset.ready = "true";
