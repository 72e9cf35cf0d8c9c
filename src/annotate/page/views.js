// The other views: the list of items, adjudication, quality.

async function showView(view) {
  state.view = view;
  for (const name of ["edit", "done", "items", "adjudicate", "quality"]) $(`view-${name}`).hidden = name !== view;
  for (const button of document.querySelectorAll("nav button")) {
    const here = button.dataset.view === view || (view === "done" && button.dataset.view === "edit");
    if (here) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  try {
    if (view === "items") await showItems();
    if (view === "adjudicate") await showDisputed();
    if (view === "quality") await showQuality();
  } catch (error) { failed(error); }
}

async function openView(view) {
  if (edit.dirty) await save();
  ask("session", {}).then(({ progress }) => showProgress(progress)).catch(() => {});
  if (view === "edit" && !state.item) return goNext();
  await showView(view);
}

const list = { status: "all", text: "", page: 0 };
async function showItems() {
  const choose = (change) => Object.assign(list, change) && fillItems();
  const statuses = { all: "All", open: "Not answered", answered: "Answered", mine: "Mine", skipped: "Skipped", disputed: "Disputed" };
  let typing;
  $("view-items").replaceChildren(el("div", { class: "page" },
    el("div", { class: "filters" },
      el("select", { id: "status", "aria-label": "Which items", onchange: (event) => choose({ status: event.target.value, page: 0 }) },
        Object.entries(statuses).map(([value, name]) => el("option", { value, selected: value === list.status }, name))),
      el("input", { type: "search", id: "search", placeholder: "Search in prompts, responses, ids", "aria-label": "Search", value: list.text, oninput: (event) => {
        clearTimeout(typing);
        typing = setTimeout(() => choose({ text: event.target.value, page: 0 }), 200);
      } })),
    el("div", { class: "card scroll", id: "list" })));
  await fillItems();
}

async function fillItems() {
  const said = await ask("items", list);
  const pages = Math.max(1, Math.ceil(said.found / said.size));
  const row = (item) => el("tr", {},
    el("td", {}, el("button", { type: "button", class: "quiet small", onclick: () => goTo(item.index) }, `${item.index + 1}`)),
    el("td", { class: "cut", dir: "auto" }, item.prompt), el("td", { class: "cut", dir: "auto" }, item.original),
    el("td", {}, item.answers.map(([who, what]) => el("span", { class: "tag" }, `${who}: ${what}`)), item.disputed ? el("span", { class: "badge" }, "disputed") : null));
  const move = (page) => { list.page = page; fillItems().catch(failed); };
  $("list").replaceChildren(
    el("table", {}, el("thead", {}, el("tr", {}, ["#", "Prompt", "Less preferred", "Answers"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, said.items.map(row))),
    el("div", { class: "filters" },
      el("button", { type: "button", class: "quiet", disabled: list.page === 0, onclick: () => move(list.page - 1) }, "‹ Back"),
      el("span", { class: "soft" }, `${said.found} items, page ${said.page + 1} of ${pages}`),
      el("button", { type: "button", class: "quiet", disabled: list.page + 1 >= pages, onclick: () => move(list.page + 1) }, "Further ›")));
}

const nothing = (title, text) => el("div", { class: "done" }, el("h2", {}, title), el("p", {}, text));

async function showDisputed(after) {
  const said = await ask("disputed", { after });
  const view = $("view-adjudicate");
  const { item } = said;
  if (!item) return view.replaceChildren(nothing("Nothing to decide", "Items whose annotators differ come here."));
  const take = async (chosen) => {
    const categories = chosen.hunks.filter((hunk) => hunk.category).map((hunk) => ({ chars: hunk.original.chars, category: hunk.category }));
    try {
      const { progress } = await ask("submit", { item: item.item, version: item.version, answer: chosen.answer, revised: chosen.revised, categories,
        swapped: chosen.preference === "corrected", reason: chosen.reason ?? "", seconds: 0, adjudicated: true });
      showProgress(progress);
      toast(`${chosen.annotator}'s answer counts`);
      await showDisputed(item.index);
    } catch (error) {
      failed(error);
      if (error.status === 409) await showDisputed();
    }
  };
  const further = (chosen) => goTo(item.index, { adjudicated: true, version: item.version, begun: { revised: chosen.revised, swapped: chosen.preference === "corrected",
    reason: chosen.reason ?? "", categories: chosen.hunks.filter((hunk) => hunk.category).map((hunk) => ({ chars: hunk.original.chars, category: hunk.category })) } });
  const card = (chosen, number) => el("article", { class: "card" },
    el("h2", {}, `${chosen.annotator}: ${chosen.answer}${chosen.adjudicated ? " (decided before)" : ""}`),
    chosen.change ? el("div", { class: "text diff", dir: "auto" }, diffNodes(chosen.change.segments)) : el("p", { class: "soft" }, "skipped"),
    el("p", { class: "soft" }, [`${chosen.words_changed} words changed, ${percent(chosen.share_changed, 1)}`,
      chosen.preference === "corrected" ? "preference corrected" : null, chosen.reason ? `reason: ${chosen.reason}` : null,
      ...chosen.hunks.filter((hunk) => hunk.category).map((hunk) => hunk.category)].filter(Boolean).join(" · ")),
    el("div", { class: "row filters" },
      el("button", { type: "button", class: "primary", "data-take": number, onclick: () => take(chosen) }, "Take this ", el("kbd", {}, `${number + 1}`)),
      chosen.revised ? el("button", { type: "button", onclick: () => further(chosen) }, "Edit further") : null));
  const text = (title, said) => el("article", { class: "card" }, el("h2", {}, title), el("div", { class: "text clipped", dir: "auto", tabindex: "0" }, said));
  view.replaceChildren(el("div", { class: "page" },
    el("p", { class: "soft" }, `${said.disputed} to decide · item ${item.index + 1} `, el("button", { type: "button", class: "quiet small", onclick: () => showDisputed(item.index).catch(failed) }, "Later")),
    el("div", { class: "three" }, text("Prompt", item.prompt), text("Preferred", item.preferred), text("Less preferred, as it was", item.original)),
    el("div", { class: "two" }, item.answers.map(card))));
  for (const clipped of view.querySelectorAll(".clipped")) clipped.scrollTop = clipped.scrollHeight;
}

async function showQuality() {
  const found = await ask("quality");
  const { agreement } = found;
  const shown = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));
  const figure = (value, name) => el("div", { class: "figure" }, el("b", {}, value), el("span", {}, name));
  const card = (title, ...inside) => el("article", { class: "card" }, el("h2", {}, title), inside);
  const bars = (rows) => {
    const most = Math.max(1, ...rows.map(([, count]) => count));
    return el("div", { class: "bars" }, rows.flatMap(([name, count]) => [el("span", {}, name),
      el("meter", { min: 0, max: most, value: count, "aria-label": `${name}: ${count}` }), el("span", {}, `${count}`)]));
  };
  const table = (head, rows) => el("div", { class: "scroll" }, el("table", {},
    head.length ? el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: i ? "num" : null }, name)))) : null,
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: i ? "num" : "cut" }, cell)))))));
  const sizes = ["≤ 5 %", "≤ 10 %", "≤ 20 %", "≤ 30 %", "≤ 50 %", "more"].map((name, i) => [name, found.sizes[i]]);
  const goes = (item) => (item.index === null ? item.item : el("button", { type: "button", class: "quiet small", onclick: () => goTo(item.index) }, `${item.index + 1}`));
  $("view-quality").replaceChildren(el("div", { class: "page" },
    el("div", { class: "figures" },
      figure(`${found.answers} / ${found.wanted}`, "answers"), figure(`${found.answered} / ${found.items}`, "items answered"),
      figure(found.seconds ? `${found.seconds[1].toFixed(0)} s` : "–", "an answer (median)"),
      figure(found.share_changed ? percent(found.share_changed[1], 1) : "–", "of words changed (median)"),
      figure(shown(agreement.alpha), "Krippendorff's alpha, token labels"), figure(shown(agreement.span_f1), "span F1")),
    el("div", { class: "two" },
      card("Answers", bars([["edited", found.edited], ["already good", found.good], ["skipped", found.skipped], ["rewrites", found.rewrites], ["preference corrected", found.corrected]])),
      card("Sizes of edits, words changed", bars(sizes)),
      card("Changes by category", found.edited ? bars(Object.entries(found.categories)) : el("p", { class: "soft" }, "None yet.")),
      card("Agreement", table([], [["items with several answers", `${agreement.items}`], ["tokens compared", `${agreement.tokens}`],
        ["alpha of labels U, D, S", shown(agreement.alpha, 3)], ["alpha, changed or not", shown(agreement.alpha_changed, 3)],
        ["F1 of changed places", shown(agreement.span_f1, 3)], ["F1 of changed tokens", shown(agreement.token_f1, 3)], ["to decide", `${found.disputed}`]]))),
    card("Annotators", table(["name", "answers", "edited", "good", "skipped", "median seconds", "words an edit", "share"], found.annotators.map((one) =>
      [one.name, `${one.answers}`, `${one.edited}`, `${one.good}`, `${one.skipped}`, shown(one.seconds, 0), shown(one.words_changed, 1), one.share_changed === null ? "–" : percent(one.share_changed, 1)]))),
    card("Least agreed", found.worst.length ? table(["prompt", "item", "annotators", "F1 places", "F1 tokens"], found.worst.map((item) =>
      [item.prompt, goes(item), item.annotators.join(", "), shown(item.span_f1), shown(item.token_f1)])) : el("p", { class: "soft" }, "None.")),
    card("Skipped", found.skips.length ? table(["reason", "annotator"], found.skips.map((skip) => [skip.reason, skip.annotator])) : el("p", { class: "soft" }, "None."))));
}
