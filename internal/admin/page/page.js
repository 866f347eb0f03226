// The script of the page: what a running usher does, as it happens.
//
//	GET /v1/live ──▶ Live ──▶ Model ──▶ draw(): facts, Charts, the Grids of services, backends and events
//	GET /v1/flows ─▶ Flows ─▶ the Grid of flows
//	buttons ───────▶ change() ──▶ PUT, DELETE /v1/…, with the token
//
// All that usher says goes in as text, never as markup: names, reasons and addresses come from strangers. State comes as
// snapshots; nothing here remembers what a snapshot contradicts. What is drawn is bounded: a Grid has elements for the rows
// that are seen, the histories and the events have a length.
'use strict';

const HISTORY = 300; // snapshots that charts show
const MOST_HISTORIES = 2000; // services that have one; with more, only the chosen one
const MOST_EVENTS = 500;
const STALE = 5000; // ms without a snapshot until the page says so
const FLOWS_PERIOD = 2000; // ms
const FLOWS_TIME = 15000; // ms, for one answer
const CONFIRMED = 10000; // ms that a message stays which only confirms

const $ = id => document.getElementById(id);

// element makes an element with a class and a text.
function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// setText changes the document only where it differs.
function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// ---- Figures as text ----

const grouped = new Intl.NumberFormat('en');
const count = n => grouped.format(n);

// scaled writes a number with three digits and the prefix of its size.
function scaled(n, units, base) {
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) {
    n /= base;
    at++;
  }
  const digits = at === 0 && Number.isInteger(n) || n >= 99.95 ? 0 : n >= 9.995 ? 1 : n === 0 ? 0 : 2;
  return n.toFixed(digits) + units[at];
}

const bytes = n => scaled(n, [' B', ' kB', ' MB', ' GB', ' TB', ' PB'], 1000);
const perSecond = n => n < 99.95 ? String(Math.round(n * 10) / 10) : scaled(n, ['', 'k', 'M', 'G'], 1000);
const bytesPerSecond = n => bytes(Math.round(n)) + '/s';
const milliseconds = n => n === null || n === 0 ? '–' : n >= 1000 ? (n / 1000).toFixed(2) + ' s' : scaled(n, [' ms'], 1000);

// duration writes milliseconds with the two largest units.
function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return s + 's';
  if (s < 3600) return Math.floor(s / 60) + 'm ' + s % 60 + 's';
  if (s < 86400) return Math.floor(s / 3600) + 'h ' + Math.floor(s % 3600 / 60) + 'm';
  return Math.floor(s / 86400) + 'd ' + Math.floor(s % 86400 / 3600) + 'h';
}

const clock = ms => new Date(ms).toLocaleTimeString('en-GB');

// A status has a sign and a word, so that colour is not all that tells.
const STATUS = {
  up: ['good', '●'], degraded: ['warn', '◐'], down: ['bad', '▼'], drain: ['idle', '◌'], maint: ['idle', '■'], unknown: ['zero', '?'],
};
const statusText = s => (STATUS[s] ?? STATUS.unknown)[1] + ' ' + s;
const statusClass = s => (STATUS[s] ?? STATUS.unknown)[0];
const STATUS_ORDER = ['down', 'degraded', 'unknown', 'maint', 'drain', 'up'];

// ---- Model: what is known of usher ----

const NO_RATE = Object.freeze({flows: 0, failed: 0, up: 0, down: 0});

// rate is what counters have grown by a second since a state before. A counter that has become smaller began anew.
function rate(now, before, seconds) {
  if (!before || !(seconds > 0)) return NO_RATE;
  const grown = name => Math.max(0, now[name] - before[name]) / seconds;
  return {flows: grown('total'), failed: grown('failed'), up: grown('bytes_up'), down: grown('bytes_down')};
}

// History is what charts show: columns of equal length.
class History {
  columns = {time: [], active: [], flows: [], failed: [], up: [], down: [], connect: []};

  push(time, active, r, connect) {
    const c = this.columns;
    if (c.time.length > 0 && time <= c.time[c.time.length - 1]) for (const column of Object.values(c)) column.length = 0; // usher's clock was set back
    if (c.time.length > 0 && time - c.time[c.time.length - 1] > STALE / 1000) this.#add(time - 0.001, null, null, null, null, null, null); // a gap
    this.#add(time, active, r.flows, r.failed, r.up, r.down, connect);
  }

  #add(...values) {
    Object.values(this.columns).forEach((column, i) => {
      column.push(values[i]);
      if (column.length > HISTORY) column.shift();
    });
  }
}

class Backend {
  rate = NO_RATE;
  data = null;

  constructor(service, address) {
    this.service = service;
    this.address = address;
  }

  take(data, seconds) {
    this.rate = rate(data, this.data, seconds);
    this.data = data;
  }
}

class Service {
  rate = NO_RATE;
  data = null; // its backends are those of the last message only
  backends = new Map(); // by address
  list = []; // the same in order
  connect = null; // ms, over the backends that took flows since the last snapshot
  history = null;

  constructor(name) {
    this.name = name;
  }

  // take brings a message in. Backends that it does not name are as before, unless it has all.
  take(isAll, data, seconds) {
    this.rate = rate(data, this.data, seconds);
    this.data = data;
    const before = this.backends;
    if (isAll) this.backends = new Map();
    let flows = 0, sum = 0;
    for (const d of data.backends ?? []) {
      const b = before.get(d.address) ?? new Backend(this, d.address);
      b.take(d, seconds);
      this.backends.set(d.address, b);
      if (d.connect_ms > 0) {
        flows += b.rate.flows;
        sum += b.rate.flows * d.connect_ms;
      }
    }
    if (isAll) this.list = [...this.backends.values()];
    this.moved = (data.backends ?? []).map(d => this.backends.get(d.address));
    this.connect = flows > 0 ? sum / flows : null;
  }

  // rest is for a snapshot that does not name it.
  rest() {
    this.rate = NO_RATE;
    this.connect = null;
  }

  inUse() {
    let n = 0;
    for (const b of this.list) if (b.data.status === 'up') n++;
    return n;
  }
}

