// Looks at a report's page as people do: in a real browser without a network, with keys and pointer, at two widths, light and
// dark, with and without scripts. Says what it saw as JSON; the first thing that is not as it should be is an error.
//
//     NODE_PATH=... node page.mjs index.html report.json [FOLDER FOR SCREENSHOTS]

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(path.join(process.env.RUNNER_BROWSER_ENV, 'package.json'));
const { chromium } = require('playwright-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const [page_path, json_path, folder] = process.argv.slice(2);
const url = pathToFileURL(path.resolve(page_path)).href;
const report = JSON.parse(fs.readFileSync(json_path, 'utf8'));
const isSweep = 'sweep' in report;
const seen = { bytes: fs.statSync(page_path).size, axe: [], samples: 0, heatmapValues: 0, links: 0 };
assert(seen.bytes < 5 * 1024 * 1024, `the page has ${seen.bytes} bytes`);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox'] });
const open = async (options, hash = '') => {
  const context = await browser.newContext({ offline: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(90000);
  page.troubles = [];
  page.on('request', (request) => { if (!request.url().startsWith(url)) page.troubles.push(`request: ${request.url().slice(0, 100)}`); });
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) page.troubles.push(`console: ${message.text()}`); });
  page.on('pageerror', (error) => page.troubles.push(`script: ${error}`));
  page.on('dialog', (dialog) => { page.troubles.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(url + hash);
  return page;
};
const done = async (page) => {
  assert.deepEqual(page.troubles, []);
  await page.context().close();
};

// Every section, in order; links lead somewhere; nothing is wider than the window; axe has no complaint.
const sections = isSweep
  ? ['Verdict', 'Best point', 'Factors', 'All points', 'Axes and keys', 'Definitions']
  : ['Verdict', 'Win rates', 'Learning curves', 'Reward against KL', 'Reward models', 'Token heat maps', 'Sample responses', 'Ablation', 'Recipe', 'Cost', 'Data', 'Provenance', 'Definitions'];
for (const width of [1280, 390]) {
  for (const colorScheme of ['light', 'dark']) {
    const page = await open({ viewport: { width, height: 900 }, colorScheme });
    const found = await page.$$eval('main h2', (all) => all.map((heading) => heading.textContent));
    assert.deepEqual(found.filter((heading) => sections.includes(heading)), sections);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(overflow <= 0, `the page is ${overflow} px wider than its window of ${width}`);
    if (folder) {
      fs.mkdirSync(folder, { recursive: true });
      await page.screenshot({ path: path.join(folder, `page-${width}-${colorScheme}.png`), fullPage: true });
    }
    await page.$$eval('details', (all) => all.forEach((one) => { one.open = true; }));
    const show = await page.$('#show-values');
    if (show) await show.check();
    const gone = await page.$('#show-gone');
    if (gone) await gone.check();
    const troubles = page.troubles.splice(0);
    await page.evaluate(axe);
    const complaints = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
    page.troubles = troubles;
    const said = complaints.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`);
    assert.deepEqual(said, [], `axe at ${width} px, ${colorScheme}`);
    seen.axe.push(`${width} ${colorScheme}: ${complaints.passes?.length ?? 0} rules passed`);
    await done(page);
  }
}

// Links, and what a stranger's text may not do.
{
  const page = await open({ viewport: { width: 1280, height: 900 } });
  const targets = await page.$$eval('a[href]', (all) => all.map((a) => a.getAttribute('href')));
  assert(targets.every((target) => target.startsWith('#')), 'a link leaves the page');
  const missing = await page.evaluate((all) => all.filter((target) => !document.getElementById(target.slice(1))), [...new Set(targets)]);
  assert.deepEqual(missing, []);
  seen.links = targets.length;
  assert.equal(await page.evaluate(() => document.scripts.length), 2);
  assert.equal(await page.evaluate(() => document.querySelectorAll('img, iframe, object, embed, link[rel=stylesheet]').length), 0);
  const text = await page.evaluate(() => document.documentElement.outerHTML);
  assert(!/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u202a-\u202e\u2066-\u2069]/.test(text), 'a control character is in the page');
  await page.click('th a[href="#metric-win_rate"]');
  assert(await page.locator('#metric-win_rate').isVisible(), 'a definition is shown when asked for');
  await done(page);
}

if (!isSweep) {
  const page = await open({ viewport: { width: 1280, height: 900 } });

  // Heat maps show the numbers of report.json.
  const maps = await page.$$eval('article.heat', (all) => all.map((map) => {
    const rows = [];
    for (const table of map.querySelectorAll('table.map')) {
      [...table.querySelectorAll('tbody tr:not(.edit)')].forEach((row, i) => {
        (rows[i] ??= []).push(...[...row.querySelectorAll('td')].map((cell) => Number(cell.dataset.value)));
      });
    }
    return rows;
  }));
  assert.deepEqual(maps, report.heatmaps.map((map) => map.rows.map((row) => row.values)));
  seen.heatmapValues = maps.flat(2).length;
  if (maps.length) {
    const cell = page.locator('article.heat td[data-value] .v').first();
    assert((await cell.boundingBox()).width <= 2, 'values are hidden at first');
    await page.check('#show-values');
    assert((await cell.boundingBox()).width > 8, 'values are shown on demand');
    assert(Number(await page.locator('article.heat td[data-value]').first().getAttribute('title').then((t) => t.split(': ').pop())) !== undefined);
  }

  // Learning curves over other axes, smoothed otherwise; a pointer on them.
  const curve = page.locator('figure.curve').first();
  if (await curve.count()) {
    const drawings = new Set();
    for (const axis of ['0', '1', '2', '3']) {
      for (const option of await page.$$eval('#smoothing option', (all) => all.map((o) => o.value))) {
        await page.selectOption('#x-axis', axis);
        await page.selectOption('#smoothing', option);
        const drawn = await page.$$eval('figure.curve .plot', (all) => all.map((plot) => plot.outerHTML).join(''));
        assert(!drawn.includes('NaN') && !drawn.includes('Infinity'), `axis ${axis}`);
        drawings.add(drawn);
      }
    }
    assert(drawings.size >= 8, `only ${drawings.size} different drawings`);
    await page.selectOption('#x-axis', '0');
    await curve.scrollIntoViewIfNeeded();
    const mark = await curve.locator('.mark').first().boundingBox();
    await page.mouse.move(mark.x + 2, mark.y + 2);
    assert(await page.locator('#tip').isVisible(), 'a pointer on a curve says its values');
  }

  // The sample browser by keys, filters and links.
  const all = report.examples.length;
  if (all > 3) {
    await page.locator('#sample-responses').scrollIntoViewIfNeeded();
    const current = () => page.evaluate(() => [location.hash, document.querySelector('.sample.current')?.id, document.activeElement.closest('.sample')?.id]);
    await page.keyboard.press('j');
    assert.deepEqual(await current(), ['#sample-1', 'sample-1', 'sample-1']);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    assert.deepEqual(await current(), ['#sample-2', 'sample-2', 'sample-2']);
    const variant = report.examples[0].responses[1].name;
    const wins = (e) => e.responses.find((r) => r.name === variant).outcome > 0.75;
    await page.selectOption('#sample-variant', variant);
    await page.selectOption('#sample-outcome', 'wins');
    assert.equal(await page.locator('.sample:visible').count(), report.examples.filter(wins).length);
    await page.selectOption('#sample-variant', '');
    await page.selectOption('#sample-outcome', '');
    await page.selectOption('#sample-order', 'change');
    const changes = await page.$$eval('.sample', (every) => every.map((s) => Number(s.dataset.change)));
    assert.deepEqual(changes, [...changes].sort((a, b) => b - a));
    await page.locator('h1').click();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.tagName), 'A', 'the first stop of the tab key is a link to a section');
    seen.samples = all;
    const linked = await open({ viewport: { width: 390, height: 800 } }, `#sample-${Math.min(all, 7)}`);
    assert(await linked.locator(`#sample-${Math.min(all, 7)}`).evaluate((s) => s.open), 'a link opens its sample');
    await done(linked);
  }
  await done(page);
}

// Without scripts nothing is missing but what they add; on paper neither.
{
  const page = await open({ viewport: { width: 1280, height: 900 }, javaScriptEnabled: false });
  assert(await page.locator('h2', { hasText: 'Verdict' }).isVisible());
  if (!isSweep) {
    assert(!(await page.locator('#curve-controls').isVisible()) && !(await page.locator('#sample-controls').isVisible()));
    assert(report.curves.length === 0 || await page.locator('figure.curve svg polyline').first().isVisible());
  }
  await done(page);
  const paper = await open({ viewport: { width: 1280, height: 900 } });
  const pdf = await paper.pdf({ format: 'A4', ...(folder ? { path: path.join(folder, 'page.pdf') } : {}) });
  assert(pdf.length > 10000);
  await done(paper);
}

await browser.close();
console.log(JSON.stringify(seen));
