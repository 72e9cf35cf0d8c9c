// Keys, buttons, and how it begins.

const KEYS = [
  ["Control+Enter", "Submit the edit", () => answer("edited")],
  ["Alt+G", "Already good, no edit needed", () => answer("good")],
  ["Alt+S", "Skip, with a reason", askSkip],
  ["Alt+P", "The preference is the wrong way round: edit the other response", swap],
  ["Alt+ArrowDown", "Next change", () => moveHunk(1)],
  ["Alt+ArrowUp", "Previous change", () => moveHunk(-1)],
  ["Alt+1 – 9", "Category of the current change", null],
  ["Alt+R", "Revert the current change", () => revert(edit.current)],
  ["Control+Z", "Undo", () => undo(-1)],
  ["Control+Y", "Redo (also Ctrl+Shift+Z)", () => undo(1)],
  ["Control+Shift+Z", null, () => undo(1)],
  ["Alt+E", "To the editor", () => $("text").focus()],
  ["Alt+T", "Token labels", toggleLabels],
  ["Alt+H", "Hide or show the preferred response", togglePreferred],
  ["Alt+Comma", "Previous item", () => goBy(-1)],
  ["Alt+Period", "Next item", () => goBy(1)],
  ["Alt+I", "List of items", () => openView("items"), true],
  ["Alt+A", "Adjudicate; there 1, 2, … take an answer", () => openView("adjudicate"), true],
  ["Alt+Q", "Quality", () => openView("quality"), true],
  ["Alt+W", "Back to the work", () => openView("edit"), true],
  ["Alt+Slash", "This help (also F1, or ? outside of texts)", showHelp, true],
];

// By the key's place, not its letter: with Alt some keyboards write others.
function nameOf(event) {
  const key = event.code.replace(/^(Key|Digit)/, "").replace("NumpadEnter", "Enter");
  return [event.ctrlKey || event.metaKey ? "Control+" : "", event.altKey ? "Alt+" : "", event.shiftKey && key === "Z" ? "Shift+" : "", key].join("");
}

document.addEventListener("keydown", (event) => {
  lastActive = Date.now();
  if (event.isComposing || $("dialog").open) return;
  const writes = /^(TEXTAREA|INPUT|SELECT)$/.test(event.target.tagName);
  const name = nameOf(event);
  if (name === "F1" || (event.key === "?" && !writes)) {
    event.preventDefault();
    return showHelp();
  }
  const plain = /^[1-9]$/.test(name) && !writes;
  if (plain && state.view === "adjudicate") return document.querySelector(`[data-take="${name - 1}"]`)?.click();
  const here = state.view === "edit" && state.item;
  const digit = /^Alt\+([1-9])$/.exec(name);
  if (digit && here) {
    event.preventDefault();
    const category = state.session.categories[digit[1] - 1];
    if (edit.current < 0 && edit.change?.hunks.length) select(edit.change.hunks.length === 1 ? 0 : nearest());
    if (category && edit.current >= 0) categorise(edit.current, category);
    return;
  }
  const found = KEYS.find(([key, , run]) => key === name && run);
  if (!found || !(here || found[3])) return;
  // The reason for a rewrite has its own undo.
  if (/Z$|Y$/.test(name) && writes && event.target !== $("text")) return;
  event.preventDefault();
  found[2]();
});

// The change that the caret stands in or nearest to.
function nearest() {
  const at = Array.from($("text").value.slice(0, $("text").selectionStart)).length;
  const away = (hunk) => Math.max(hunk.edited.chars[0] - at, at - hunk.edited.chars[1], 0);
  const all = edit.change.hunks.map(away);
  return all.indexOf(Math.min(...all));
}

