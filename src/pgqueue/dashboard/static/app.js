// All that a page does by itself. Without it every page still works: forms are forms, links are links.
"use strict";
(() => {
  const body = document.body;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Times that say how long ago
  const UNITS = [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "m"], [0, 1, "s"]];
  const span = (seconds) => {
    const [, unit, letter] = UNITS.find(([least]) => Math.round(seconds) >= least);
    return `${Math.floor(Math.round(seconds) / unit)}${letter}`;
  };
  const relate = () => {
    for (const time of $$("time[datetime]:not([data-absolute])")) {
      const away = (Date.parse(time.dateTime) - Date.now()) / 1000 + skew;
      const text = Math.abs(away) < 1 ? "now" : away > 0 ? `in ${span(away)}` : `${span(-away)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };
  // The server's clock counts, however wrong ours is.
  const skew = (Date.now() - Date.parse(body.dataset.now || new Date().toISOString())) / 1000;
  setInterval(relate, 1000);

  // News: when something has changed, the parts of this page that show it are asked for again
  const sign = $(".live");
  const say = (state, text) => { if (sign) { sign.dataset.state = state; sign.textContent = text; } };
  let version = body.dataset.version || null;
  let asking = false;
  let again = false;
  const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, summary")
    || Boolean($("dialog[open]")) || (getSelection() && !getSelection().isCollapsed && part.contains(getSelection().anchorNode));
  const mark = (before, after) => {
    const old = new Map($$("[data-figure]", before).map((e) => [e.dataset.figure, e.textContent]));
    for (const figure of $$("[data-figure]", after)) {
      if (old.has(figure.dataset.figure) && old.get(figure.dataset.figure) !== figure.textContent) figure.classList.add("changed");
    }
  };
  const refresh = async () => {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store", redirect: "manual" });
      if (answer.status === 401 || answer.type === "opaqueredirect") { location.reload(); return; }
      if (!answer.ok) { say("lost", answer.status === 503 ? "database not reached" : "not up to date"); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of $$("[data-live]")) {
        const fresh = $(`[data-live="${CSS.escape(part.dataset.live)}"]`, page);
        if (!fresh || fresh.innerHTML === part.innerHTML || busy(part)) continue;
        const at = $$("tbody tr", part).indexOf($("tr.on", part));
        const focus = document.activeElement && part.contains(document.activeElement) ? document.activeElement.id : "";
        const node = document.importNode(fresh, true);
        mark(part, node);
        part.replaceWith(node);
        if (at >= 0) $$("tbody tr", node)[at]?.classList.add("on");
        if (focus) document.getElementById(focus)?.focus();
      }
      relate();
      say("on", "live");
    } catch { say("lost", "no connection"); } finally {
      asking = false;
      if (again) { again = false; setTimeout(refresh, 300); }
    }
  };
  const hear = (told) => {
    if (told === "lost") { say("lost", "database not reached"); return; }
    if (version !== told) { version = told; refresh(); } else say("on", "live");
  };
  if (body.dataset.retry) {
    const look = async () => {
      try { const answer = await fetch(location.href, { cache: "no-store", headers: { "X-Live": "1" } }); if (answer.ok) location.reload(); } catch { /* not yet */ }
    };
    setInterval(look, 3000);
  } else if ($("[data-live]") && body.dataset.live) {
    const poll = () => { if (!document.hidden) refresh(); };
    if (body.dataset.live === "stream" && "EventSource" in window) {
      let source = null;
      const open = () => {
        source = new EventSource(body.dataset.stream);
        source.addEventListener("version", (event) => hear(event.data));
        source.onerror = () => { if (source.readyState === EventSource.CLOSED) { say("lost", "not live"); source = null; setTimeout(() => source || document.hidden || open(), 5000); } };
      };
      open();
      document.addEventListener("visibilitychange", () => {
        if (document.hidden) { source?.close(); source = null; } else if (!source) open();
      });
      setInterval(poll, 20000);
    } else setInterval(poll, 5000);
  }

  // Questions before what cannot be undone
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const question = form.dataset.confirm;
    if (!question || form.dataset.sure) return;
    event.preventDefault();
    const dialog = $("#sure");
    $("p", dialog).textContent = question;
    const yes = $("button[value=yes]", dialog);
    yes.textContent = event.submitter?.textContent.trim() || "Do it";
    dialog.onclose = () => { if (dialog.returnValue === "yes") { form.dataset.sure = "1"; form.requestSubmit(event.submitter); } };
    dialog.returnValue = "";
    dialog.showModal();
  });

  // Clicks
  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = $(copy.dataset.copy)?.textContent ?? "";
      try { await navigator.clipboard.writeText(text); } catch {
        const range = document.createRange(); range.selectNodeContents($(copy.dataset.copy));
        getSelection().removeAllRanges(); getSelection().addRange(range); document.execCommand("copy");
      }
      const before = copy.textContent; copy.textContent = "Copied"; setTimeout(() => { copy.textContent = before; }, 1500);
      return;
    }
    const opener = event.target.closest("[data-open]");
    if (opener) { $(opener.dataset.open)?.showModal(); return; }
    const closer = event.target.closest("[data-close]");
    if (closer) { closer.closest("dialog")?.close(); return; }
    const row = event.target.closest("tr[data-href]");
    if (row && !event.target.closest("a, button, input, select, form, label") && getSelection().isCollapsed) {
      if (event.metaKey || event.ctrlKey) window.open(row.dataset.href, "_blank", "noopener"); else location.href = row.dataset.href;
    }
    for (const open of $$(".rail .more[open]")) if (!open.contains(event.target)) open.open = false;
  });
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.matches("[data-submits]")) field.form.requestSubmit();
    if (field.matches("[data-all]")) for (const box of $$("input[name=ids], input[data-id]")) box.checked = field.checked;
    if (field.matches("[data-switches]")) toggle(field);
  });
  const toggle = (field) => {
    for (const part of $$(`[data-when^="${CSS.escape(field.name)}="]`)) part.hidden = part.dataset.when !== `${field.name}=${field.value}`;
  };
  for (const field of $$("select[data-switches], input[data-switches]:checked")) toggle(field);
  for (const part of $$("[data-scripted]")) part.hidden = false;

  // Light and dark, at once; the form tells the server for the next page
  for (const form of $$("form[data-theme-form]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const theme = event.submitter.value;
      document.documentElement.dataset.theme = theme;
      for (const button of $$("form[data-theme-form] button")) button.setAttribute("aria-pressed", String(button.value === theme));
      const data = new URLSearchParams(new FormData(form)); data.set("theme", theme);
      fetch(form.action, { method: "POST", body: data, redirect: "manual" });
    });
  }

  // A link with the token behind #, as `pgqueue dashboard` prints it
  const login = $("form[data-login]");
  if (login && location.hash.length > 1) {
    const given = new URLSearchParams(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    if (given.has("token")) {
      login.elements.name.value = given.get("name") || ""; login.elements.token.value = given.get("token");
      login.requestSubmit();
    }
  }

  // Keys
  const rows = () => $$("main tbody tr").filter((row) => row.offsetParent !== null && row.closest("[data-rows]"));
  const step = (by) => {
    const all = rows(); if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("on"));
    const next = all[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by, 0), all.length - 1)];
    all[at]?.classList.remove("on"); next.classList.add("on");
    ($("a", next) || next).focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" });
  };
  let first = "";
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.target.matches("input, select, textarea, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if ($("dialog[open]") && event.key !== "?") return;
    const go = first === "g" && body.dataset[`go${event.key.toUpperCase()}`];
    if (go) { event.preventDefault(); location.href = go; return; }
    first = event.key;
    setTimeout(() => { first = ""; }, 900);
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "x") { const box = $("tr.on input[type=checkbox]"); if (box) box.checked = !box.checked; }
    else if (event.key === "o") { const link = $("tr.on a"); if (link) location.href = link.href; }
    else if (event.key === "/") { const search = $("[data-search]"); if (search) { event.preventDefault(); search.focus(); search.select?.(); } else if (body.dataset.goJ) location.href = `${body.dataset.goJ}#search`; }
    else if (event.key === "?") { const help = $("#keys"); if (help.open) help.close(); else help.showModal(); }
    else if (event.key === "r") refresh();
  });
  if (location.hash === "#search") $("[data-search]")?.focus();
  relate();
})();
