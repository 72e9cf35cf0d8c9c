"""Scenarios of `tests/annotate.rs`: annotate.py SCENARIO RUNNER QA_FEEDBACK, in an empty folder."""

import atexit
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from playwright.sync_api import expect, sync_playwright

SCENARIO, RUNNER, QA_FEEDBACK = sys.argv[1:]
OUT = "edits.jsonl"
SHOTS = os.environ.get("RUNNER_SCREENSHOTS")


class Server:
    """`runner annotate` with its address."""

    def __init__(self, *arguments, pairs=None):
        if pairs is not None:
            write_rows("pairs.jsonl", pairs)
            arguments = ("--input", "pairs.jsonl", "--out", OUT, *arguments)
        self.arguments = arguments
        # A scenario that fails leaves nobody behind who keeps its output open.
        atexit.register(self.kill)
        self.start()

    def start(self):
        with open("server.log", "a") as log:
            self.process = subprocess.Popen([RUNNER, "annotate", *self.arguments], stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline().strip()
        assert "http://127.0.0.1:" in line, f"expected an address, found {line!r}"
        self.addresses = [line.rsplit(" ", 1)[-1]]
        while "--annotators" in self.arguments and len(self.addresses) < self.arguments[self.arguments.index("--annotators") + 1].count(",") + 1:
            self.addresses.append(self.process.stdout.readline().strip().rsplit(" ", 1)[-1])
        self.address = self.addresses[0]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, what, annotator="x", **body):
        """A request past the page: the answer, or its status and body."""
        data = json.dumps({"annotator": annotator, **body}).encode()
        request = urllib.request.Request(f"{self.address}api/{what}", data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def write_rows(path, rows):
    pathlib.Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(path, kind=None):
    lines = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if kind is None or line["type"] == kind]