function showHelp() {
  const words = { Control: "Ctrl", ArrowDown: "↓", ArrowUp: "↑", Comma: ",", Period: ".", Slash: "/", Enter: "⏎" };
  const row = ([key, what]) => [el("dt", {}, key.split("+").map((part) => el("kbd", {}, words[part] ?? part))), el("dd", {}, what)];
  openDialog("Keys", [
    el("p", { class: "soft" }, "Edit the copy as little as possible, until it would be preferred. Every change is saved within a second."),
    el("dl", { class: "keys" }, KEYS.filter(([, what]) => what).flatMap(row)),
    el("div", { class: "row" }, el("button", { type: "button", class: "primary", onclick: () => $("dialog").close() }, "Close")),
  ]);
}

function showGuideline() {
  openDialog(`Guideline ${state.session.guideline}`, [el("div", { class: "text", dir: "auto" }, state.session.instructions),
    el("div", { class: "row" }, el("button", { type: "button", class: "primary", onclick: () => $("dialog").close() }, "Close"))]);
}

function togglePreferred() {
  const hidden = !$("preferred").hidden;
  $("preferred").hidden = hidden;
  $("hide").textContent = hidden ? "Show" : "Hide";
  $("hide").setAttribute("aria-expanded", !hidden);
}

$("text").addEventListener("input", () => step({ text: written() }, true));
$("text").addEventListener("beforeinput", (event) => {
  if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
  event.preventDefault();
  undo(event.inputType === "historyUndo" ? -1 : 1);
});
$("reason").addEventListener("input", () => {
  edit.reason = $("reason").value;
  touched();
});
for (const [id, run] of Object.entries({
  undo: () => undo(-1),
  redo: () => undo(1),
  reset: () => edit.text !== original() && step({ text: original(), categories: [] }, false),
  swap,
  hide: togglePreferred,
  tokens: toggleLabels,
  skip: askSkip,
  good: () => answer("good"),
  submit: () => answer("edited"),
  previous: () => goBy(-1),
  following: () => goBy(1),
  help: showHelp,
  guideline: showGuideline,
  who: () => !state.session.owned && askName(),
  more: () => {
    const open = $("prompt").classList.toggle("clipped") === false;
    $("more").textContent = open ? "Show less" : "Show all";
    $("more").setAttribute("aria-expanded", open);
  },
})) $(id).addEventListener("click", run);
for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => openView(button.dataset.view));
for (const kind of ["pointerdown", "wheel"]) document.addEventListener(kind, () => { lastActive = Date.now(); }, { passive: true });
document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && save({ keepalive: true }));
window.addEventListener("pagehide", () => save({ keepalive: true }));

function askName() {
  const input = el("input", { type: "text", id: "name", maxlength: "60", autocomplete: "nickname", value: state.name });
  const error = el("p", { class: "error", role: "alert" });
  const form = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    const before = state.name;
    if (edit.dirty) await save();
    state.name = input.value.trim();
    try {
      const session = await ask("session", {});
      if (!session.annotator) throw new Error("A name of one line is needed.");
      localStorage.setItem(`runner annotate ${base}`, state.name);
      dialog.oncancel = null;
      dialog.close();
      state.item = null;
      enter(session);
    } catch (problem) {
      state.name = before;
      error.textContent = problem.message;
      input.focus();
    }
  } },
  el("label", { for: "name" }, "Your name stands with everything that you edit."), input, error,
  el("div", { class: "row" }, el("button", { class: "primary", id: "begin" }, "Begin")));
  const dialog = openDialog("Who are you?", [form]);
  if (!state.name) dialog.oncancel = (event) => event.preventDefault();
  input.focus();
}

function enter(session) {
  state.session = session;
  state.name = session.annotator;
  document.title = `Annotate ${session.title}`;
  $("title").textContent = session.title;
  $("who").textContent = session.annotator;
  $("who").disabled = session.owned;
  $("guideline").hidden = !session.instructions;
  showProgress(session.progress);
  goNext();
}

(async () => {
  try {
    state.name = localStorage.getItem(`runner annotate ${base}`) ?? "";
    const session = await ask("session", {});
    state.session = session;
    $("title").textContent = session.title;
    if (session.annotator) enter(session);
    else askName();
  } catch (error) { failed(error); }
})();