class Model {
  services = new Map(); // by name
  list = []; // the same in order
  history = new History(); // of all services
  process = null;
  changes = 'none';
  time = 0; // ms, on usher's clock
  cpu = null; // share of one CPU
  #waiting = []; // messages until their snapshot is whole
  #moved = []; // backends that the last snapshot named

  hold(isAll, data) {
    this.#waiting.push([isAll, data]);
  }

  drop() {
    this.#waiting = [];
  }

  // take ends a snapshot, and returns the process before.
  take(snapshot, chosen) {
    const time = Date.parse(snapshot.time), before = this.process, now = snapshot.process;
    const isSame = before !== null && before.pid === now.pid && before.started === now.started;
    const seconds = isSame ? (time - this.time) / 1000 : 0;
    for (const b of this.#moved) b.rate = NO_RATE;
    this.#moved = [];
    const named = new Set();
    for (const [isAll, data] of this.#waiting) {
      const s = this.services.get(data.name) ?? new Service(data.name);
      s.take(isAll, data, seconds);
      this.services.set(data.name, s);
      for (const b of s.moved) this.#moved.push(b);
      named.add(s);
    }
    this.#waiting = [];
    for (const name of snapshot.removed ?? []) this.services.delete(name);
    for (const s of this.services.values()) {
      if (named.has(s)) continue;
      if (snapshot.whole) this.services.delete(s.name);
      else s.rest();
    }
    this.list = [...this.services.values()];
    this.cpu = seconds > 0 ? (now.user_seconds + now.system_seconds - before.user_seconds - before.system_seconds) / seconds : null;
    this.process = now;
    this.changes = snapshot.changes;
    this.time = time;
    this.#record(chosen);
    return before;
  }

  #record(chosen) {
    const all = {flows: 0, failed: 0, up: 0, down: 0}, time = this.time / 1000;
    let active = 0, connects = 0, sum = 0;
    for (const s of this.list) {
      active += s.data.active;
      for (const name in all) all[name] += s.rate[name];
      if (s.connect !== null) {
        connects += s.rate.flows;
        sum += s.rate.flows * s.connect;
      }
      if (this.list.length <= MOST_HISTORIES || s.name === chosen) (s.history ??= new History()).push(time, s.data.active, s.rate, s.connect);
      else s.history = null;
    }
    this.history.push(time, active, all, connects > 0 ? sum / connects : null);
  }
}

// ---- Grid: a table that has elements only for the rows that are seen ----

const collator = new Intl.Collator('en', {numeric: true});
const isBefore = (a, b) => typeof a === 'string' ? collator.compare(a, b) : a - b;

// Grid shows items in columns. A column has an id and a title, and
//
//	text(item)        what a cell says
//	tone(item)        its class, for a colour
//	value(item)       what the column is sorted by; without it, it is not
//	isMostFirst       the first click sorts the largest first
//	build(cell, row)  makes what a cell has beside text; row.item is what it is about by then
//	paint(cell, item) brings that up to date
//	kind              wide, half, long, quiet, number, do: how it looks, see the styles
//
// One row can have the focus; its buttons come next by Tab. Rows that change their places under a pointer or the focus
// would be clicked by mistake, so the order is held until both are elsewhere; not if it isLoose, with nothing to click.
class Grid {
  #order = []; // items as they are shown
  #rows = new Map(); // by item, of those that have elements
  #free = [];
  #active = null; // the item whose row has the focus, or gets it
  #isPointed = false; // by a mouse, where a click would change something
  #height = 0; // of a row, in CSS pixels

