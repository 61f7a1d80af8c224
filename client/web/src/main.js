// The page: a picture goes through the encoder here; its activation crosses the wire; the eavesdropper rebuilds it.

import * as camera from "./camera.js";
import { crc32 } from "./crc32.js";
import { follow } from "./eavesdropper.js";
import { loadEncoder } from "./encoder.js";
import { Pad } from "./pad.js";
import { onPaper, paint, stretched, toInput } from "./picture.js";
import { describe, predict } from "./service.js";
import * as view from "./view.js";

const PAUSE = 150; // between messages while drawing, ms
const FRAME = 350; // between frames of the camera, ms
const REMEMBERED = 64;
const DIGITS = "3720581946";

const $ = (id) => document.getElementById(id);
const sent = new Map(); // the checksum of an activation: the picture behind it, and when it left
let encoder;
let mean = null;
let photo = null; // the last file or frame of the camera, as a canvas
let source = "draw";
let busy = false;
let waiting = false;
let written = 0;
let frames;

const pad = new Pad($("pad"), changed, () => send(true));

/** Return the picture as the encoder takes it, or null when there is none. */
function picture() {
  const { input } = encoder.manifest;
  if (source === "draw") return pad.empty ? null : toInput(pad.ink, input);
  if (!photo) return null;
  const taken = toInput(photo, input, $("invert").checked);
  return input.shape[0] === 1 && source !== "draw" ? stretched(taken) : taken;
}

function changed() {
  waiting = true;
  send(false);
}

/** Send the current picture. One message is under way at a time; a picture that changed meanwhile follows. */
async function send(asked) {
  if (!encoder || busy || !(waiting || asked)) return;
  waiting = false;
  const own = picture();
  if (!own) return;
  busy = true;
  try {
    const began = performance.now();
    const activation = await encoder.run(own);
    const spent = performance.now() - began;
    const bits = new Uint8Array(activation.data.buffer, activation.data.byteOffset, activation.data.byteLength);
    const checksum = crc32(bits);
    remember(checksum, { own, left: performance.now() });
    view.pulse();
    view.showSeen(own, encoder.manifest.input);
    // For whoever opens the console, and for the tests.
    const message = { input: own, activation, checksum };
    globalThis.wireleak = message;
    const answer = await predict(activation);
    Object.assign(message, { probabilities: answer.probabilities, bytes: answer.bytes });
    const { classes } = encoder.manifest;
    message.said = view.showSent({ activation, ...answer, classes, manifest: encoder.manifest, spent });
    tell(message);
    view.notice("");
  } catch (error) {
    view.notice(error.message);
  } finally {
    busy = false;
    if (waiting) setTimeout(() => send(false), PAUSE);
  }
}

function remember(checksum, entry) {
  sent.delete(checksum);
  sent.set(checksum, entry);
  if (sent.size > REMEMBERED) sent.delete(sent.keys().next().value);
}

function rebuilt(found) {
  const mine = sent.get(found.crc32);
  const { input } = encoder.manifest;
  view.addToAlbum(found, Boolean(mine), input);
  if (!mine) return;
  const errors = view.showRebuilt(found, mine.own, mean, performance.now() - mine.left, input);
  const message = globalThis.wireleak;
  if (message?.checksum !== found.crc32) return;
  Object.assign(message, { rebuilt: found.pixels, errors });
  tell(message);
}

/** Say what is known of a message. The eavesdropper may be faster than the service's answer: both are awaited. */
function tell({ said, bytes, errors }) {
  if (!said) return;
  if (!errors) return view.announce(`${bytes} bytes left the device. The service answers ${said}.`);
  view.announce(
    `The service answers ${said}. The eavesdropper rebuilt your picture with error ${view.short(errors.rebuilt)}` +
      (errors.mean ? `; the mean picture’s error is ${view.short(errors.mean)}.` : "."),
  );
}

function status(found) {
  if (found.state === "listening") mean = found.mean;
  view.showStatus(found);
}

/** Show the photo as the encoder gets it, and send it. */
function photoChanged() {
  const own = picture();
  if (!own) return;
  const shown = document.createElement("canvas");
  paint(shown, own, encoder.manifest.input);
  pad.showStill(shown);
  changed();
}

