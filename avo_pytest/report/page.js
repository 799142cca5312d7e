// SPDX-License-Identifier: MIT
// Switches units, moves the marks there, looks attempts up. The page is complete without it.
"use strict";
const HTML = document.documentElement;
const REACH = 18;  // pixels from the pointer to a mark

function theme(button) {
  const order = ["system", "light", "dark"];
  let at = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    at = (at + 1) % order.length;
    if (at) HTML.dataset.theme = order[at]; else delete HTML.dataset.theme;
    button.textContent = `Theme: ${order[at]}`;
  });
}

function series(section) {
  const data = JSON.parse(section.querySelector(".data").textContent);
  const count = data.id.length;
  const stacks = [...section.querySelectorAll(".stack")].map((element) => stack(element, data));
  const tip = section.querySelector(".tip");
  const mode = { x: Object.keys(data.x)[0], y: Object.keys(data.y)[0] };
  let chosen = -1;

  for (const hidden of section.querySelectorAll(".controls, .keys, .search")) hidden.hidden = false;

  function lines(i) {
    const verdict = data.verdicts[data.verdict[i]];
    const what = i in data.version ? `version ${data.version[i]}` : verdict;
    const gain = data.gain[i] === null ? "" : ` ${data.gain[i] > 0 ? "+" : ""}${data.gain[i]} %`;
    const idea = data.strings[data.idea[i]], author = data.strings[data.author[i]];
    return [`${what}${gain}`, idea, author && `by ${author}`, `run ${data.id[i]}`,
            data.strings[data.why[i]]].filter(Boolean);
  }

  function choose(i, at) {
    chosen = i;
    for (const one of stacks) one.ring(i);
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.textContent = lines(i).join("\n");
    const place = at.place(i), box = tip.offsetParent.getBoundingClientRect();
    const left = place.x - box.left, room = box.width - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, left + 14))}px`;
    tip.style.top = `${place.y - box.top + 14}px`;
  }

  for (const one of stacks) {
    const area = one.element;
    area.tabIndex = 0;
    area.addEventListener("pointermove", (event) => choose(one.nearest(event.clientX, event.clientY), one));
    area.addEventListener("pointerleave", () => choose(-1, one));
    area.addEventListener("click", () => chosen >= 0 && explain(data.id[chosen]));
    area.addEventListener("blur", () => choose(-1, one));
    area.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, PageDown: 25, PageUp: -25 };
      let next = chosen;
      if (event.key in steps) next = chosen < 0 ? count - 1 : chosen + steps[event.key];
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = count - 1;
      else if (event.key === "Escape") next = -1;
      else if (event.key === "Enter" && chosen >= 0) return explain(data.id[chosen]);
      else return;
      event.preventDefault();
      choose(next < 0 && event.key !== "Escape" ? 0 : Math.min(count - 1, next), one);
    });
  }

  for (const radio of section.querySelectorAll(".controls input")) {
    radio.addEventListener("change", () => {
      mode[radio.name[0]] = radio.value;
      choose(-1, stacks[0]);
      for (const one of stacks) one.show(mode.x, mode.y);
    });
  }
  for (const box of section.querySelectorAll(".legend input")) {
    box.hidden = false;
    box.addEventListener("change", () => stacks.forEach((one) => one.toggle(box.value, box.checked)));
  }

  const form = section.querySelector(".search");
  const body = section.querySelector(".why tbody");
  const latest = body && body.innerHTML;
  function look(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) { body.innerHTML = latest; form.querySelector("output").textContent = ""; return; }
    const found = [];
    for (let i = count - 1; i >= 0; i--)
      if (lines(i).join(" ").toLowerCase().includes(wanted)) found.push(i);
    body.replaceChildren(...found.slice(0, 50).map(row));
    form.querySelector("output").textContent = `${found.length} found` + (found.length > 50 ? ", the latest 50 shown" : "");
  }
  function row(i) {
    const tr = document.createElement("tr");
    const verdict = i in data.version ? `PROMOTE, version ${data.version[i]}` : data.verdicts[data.verdict[i]];
    const gain = data.gain[i] === null ? "" : `${data.gain[i]} %`;
    for (const text of [data.id[i], verdict, data.strings[data.idea[i]], gain, data.strings[data.why[i]]])
      tr.append(Object.assign(document.createElement("td"), { textContent: text }));
    return tr;
  }
  function explain(id) {
    if (!form) return;
    form.querySelector("input").value = id;
    look(id);
    form.scrollIntoView({ block: "center" });
  }
  if (form) {
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector("input").addEventListener("input", (event) => look(event.target.value));
  }
}

function stack(element, data) {
  const main = data.main[element.classList.contains("wide") ? "wide" : "narrow"];
  const svg = element.querySelector(".dots svg");
  const marks = new Array(data.id.length);
  const groups = {};
  for (const group of svg.querySelectorAll("g[data-verdict]")) {
    const verdict = group.dataset.verdict, at = data.verdicts.indexOf(verdict);
    const uses = group.querySelectorAll("use");
    let k = 0;
    groups[verdict] = group;
    data.verdict.forEach((v, i) => { if (v === at) marks[i] = uses[k++]; });
  }
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("r", 8);
  ring.setAttribute("class", "ring");
  ring.style.display = "none";
  svg.append(ring);
  const spot = (i) => [Number(marks[i].getAttribute("x")), Number(marks[i].getAttribute("y"))];
  const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return {
    element,
    show(x, y) {
      for (const frame of element.querySelectorAll(".frame"))
        frame.hidden = frame.dataset.x !== x || frame.dataset.y !== y;
      const [left, bottom, width, height] = main;
      marks.forEach((mark, i) => {
        mark.setAttribute("x", (left + width * data.x[x][i] / data.steps).toFixed(1));
        if (data.y[y][i] >= 0) mark.setAttribute("y", (bottom - height * data.y[y][i] / data.steps).toFixed(1));
      });
    },
    toggle(verdict, on) { if (groups[verdict]) groups[verdict].style.display = on ? "" : "none"; },
    ring(i) {
      ring.style.display = i < 0 ? "none" : "";
      if (i >= 0) { const [x, y] = spot(i); ring.setAttribute("cx", x); ring.setAttribute("cy", y); }
    },
    place(i) {
      const box = svg.getBoundingClientRect(), [x, y] = spot(i);
      return { x: box.left + x * scale(), y: box.top + y * scale() };
    },
    nearest(clientX, clientY) {
      const box = svg.getBoundingClientRect(), k = scale();
      const x = (clientX - box.left) / k, y = (clientY - box.top) / k;
      let best = -1, least = (REACH / k) ** 2;
      for (let i = 0; i < marks.length; i++) {
        if (groups[data.verdicts[data.verdict[i]]].style.display === "none") continue;
        const [u, v] = spot(i), away = (u - x) ** 2 + (v - y) ** 2;
        if (away <= least) { least = away; best = i; }
      }
      return best;
    },
  };
}

theme(document.getElementById("theme"));
document.querySelectorAll(".series").forEach(series);
