// Elements, requests, what is announced. Texts of others only ever become text nodes.

const base = location.pathname.replace(/\/?$/, "/");
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const state = {
  session: null,
  name: "",
  view: "edit",
  item: null,
  visited: [],
};

class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    Object.assign(this, { status, body });
  }
}

async function ask(what, body, options) {
  const request = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ annotator: state.name, ...body }),
    ...options,
  };
  let answer;
  try {
    answer = await fetch(`${base}api/${what}`, request);
  } catch {
    throw new Refused(0, { error: "the server does not answer" });
  }
  const said = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function announce(text) {
  // The same words twice are read twice only when they change in between.
  $("live").textContent = "";
  setTimeout(() => { $("live").textContent = text; }, 30);
}

let toasting;
function toast(text) {
  announce(text);
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { $("toast").hidden = true; }, 2200);
}

function failed(error) {
  toast(error.message);
}

function openDialog(title, body, onclose) {
  const dialog = $("dialog");
  if (dialog.open) dialog.close();
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body);
  dialog.onclose = () => onclose?.();
  dialog.oncancel = null;
  dialog.showModal();
  return dialog;
}

const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

// White space that was changed, and what has no shape of its own, as signs. Reads like the text otherwise.
const SIGNS = { " ": "·", "\n": "⏎\n", "\t": "⇥", "\r": "␍", "\u00a0": "⍽" };
// eslint-disable-next-line no-control-regex, no-misleading-character-class
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;
function visible(text) {
  const inner = text.trim();
  const start = inner === "" ? text.length : text.indexOf(inner);
  const end = inner === "" ? 0 : start + inner.length;
  const parts = [];
  let plain = "";
  const sign = (shown) => {
    if (plain) parts.push(plain);
    plain = "";
    parts.push(el("span", { class: "ws" }, shown));
  };
  let at = 0;
  for (const char of text) {
    const outside = at < start || at >= end;
    at += char.length;
    if (SIGNS[char] && (outside || char !== " ")) sign(SIGNS[char]);
    else if (UNSEEN.test(char)) sign(`⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
    else plain += char;
  }
  if (plain) parts.push(plain);
  return parts;
}

function changeNodes(deleted, added) {
  return [
    deleted ? el("del", { dir: "auto" }, visible(deleted)) : null,
    added ? el("ins", { dir: "auto" }, visible(added)) : null,
  ].filter(Boolean);
}

// A text with its changes, for reading; `hunk` makes what stands for one change.
function diffNodes(segments, hunk) {
  return segments.map((segment) => segment.same !== undefined
    ? document.createTextNode(segment.same)
    : (hunk?.(segment) ?? el("span", {}, changeNodes(segment.deleted, segment.added))));
}

function showProgress(progress) {
  if (!progress) return;
  $("bar").max = Math.max(1, progress.wanted);
  $("bar").value = Math.min(progress.answers, progress.wanted);
  $("progress").textContent = `${progress.answers} of ${progress.wanted} · ${progress.mine} by you`;
  $("disputed").hidden = progress.disputed === 0;
  $("disputed").textContent = progress.disputed;
}
