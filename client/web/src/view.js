// Everything that the page shows of a message: numbers, bars, pictures, and one sentence for screen readers.

import { paint, paintMaps, squaredError } from "./picture.js";

const ALBUM = 40;
const $ = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");

/** Show one line that needs attention; an empty line hides it. */
export function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

/** Show the classes of the task, without probabilities. */
export function showClasses(names) {
  const shown = names.length > 10 ? [] : names;
  $("classes").replaceChildren(
    ...shown.map((name) => {
      const item = document.createElement("li");
      const label = document.createElement("span");
      label.textContent = name;
      const bar = document.createElement("span");
      bar.className = "meter";
      bar.setAttribute("role", "meter");
      bar.setAttribute("aria-label", name);
      item.append(label, bar, document.createElement("output"));
      return item;
    }),
  );
}

/** Offer the other cuts of the network; `go` is called with a page's address. */
export function showCuts(cuts, go) {
  if (cuts.length < 2) return;
  $("cuts").querySelector("ul").replaceChildren(
    ...cuts.map(({ port, block, numbers }) => {
      const address = new URL(location.href);
      const here = Number(address.port) === port;
      address.port = port;
      address.hash = "";
      const link = document.createElement("a");
      link.href = address.href;
      if (here) link.setAttribute("aria-current", "page");
      const what = document.createElement("strong");
      what.textContent = `block ${block}`;
      link.append(what, ` ${count.format(numbers)} numbers`);
      link.addEventListener("click", (event) => {
        event.preventDefault();
        if (!here) go(address.href);
      });
      const item = document.createElement("li");
      item.append(link);
      return item;
    }),
  );
  $("cuts").hidden = false;
}

/** Let the pulse run along the wire. */
export function pulse() {
  const wire = document.querySelector(".wire");
  wire.classList.remove("sending");
  void wire.offsetWidth; // starts the animation again
  wire.classList.add("sending");
}

/** Show the picture as the encoder gets it. */
export function showSeen(own, input) {
  paint($("seen"), own, input);
  const [, height, width] = input.shape;
  $("seen").setAttribute("aria-label", `Your picture in ${width} by ${height} pixels`);
  $("seen-size").textContent = `this picture of ${width} × ${height} pixels`;
}

/** Show what left the device, and what came back. */
export function showSent({ activation, probabilities, bytes, classes, manifest, spent }) {
  paintMaps($("maps"), activation);
  const channels = activation.shape[1];
  $("maps").setAttribute("aria-label", `The ${channels} maps of numbers that the service receives`);
  $("bytes").textContent = `${count.format(bytes)} bytes`;
  $("numbers").textContent = `${count.format(activation.data.length)} numbers`;
  $("origin").textContent = `They are the output of block ${manifest.cut} of ${manifest.model}.`;
  $("spent").textContent = ` after ${spent < 10 ? spent.toFixed(1) : Math.round(spent)} ms of computing`;
  const best = probabilities.indexOf(Math.max(...probabilities));
  $("prediction").textContent = classes[best];
  [...$("classes").children].forEach((item, index) => {
    fill(item.querySelector(".meter"), probabilities[index], 1);
    item.querySelector("output").textContent = percent(probabilities[index]);
  });
  return `${classes[best]}, ${percent(probabilities[best])}`;
}

/** Show the eavesdropper's state. */
export function showStatus(status) {
  const state = $("eaves-state");
  const training = status.state === "training";
  state.classList.toggle("busy", training || status.state === "connecting");
  state.hidden = status.state === "listening" && Boolean($("rebuilt").dataset.shown);
  state.textContent = {
    connecting: "Connecting",
    training: `Training on ${count.format(status.pairs ?? 0)} pairs of its own`,
    listening: "Listening. Nothing of yours has passed yet.",
    away: "The eavesdropper cannot be reached. The service works without it.",
    failed: `The eavesdropper failed: ${status.reason}`,
  }[status.state];
  if (status.state !== "listening") return;
  const copies = status.pairs > status.own_pictures ? ` and ${count.format(status.pairs - status.own_pictures)} changed copies` : "";
  $("fact-train").textContent =
    `It sent ${count.format(status.own_pictures)} pictures of its own${copies} through the same service, recorded what ` +
    `its own device sent, and trained for ${status.seconds} seconds.`;
  if (status.held_out_mse) {
    $("fact-held").textContent =
      `On own pictures that it held out, its error is ${short(status.held_out_mse)}; the mean picture’s is ` +
      `${short(status.mean_mse)}.`;
  }
}

