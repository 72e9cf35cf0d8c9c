// The editor: one item, its text with undo, the live diff, saving, answers.

const HISTORY = 500;
const edit = {
  text: "",
  swapped: false,
  categories: [],
  reason: "",
  history: [],
  at: 0,
  change: null,
  current: -1,
  asked: 0,
  shown: 0,
  seconds: 0,
  labels: false,
  crlf: false,
  adjudicated: false,
  dirty: false,
  saving: false,
};
let lastTyped = 0;
let lastActive = Date.now();

const original = () => (edit.swapped ? state.item.preferred : state.item.original);
const written = () => (edit.crlf ? $("text").value.replace(/\r?\n/g, "\r\n") : $("text").value);
const backup = () => `runner annotate ${base} ${state.name} ${state.item.item}`;

function showItem(said, more) {
  showProgress(said.progress);
  state.item = said.item;
  if (!said.item) return showDone();
  const item = said.item;
  Object.assign(edit, { swapped: false, categories: [], reason: "", history: [], at: 0, change: null, current: -1, seconds: 0,
    adjudicated: false, dirty: false }, more);
  item.version = more?.version ?? item.version;
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(backup())); } catch { /* nothing was kept */ }
  const answer = item.answer;
  const before = kept ?? item.draft ?? (answer && {
    revised: answer.revised ?? answer.rejected,
    swapped: answer.preference === "corrected",
    categories: answer.hunks.filter((hunk) => hunk.category).map((hunk) => ({ chars: hunk.original.chars, category: hunk.category })),
    reason: answer.answer === "edited" ? answer.reason ?? "" : "",
    seconds: answer.seconds,
  });
  const begun = more?.begun ?? before;
  if (begun) {
    Object.assign(edit, { swapped: begun.swapped ?? false, categories: begun.categories ?? [], reason: begun.reason ?? "", seconds: begun.seconds ?? 0 });
  }
  edit.crlf = /\r\n/.test(original());
  edit.text = begun?.revised ?? original();
  edit.history = [{ text: edit.text, swapped: edit.swapped, categories: edit.categories }];
  showView("edit");
  $("prompt").textContent = item.prompt;
  $("prompt").classList.add("clipped");
  $("more").setAttribute("aria-expanded", "false");
  $("more").textContent = "Show all";
  requestAnimationFrame(() => {
    // A question stands behind its context.
    $("prompt").scrollTop = $("prompt").scrollHeight;
    $("more").hidden = $("prompt").scrollHeight <= $("prompt").clientHeight + 2;
  });
  $("place").textContent = `Item ${item.index + 1} of ${state.session.items}`;
  showNotice();
  showSides();
  put(edit.text);
  clearChange();
  $("reason").value = edit.reason;
  saved(kept ? "dirty" : begun && item.draft ? "saved" : "none", kept ? null : item.draft?.time);
  if (kept) touched();
  requestDiff(0);
  announce(`Item ${item.index + 1}`);
  window.scrollTo(0, 0);
  if (matchMedia("(hover: hover)").matches) $("text").focus({ preventScroll: true });
}

function showNotice() {
  const { item } = state;
  const notice = $("notice");
  notice.hidden = !(item.held_by || item.answer || edit.adjudicated);
  if (edit.adjudicated) notice.textContent = "You decide between the annotators of this item: what you submit is what counts.";
  else if (item.held_by) notice.textContent = `${item.held_by} has this item. What you submit is kept beside theirs.`;
  else if (item.answer) notice.textContent = `You answered this before (${item.answer.answer}). Submitting again replaces it.`;
}

function showSides() {
  const { item } = state;
  $("preferred").textContent = edit.swapped ? item.original : item.preferred;
  $("original").textContent = original();
  $("swap").setAttribute("aria-pressed", edit.swapped);
  $("swap").textContent = edit.swapped ? "Preference corrected: undo" : "This one is better";
}

function showDone() {
  showView("done");
  const { progress } = state.session;
  $("done-text").textContent = `${progress?.mine ?? 0} answers are yours. Items that others have open may come back later: reload then.`;
  $("view-done").querySelector("h2").focus();
  saved("none");
}

