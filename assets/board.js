// Puts newer parts of the page in the place of older ones, and says when nothing newer comes.
"use strict";
(() => {
  const STALE_AFTER_MS = 7000;
  const root = document.documentElement;
  const stale = document.getElementById("stale");
  const said = document.getElementById("said");
  let heard = performance.now();
  let heardAt = new Date();
  // What the station's clock is ahead of this one's.
  let ahead = Number(root.dataset.now) - Date.now();
  let source = null;

  function words() {
    const now = {};
    for (const nest of document.querySelectorAll("[data-nest]")) now[nest.dataset.nest] = nest.dataset.said;
    return now;
  }

  function put(name, html) {
    const place = document.getElementById(name);
    if (!place) return;
    const before = words();
    const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    // Whoever reads a table goes on where they were, sideways too.
    const scrolled = new Map();
    for (const it of place.querySelectorAll(".scroll")) scrolled.set(it.getAttribute("aria-label"), [it.scrollLeft, it.scrollTop]);
    const template = document.createElement("template");
    template.innerHTML = html;
    place.replaceChildren(template.content);
    if (focused) place.querySelector(`[aria-label="${focused}"]`)?.focus({ preventScroll: true });
    for (const it of place.querySelectorAll(".scroll")) {
      [it.scrollLeft, it.scrollTop] = scrolled.get(it.getAttribute("aria-label")) ?? [0, 0];
    }
    ages();
    if (name !== "nests") return;
    const news = Object.entries(words()).filter(([nest, text]) => before[nest] !== text).map(([, text]) => text);
    if (news.length) said.textContent = news.join(" ");
  }

  function ages() {
    const now = Date.now() + ahead;
    for (const time of document.querySelectorAll("time[data-at]")) {
      const s = Math.max(0, Math.round((now - Number(time.dataset.at)) / 1000));
      const ago = time.parentElement.querySelector(".ago");
      const text = s < 120 ? `${s} s` : s < 7200 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
      if (ago) ago.textContent = `(${text})`;
    }
  }

  function look() {
    const old = performance.now() - heard > STALE_AFTER_MS;
    root.classList.toggle("stale", old);
    const text = old ? `⚠ No word from the station since ${heardAt.toLocaleTimeString([], { hourCycle: "h23" })}: what is shown may be old.` : "";
    if (stale.textContent !== text) stale.textContent = text;
    if (!old) ages();
  }

  function take(event) {
    const it = JSON.parse(event.data);
    heard = performance.now();
    heardAt = new Date();
    if (it.what === "beat") {
      ahead = it.now - Date.now();
      // The station has another version now: its page may be another too.
      if (it.version !== root.dataset.version) location.reload();
    } else {
      put(it.name, it.html);
    }
    look();
  }

  function listen() {
    if (source) source.close();
    source = new EventSource("board/parts");
    source.onmessage = take;
    source.onerror = () => {
      // The browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    };
  }

  setInterval(look, 1000);
  ages();
  listen();
})();