/** Show a picture that was rebuilt from this page's bytes, and its error beside the mean picture's. */
export function showRebuilt(picture, own, mean, delay, input) {
  paint($("rebuilt"), picture.pixels, { ...input, shape: picture.shape });
  $("rebuilt").dataset.shown = "yes";
  $("eaves-state").hidden = true;
  const errors = { rebuilt: squaredError(picture.pixels, own), mean: mean && squaredError(mean, own) };
  const most = Math.max(0.1, errors.rebuilt, errors.mean ?? 0);
  for (const [bar, number, value] of [
    ["error", "error-number", errors.rebuilt],
    ["mean-error", "mean-number", errors.mean],
  ]) {
    if (value === null || value === undefined) continue;
    fill($(bar), value, most);
    $(number).textContent = short(value);
  }
  $("rebuilt").setAttribute("aria-label", `Your picture as the eavesdropper rebuilt it, error ${short(errors.rebuilt)}`);
  $("rebuilt-caption").textContent = `Rebuilt from the bytes in ${Math.round(delay)} ms.`;
  const code = picture.crc32.toString(16).padStart(8, "0");
  $("bits").textContent = `It holds your exact bits: CRC-32 ${code} on both sides.`;
  return errors;
}

/** Forget the rebuilt picture, as the drawing was cleared. */
export function clearRebuilt() {
  const canvas = $("rebuilt");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", "Nothing rebuilt yet");
  for (const id of ["error-number", "mean-number", "prediction"]) $(id).textContent = "–";
  for (const id of ["error", "mean-error"]) fill($(id), 0, 1);
  $("rebuilt-caption").textContent = "Rebuilt from the bytes.";
  $("bits").textContent = "\u00a0";
}

/** Put a rebuilt picture into the album. */
export function addToAlbum(picture, mine, input) {
  const item = document.createElement("li");
  const canvas = document.createElement("canvas");
  paint(canvas, picture.pixels, { ...input, shape: picture.shape });
  canvas.setAttribute("role", "img");
  const when = new Date(picture.time * 1000).toLocaleTimeString("en", { hour12: false });
  canvas.setAttribute("aria-label", `${mine ? "Yours" : `From ${picture.sender}`}, ${when}`);
  item.title = canvas.getAttribute("aria-label");
  item.append(canvas);
  for (const old of $("album").querySelectorAll(".fresh")) old.classList.remove("fresh");
  item.classList.add("fresh");
  $("album").prepend(item);
  while ($("album").children.length > ALBUM) $("album").lastElementChild.remove();
}

function fill(bar, value, most) {
  bar.style.setProperty("--part", value / most);
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", most);
  bar.setAttribute("aria-valuenow", value);
}

let waiting;
/** Say a sentence to screen readers once nothing new came for a moment. */
export function announce(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => ($("announce").textContent = text), 900);
}

/** Return an error for people, such as 0.0011. */
export function short(value) {
  return value < 0.01 ? value.toFixed(4) : value.toFixed(3);
}

/** Return a probability for people; a nearly certain answer is not rounded up to certainty. */
function percent(value) {
  const hundred = 100 * value;
  return `${hundred > 99.5 || (hundred > 0 && hundred < 0.5) ? hundred.toFixed(1) : Math.round(hundred)}\u202f%`;
}