async function choose(name) {
  source = name;
  clearInterval(frames);
  camera.stop($("video"));
  photo = null;
  $("write").hidden = $("clear").hidden = name !== "draw";
  $("choose").hidden = name !== "file";
  $("capture").hidden = name !== "camera";
  $("invert").closest("label").hidden = name === "draw";
  view.notice("");
  if (name === "draw") return pad.showStill(null);
  pad.showStill(blank(name === "file" ? "Choose a picture" : "Starting the camera"));
  if (name === "camera") await startCamera();
}

async function startCamera() {
  try {
    await camera.start($("video"));
  } catch (error) {
    view.notice(error.message);
    pad.showStill(blank("No camera"));
    return;
  }
  $("capture").textContent = "Pause";
  let first = true;
  frames = setInterval(() => {
    photo = camera.frame($("video")) ?? photo;
    if (!photo) return;
    if (first) fitPaper();
    first = false;
    photoChanged();
  }, FRAME);
}

async function openFile(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    photo = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = photo.getContext("2d");
    context.fillStyle = "#fff"; // a transparent picture lies on paper
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    context.drawImage(bitmap, 0, 0);
  } catch {
    view.notice(`${file.name} is no picture that this browser can read. Choose a PNG, JPEG or WebP.`);
    return;
  }
  view.notice("");
  fitPaper();
  photoChanged();
}

/** Invert ink on paper, for a network that learnt light ink on a dark ground. */
function fitPaper() {
  const { input } = encoder.manifest;
  $("invert").checked = input.shape[0] === 1 && onPaper(toInput(photo, { ...input, low: 0, high: 1 }), input.shape);
}

function blank(text) {
  const canvas = new OffscreenCanvas(560, 560);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, 560, 560);
  context.fillStyle = "rgb(255 255 255 / 72%)";
  context.font = "500 50px Inter, system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText(text, 280, 297);
  return canvas;
}

/** Open the page of another cut, with the same drawing. */
async function goTo(address) {
  location.href = source === "draw" && !pad.empty ? `${address}#${await pad.toText()}` : address;
}

/** Take the drawing that another cut's page handed over. */
async function takeOver() {
  const text = location.hash.slice(1);
  if (!text.startsWith("data:image/png;base64,")) return;
  history.replaceState(null, "", location.pathname);
  await pad.fromText(text);
}

function listen() {
  for (const radio of document.querySelectorAll("[name=source]")) {
    radio.addEventListener("change", () => choose(radio.value));
  }
  $("clear").addEventListener("click", () => {
    pad.clear();
    view.clearRebuilt();
    $("pad").focus();
  });
  $("write").addEventListener("click", () => pad.write(DIGITS[written++ % DIGITS.length]));
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => openFile($("file").files[0]));
  $("invert").addEventListener("change", photoChanged);
  $("capture").addEventListener("click", () => {
    const paused = $("video").paused;
    if (paused) $("video").play();
    else $("video").pause();
    $("capture").textContent = paused ? "Pause" : "Go on";
  });
  $("pad").addEventListener("dragover", (event) => event.preventDefault());
  $("pad").addEventListener("drop", (event) => {
    event.preventDefault();
    document.querySelector("[value=file]").checked = true;
    choose("file").then(() => openFile(event.dataTransfer.files[0]));
  });
}

async function begin() {
  listen();
  await document.fonts.load("500 50px Inter");
  await choose("draw");
  if (!globalThis.isSecureContext) view.notice(camera.INSECURE);
  else navigator.serviceWorker?.register("sw.js").catch(() => {});
  view.showStatus({ state: "connecting" });
  try {
    const about = await (await fetch("about.json")).json();
    encoder = await loadEncoder();
    await describe(encoder.manifest);
    view.showClasses(encoder.manifest.classes);
    view.showCuts(about.cuts ?? [], goTo);
    $("fact-model").textContent = `The network: ${about.title}.`;
    if (about.eavesdropper) follow(about.eavesdropper, { status, picture: rebuilt, away: () => status({ state: "away" }) });
    else view.showStatus({ state: "away" });
    document.documentElement.dataset.ready = "yes";
    await takeOver();
    send(false);
  } catch (error) {
    view.notice(error.message);
  }
}

begin();