def run(*arguments):
    done = subprocess.run([RUNNER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def pair(i, rejected=None):
    return {"id": i, "prompt": f"Where is item {i}?", "chosen": f"item {i} is near the river .",
            "rejected": rejected or f"ugh , item {i} is cheap and far from the river ."}


# Milliseconds that a busy machine is given: what happens is tested here, not how soon.
PATIENCE = 120_000
expect.set_options(timeout=PATIENCE)


class Browser:
    """Chromium, with a page for each annotator. Fails on errors of a page and on requests to elsewhere."""

    def __init__(self, play):
        self.browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        self.problems = []

    def page(self, address, name=None, **options):
        context = self.browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda said: said.type == "error" and "Failed to load resource" not in said.text and self.problems.append(said.text))
        home = address.split("/")[2]
        page.on("request", lambda request: request.url.split("/")[2:3] not in ([home], []) and not request.url.startswith("data:")
                and self.problems.append(f"asked {request.url}"))
        page.goto(address)
        if name:
            page.fill("#name", name)
            page.click("#begin")
            page.wait_for_selector("#view-edit:not([hidden]), #view-done:not([hidden])")
        return page

    def close(self):
        assert not self.problems, self.problems
        self.browser.close()


def shot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def text(page):
    return page.input_value("#text")


def write(page, said):
    """Replaces the text as typing would."""
    page.focus("#text")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(said)


def settled(page, hunks):
    expect(page.locator("#hunks > li")).to_have_count(hunks)


def saved(page):
    expect(page.locator("#save")).to_have_attribute("data-state", "saved")


def at_item(page, number):
    expect(page.locator("#place")).to_contain_text(f"Item {number} of")


def pieces(page, selector):
    return page.locator(f"#diff {selector}").all_inner_texts()


# The scenarios.


def edit(browser):
    server = Server(pairs=[pair(i) for i in range(3)])
    page = browser.page(server.address, "ann")
    headers = page.goto(server.address).headers
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    at_item(page, 1)
    assert text(page) == page.inner_text("#original") == "ugh , item 0 is cheap and far from the river ."
    # Typed, key by key, where the caret stands.
    page.focus("#text")
    page.keyboard.press("Control+Home")
    for _ in range(6):
        page.keyboard.press("Delete")
    settled(page, 1)
    assert (pieces(page, "del"), pieces(page, "ins")) == (["ugh ,·"], [])
    write(page, "item 0 is near and not far from the river !")
    settled(page, 4)
    assert (pieces(page, "del"), pieces(page, "ins")) == (["ugh ,·", "cheap", "."], ["near", "not·", "!"])
    expect(page.locator("#counters")).to_contain_text("words changed 5 of 12")
    expect(page.locator("#counters")).to_contain_text("41.7 %")
    # A click on a change puts it back; undo takes that back, redo does it again.
    page.click('#diff [data-hunk="2"]')
    settled(page, 3)
    assert text(page) == "item 0 is near and far from the river !"
    page.keyboard.press("Control+Z")
    settled(page, 4)
    page.keyboard.press("Control+Shift+Z")
    settled(page, 3)
    page.keyboard.press("Control+Z")
    page.keyboard.press("Control+Y")
    settled(page, 3)
    # Categories by key, for the change that is chosen by key.
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Alt+1")
    expect(page.locator('#hunks > li:nth-child(2) input:checked')).to_have_value("untruthful")
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Alt+2")
    expect(page.locator('#hunks > li:nth-child(1) input:checked')).to_have_value("toxic")
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Alt+R")
    settled(page, 2)
    assert text(page).endswith("river .")
    page.keyboard.press("Alt+T")
    labels = page.locator("#labels .before .token").all_inner_texts()
    assert [label[-1] for label in labels] == list("DDUUUSUUUUUU"), labels
    page.keyboard.press("Alt+H")
    expect(page.locator("#preferred")).to_be_hidden()
    page.keyboard.press("Alt+H")
    page.keyboard.press("Alt+Slash")
    expect(page.locator("#dialog")).to_contain_text("Submit the edit")
    page.keyboard.press("Escape")
    saved(page)
    drafts = rows(OUT, "draft")
    assert drafts[-1]["revised"] == text(page)
    page.keyboard.press("Control+Enter")
    at_item(page, 2)
    [answer] = rows(OUT, "annotation")
    assert answer["annotator"] == "ann" and answer["answer"] == "edited" and answer["source"] == 0 and answer["guideline"] == "1"
    assert answer["revised"] == "item 0 is near and far from the river ."
    assert [hunk["category"] for hunk in answer["hunks"]] == ["toxic", "untruthful"]
    first, second = answer["hunks"]
    assert (first["original"]["chars"], first["original"]["tokens"], first["edited"]["chars"]) == ([0, 6], [0, 2], [0, 0])
    assert (second["original"]["text"], second["edited"]["text"], second["original"]["tokens"]) == ("cheap", "near", [5, 6])
    assert answer["tokens"]["original_labels"] == "DDUUUSUUUUUU" and answer["words_changed"] == 3
    expect(page.locator("#progress")).to_contain_text("1 of 3")
    server.kill()


def answers(browser):
    server = Server("--set", "annotate.categories=[]", "--set", 'annotate.instructions="Little."', pairs=[pair(i) for i in range(5)])
    page = browser.page(server.address, "ann")
    expect(page.locator("#guideline")).to_be_visible()
    # Submitting nothing is not possible; saying that nothing is needed is.
    settled(page, 0)
    expect(page.locator("#submit")).to_be_disabled()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#toast")).to_contain_text("nothing was changed")
    page.keyboard.press("Alt+G")
    at_item(page, 2)
    # A skip needs a reason.
    page.keyboard.press("Alt+S")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog .error")).to_contain_text("reason")
    page.keyboard.type("the prompt is unclear")
    page.keyboard.press("Enter")
    at_item(page, 3)
    # So does a rewrite.
    write(page, "a wholly different thing was said here today")
    expect(page.locator("#rewrite")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#toast")).to_contain_text("needs a reason")
    expect(page.locator("#reason")).to_be_focused()
    page.keyboard.type("all of it was wrong")
    page.keyboard.press("Control+Enter")
    at_item(page, 4)
    # The preference was the wrong way round: the other response is the one to edit, and one step back undoes it.
    page.keyboard.press("Alt+P")
    expect(page.locator("#original")).to_have_text("item 3 is near the river .")
    page.keyboard.press("Control+Z")
    expect(page.locator("#original")).to_contain_text("ugh")
    page.keyboard.press("Control+Y")
    write(page, "item 3 is near the sea .")
    settled(page, 1)
    page.keyboard.press("Control+Enter")
    at_item(page, 5)
    good, skipped, rewrite, corrected = rows(OUT, "annotation")
    assert good["answer"] == "good" and good["revised"] == good["rejected"] and set(good["tokens"]["original_labels"]) == {"U"}
    assert skipped["answer"] == "skipped" and skipped["reason"] == "the prompt is unclear" and skipped["revised"] is None
    assert rewrite["reason"] == "all of it was wrong" and rewrite["share_changed"] > 0.5
    assert corrected["preference"] == "corrected" and corrected["rejected"] == "item 3 is near the river ."
    assert corrected["chosen"].startswith("ugh")
    # Earlier items are found again, and answered again.
    page.keyboard.press("Alt+I")
    page.select_option("#status", "skipped")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.click("#list tbody button")
    at_item(page, 2)
    expect(page.locator("#notice")).to_contain_text("answered this before")
    page.keyboard.press("Alt+G")
    at_item(page, 5)
    page.keyboard.press("Alt+G")
    expect(page.locator("#view-done")).to_be_visible()
    found = json.loads(run("annotations", "stats", OUT, "--json"))
    assert (found["answers"], found["good"], found["skipped"], found["rewrites"], found["corrected"]) == (5, 3, 0, 1, 1), found
    again = [answer for answer in rows(OUT, "annotation") if answer["id"] == skipped["id"]]
    assert [answer["version"] for answer in again] == [1, 2]
    # Every format, and back.
    assert len(run("annotations", "export", OUT, "--format", "pairs").splitlines()) == 2
    assert run("annotations", "export", OUT, "--format", "m2").count("\nA -1 -1|||noop") == 3
    run("annotations", "export", OUT, "--format", "parquet", "--out", "all.parquet")
    run("annotations", "export", OUT, "--out", "all.jsonl")
    import pyarrow.parquet
    table = pyarrow.parquet.read_table("all.parquet").to_pylist()
    assert [row["revised"] for row in table] == [row["revised"] for row in rows("all.jsonl")]
    assert table[3]["original_token_ends"][:2] == [4, 6]
    for source in ["all.jsonl", "all.parquet"]:
        run("annotations", "import", source, "--out", f"from {source}.jsonl")
        back = json.loads(run("annotations", "stats", f"from {source}.jsonl", "--json"))
        assert all(back[key] == found[key] for key in ["answers", "good", "edited", "sizes", "annotators"]), source
    server.kill()


def killed(browser):
    server = Server(pairs=[pair(i) for i in range(3)])
    page = browser.page(server.address, "ann")
    write(page, "item 0 is near .")
    saved(page)
    page.reload()
    at_item(page, 1)
    assert text(page) == "item 0 is near ."
    page.keyboard.press("Alt+G")
    at_item(page, 2)
    write(page, "item 1 is near the river .")
    saved(page)
    server.kill()
    # Whatever is typed now is kept here, and the page says that it is not saved.
    write(page, "item 1 is near the river and small .")
    expect(page.locator("#save")).to_have_attribute("data-state", "failed")
    shot(page, "failed")
    assert rows(OUT, "draft")[-1]["revised"] == "item 1 is near the river ."
    with open(OUT, "a") as torn:
        torn.write('{"type": "draft", "item": "half a li')
    server.start()
    saved(page)
    assert rows(OUT, "draft")[-1]["revised"] == "item 1 is near the river and small ."
    # Killed while it is typed into, again and again: what was called saved is there.
    for i in range(4):
        said = f"item 1 is near the river and has room {i} ."
        write(page, said)
        saved(page)
        expect(page.locator("#save")).to_have_attribute("data-state", "saved")
        kept = rows(OUT, "draft")[-1]["revised"]
        assert kept == said, (kept, said)
        page.keyboard.type(" and")
        server.kill()
        server.start()
    saved(page)
    page.close()
    page = browser.page(server.address, "ann")
    at_item(page, 2)
    assert text(page) == "item 1 is near the river and has room 3 . and"
    # A browser that goes down with the server has lost at most the last second.
    write(page, "item 1 is near .")
    time.sleep(1.1)
    server.kill()
    page.context.close()
    server.start()
    page = browser.page(server.address, "ann")
    assert text(page) == "item 1 is near ."
    second = subprocess.run([RUNNER, "annotate", *server.arguments], capture_output=True, text=True)
    assert second.returncode == 2 and "is being written by another" in second.stderr, second.stderr
    server.kill()


def alpha(units):
    """Krippendorff's alpha from the definition: every pair of values in a unit, against every pair at all."""
    units = [values for values in units if len(values) > 1]
    everything = [value for values in units for value in values]
    n = len(everything)
    observed = sum((a != b) / (len(values) - 1) for values in units for i, a in enumerate(values) for j, b in enumerate(values) if i != j) / n
    counts = collections.Counter(everything)
    expected = sum(counts[a] * counts[b] for a in counts for b in counts if a != b) / (n * (n - 1))
    return 1 - observed / expected


def several(browser):
    server = Server("--annotators", "ann,ben", "--set", "annotate.overlap=1.0", pairs=[pair(i) for i in range(6)])
    pages = {name: browser.page(address) for name, address in zip(["ann", "ben"], server.addresses)}
    said = {
        "ann": ["item 0 is near the river .", "item 1 is near and far from the river .", None, "ugh , item 3 is cheap .", "item 4 is far from the river .", None],
        "ben": ["item 0 is near and by the river .", "item 1 is near and far from the river .", None, "item 3 is cheap and far from the sea .", None, "item 5 is dear ."],
    }
    reason = "too much of it"
    for i in range(6):
        for name, page in pages.items():
            at_item(page, i + 1)
            expect(page.locator("#who")).to_have_text(name)
            if said[name][i] is None:
                page.keyboard.press("Alt+G")
            else:
                write(page, said[name][i])
                page.wait_for_selector("#hunks > li")
                if page.locator("#rewrite").is_visible():
                    page.fill("#reason", reason)
                page.keyboard.press("Control+Enter")
            expect(page.locator("#progress")).to_contain_text(f"{i + 1} by you")
    answers = rows(OUT, "annotation")
    assert len(answers) == 12
    by_item = collections.defaultdict(list)
    for answer in answers:
        by_item[answer["item"]].append(answer["tokens"]["original_labels"])
    units = [list(labels) for both in by_item.values() for labels in zip(*both, strict=True)]
    expected = alpha(units)
    changed = alpha([[label != "U" for label in unit] for unit in units])
    found = json.loads(run("annotations", "stats", OUT, "--json"))["agreement"]
    print(f"alpha {found['alpha']:.6f}, computed again {expected:.6f}; changed or not {found['alpha_changed']:.6f}, {changed:.6f}")
    assert abs(found["alpha"] - expected) < 1e-12 and abs(found["alpha_changed"] - changed) < 1e-12
    assert (found["items"], found["tokens"]) == (6, len(units)) and 0 < expected < 1
    page = pages["ann"]
    page.keyboard.press("Alt+Q")
    expect(page.locator("#view-quality")).to_contain_text(f"{expected:.3f}")
    expect(page.locator("#view-quality")).to_contain_text("12 / 12")
    shot(page, "quality")
    # Four of six differ. One is taken as it is, one is edited further.
    page.keyboard.press("Alt+A")
    expect(page.locator("#view-adjudicate")).to_contain_text("4 to decide")
    shot(page, "adjudicate")
    page.keyboard.press("2")
    expect(page.locator("#view-adjudicate")).to_contain_text("3 to decide")
    page.locator("#view-adjudicate").get_by_role("button", name="Edit further").first.click()
    expect(page.locator("#notice")).to_contain_text("You decide")
    write(page, "item 3 is cheap and far from the river !")
    settled(page, 2)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#view-adjudicate")).to_contain_text("2 to decide")
    run("annotations", "export", OUT, "--final", "--out", "final.jsonl")
    final = {row["source"]: row for row in rows("final.jsonl")}
    assert len(final) == 6 and final[0]["adjudicated"] and final[0]["revised"] == said["ben"][0]
    assert final[3]["adjudicated"] and final[3]["revised"] == "item 3 is cheap and far from the river !"
    # A page of one's own is one's own: nobody answers in another's name.
    assert server.ask("session", "ben")["annotator"] == "ann"
    server.kill()


def conflict(browser):
    server = Server("--set", "annotate.overlap=0.0", pairs=[pair(i) for i in range(4)])
    ann, ben = browser.page(server.address, "ann"), browser.page(server.address, "ben")
    at_item(ann, 1)
    at_item(ben, 2)
    ben.keyboard.press("Alt+Comma")
    at_item(ben, 1)
    expect(ben.locator("#notice")).to_contain_text("ann has this item")
    for page, said in [(ben, "item 0 is near the river ."), (ann, "item 0 is cheap and far from the river .")]:
        write(page, said)
        page.wait_for_selector("#hunks > li")
        if page.locator("#rewrite").is_visible():
            page.fill("#reason", "much was wrong")
        page.keyboard.press("Control+Enter")
    dialog = ann.locator("#dialog")
    expect(dialog).to_contain_text("ben answered this item meanwhile")
    expect(dialog.locator("ins")).to_have_text(["near"])
    expect(dialog.locator("del").last).to_have_text("ugh ,·")
    shot(ann, "conflict")
    assert len(rows(OUT, "annotation")) == 1
    ann.click("#submit-mine")
    at_item(ann, 3)
    assert [answer["annotator"] for answer in rows(OUT, "annotation")] == ["ben", "ann"]
    # The same in two windows of one annotator: the later one learns of the earlier.
    twin = browser.page(server.address, "ann")
    at_item(twin, 3)
    ann.keyboard.press("Alt+G")
    twin.keyboard.press("Alt+G")
    expect(twin.locator("#dialog")).to_contain_text("You, in another window")
    twin.click("#keep-theirs")
    status, body = server.ask("submit", "cem", item=rows(OUT, "annotation")[0]["item"], version=0, answer="good")
    assert status == 409 and body["theirs"]["annotator"] == "ann" and body["version"] == 2, (status, body)
    server.kill()


def hostile(browser):
    payloads = ["<script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "\"><svg onload=window.pwned=1>",
                "</textarea><script>window.pwned=1</script>", "{{constructor.constructor('window.pwned=1')()}}", "javascript:window.pwned=1",
                "</script><script>window.pwned=1</script>", "&lt;b&gt; &amp; <b>bold</b>"]
    items = [{"id": p, "prompt": f"prompt {p}", "chosen": f"chosen {p}", "rejected": f"one two three four five six seven {p} eight nine"} for p in payloads]
    categories = json.dumps(["<img src=x onerror=window.pwned=1>"])
    server = Server("--set", "annotate.overlap=1.0", "--set", f"annotate.categories={categories}", "--set",
                    f"annotate.instructions={json.dumps(payloads[0])}", pairs=items)
    pages = [browser.page(server.address, payloads[1][:50]), browser.page(server.address, "ben")]
    for i, payload in enumerate(payloads):
        for number, page in enumerate(pages):
            at_item(page, i + 1)
            assert page.inner_text("#prompt") == f"prompt {payload}" and payload in page.inner_text("#original")
            write(page, text(page).replace("two", f"{payload} {number}"))
            page.wait_for_selector("#hunks > li")
            page.keyboard.press("Alt+1")
            page.keyboard.press("Alt+T")
            if page.locator("#rewrite").is_visible():
                page.fill("#reason", payload)
            page.keyboard.press("Control+Enter")
            if i + 1 < len(payloads):
                at_item(page, i + 2)
            else:
                expect(page.locator("#view-done")).to_be_visible()
    page = pages[0]
    for key, view in [("Alt+I", "items"), ("Alt+A", "adjudicate"), ("Alt+Q", "quality")]:
        page.keyboard.press(key)
        expect(page.locator(f"#view-{view}")).to_contain_text("window.pwned")
    page.click("#guideline")
    expect(page.locator("#dialog")).to_contain_text(payloads[0])
    for page in pages:
        assert page.evaluate("window.pwned") is None
        assert page.locator("main img, main svg, main b > script, dialog script").count() == 0
    # Who does not know the token, or comes by another name, learns nothing.
    port = server.address.split("/")[2]
    for path, host, expected in [("/", port, 404), ("/0123/", port, 404), (server.address.split(port)[1], "evil.example", 404),
                                 (server.address.split(port)[1], port, 200), (server.address.split(port)[1] + "api/none", port, 404)]:
        try:
            status = urllib.request.urlopen(urllib.request.Request(f"http://{port}{path}", headers={"host": host})).status
        except urllib.error.HTTPError as error:
            status = error.code
        assert status == expected, (path, host, status)
    assert server.ask("submit", "ben", item="none", version=0, answer="good")[0] == 404
    assert server.ask("next", " ")[0] == 422
    server.kill()


def unicode(browser):
    rocket, family, accent = "\U0001f469\u200d\U0001f680", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301"
    items = [{"prompt": "p", "chosen": "c", "rejected": said} for said in [
        f"the {rocket} flies to caf{accent} one and {family} waits there today",
        "one  two\tthree\nfour five\u00a0six seven eight nine ten",
        "שלום עולם abc 123 ‮ is right to left and מה שלומך today",
        "line one\r\nline two is here\r\nline three is here too\r\n",
    ]]
    server = Server(pairs=items)
    page = browser.page(server.address, "Zoë \U0001f600")
    write(page, items[0]["rejected"].replace(rocket, "\U0001f468\u200d\U0001f680").replace(f"caf{accent}", "café"))
    settled(page, 2)
    assert pieces(page, "del") == [rocket, f"caf{accent}"], pieces(page, "del")
    expect(page.locator("#hunks")).to_contain_text("looks the same, other code points")
    page.keyboard.press("Alt+T")
    assert f"{rocket}S" in "".join(page.locator("#labels .before .token").all_inner_texts())
    page.click('#diff [data-hunk="0"]')
    settled(page, 1)
    assert rocket in text(page)
    page.keyboard.press("Control+Enter")
    at_item(page, 2)
    [hunk] = rows(OUT, "annotation")[0]["hunks"]
    start = items[0]["rejected"].index(f"caf{accent}")
    assert hunk["original"]["chars"] == [start, start + 5]
    assert hunk["original"]["utf8"][0] == len(items[0]["rejected"][:start].encode())
    # White space alone: a change that is seen, with no word changed.
    write(page, "one two\tthree four five six seven eight nine ten ")
    settled(page, 4)
    assert pieces(page, "del") == ["·", "⏎\n", "⍽"] and pieces(page, "ins") == ["·", "·", "·"], (pieces(page, "del"), pieces(page, "ins"))
    page.keyboard.press("Control+Enter")
    at_item(page, 3)
    # Text from right to left stands as it should, and what turns it is seen when it changes.
    assert page.evaluate("getComputedStyle(document.getElementById('original')).unicodeBidi") == "plaintext"
    assert page.evaluate("getComputedStyle(document.getElementById('text')).direction") == "rtl"
    write(page, items[2]["rejected"].replace("‮ ", "").replace("abc", "abd"))
    settled(page, 2)
    assert "⟨U+202E⟩·" in pieces(page, "del")
    shot(page, "bidi")
    page.keyboard.press("Control+Enter")
    at_item(page, 4)
    # Line ends that a text area would rewrite are no change.
    settled(page, 0)
    page.focus("#text")
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("the end")
    settled(page, 1)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#view-done")).to_be_visible()
    assert rows(OUT, "annotation")[-1]["revised"] == items[3]["rejected"] + "the end"
    server.kill()


CONTRAST = """() => {
  const channel = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const back = (node) => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    const style = getComputedStyle(node);
    if (!own || node.offsetParent === null || node.closest(":disabled, .unseen, noscript, script, style") || style.visibility === "hidden") continue;
    let opacity = 1;
    for (let up = node; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    const behind = back(node);
    const ink = parse(style.color).slice(0, 3).map((c, i) => c * opacity + behind[i] * (1 - opacity));
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push([node.tagName, node.id || node.className, node.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return low;
}"""


def accessible(browser):
    items = [pair(i, f"ugh , item {i} is cheap and far from the river . " * 3) for i in range(4)]
    server = Server("--set", 'annotate.instructions="As little as possible."', pairs=items)
    for scheme in ["light", "dark"]:
        page = browser.page(server.address, scheme, color_scheme=scheme)
        write(page, text(page).replace("cheap", "near", 2).replace("ugh , ", "", 1))
        settled(page, 3)
        page.keyboard.press("Alt+ArrowDown")
        page.keyboard.press("Alt+2")
        page.keyboard.press("Alt+T")
        saved(page)
        low = page.evaluate(CONTRAST)
        assert not low, (scheme, low)
        shot(page, f"edit-1280-{scheme}")
        write(page, "something else entirely was written here instead of it")
        expect(page.locator("#rewrite")).to_be_visible()
        low = page.evaluate(CONTRAST)
        assert not low, (scheme, low)
        for view in ["items", "quality"]:
            page.click(f'nav [data-view="{view}"]')
            page.wait_for_selector(f"#view-{view} table")
            low = page.evaluate(CONTRAST)
            assert not low, (scheme, view, low)
            shot(page, f"{view}-1280-{scheme}")
        page.click('nav [data-view="edit"]')
        page.keyboard.press("Control+Z")
        # A telephone, and 200 % on a common screen: nothing is cut off or scrolls sideways.
        for width, height in [(390, 844), (640, 450)]:
            page.set_viewport_size({"width": width, "height": height})
            for view in ["edit", "items", "quality"]:
                page.click(f'nav [data-view="{view}"]')
                page.wait_for_timeout(100)
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, (width, view, over)
                shot(page, f"{view}-{width}-{scheme}")
        page.click('nav [data-view="edit"]')
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=f"{SHOTS}/edit-390-whole-{scheme}.png", full_page=True) if SHOTS else None
    # Everything that can be pressed has a name, everything focused is seen, and what happens is announced.
    page.set_viewport_size({"width": 1280, "height": 900})
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, select, [role=button]")].filter((node) => node.offsetParent !== null
        && !(node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.length || node.title)).map((node) => node.outerHTML)""")
    assert not nameless, nameless
    page.focus("#title + nav button")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        node = page.evaluate("""() => { const node = document.activeElement, style = getComputedStyle(node);
            return [node.id || node.className || node.tagName, node.matches(":focus-visible"), style.outlineStyle !== "none" || node.type === "radio"]; }""")
        assert node[0] == "BODY" or (node[1] and node[2]), node
        reached.add(node[0])
    assert {"text", "swap", "hide", "hunk", "tokens", "skip", "good", "submit", "help"} <= reached, reached
    expect(page.locator("#live")).to_have_attribute("aria-live", "polite")
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator("#live")).to_contain_text("change")
    page.keyboard.press("Alt+E")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.press("Alt+S")
    expect(page.locator("#skip-reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_be_focused()
    server.kill()


def many(browser):
    count = 10_000
    server = Server("--set", "annotate.overlap=0.0", pairs=[pair(i) for i in range(count)])
    page = browser.page(server.address, "ann")
    expect(page.locator("#progress")).to_contain_text("of 10000")

    def work(n):
        spent = []
        for _ in range(n):
            number = int(re.search(r"\d+", page.inner_text("#place"))[0])
            began = time.monotonic()
            write(page, text(page).replace("cheap", "near"))
            settled(page, 1)
            page.keyboard.press("Control+Enter")
            at_item(page, number + 1)
            spent.append(time.monotonic() - began)
        expect(page.locator("#counters")).to_contain_text("words changed 0 of")
        return sorted(spent)[len(spent) // 2], page.evaluate("document.querySelectorAll('main *').length")

    early = work(8)
    # Others answer nearly all of them.
    for i in range(8, 9_900):
        item = server.ask("open", "ben", index=i)["item"]
        server.ask("submit", "ben", item=item["item"], version=item["version"], answer="good")
        if i == 5_000:
            server.kill()
            server.start()
    page.keyboard.press("Alt+G")
    page.click("#keep-theirs")
    expect(page.locator("#place")).to_have_text(re.compile("Item 99"))
    late = work(8)
    print(f"an edit takes {early[0]:.3f} s among the first and {late[0]:.3f} s among the last of {count} items")
    assert late[1] == early[1], f"the page grew from {early[1]} to {late[1]} elements"
    page.keyboard.press("Alt+I")
    page.fill("#search", "item 9950?")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    began = time.monotonic()
    page.keyboard.press("Alt+Q")
    expect(page.locator("#view-quality")).to_contain_text("/ 10000")
    print(f"the quality page takes {time.monotonic() - began:.3f} s")
    server.kill()


RECIPE = """
seeds = [0]
budgets = [BUDGET]
dataset = { path = "PATH", format = "FORMAT", demonstrations = 60, train_prompts = BUDGET, validation_prompts = VALIDATION, test_prompts = TEST, max_prompt_tokens = 48, max_response_tokens = 96 }
tokenizer = { byte_level_bpe = { vocab_size = 400 } }
model = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 1, intermediate_size = 32 }
sft = { steps = 8, batch_size = 8, optimizer = { learning_rate = 1e-2 } }
preferences = { dataset = {} }
edits = { SOURCE }
reward = { epochs = 1, batch_size = 4, optimizer = { learning_rate = 1e-3 } }
judge = { reward_model = {} }
evaluation = { bootstrap_samples = 100 }

