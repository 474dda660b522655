"use strict";
(() => {
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const [cols, rows] = scene.picture;
  const [width, height] = [scene.pixel[0] * cols, scene.pixel[1] * rows]; // metres on the ground
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const map = L.map("map", {
    crs: L.CRS.Simple, // x and y in metres from the upper left corner: the scale bar is right in the map's middle
    attributionControl: false,
    zoomControl: false,
    minZoom: -30, // until the map's size on the screen is known
    zoomSnap: 0.1,
    wheelPxPerZoomLevel: 100,
    maxBoundsViscosity: 0.6,
    zoomAnimation: !still,
    fadeAnimation: false,
    inertia: !still,
  });
  const bounds = L.latLngBounds([[-height, 0], [0, width]]);

  // Pictures, each in a pane of its own, so that a pane can be cut at the divider.
  const titles = {};
  const pictures = {};
  const panes = {};
  for (const layer of scene.layers) {
    titles[layer.key] = layer.title;
    pictures[layer.key] = document.getElementById("picture-" + layer.key);
    panes[layer.key] = map.createPane(layer.key);
    panes[layer.key].style.zIndex = 250;
    L.imageOverlay(pictures[layer.key], bounds, { pane: layer.key }).addTo(map);
  }

  function showAll() {
    map.fitBounds(bounds, { padding: [12, 12], animate: false });
  }
  showAll();
  const whole = map.getZoom();
  map.setMinZoom(whole - 1);
  map.setMaxZoom(Math.max(whole + 1, Math.log2(16 / Math.min(...scene.pixel))));
  map.setMaxBounds(bounds.pad(0.75));
  L.control.zoom({ position: "topleft" }).addTo(map);
  const fit = L.control({ position: "topleft" });
  fit.onAdd = () => {
    const box = L.DomUtil.create("div", "leaflet-bar");
    const button = L.DomUtil.create("a", "", box);
    button.href = "#";
    button.title = "Whole map";
    button.setAttribute("role", "button");
    button.setAttribute("aria-label", "Whole map");
    button.innerHTML = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M1 6V1h5M10 1h5v5M15 10v5h-5M6 15H1v-5"/></svg>';
    L.DomEvent.disableClickPropagation(box).on(button, "click", L.DomEvent.stop).on(button, "click", showAll);
    return box;
  };
  fit.addTo(map);
  L.control.scale({ position: "bottomleft", imperial: false, maxWidth: 140 }).addTo(map);

  // The divider.
  const swipe = document.getElementById("swipe");
  const sides = scene.sides;
  let share = 0.5;

  function cut() {
    const size = map.getSize();
    const start = map.containerPointToLayerPoint([0, 0]);
    const end = map.containerPointToLayerPoint(size);
    const middle = sides.left === sides.right ? end.x : start.x + share * size.x;
    const spans = { [sides.right]: [middle, end.x], [sides.left]: [start.x, middle] };
    for (const [key, pane] of Object.entries(panes)) {
      const span = spans[key];
      pane.style.display = span ? "" : "none";
      if (span) {
        pane.style.clipPath = `polygon(${span[0]}px ${start.y}px, ${span[1]}px ${start.y}px, ${span[1]}px ${end.y}px, ${span[0]}px ${end.y}px)`;
      }
    }
    const pixels = scene.pixel[0] * 2 ** map.getZoom();
    document.getElementById("map").classList.toggle("enlarged", pixels > 1);
  }

  function moveTo(value) {
    share = Math.min(1, Math.max(0, value));
    swipe.style.left = 100 * share + "%";
    swipe.setAttribute("aria-valuenow", Math.round(100 * share));
    swipe.setAttribute("aria-valuetext", `${Math.round(100 * share)} %: ${titles[sides.left]} left, ${titles[sides.right]} right`);
    cut();
  }

  function choose(side, key) {
    const other = side === "left" ? "right" : "left";
    if (sides[other] === key) sides[other] = sides[side]; // change places rather than show one picture twice
    sides[side] = key;
    for (const [name, shown] of Object.entries(sides)) {
      swipe.querySelector(".tag." + name).textContent = titles[shown];
      const input = document.querySelector(`input[name=${name}][value=${shown}]`);
      if (input) input.checked = true;
    }
    moveTo(share);
  }

  swipe.addEventListener("pointerdown", (event) => {
    swipe.setPointerCapture(event.pointerId);
    event.preventDefault();
    swipe.focus({ focusVisible: false });
  });
  swipe.addEventListener("pointermove", (event) => {
    if (!swipe.hasPointerCapture(event.pointerId)) return;
    const frame = map.getContainer().getBoundingClientRect();
    moveTo((event.clientX - frame.left) / frame.width);
  });
  swipe.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    moveTo(share + steps[event.key]);
  });
  for (const input of document.querySelectorAll(".choice input")) {
    input.addEventListener("change", () => choose(input.name, input.value));
  }
  map.on("move zoom viewreset resize", cut);
  choose("left", sides.left);
  new ResizeObserver(() => map.invalidateSize()).observe(map.getContainer());

  // Polygons.
  function areaText(m2) {
    const [value, unit] = m2 < 1e3 ? [m2, "m²"] : m2 < 1e7 ? [m2 / 1e4, "ha"] : [m2 / 1e6, "km²"];
    const digits = value >= 100 || unit === "m²" ? 0 : value >= 10 ? 1 : 2;
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) + " " + unit;
  }

  function describe(entry) {
    const box = document.createElement("div");
    const swatch = document.createElement("i");
    const name = document.createElement("bdi");
    const area = document.createElement("small");
    swatch.style.background = `rgb(${scene.classes[entry.c].color})`;
    name.textContent = scene.classes[entry.c].name;
    area.textContent = areaText(entry.a);
    box.append(swatch, name, area);
    return box;
  }

  function ring(steps) {
    const points = [];
    let x = 0;
    let y = 0;
    for (let i = 0; i < steps.length; i += 2) {
      x += steps[i];
      y += steps[i + 1];
      points.push([(-y * scene.pixel[1]) / scene.units, (x * scene.pixel[0]) / scene.units]);
    }
    return points;
  }

  const box = document.getElementById("outlines");
  if (box) {
    const faint = { color: "#ffffff", weight: 0.8, opacity: 0.45, fillOpacity: 0 };
    const clear = { ...faint, weight: 1.2, opacity: 0.95 };
    let plain = faint;
    const group = L.layerGroup();
    const renderer = L.canvas({ padding: 0.3 });
    for (const entry of scene.outlines) {
      const shape = L.polygon(entry.p.map((part) => part.map(ring)), { ...plain, renderer, smoothFactor: 0.7 });
      shape.on("mouseover", () => shape.setStyle({ weight: 3, opacity: 1 }).bringToFront());
      shape.on("mouseout", () => shape.setStyle(plain));
      shape.bindTooltip(() => describe(entry), { sticky: true, className: "region", opacity: 1 });
      group.addLayer(shape);
    }
    group.addTo(map);
    map.on("zoomend", () => {
      const wanted = map.getZoom() < whole + 1.5 ? faint : clear; // many borders would hide the picture
      if (wanted === plain) return;
      plain = wanted;
      group.eachLayer((shape) => shape.setStyle(plain));
    });
    box.addEventListener("change", () => (box.checked ? group.addTo(map) : group.remove()));
  }

  // What is under the pointer: read back from the colours of the pictures.
  const readout = document.getElementById("readout");
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const colors = { map: new Map(), confidence: new Map() };
  scene.classes.forEach((entry) => {
    const key = entry.color.join();
    const same = colors.map.get(key);
    colors.map.set(key, same ? `${same} / ${entry.name}` : entry.name);
  });
  scene.confidence.forEach((color, percent) => colors.confidence.set(color.join(), `${percent} %`));

  function found(key, col, row) {
    const picture = pictures[key];
    if (!picture || !picture.naturalWidth) return null;
    pen.clearRect(0, 0, 1, 1);
    pen.drawImage(picture, col, row, 1, 1, 0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    return alpha ? colors[key].get([red, green, blue].join()) : null;
  }

  map.on("mousemove click", (event) => {
    const col = event.latlng.lng / scene.pixel[0];
    const row = -event.latlng.lat / scene.pixel[1];
    if (col < 0 || row < 0 || col >= cols || row >= rows) {
      readout.textContent = "";
      return;
    }
    const [a, b, c, d, e, f] = scene.transform;
    const place = [a * col + b * row + c, d * col + e * row + f].map((v) => v.toFixed(scene.digits)).join(", ");
    const name = document.createElement("b");
    name.textContent = found("map", Math.floor(col), Math.floor(row)) || "not mapped";
    const sure = found("confidence", Math.floor(col), Math.floor(row));
    readout.replaceChildren(name, `${sure ? ` · ${sure}` : ""} · ${place} (${scene.crs})`);
  });
  map.on("mouseout", () => readout.replaceChildren());
})();