  constructor(host, {label, columns, sort, onSort, onOpen, onEscape, isChosen, isLoose, empty}) {
    Object.assign(this, {host, columns, sort, onSort, onOpen, onEscape, isChosen, isLoose});
    host.className = 'grid' + (onOpen ? ' opens' : '');
    host.setAttribute('role', 'grid');
    host.setAttribute('aria-label', label);
    this.isDown = sort.isDown ?? false;
    this.#makeHead();
    this.body = element('div', 'body');
    this.body.setAttribute('role', 'rowgroup');
    host.append(this.head, this.body);
    this.empty = element('p', 'empty', 'Not known yet.');
    this.emptyText = empty;
    host.after(this.empty);
    host.addEventListener('scroll', () => this.#draw(), {passive: true});
    this.body.addEventListener('pointerenter', e => { this.#isPointed = e.pointerType === 'mouse'; });
    this.body.addEventListener('pointerleave', () => { this.#isPointed = false; });
    this.body.addEventListener('keydown', e => this.#onKey(e));
    this.body.addEventListener('click', e => this.#onClick(e));
    new ResizeObserver(() => this.#draw()).observe(host);
  }

  #makeHead() {
    this.head = element('div', 'head');
    this.head.setAttribute('role', 'row');
    for (const c of this.columns) {
      const title = element('div', `title ${c.kind ?? ''}`);
      title.setAttribute('role', 'columnheader');
      if (c.value) {
        const button = element('button', '', c.title);
        button.type = 'button';
        button.addEventListener('click', () => this.#sortBy(c));
        title.append(button);
      } else {
        title.textContent = c.title;
      }
      c.head = title;
      this.head.append(title);
    }
    this.head.addEventListener('keydown', e => {
      const buttons = [...this.head.querySelectorAll('button')].filter(b => b.offsetParent !== null), at = buttons.indexOf(e.target);
      const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1}[e.key];
      if (e.key === 'ArrowDown') this.focus();
      else if (to !== undefined && at >= 0) buttons[Math.max(0, Math.min(to, buttons.length - 1))].focus();
      else return;
      e.preventDefault();
    });
    this.#markHead();
  }

  // markHead says how it is sorted. Of the titles only that one is reached by Tab; the arrow keys lead to the others.
  #markHead() {
    for (const c of this.columns) {
      const isIt = c.id === this.sort.id;
      if (c.value) c.head.setAttribute('aria-sort', isIt ? this.isDown ? 'descending' : 'ascending' : 'none');
      const button = c.head.querySelector('button');
      if (button) button.tabIndex = isIt ? 0 : -1;
    }
  }

  #sortBy(column) {
    if (this.sort.id === column.id) this.isDown = !this.isDown;
    else this.isDown = column.isMostFirst ?? false;
    this.sort = column;
    this.#markHead();
    this.onSort?.(column);
    this.#arrange();
    this.host.scrollTop = 0;
    this.#draw();
  }

  // set shows these items. An item is the same object each time. Before the first answer none is known.
  set(items, isKnown = true) {
    if (isKnown) setText(this.empty, this.emptyText);
    const present = new Set(items);
    this.#order = this.#order.filter(item => present.delete(item));
    for (const item of present) this.#order.push(item);
    const hasFocus = this.body.contains(document.activeElement);
    if (this.isLoose || !this.#isPointed && !hasFocus) this.#arrange();
    if (!this.#order.includes(this.#active)) this.#active = this.#order[0] ?? null;
    this.empty.hidden = items.length > 0;
    this.host.hidden = items.length === 0;
    this.host.setAttribute('aria-rowcount', items.length + 1);
    this.#draw(true);
    if (hasFocus && document.activeElement === document.body) this.focus(); // the row that had it is gone
  }

  #arrange() {
    const column = this.columns.find(c => c.id === this.sort.id), sign = this.isDown ? -1 : 1;
    if (this.onSort) this.#order.sort((a, b) => a.rank - b.rank);
    else if (column) this.#order.sort((a, b) => sign * isBefore(column.value(a), column.value(b)));
  }

  // refresh draws all rows again.
  refresh() {
    this.#draw(true);
  }

  // focus gives the focus to the active row.
  focus() {
    const at = this.#order.indexOf(this.#active);
    if (at < 0) return;
    const top = at * this.#height, room = this.host.clientHeight - this.head.offsetHeight;
    if (top < this.host.scrollTop) this.host.scrollTop = top;
    else if (top + this.#height > this.host.scrollTop + room) this.host.scrollTop = top + this.#height - room;
    this.#draw();
    this.#rows.get(this.#active)?.element.focus({preventScroll: true});
  }

  // draw has an element for each row that is seen, and for the one with the focus. With isNew it fills all of them again.
  #draw(isNew = false) {
    const host = this.host, n = this.#order.length;
    this.#height = parseFloat(getComputedStyle(host).getPropertyValue('--row')) || 28;
    const first = Math.max(0, Math.floor(host.scrollTop / this.#height) - 4);
    const last = Math.min(n, Math.ceil((host.scrollTop + host.clientHeight) / this.#height) + 4);
    const seen = new Map();
    for (let i = first; i < last; i++) seen.set(this.#order[i], i);
    const held = this.#rows.get(this.#active);
    if (held?.element.contains(document.activeElement) && !seen.has(this.#active)) {
      const at = this.#order.indexOf(this.#active);
      if (at >= 0) seen.set(this.#active, at);
    }
    for (const [item, row] of this.#rows) {
      if (seen.has(item)) continue;
      this.#rows.delete(item);
      row.element.remove();
      this.#free.push(row);
    }
    this.body.style.height = n * this.#height + 'px';
    let next = this.body.firstElementChild;
    for (const [item, at] of seen) {
      let row = this.#rows.get(item);
      const isOther = row === undefined;
      if (isOther) {
        row = this.#free.pop() ?? this.#makeRow();
        row.item = item;
        this.#rows.set(item, row);
      }
      if (isOther || isNew) this.#fill(row);
      this.#place(row, at);
      if (row.element === next) {
        next = next.nextElementSibling;
      } else { // the order of the elements is that of the rows, for readers
        const focused = row.element.contains(document.activeElement) ? document.activeElement : null;
        this.body.insertBefore(row.element, next);
        focused?.focus({preventScroll: true});
      }
    }
    if (this.#free.length > 100) this.#free.length = 100;
  }

  #makeRow() {
    const row = {element: element('div', 'row'), cells: [], item: null};
    row.element.setAttribute('role', 'row');
    for (const c of this.columns) {
      const cell = element('div', `cell ${c.kind ?? ''}`);
      cell.setAttribute('role', 'gridcell');
      if (c.label) cell.dataset.label = c.label;
      c.build?.(cell, row);
      row.cells.push(cell);
      row.element.append(cell);
    }
    return row;
  }

  #fill(row) {
    const {item} = row;
    this.columns.forEach((c, i) => {
      const cell = row.cells[i];
      if (c.text) {
        const text = c.text(item);
        setText(cell, text);
        if (c.isLong && cell.title !== text) cell.title = text;
      }
      if (c.tone) {
        const name = `cell ${c.kind ?? ''} ${c.tone(item)}`;
        if (cell.className !== name) cell.className = name;
      }
      c.paint?.(cell, item);
    });
    if (this.isChosen) row.element.setAttribute('aria-selected', this.isChosen(item));
    const tab = item === this.#active ? 0 : -1;
    if (row.element.tabIndex !== tab || row.tab !== tab) {
      row.tab = row.element.tabIndex = tab;
      for (const b of row.element.querySelectorAll('button')) b.tabIndex = tab;
    }
  }

  #place(row, at) {
    if (row.at === at && row.height === this.#height) return;
    Object.assign(row, {at, height: this.#height});
    row.element.style.transform = `translateY(${at * this.#height}px)`;
    row.element.setAttribute('aria-rowindex', at + 2);
  }

  #activate(item) {
    const before = this.#rows.get(this.#active);
    this.#active = item;
    if (before) this.#fill(before);
    const row = this.#rows.get(item);
    if (row) this.#fill(row);
  }

  #rowOf(target) {
    const e = target.closest('.row');
    for (const row of this.#rows.values()) if (row.element === e) return row;
    return null;
  }

  #onClick(e) {
    const row = this.#rowOf(e.target);
    if (!row) return;
    this.#activate(row.item);
    if (!e.target.closest('button')) this.onOpen?.(row.item);
  }

  #onKey(e) {
    const row = this.#rowOf(e.target);
    if (!row || e.altKey || e.ctrlKey || e.metaKey) return;
    const at = this.#order.indexOf(row.item), page = Math.max(1, Math.floor(this.host.clientHeight / this.#height) - 2);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.#order.length - 1}[e.key];
    if (to !== undefined) {
      this.#activate(this.#order[Math.max(0, Math.min(to, this.#order.length - 1))]);
      this.focus();
    } else if (e.key === 'ArrowRight' || e.key === 'ArrowLeft') {
      const stops = [row.element, ...[...row.element.querySelectorAll('button')].filter(b => !b.hidden)];
      stops[Math.max(0, Math.min(stops.indexOf(e.target) + (e.key === 'ArrowRight' ? 1 : -1), stops.length - 1))].focus();
    } else if (e.key === 'Enter' && e.target === row.element && this.onOpen) {
      this.onOpen(row.item);
    } else if (e.key === 'Escape' && this.onEscape) {
      this.onEscape();
    } else {
      return;
    }
    e.preventDefault();
  }
}

// number is a column with a figure, in its colour only if it is not zero.
function number(id, title, value, write, more) {
  return {
    id, title, label: title.toLowerCase(), kind: 'number', value, isMostFirst: true,
    text: item => write(value(item)), tone: item => value(item) > 0 ? '' : 'zero', ...more,
  };
}

// ---- Charts ----

// times are the marks of a time axis, without one that the edge would cut.
const times = (plot, all) => all.map(v => plot.valToPos(v, 'x') > plot.over.clientWidth - 16 ? null : new Date(v * 1000).toLocaleTimeString('en-GB').slice(0, v % 60 === 0 ? 5 : 8));

// Chart draws one or two columns of a history. Its caption has the figures: of the moment under the pointer, else the last.
class Chart {
  #plot = null;
  #history = null;

  constructor(host, {title, write, least, lines}) {
    Object.assign(this, {write, least, lines});
    this.figure = element('figure');
    const caption = element('figcaption');
    caption.append(element('span', 'name', title));
    for (const line of lines) {
      line.value = element('span', `value ${line.tone}`);
      caption.append(line.value);
    }
    this.box = element('div', 'plot');
    this.box.setAttribute('aria-hidden', 'true'); // the caption says it
    this.figure.append(caption, this.box);
    host.append(this.figure);
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(this.box);
  }

  #size() {
    return {width: Math.max(80, this.box.clientWidth), height: this.box.clientHeight};
  }

  show(history) {
    this.#history = history;
    const data = [history.columns.time, ...this.lines.map(l => history.columns[l.column])];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.box);
    this.#say(this.#plot.cursor.idx);
  }

  redraw() {
    this.#plot?.redraw();
  }

  #say(idx) {
    for (const line of this.lines) {
      const column = this.#history.columns[line.column], value = column[idx ?? column.length - 1];
      setText(line.value, (line.name ? line.name + ' ' : '') + (value === null || value === undefined ? '–' : this.write(value)));
    }
  }

  // mark is the text of an axis: without zeros that say nothing.
  #mark(v) {
    return v === 0 ? '0' : this.write(v).replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '');
  }

  #options() {
    const soft = () => colour('--soft'), line = {stroke: () => colour('--line'), width: 1}, font = '11px system-ui, sans-serif';
    return {
      ...this.#size(),
      legend: {show: false},
      cursor: {y: false, drag: {x: false, y: false}, sync: {key: 'usher'}, points: {size: 5}},
      padding: [10, 4, 0, 0],
      scales: {
        x: {time: true, range: (_, min, max) => [max - Math.min(Math.max(max - min, 60), HISTORY), max]},
        y: {range: (_, min, max) => [0, Math.max(this.least, (max ?? 0) * 1.1)]},
      },
      axes: [
        {stroke: soft, grid: line, ticks: line, font, size: 24, space: 70, values: times},
        {stroke: soft, grid: line, ticks: {show: false}, font, size: 58, gap: 4, space: 28, values: (_, all) => all.map(v => this.#mark(v))},
      ],
      series: [{}, ...this.lines.map(l => ({stroke: () => colour('--' + l.tone), width: 1.5, dash: l.tone === 'down' ? [5, 3] : undefined, points: {show: l.column === 'connect', size: 4}}))],
      hooks: {setCursor: [u => { if (this.#history) this.#say(u.cursor.idx); }]},
    };
  }
}

let colours = null; // of the scheme that is in force

function colour(name) {
  colours ??= getComputedStyle(document.documentElement);
  return colours.getPropertyValue(name);
}

// ---- Changes ----

const TOKEN = 'usher-token';
const api = (...words) => 'v1/' + words.map(encodeURIComponent).join('/');

// ask shows a dialog and returns whether it was confirmed.
function ask(dialog) {
  return new Promise(resolve => {
    dialog.returnValue = '';
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true});
    dialog.showModal();
  });
}

for (const dialog of document.querySelectorAll('dialog')) {
  dialog.querySelector('form').addEventListener('submit', e => {
    e.preventDefault();
    dialog.close('yes');
  });
  dialog.querySelector('[value=cancel]').addEventListener('click', () => dialog.close());
}

// utf8 has a character for each byte of a text, as headers want it.
const utf8 = text => String.fromCharCode(...new TextEncoder().encode(text));

// askToken returns whether a token was given. It is in the storage of this tab alone.
async function askToken(why) {
  $('token-why').textContent = why;
  $('token').value = '';
  const isGiven = await ask($('token-dialog'));
  if (isGiven) sessionStorage.setItem(TOKEN, $('token').value.trim());
  $('token').value = '';
  return isGiven;
}

const READ_ONLY = 'This page only reads. Changes need --admin-token-file: usher … --admin ADDRESS --admin-token-file FILE';

// change asks usher for a change, and for the token if it is refused without. It returns the answer of a success, or null:
// then the page says why.
async function change(what, method, path, body) {
  if (model.changes === 'none') {
    note(READ_ONLY, true);
    return null;
  }
  try {
    for (;;) {
      const token = sessionStorage.getItem(TOKEN), headers = token === null ? {} : {Authorization: 'Bearer ' + utf8(token)};
      const answer = await fetch(path, {method, headers, body: body && JSON.stringify(body), cache: 'no-store'});
      if (answer.ok) return answer;
      const {error} = await answer.json();
      if (answer.status !== 401) throw new Error(error);
      sessionStorage.removeItem(TOKEN);
      if (!await askToken(token === null ? `To ${what}, usher wants the token.` : 'usher does not know this token. Was it mistyped?')) return null;
    }
  } catch (e) {
    note(`Could not ${what}: ${e.message}`, true);
    return null;
  }
}

async function setAdmin(backend, admin) {
  const path = api('services', backend.service.name, 'backends', backend.address, 'override'), of = `${backend.address} of ${backend.service.name}`;
  const answer = admin === 'resume' ? await change(`resume ${of}`, 'DELETE', path) : await change(`${admin} ${of}`, 'PUT', path, {admin});
  if (answer) note({drain: `${of} drains: it gets no new flows.`, maint: `${of} is in maintenance.`, resume: `${of} is as configured again.`}[admin]);
}

// note shows a message until it is closed; one that only confirms goes by itself.
function note(text, isBad = false) {
  for (const n of $('notes').querySelectorAll(isBad ? '.note' : '.note:not(.bad)')) n.remove();
  const n = element('div', 'note' + (isBad ? ' bad' : '')), close = element('button', '', 'Close');
  close.type = 'button';
  close.setAttribute('aria-label', 'Close this message');
  close.addEventListener('click', () => n.remove());
  n.append(element('span', '', text), close);
  $('notes').append(n);
  if (!isBad) setTimeout(() => { if (n.children.length === 2) n.remove(); }, CONFIRMED);
  return n;
}

// ---- What is on the page ----

const model = new Model();
let chosen = null; // name of the service whose backends are shown
let events = [];

const serviceColumns = [
  {id: 'name', title: 'Service', kind: 'wide', isLong: true, text: s => s.name, value: s => s.name},
  {
    id: 'status', title: 'Status', text: s => statusText(s.data.status), tone: s => statusClass(s.data.status),
    value: s => STATUS_ORDER.indexOf(s.data.status),
  },
  number('backends', 'Backends', s => s.list.length, count, {text: s => `${count(s.inUse())} of ${count(s.list.length)}`, kind: 'quiet'}),
  {id: 'scheduler', title: 'Scheduler', kind: 'quiet', text: s => s.data.scheduler, value: s => s.data.scheduler},
  {id: 'listen', title: 'Listens on', kind: 'quiet', isLong: true, text: s => listens(s), value: s => listens(s)},
  number('active', 'Active', s => s.data.active, count),
  number('new', 'New/s', s => s.rate.flows, perSecond),
  number('queued', 'Queued', s => s.data.queued, count, {kind: 'number quiet'}),
  number('up', 'Up', s => s.rate.up, bytesPerSecond, {kind: 'number quiet'}),
  number('down', 'Down', s => s.rate.down, bytesPerSecond, {label: '↓', kind: 'number long'}),
  number('failed', 'Failed', s => s.data.failed, count, {tone: s => failedTone(s)}),
];

const listens = s => (s.data.virtual ?? []).map(v => v.address).concat(s.data.listen).join(', ');
const failedTone = s => s.rate.failed > 0 ? 'bad' : s.data.failed > 0 ? '' : 'zero';

const backendColumns = [
  {id: 'address', title: 'Backend', kind: 'wide', isLong: true, text: b => b.address + (b.data.backup ? ' (backup)' : ''), value: b => b.address},
  {
    id: 'status', title: 'Status', text: b => statusText(b.data.status), tone: b => statusClass(b.data.status),
    value: b => STATUS_ORDER.indexOf(b.data.status),
  },
  {id: 'why', title: 'Why', kind: 'half', isLong: true, text: b => why(b), value: b => why(b)},
  {
    id: 'since', title: 'Since', kind: 'number quiet', text: b => duration(model.time - Date.parse(b.data.since)),
    value: b => -Date.parse(b.data.since),
  },
  number('weight', 'Weight', b => b.data.weight, count, {kind: 'number quiet'}),
  number('active', 'Active', b => b.data.active, count),
  number('new', 'New/s', b => b.rate.flows, perSecond),
  number('up', 'Up', b => b.rate.up, bytesPerSecond, {kind: 'number quiet'}),
  number('down', 'Down', b => b.rate.down, bytesPerSecond, {label: '↓', kind: 'number long'}),
  number('failed', 'Failed', b => b.data.failed, count, {tone: b => failedTone(b), kind: 'number quiet'}),
  number('connect', 'Connect', b => b.data.connect_ms, milliseconds, {label: 'conn'}),
  {id: 'do', title: 'Change', kind: 'do', build: buildAdmin, paint: paintAdmin},
];

const why = b => {
  const {override, reason} = b.data;
  return [override && 'set by hand: ' + override, reason !== 'override: ' + override && reason].filter(Boolean).join('; ');
};

// Each button is about the item that its row has when it is pressed.
function buildAdmin(cell, row) {
  for (const [word, title] of [['drain', 'Drain'], ['maint', 'Maint'], ['resume', 'Resume']]) {
    const button = element('button', '', title);
    button.type = 'button';
    button.dataset.admin = word;
    button.addEventListener('click', () => setAdmin(row.item, word));
    cell.append(button);
  }
}

// paintAdmin shows what can be done next. The focus does not stay on a button that goes.
function paintAdmin(cell, b) {
  const by = b.data.override ?? '', had = document.activeElement;
  const isOffered = {drain: !/drain|maint/.test(by), maint: !by.includes('maint'), resume: by !== ''};
  for (const button of cell.children) {
    button.hidden = !isOffered[button.dataset.admin];
    const label = `${button.textContent} ${b.address}`;
    if (button.getAttribute('aria-label') !== label) button.setAttribute('aria-label', label);
  }
  if (had?.hidden && cell.contains(had)) cell.querySelector('button:not([hidden])').focus();
}

const eventColumns = [
  {id: 'time', title: 'Time', text: e => clock(e.at), value: e => e.rank, isMostFirst: true},
  {id: 'service', title: 'Service', kind: 'wide', isLong: true, text: e => e.service || 'usher', value: e => e.service},
  {id: 'backend', title: 'Backend', kind: 'half', isLong: true, text: e => e.backend ?? '', value: e => e.backend ?? ''},
  {id: 'event', title: 'Event', kind: 'half', isLong: true, text: e => eventText(e), tone: e => eventTone(e), value: e => e.event},
  {id: 'why', title: 'Why', isLong: true, text: e => e.reason ?? '', value: e => e.reason ?? ''},
];

const eventTone = e => e.event === 'status' ? statusClass(e.to) : e.to === 'refused' || e.event === 'ejected' || e.event === 'lost' ? 'bad' : '';

function eventText(e) {
  const move = e.event === 'override' && !e.to ? `${e.from} taken back` : [e.from, e.to].filter(Boolean).join(' → ');
  return e.event === 'status' ? move : [e.event, move].filter(Boolean).join(' ');
}

const serviceGrid = new Grid($('services'), {
  label: 'Services', columns: serviceColumns, sort: serviceColumns[0], isChosen: s => s.name === chosen,
  onOpen: s => choose(s.name === chosen ? null : s.name), onEscape: () => choose(null),
  empty: 'No service passes the filter, or there is none.',
});
const backendGrid = new Grid($('backends'), {
  label: 'Backends', columns: backendColumns, sort: backendColumns[0], onEscape: () => closeBackends(),
  onOpen: b => flows.filter({service: b.service.name, backend: b.address}),
  empty: 'No backend passes the filter, or there is none.',
});
const eventGrid = new Grid($('events'), {
  label: 'Events', columns: eventColumns, sort: {id: 'time', isDown: true}, isLoose: true, empty: 'Nothing has changed since the page was opened.',
});

const charts = [
  {title: 'Active flows', write: v => perSecond(Math.round(v)), least: 4, lines: [{column: 'active', tone: 'up'}]},
  {title: 'New a second', write: perSecond, least: 4, lines: [{column: 'flows', tone: 'up', name: 'new'}, {column: 'failed', tone: 'down', name: 'failed'}]},
  {title: 'Bytes', write: bytesPerSecond, least: 1000, lines: [{column: 'up', tone: 'up', name: 'up'}, {column: 'down', tone: 'down', name: 'down'}]},
  {title: 'Connect time', write: milliseconds, least: 1, lines: [{column: 'connect', tone: 'up'}]},
].map(options => new Chart($('charts'), options));

// passes reports whether every word of a filter is in one of the texts.
function passes(filter, ...texts) {
  const all = texts.join(' ').toLowerCase();
  return filter.toLowerCase().split(/\s+/).every(word => all.includes(word));
}

function draw() {
  const filter = $('services-filter').value;
  const some = filter ? model.list.filter(s => passes(filter, s.name, s.data.status, s.data.scheduler, listens(s))) : model.list;
  serviceGrid.set(some);
  setText($('services-count'), some.length === model.list.length ? count(some.length) : `${count(some.length)} of ${count(model.list.length)}`);
  drawBackends();
  if (model.process === null) return; // nothing was heard yet
  drawFacts();
  const s = model.services.get(chosen);
  if (!document.hidden) for (const c of charts) c.show(s?.history ?? model.history);
}

function drawBackends() {
  const s = model.services.get(chosen);
  $('backends-card').hidden = !s;
  $('all').hidden = !s;
  setText($('charts-title'), s ? s.name : 'All services');
  if (!s) return;
  const filter = $('backends-filter').value;
  const some = filter ? s.list.filter(b => passes(filter, b.address, b.data.status, why(b))) : s.list;
  setText($('backends-title'), `Backends of ${s.name}`);
  setText($('backends-count'), `${count(s.inUse())} of ${count(s.list.length)} in use` + (filter ? `, ${count(some.length)} pass the filter` : ''));
  backendGrid.set(some);
}

function drawEvents() {
  const filter = $('events-filter').value;
  eventGrid.set(filter ? events.filter(e => passes(filter, e.service, e.backend, eventText(e), e.reason)) : events);
  setText($('events-count'), events.length === 0 ? '' : `${events.length === MOST_EVENTS ? 'the last ' : ''}${events.length}`);
}

function drawFacts() {
  const p = model.process;
  document.title = `${p.name || 'usher'} – usher`;
  setText($('name'), p.name);
  const facts = {
    Flows: `${count(p.flows)} of ${count(p.max_conns)}`, CPU: model.cpu === null ? '–' : `${(model.cpu * 100).toFixed(1)} %`,
    Up: duration(model.time - Date.parse(p.started)), Version: p.version, Engine: `${p.engine}, ${p.workers} worker${p.workers === 1 ? '' : 's'}`,
    PID: String(p.pid), ...p.upgrades > 0 && {Upgrades: String(p.upgrades)}, ...p.config && {File: p.config},
    ...model.changes === 'none' && {Changes: 'need --admin-token-file'},
  };
  const host = $('facts');
  if (host.children.length !== Object.keys(facts).length) {
    host.replaceChildren(...Object.keys(facts).map(name => {
      const pair = element('div', ['Flows', 'CPU', 'Up', 'Changes'].includes(name) ? '' : 'quiet');
      pair.append(element('dt', '', name), element('dd'));
      return pair;
    }));
  }
  Object.entries(facts).forEach(([name, text], i) => {
    setText(host.children[i].children[0], name);
    setText(host.children[i].children[1], text);
  });
  document.body.classList.toggle('dim', model.changes === 'none');
}

// choose opens a service, or closes it. The address of the page keeps it over a reload.
function choose(name) {
  const before = chosen;
  chosen = name;
  history.replaceState(null, '', name === null ? location.pathname : '#service=' + encodeURIComponent(name));
  if (flows.form.service.value === (before ?? '')) flows.filter({service: name ?? '', backend: ''}, false);
  draw();
  serviceGrid.refresh();
}

function closeBackends() {
  choose(null);
  serviceGrid.focus();
}

// ---- Events, and what readers of the screen hear of them ----

let rank = 0; // of events, in the order in which they came
let unsaid = [];

function addEvent(e) {
  events.unshift({...e, at: Date.parse(e.time), rank: rank++});
  if (events.length > MOST_EVENTS) events.length = MOST_EVENTS;
  unsaid.push(e);
}

// say reads out what has happened in one sentence, so that a thousand backends that go down are not a thousand ones.
function say() {
  if (unsaid.length === 0) return;
  const e = unsaid[unsaid.length - 1], what = [e.service, e.backend, e.event === 'status' ? `is ${e.to}` : eventText(e), e.reason].filter(Boolean).join(' ');
  $('announce').textContent = unsaid.length === 1 ? what : `${unsaid.length} changes, the last one: ${what}`;
  unsaid = [];
  drawEvents();
}

// ---- Flows ----

const flowColumn = (id, title, text, more) => ({id, title, text, value: () => 0, ...more});

// Flows asks for the first flows in an order while they are seen, and not faster than usher can tell.
class Flows {
  form = $('flows-form');
  #known = new Map(); // by id
  #isSeen = false;
  #wake = () => {};
  #last = 0; // ms, of the last answer
  #isAsked = false; // a newer question waits

  constructor() {
    const columns = [
      flowColumn('client', 'Client', f => f.client, {kind: 'wide', isLong: true}),
      flowColumn('service', 'Service', f => f.service, {kind: 'quiet', isLong: true}),
      flowColumn('backend', 'Backend', f => f.backend || 'none yet', {kind: 'wide', isLong: true, label: 'to', tone: f => f.backend ? '' : 'zero'}),
      flowColumn('state', 'State', f => f.state),
      flowColumn('age', 'Age', f => duration(f.age_ms), {kind: 'number', label: 'age', isMostFirst: true}),
      flowColumn('idle', 'Idle', f => duration(f.idle_ms), {kind: 'number quiet', isMostFirst: true}),
      flowColumn('bytes-up', 'Up', f => bytes(f.bytes_up), {kind: 'number quiet', isMostFirst: true}),
      flowColumn('bytes-down', 'Down', f => bytes(f.bytes_down), {kind: 'number', label: '↓', isMostFirst: true}),
      {id: 'rate', title: 'Rate', kind: 'number long', text: f => bytesPerSecond(f.rate), tone: f => f.rate > 0 ? '' : 'zero'},
      flowColumn('rtt', 'RTT', f => milliseconds(f.rtt_ms), {kind: 'number quiet', isMostFirst: true}),
      flowColumn('tries', 'Tries', f => String(f.tries), {kind: 'number quiet', isMostFirst: true}),
      {id: 'do', title: 'Kill', kind: 'do one', build: (cell, row) => this.#buildKill(cell, row), paint: (cell, f) => cell.firstChild.setAttribute('aria-label', `Kill the flow of ${f.client}`)},
    ];
    this.grid = new Grid($('flows'), {label: 'Flows', columns, sort: {...columns[7], isDown: true}, onSort: () => this.#again(), empty: 'No flow passes the filters.'});
    this.form.addEventListener('input', () => this.#again());
    this.form.addEventListener('submit', e => e.preventDefault());
    $('kill-all').addEventListener('click', () => this.#killAll());
    new IntersectionObserver(all => {
      this.#isSeen = all[all.length - 1].isIntersecting;
      this.#wake();
    }).observe($('flows-card'));
    document.addEventListener('visibilitychange', () => this.#wake());
  }

  // filter sets filters, and shows the flows that pass.
  filter(values, isToShow = true) {
    for (const [name, value] of Object.entries(values)) this.form[name].value = value;
    if (isToShow) $('flows-card').scrollIntoView({block: 'nearest'});
    this.#again();
  }

  // follow asks again and again. It never ends.
  async follow() {
    for (;;) {
      const begin = performance.now();
      this.#isAsked = false;
      if (this.#isSeen && !document.hidden && live.isUp) await this.#ask();
      const rest = this.#isAsked ? 200 : Math.max(FLOWS_PERIOD, 10 * (performance.now() - begin));
      await new Promise(resolve => {
        this.#wake = resolve;
        setTimeout(resolve, rest);
      });
    }
  }

  #again() {
    this.#isAsked = true;
    this.#wake();
  }

  // query are the filters as the API has them.
  #query() {
    const query = new URLSearchParams();
    for (const name of ['match', 'client', 'service', 'backend', 'state']) {
      const value = this.form[name].value.trim();
      if (value) query.set(name, value);
    }
    return query;
  }

  async #ask() {
    const query = this.#query(), isAll = query.size === 0, top = Number(this.form.top.value);
    const {sort, isDown} = this.grid, isUsual = isDown === (sort.isMostFirst ?? false);
    query.set('sort', (isUsual ? '' : '-') + sort.id);
    query.set('top', top);
    query.set('rtt', 'true');
    try {
      const answer = await fetch('v1/flows?' + query, {cache: 'no-store', signal: AbortSignal.timeout(FLOWS_TIME)});
      const text = await answer.text();
      if (!answer.ok) throw new Error(JSON.parse(text).error);
      this.#take(text.split('\n').filter(Boolean).map(line => JSON.parse(line)), isAll, top);
    } catch (e) {
      if (live.isUp) setText($('flows-count'), e.message);
    }
  }

  #take(rows, isAll, top) {
    const now = performance.now(), seconds = (now - this.#last) / 1000, known = new Map();
    rows.forEach((f, i) => {
      const before = this.#known.get(f.id);
      f.rate = before ? Math.max(0, f.bytes_up + f.bytes_down - before.bytes_up - before.bytes_down) / seconds : 0;
      known.set(f.id, Object.assign(before ?? {}, f, {rank: i}));
    });
    this.#known = known;
    this.#last = now;
    this.grid.set([...known.values()]);
    const all = isAll ? ` of ${count(model.process.flows)}` : rows.length === top ? ', and maybe more' : '';
    setText($('flows-count'), `${count(rows.length)}${all}`);
  }

  #buildKill(cell, row) {
    const button = element('button', 'danger', 'Kill');
    button.type = 'button';
    button.addEventListener('click', () => {
      const f = row.item;
      // After a restart or an upgrade another flow may have the id.
      this.#kill(`The flow of ${f.client} to ${f.backend || f.service}. The client gets a reset.`, new URLSearchParams({id: f.id, match: f.client}));
    });
    cell.append(button);
  }

  #killAll() {
    const query = this.#query(), words = [...query].map(([name, value]) => `${name === 'match' ? 'the words' : name} ${value}`);
    const text = words.length > 0 ? `All flows with ${words.join(', ')}, also those that are not shown.` : 'All flows of all services, also those that are not shown.';
    if (words.length === 0) query.set('all', 'true');
    this.#kill(text + ' Their clients get a reset.', query);
  }

  async #kill(text, query) {
    if (model.changes === 'none') return void note(READ_ONLY, true);
    $('sure-text').textContent = text;
    if (!await ask($('sure-dialog'))) return;
    const answer = await change('kill flows', 'DELETE', 'v1/flows?' + query);
    if (!answer) return;
    const {killed} = await answer.json();
    note(killed === 1 ? '1 flow was killed.' : `${count(killed)} flows were killed.`);
    this.#again();
  }
}

// ---- Live: the stream of snapshots ----

// Live follows usher. A browser connects again by itself, also over a restart and an upgrade, but not after an answer
// that is no stream, such as that of another program on this address.
class Live {
  isUp = false;
  #source = null;
  #last = performance.now(); // ms, of the last snapshot, on this machine's clock
  #lostAt = 0;
  #version = null;

  connect() {
    const source = this.#source = new EventSource('v1/live');
    source.addEventListener('open', () => model.drop());
    source.addEventListener('service', e => model.hold(true, JSON.parse(e.data)));
    source.addEventListener('change', e => model.hold(false, JSON.parse(e.data)));
    source.addEventListener('snapshot', e => this.#take(JSON.parse(e.data)));
    source.addEventListener('event', e => addEvent(JSON.parse(e.data)));
    source.addEventListener('error', () => {
      model.drop();
      this.#lose();
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.connect(), FLOWS_PERIOD);
    });
  }

  // check notices a stream that is silent. A browser has six connections for all tabs that show one address, so that the
  // stream of a seventh waits without an error.
  check() {
    if (performance.now() - this.#last > STALE) this.#lose();
  }

  #lose() {
    if (!this.isUp && this.#lostAt > 0) return;
    this.isUp = false;
    this.#lostAt = model.time || Date.now();
    $('state').className = 'lost';
    setText($('state'), model.process ? `no answer; all below is as of ${clock(this.#lostAt)}; trying again` : 'no answer, or too many tabs show this page; trying again');
    document.querySelector('main').classList.add('stale');
  }

  #take(snapshot) {
    const before = model.take(snapshot, chosen), now = model.process;
    this.#last = performance.now();
    if (!this.isUp) {
      this.isUp = true;
      $('state').className = 'live';
      setText($('state'), 'live');
      document.querySelector('main').classList.remove('stale');
    }
    if (before) this.#compare(before, now);
    this.#version ??= now.version;
    draw();
    fillNames();
  }

  // compare tells what became of usher while nothing was heard of it.
  #compare(before, now) {
    const tell = (event, reason) => addEvent({time: new Date(model.time).toISOString(), service: '', event, reason});
    if (before.pid !== now.pid || before.started !== now.started) tell('restarted', `PID ${now.pid}; its counters begin anew`);
    else if (before.upgrades !== now.upgrades) tell('upgraded', `version ${now.version}; its flows were kept`);
    if (this.#version !== null && this.#version !== now.version) {
      this.#version = now.version;
      const button = element('button', '', 'Reload the page');
      button.type = 'button';
      button.addEventListener('click', () => location.reload());
      note(`usher is version ${now.version} now; this page is of the one before.`).lastChild.before(button);
    }
  }
}

// fillNames offers the names of services to the filter of flows.
function fillNames() {
  const list = $('service-names'), names = model.list.slice(0, 200).map(s => s.name).join('\n');
  if (list.dataset.names === names) return;
  list.dataset.names = names;
  list.replaceChildren(...names.split('\n').map(name => {
    const option = element('option');
    option.value = name;
    return option;
  }));
}

// ---- Start ----

const flows = new Flows();
const live = new Live();

$('services-filter').addEventListener('input', draw);
$('backends-filter').addEventListener('input', drawBackends);
$('events-filter').addEventListener('input', drawEvents);
$('backends-close').addEventListener('click', closeBackends);
$('all').addEventListener('click', closeBackends);

for (const [id, grid] of [['services-filter', serviceGrid], ['backends-filter', backendGrid], ['events-filter', eventGrid]]) {
  $(id).addEventListener('keydown', e => {
    if (e.key === 'ArrowDown' || e.key === 'Enter') grid.focus();
    else if (e.key === 'Escape' && e.target.value) {
      e.target.value = '';
      e.target.dispatchEvent(new Event('input'));
    } else return;
    e.preventDefault();
  });
}

document.addEventListener('keydown', e => {
  if (e.key !== '/' || e.ctrlKey || e.altKey || e.metaKey || e.target.closest('input, select, dialog')) return;
  e.preventDefault();
  const filter = e.target.closest('section')?.querySelector('input[type=search]') ?? $('services-filter');
  filter.focus();
  filter.select();
});

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  colours = null;
  for (const c of charts) c.redraw();
});

const wanted = /^#service=(.*)$/.exec(location.hash);
if (wanted) {
  try {
    choose(decodeURIComponent(wanted[1]));
  } catch {
    // not an address that this page wrote
  }
} else {
  drawBackends();
}
drawEvents();
serviceGrid.set([], false);
flows.grid.set([], false);
setInterval(() => {
  live.check();
  say();
}, 1000);
live.connect();
flows.follow();