function put(text) {
  $("text").value = text;
  fit();
  $("undo").disabled = edit.at === 0;
  $("redo").disabled = edit.at >= edit.history.length - 1;
}

// Browsers that do not size a text area by its content.
function fit() {
  if (CSS.supports("field-sizing", "content")) return;
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 4}px`;
}

// A new state of the text, categories and sides; typing without a pause is one step.
function step(next, typed) {
  const now = Date.now();
  const joins = typed && now - lastTyped < 700 && edit.at > 0 && edit.history[edit.at].typed && !/\s$/.test(next.text.slice(0, $("text").selectionStart));
  lastTyped = typed ? now : 0;
  edit.history.length = edit.at + 1;
  const entry = { text: edit.text, swapped: edit.swapped, categories: edit.categories, ...next, typed };
  if (joins) edit.history[edit.at] = entry;
  else edit.history.push(entry);
  if (edit.history.length > HISTORY) edit.history.shift();
  edit.at = edit.history.length - 1;
  restore(entry, typed);
}

function restore(entry, typed) {
  const turned = entry.swapped !== edit.swapped;
  Object.assign(edit, { text: entry.text, swapped: entry.swapped, categories: entry.categories });
  if (!typed) {
    const caret = $("text").selectionStart;
    put(entry.text);
    $("text").setSelectionRange(caret, caret);
  } else {
    put(written());
  }
  if (turned) {
    edit.crlf = /\r\n/.test(original());
    showSides();
  }
  touched();
  requestDiff(typed ? 120 : 0);
}

function undo(by) {
  const at = edit.at + by;
  if (at < 0 || at >= edit.history.length) return;
  edit.at = at;
  lastTyped = 0;
  restore(edit.history[at], false);
  announce(by < 0 ? "undone" : "done again");
}

// The live diff, from the code that makes the labels. Answers that come late are dropped.
let waiting;
function requestDiff(delay) {
  clearTimeout(waiting);
  waiting = setTimeout(fetchDiff, delay);
}

async function fetchDiff() {
  clearTimeout(waiting);
  if (!state.item) return;
  const [number, item, text] = [++edit.asked, state.item, edit.text];
  try {
    const change = await ask("diff", { item: item.item, swapped: edit.swapped, revised: text });
    if (number < edit.shown || item !== state.item) return;
    edit.shown = number;
    if (text === edit.text) showChange(change);
  } catch (error) {
    if (error.status === 0) setTimeout(() => requestDiff(0), 1000);
    else failed(error);
  }
}

// Until the diff of this item is here, nothing of the one before is shown, and the button waits.
function clearChange() {
  for (const id of ["counters", "hunks", "labels"]) $(id).replaceChildren();
  $("diff").textContent = edit.text;
  $("rewrite").hidden = true;
  $("submit").disabled = true;
}

function showChange(change) {
  // A category stays with its place in the original, or with the change that took that place in.
  const touches = (a, b) => a[0] <= b[1] && b[0] <= a[1];
  const same = (a, b) => a[0] === b[0] && a[1] === b[1];
  edit.change = change;
  edit.categories = change.hunks.flatMap((hunk) => {
    const place = hunk.original.chars;
    const found = edit.categories.find((c) => same(c.chars, place)) ?? edit.categories.find((c) => touches(c.chars, place));
    return found ? [{ chars: place, category: found.category }] : [];
  });
  edit.current = Math.min(edit.current, change.hunks.length - 1);
  showCounters();
  $("diff").replaceChildren(...diffNodes(change.segments, hunkNode));
  $("hunks").replaceChildren(...change.hunks.map(hunkRow));
  markCurrent();
  if (edit.labels) showLabels();
}

function showCounters() {
  const { change } = edit;
  const words = `${change.words_changed} of ${change.words}`;
  const b = (text) => el("b", {}, text);
  const unit = state.session.unit === "token" ? [" · tokens touched ", b(change.tokens_touched)] : [];
  $("counters").replaceChildren("words changed ", b(words), ...unit, " · ", b(percent(change.share_changed, 1)));
  const rewrite = change.share_changed > state.session.rewrite_share;
  if (rewrite) $("rewrite-share").textContent = `${percent(change.share_changed)} of the words are changed, more than ${percent(state.session.rewrite_share)}.`;
  $("rewrite").hidden = !rewrite;
  $("submit").disabled = change.hunks.length === 0;
}

function hunkNode(segment) {
  const number = segment.hunk;
  const press = (event) => {
    if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    revert(number);
  };
  const name = `change ${number + 1}: ${spoken(segment)}; revert`;
  return el("span", { class: "hunk", role: "button", tabindex: "0", "data-hunk": number, "aria-label": name, title: "Click to revert", onclick: press,
    onkeydown: press, onfocus: () => select(number) }, changeNodes(segment.deleted, segment.added));
}

function spoken({ deleted, added }) {
  const word = (text) => (text.trim() === "" ? "white space" : `“${text.trim()}”`);
  if (!deleted) return `${word(added)} added`;
  if (!added) return `${word(deleted)} deleted`;
  return `${word(deleted)} replaced by ${word(added)}`;
}

function hunkRow(hunk, number) {
  const [deleted, added] = [hunk.original.text, hunk.edited.text];
  const [removed, put] = [deleted && el("del", { dir: "auto" }, visible(deleted)), added && el("ins", { dir: "auto" }, visible(added))];
  const alike = deleted !== added && deleted.normalize() === added.normalize();
  const note = alike ? el("em", {}, " looks the same, other code points") : (deleted + added).trim() === "" ? el("em", {}, " white space") : null;
  const what = el("span", { class: "what" }, ...[removed, removed && put ? el("span", { class: "arrow" }, "→") : null, put, note].filter(Boolean));
  const back = el("button", { type: "button", class: "quiet small", onclick: () => revert(number), "aria-label": `Revert change ${number + 1}` }, "Revert");
  const chosen = edit.categories.find((c) => c.chars[0] === hunk.original.chars[0] && c.chars[1] === hunk.original.chars[1])?.category;
  const chips = state.session.categories.map((category, i) => el("label", {},
    el("input", { type: "radio", name: `category-${number}`, value: category, checked: category === chosen,
      onclick: () => categorise(number, category), onfocus: () => select(number) }),
    i < 9 ? el("i", { "aria-hidden": "true" }, `${i + 1}`) : "", category));
  const set = chips.length ? el("fieldset", { class: "chips" }, el("legend", { class: "unseen" }, `What was wrong at change ${number + 1}`), chips) : null;
  return el("li", { "data-hunk": number, onclick: () => select(number) }, el("span", { class: "n" }, `${number + 1}`), what, back, set);
}

function select(number) {
  edit.current = number;
  markCurrent();
}

function markCurrent() {
  for (const node of document.querySelectorAll("[data-hunk]")) {
    node.setAttribute("aria-current", Number(node.dataset.hunk) === edit.current);
  }
}

function moveHunk(by) {
  const count = edit.change?.hunks.length ?? 0;
  if (count === 0) return announce("no changes");
  select(edit.current < 0 ? (by > 0 ? 0 : count - 1) : (edit.current + by + count) % count);
  $("hunks").children[edit.current].scrollIntoView({ block: "nearest" });
  announce(`change ${edit.current + 1} of ${count}: ${spoken({ deleted: edit.change.hunks[edit.current].original.text, added: edit.change.hunks[edit.current].edited.text })}`);
}

// Choosing the same again takes it back.
function categorise(number, category) {
  const hunk = edit.change?.hunks[number];
  if (!hunk) return;
  const place = hunk.original.chars;
  const others = edit.categories.filter((c) => c.chars[0] !== place[0] || c.chars[1] !== place[1]);
  const had = edit.categories.find((c) => !others.includes(c))?.category;
  const categories = had === category ? others : [...others, { chars: place, category }];
  edit.current = number;
  step({ categories }, false);
  announce(had === category ? `change ${number + 1}: no category` : `change ${number + 1}: ${category}`);
}

// Code points, as the server counts; a text of this page is in units of UTF-16.
function revert(number) {
  const hunk = edit.change?.hunks[number];
  if (!hunk || edit.text !== written()) return;
  const chars = Array.from(edit.text);
  const text = chars.slice(0, hunk.edited.chars[0]).join("") + hunk.original.text + chars.slice(hunk.edited.chars[1]).join("");
  step({ text }, false);
  $("text").focus({ preventScroll: true });
  announce(`change ${number + 1} reverted`);
}

function showLabels() {
  const name = state.session.unit === "token" ? "tokens" : "words";
  const side = (pieces, title, kind) => el("div", { class: kind, dir: "auto" }, el("h3", {}, `${title}, ${name}`), pieces.map(([text, labels]) => {
    if (!labels) return document.createTextNode(text);
    const worst = [...labels].find((label) => label !== "U") ?? "U";
    return el("span", { class: `token ${worst}`, title: labels }, text.replace(/\n/g, "⏎\n"), el("sub", {}, labels));
  }));
  $("labels").replaceChildren(side(edit.change.labels[0], "Original", "before"), side(edit.change.labels[1], "Edited", "edited"));
}

function toggleLabels() {
  edit.labels = !edit.labels;
  $("tokens").setAttribute("aria-expanded", edit.labels);
  $("labels").hidden = !edit.labels;
  if (edit.labels && edit.change) showLabels();
}

function swap() {
  const swapped = !edit.swapped;
  step({ text: swapped ? state.item.preferred : state.item.original, swapped, categories: [] }, false);
  toast(swapped ? "Preference corrected: you now edit the other response" : "The preference stands as it was");
}

// Saving: at most a second after a change, and again until it works. What is not saved yet is kept by the browser too.
let saver;
function draft() {
  const { categories, reason, seconds, swapped, text } = edit;
  return { item: state.item.item, revised: text, swapped, categories, reason, seconds };
}

function touched() {
  edit.dirty = true;
  saved("dirty");
  try { localStorage.setItem(backup(), JSON.stringify(draft())); } catch { /* the server keeps it in a second */ }
  saver ??= setTimeout(save, 800);
}

async function save(options) {
  clearTimeout(saver);
  saver = null;
  if (!edit.dirty || !state.item) return true;
  if (edit.saving) {
    saver = setTimeout(save, 100);
    return false;
  }
  const [item, key] = [state.item, backup()];
  edit.dirty = false;
  edit.saving = true;
  saved("saving");
  try {
    const said = await ask("draft", draft(), options);
    if (!edit.dirty) {
      localStorage.removeItem(key);
      if (item === state.item) saved("saved", said.saved);
    }
    return true;
  } catch (error) {
    if (item === state.item) {
      edit.dirty = true;
      saved("failed", null, error.message);
      saver ??= setTimeout(save, 1000);
    }
    return false;
  } finally {
    edit.saving = false;
  }
}

function saved(how, time, why) {
  const node = $("save");
  const clock = time ? new Date(time).toLocaleTimeString() : "";
  const words = { none: "No changes", dirty: "Unsaved changes", saving: "Saving …", saved: `Saved ${clock}`.trim(), failed: `Not saved: ${why}. Trying again` };
  if (how === "failed" && node.dataset.state !== "failed") announce(words.failed);
  if (how === "saved" && node.dataset.was === "failed") announce("saved again");
  if (how === "saved" || how === "failed") node.dataset.was = how;
  node.dataset.state = how;
  node.textContent = words[how];
}

async function answer(kind, reason, version) {
  if (!state.item || edit.answering) return;
  if (kind === "edited" && !$("rewrite").hidden && !edit.reason.trim()) {
    $("reason").focus();
    return toast("A rewrite needs a reason");
  }
  edit.answering = true;
  const item = state.item;
  const { adjudicated } = edit;
  const said = { ...draft(), answer: kind, adjudicated, version: version ?? item.version, reason: reason ?? (kind === "edited" ? edit.reason : "") };
  try {
    const { progress } = await ask("submit", said);
    clearTimeout(saver);
    saver = null;
    edit.dirty = false;
    localStorage.removeItem(backup());
    state.session.progress = progress;
    toast({ edited: "Edit submitted", good: "Kept as already good", skipped: "Skipped" }[kind]);
    if (adjudicated) return await showView("adjudicate");
    await goNext(item.index);
  } catch (error) {
    if (error.status === 409) conflict(error.body, kind, said);
    else failed(error);
  } finally {
    edit.answering = false;
  }
}

// Somebody else answered the same item: both are shown, and nothing is lost unless one says so.
async function conflict({ theirs, version }, kind, mine) {
  const shown = async (revised, swapped) => (revised === null || revised === undefined ? el("p", { class: "soft" }, "skipped")
    : el("div", { class: "text diff", dir: "auto" }, diffNodes((await ask("diff", { item: mine.item, swapped, revised })).segments)));
  const [other, own] = await Promise.all([
    shown(theirs.revised, theirs.preference === "corrected"),
    shown(kind === "skipped" ? null : kind === "good" ? original() : mine.revised, mine.swapped),
  ]);
  const who = theirs.annotator === state.name ? "You, in another window" : theirs.annotator;
  const close = () => $("dialog").close();
  openDialog(`${who} answered this item meanwhile`, [
    el("div", { class: "two" },
      el("div", {}, el("h3", {}, `${who}: ${theirs.answer}`), other, theirs.reason ? el("p", { class: "soft" }, theirs.reason) : null),
      el("div", {}, el("h3", {}, `You, here: ${kind}`), own)),
    el("div", { class: "row" },
      el("button", { type: "button", onclick: close }, "Keep editing"),
      el("button", { type: "button", id: "keep-theirs", onclick: async () => {
        close();
        localStorage.removeItem(backup());
        edit.dirty = false;
        await goNext(state.item.index);
      } }, "Keep that, drop mine"),
      el("button", { type: "button", class: "primary", id: "submit-mine", onclick: () => {
        close();
        answer(kind, mine.reason, version);
      } }, theirs.annotator === state.name ? "Replace it by mine" : "Submit mine beside it")),
  ]);
}

function askSkip() {
  const input = el("input", { type: "text", id: "skip-reason", maxlength: "500", autocomplete: "off", list: "reasons" });
  const error = el("p", { class: "error", role: "alert" });
  const form = el("form", { method: "dialog", onsubmit: (event) => {
    if (!input.value.trim()) {
      event.preventDefault();
      error.textContent = "A reason is needed.";
      input.focus();
    } else {
      answer("skipped", input.value.trim());
    }
  } },
  el("label", { for: "skip-reason" }, "Why can this one not be answered?"), input,
  el("datalist", { id: "reasons" }, ["The prompt is unclear", "Nothing of it can stay", "I cannot judge this", "Not in my language"].map((value) => el("option", { value }))),
  error,
  el("div", { class: "row" }, el("button", { type: "button", onclick: () => $("dialog").close() }, "Cancel"), el("button", { class: "primary", id: "skip-confirm" }, "Skip")));
  openDialog("Skip this item", [form], () => $("text").focus());
  input.focus();
}

async function leave() {
  if (edit.dirty) await save();
  if (state.item && !edit.history.slice(1).length) ask("release", { item: state.item.item }).catch(() => {});
}

async function goNext(after) {
  try {
    if (state.item && !state.visited.includes(state.item.index)) state.visited.push(state.item.index);
    showItem(await ask("next", { after }));
  } catch (error) { failed(error); }
}

async function goTo(index, more) {
  try {
    await leave();
    showItem(await ask("open", { index }), more);
  } catch (error) { failed(error); }
}

function goBy(by) {
  if (!state.item) return;
  const index = state.item.index + by;
  if (index < 0 || index >= state.session.items) return announce("no item there");
  goTo(index);
}

setInterval(() => {
  if (state.view === "edit" && state.item && document.visibilityState === "visible" && Date.now() - lastActive < 60000) edit.seconds += 1;
}, 1000);
// Whoever reads for long keeps the item.
setInterval(() => {
  if (state.view === "edit" && state.item && Date.now() - lastActive < 60000) ask("open", { index: state.item.index }).catch(() => {});
}, 120000);
