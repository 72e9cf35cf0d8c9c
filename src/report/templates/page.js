'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId('data').textContent);
  const unhide = (id) => { const found = byId(id); if (found) found.hidden = false; return found; };

  // What a link leads to may be folded away.
  const reveal = () => {
    const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
    target.scrollIntoView({ block: 'start' });
  };
  addEventListener('hashchange', reveal);

  // Learning curves: the same charts over other axes, smoothed otherwise.
  const PLOT = { left: 46, right: 348, bottom: 198, top: 34 };
  const AXES = ['PPO steps', 'tokens sampled', 'seconds since training began', 'KL to the reference (nats)'];
  const node = (name, attributes, text) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  // The same shapes as in the legend, so that colour is not needed to tell series apart.
  const mark = (index, x, y, r) => {
    const shapes = [null, [[-1, -1], [1, -1], [1, 1], [-1, 1]], [[0, -1.3], [1.2, 1], [-1.2, 1]], [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]]];
    const shape = shapes[index % 4], style = 'mark s' + index % 8;
    if (!shape) return node('circle', { class: style, cx: x, cy: y, r });
    return node('polygon', { class: style, points: shape.map(([dx, dy]) => (x + dx * r).toFixed(1) + ',' + (y + dy * r).toFixed(1)).join(' ') });
  };
  const roundStep = (span) => {
    const rough = span / 5, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= rough * 0.999) || 10 * power;
  };
  const scale = (values, from, to, round) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (!(high > low)) { low -= 0.5; high += 0.5; }
    const step = roundStep(high - low);
    if (round) { low = Math.floor(low / step) * step; high = Math.ceil(high / step) * step; }
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), ticks = [];
    for (let i = Math.ceil(low / step - 1e-6); i * step <= high + 1e-6 * step; i++) ticks.push([i * step, (i * step).toFixed(digits)]);
    return { at: (x) => from + (x - low) / (high - low) * (to - from), ticks };
  };
  const short = (label) => Math.abs(label) >= 1e4 ? Number(label) / 1000 + 'k' : label;
  const smoothed = (samples, window) => samples.map((sample, i) => {
    const recent = samples.slice(Math.max(0, i + 1 - window), i + 1);
    const mean = (k) => recent.every((s) => s[k] !== null) ? recent.reduce((sum, s) => sum + s[k], 0) / recent.length : null;
    return [sample[0], sample[1], sample[2], mean(3), mean(4)];
  });
  const meanOf = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

  const draw = (figure, chart, axis, window) => {
    const plot = figure.querySelector('.plot');
    const lines = chart.series.map((series) => {
      const seeds = series.seeds.map((seed) => smoothed(seed, chart.smoothed ? window : 1).filter((s) => s[axis] !== null && s[4] !== null));
      const steps = [...new Set(seeds.flat().map((s) => s[0]))].sort((a, b) => a - b);
      const mean = steps.map((step) => {
        const here = seeds.flat().filter((s) => s[0] === step), value = meanOf(here.map((s) => s[4]));
        const spread = here.length > 1 ? Math.sqrt(here.reduce((sum, s) => sum + (s[4] - value) ** 2, 0) / (here.length - 1)) : null;
        return { step, x: meanOf(here.map((s) => s[axis])), value, spread };
      });
      return { ...series, seeds, mean };
    });
    const all = lines.flatMap((line) => line.seeds.flat());
    plot.replaceChildren();
    const heading = node('text', { class: 'head', x: 6, y: 18 }, chart.heading);
    if (!all.length) {
      plot.append(heading, node('text', { x: 60, y: 110 }, 'not known over this axis'));
      figure.points = [];
      return;
    }
    const x = scale([axis === 3 ? Math.min(0, ...all.map((s) => s[3])) : 0, ...all.map((s) => s[axis])], PLOT.left, PLOT.right, false);
    const ends = lines.flatMap((line) => line.mean.flatMap((m) => m.spread === null ? [] : [m.value - m.spread, m.value + m.spread]));
    const y = scale([...all.map((s) => s[4]), ...ends, ...(chart.guide === null ? [] : [chart.guide])], PLOT.bottom, PLOT.top, true);
    plot.append(heading);
    for (const [value, label] of y.ticks) {
      plot.append(node('line', { class: 'grid', x1: PLOT.left, x2: PLOT.right, y1: y.at(value), y2: y.at(value) }));
      plot.append(node('text', { x: PLOT.left - 6, y: y.at(value) + 4, 'text-anchor': 'end' }, label));
    }
    for (const [value, label] of x.ticks) {
      plot.append(node('line', { class: 'axis', x1: x.at(value), x2: x.at(value), y1: PLOT.bottom, y2: PLOT.bottom + 4 }));
      plot.append(node('text', { x: x.at(value), y: PLOT.bottom + 16, 'text-anchor': 'middle' }, short(label)));
    }
    plot.append(node('line', { class: 'axis', x1: PLOT.left, x2: PLOT.right, y1: PLOT.bottom, y2: PLOT.bottom }));
    plot.append(node('line', { class: 'axis', x1: PLOT.left, x2: PLOT.left, y1: PLOT.bottom, y2: PLOT.top }));
    plot.append(node('text', { x: PLOT.right, y: PLOT.bottom + 31, 'text-anchor': 'end' }, AXES[axis]));
    if (chart.guide !== null) plot.append(node('line', { class: 'guide', x1: PLOT.left, x2: PLOT.right, y1: y.at(chart.guide), y2: y.at(chart.guide) }));
    const place = (points) => points.map(([a, b]) => x.at(a).toFixed(1) + ',' + y.at(b).toFixed(1)).join(' ');
    figure.points = [];
    for (const line of lines) {
      const colour = ' s' + line.index % 8, band = line.mean.filter((m) => m.spread !== null);
      if (band.length > 1) {
        const outline = [...band.map((m) => [m.x, m.value + m.spread]), ...band.map((m) => [m.x, m.value - m.spread]).reverse()];
        plot.append(node('polygon', { class: 'band' + colour, points: place(outline) }));
      }
      if (line.seeds.length > 1) for (const seed of line.seeds) plot.append(node('polyline', { class: 'thin' + colour, points: place(seed.map((s) => [s[axis], s[4]])) }));
      plot.append(node('polyline', { class: 'mean' + colour, points: place(line.mean.map((m) => [m.x, m.value])) }));
      const stride = Math.max(1, Math.ceil(line.mean.length / 12));
      line.mean.forEach((m, i) => {
        if ((line.mean.length - 1 - i) % stride === 0) plot.append(mark(line.index, x.at(m.x), y.at(m.value), 2.6));
        figure.points.push({ ...m, name: line.name, left: x.at(m.x), top: y.at(m.value), seeds: line.seeds.length, axis });
      });
    }
  };

  const tip = document.createElement('div');
  tip.id = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  const figures = [...document.querySelectorAll('figure.curve')];
  const chartOf = (figure) => { const [i, j] = figure.dataset.chart.split('.'); return data.curves[i][j]; };
  const redraw = () => figures.forEach((figure) => draw(figure, chartOf(figure), +byId('x-axis').value, +byId('smoothing').value));
  if (figures.length && unhide('curve-controls')) {
    byId('x-axis').addEventListener('change', redraw);
    byId('smoothing').addEventListener('change', () => {
      const chosen = byId('smoothing').selectedOptions[0].textContent;
      for (const note of document.querySelectorAll('.smoothing-note')) note.textContent = ' (shown now: ' + chosen + ')';
      redraw();
    });
    redraw();
  }
  for (const figure of figures) {
    figure.addEventListener('pointermove', (event) => {
      const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect(), zoom = box.width / svg.viewBox.baseVal.width;
      const [left, top] = [(event.clientX - box.left) / zoom, (event.clientY - box.top) / zoom];
      const far = (p) => (p.left - left) ** 2 + (p.top - top) ** 2;
      const near = (figure.points || []).reduce((best, p) => !best || far(p) < far(best) ? p : best, null);
      tip.hidden = !near || far(near) > 900;
      if (tip.hidden) return;
      const over = near.axis === 0 ? '' : '\n' + AXES[near.axis] + ': ' + Number(near.x.toPrecision(4));
      const spread = near.spread === null ? '' : ' ± ' + near.spread.toPrecision(3) + ' over ' + near.seeds + ' seeds';
      tip.textContent = near.name + ', step ' + near.step + over + '\n' + near.value.toPrecision(4) + spread;
      tip.style.left = Math.min(event.clientX + 14, innerWidth - 240) + 'px';
      tip.style.top = event.clientY + 14 + 'px';
    });
    figure.addEventListener('pointerleave', () => { tip.hidden = true; });
  }

  // The sample browser.
  const list = byId('sample-list'), samples = list ? [...list.querySelectorAll('.sample')] : [];
  let current = null;
  const shown = () => [...list.querySelectorAll('.sample')].filter((sample) => !sample.hidden);
  const go = (sample) => {
    if (current) current.classList.remove('current');
    current = sample;
    sample.classList.add('current');
    sample.open = true;
    history.replaceState(null, '', '#' + sample.id);
    sample.querySelector('summary').focus({ preventScroll: true });
    sample.scrollIntoView({ block: 'nearest' });
  };
  const arrange = () => {
    const variant = byId('sample-variant').value, outcome = byId('sample-outcome').value;
    for (const sample of samples) {
      const fits = sample.dataset.outcomes.split('\n').some((entry) => {
        const at = entry.lastIndexOf(':');
        return (!variant || entry.slice(0, at) === variant) && (!outcome || entry.slice(at + 1) === outcome);
      });
      sample.hidden = !fits;
    }
    const order = byId('sample-order').value === 'change' ? (s) => -s.dataset.change : (s) => samples.indexOf(s);
    list.append(...[...samples].sort((a, b) => order(a) - order(b)));
    byId('sample-count').textContent = shown().length + ' of ' + samples.length + ' shown';
  };
  if (samples.length && unhide('sample-controls')) {
    for (const id of ['sample-variant', 'sample-outcome', 'sample-order']) byId(id).addEventListener('change', arrange);
    arrange();
    addEventListener('keydown', (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== 'checkbox';
      if (typing || event.ctrlKey || event.metaKey || event.altKey || (event.key !== 'j' && event.key !== 'k')) return;
      const all = shown(), at = all.indexOf(current);
      const next = event.key === 'j' ? all[at + 1] : all[Math.max(at - 1, 0)];
      if (next) { event.preventDefault(); go(next); }
    });
    const linked = samples.find((sample) => '#' + sample.id === location.hash);
    if (linked) go(linked);
  }
  reveal();
})();