[ppo]
steps = 2
batch_size = 8
epochs = 1
minibatches = 2
kl_coef = 0.1
eval_every = 2
policy_optimizer = { learning_rate = 1e-3 }
value_optimizer = { learning_rate = 1e-3 }

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"
"""


def recipe(path, source, **numbers):
    said = RECIPE.replace("PATH", str(path)).replace("SOURCE", source)
    for name, value in numbers.items():
        said = said.replace(name, str(value))
    return said


def real(browser):
    if not os.path.exists(QA_FEEDBACK):
        print(f"skipped: `{QA_FEEDBACK}` is not there")
        return
    numbers = {"FORMAT": "qa_feedback", "BUDGET": 60, "VALIDATION": 10, "TEST": 10}
    pathlib.Path("qa.toml").write_text(recipe(QA_FEEDBACK, "dataset = {}", **numbers))
    server = Server("qa.toml")
    page = browser.page(server.address, "ann")
    expect(page.locator("#counters")).to_contain_text("tokens touched")
    originals = []
    for i in range(20):
        at_item(page, i + 1)
        original = text(page)
        originals.append(original)
        words = original.split()
        # The first word goes, the last but one is another.
        edited = " ".join([*words[1:-2], "indeed", words[-1]]) if len(words) > 3 else original + " Indeed."
        write(page, edited)
        page.wait_for_selector("#hunks > li")
        page.keyboard.press("Alt+1")
        if i == 0:
            saved(page)
            page.keyboard.press("Alt+T")
            shot(page, "real-labels")
            page.keyboard.press("Alt+T")
        if page.locator("#rewrite").is_visible():
            page.fill("#reason", "a short response")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#progress")).to_contain_text(f"{i + 1} by you")
    server.kill()
    log = "annotations/qa.jsonl"
    answers = rows(log, "annotation")
    assert len(answers) == 20 and [answer["rejected"] for answer in answers] == originals
    assert all(answer["tokens"]["unit"] == "token" for answer in answers)
    run("annotations", "export", "qa.toml", "--final", "--out", "final.jsonl")
    # As a dataset of its own, split by prompt.
    prompts = len({answer["prompt"] for answer in answers})
    numbers = {"FORMAT": "records", "BUDGET": prompts - 2, "VALIDATION": 1, "TEST": 1}
    pathlib.Path("edited.toml").write_text(recipe("final.jsonl", "dataset = {}", **numbers))
    run("run", "edited.toml", "--out", "report")
    results = pathlib.Path(".runner/results")
    [labels] = [path for path in results.glob("labels/*/labels.jsonl")]
    labelled = [json.loads(line) for line in labels.read_text().splitlines()]
    assert 10 <= len(labelled) < 20 and all(set(row["original_labels"]) - {"U"} for row in labelled), len(labelled)
    report = json.loads(pathlib.Path("report/report.json").read_text())
    assert [variant["name"] for variant in report["variants"]] == ["token"]
    # And as the edits of the recipe that they were made for, labelled as the page said.
    numbers = {"FORMAT": "qa_feedback", "BUDGET": 60, "VALIDATION": 10, "TEST": 10}
    pathlib.Path("again.toml").write_text(recipe(QA_FEEDBACK, f'annotations = {{ path = "{log}" }}', **numbers))
    run("run", "again.toml", "--out", "report-again")
    [labels] = [path for path in results.glob("labels/*/labels.jsonl") if path != labels]
    labelled = [json.loads(line)["original_labels"] for line in labels.read_text().splitlines()]
    # Unchanged, the end of the sequence follows; both are cut to the recipe's length.
    shown = sorted((answer["tokens"]["original_labels"] + "U")[:96] for answer in answers)
    assert sorted(labelled) == shown, (labelled, shown)
    print(f"20 items edited, {len(labelled)} of them labelled and trained on as the recipe's own edits")


with sync_playwright() as play:
    browser = Browser(play)
    globals()[SCENARIO](browser)
    browser.close()
