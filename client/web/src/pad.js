// The square that a person draws on: by finger, mouse, pen or keyboard.

const SIZE = 560;
const PEN = SIZE * 0.085;
const STEP = SIZE / 28;

/** A drawing area on a canvas. `changed` is called after every stroke that changes the ink. */
export class Pad {
  #view;
  #ink = new OffscreenCanvas(SIZE, SIZE);
  #still = null; // a photo that is shown instead of ink
  #pen = { x: SIZE / 2, y: SIZE / 2, down: false, shown: false };
  #pointer = null;
  #changed;

  constructor(canvas, changed, send) {
    this.#view = canvas;
    this.#changed = changed;
    this.empty = true;
    canvas.width = canvas.height = SIZE;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.#pointer = null));
    canvas.addEventListener("keydown", (event) => this.#key(event, send));
    canvas.addEventListener("blur", () => {
      this.#pen.shown = this.#pen.down = false;
      this.#show();
    });
    this.clear();
  }

  /** The ink alone. */
  get ink() {
    return this.#ink;
  }

  clear() {
    const context = this.#ink.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
    this.empty = true;
    this.#show();
  }

  /** Write one character in the middle. */
  write(character) {
    this.clear();
    const context = this.#ink.getContext("2d");
    context.fillStyle = context.strokeStyle = "#fff";
    context.lineJoin = "round";
    context.lineWidth = SIZE * 0.012;
    context.font = `500 ${SIZE * 0.86}px Inter, system-ui, sans-serif`;
    context.textAlign = "center";
    const box = context.measureText(character);
    const middle = SIZE / 2 + (box.actualBoundingBoxAscent - box.actualBoundingBoxDescent) / 2;
    context.fillText(character, SIZE / 2, middle);
    context.strokeText(character, SIZE / 2, middle);
    this.empty = false;
    this.#show();
    this.#changed();
  }

  /** Return the ink as the text of a small picture. */
  async toText() {
    const small = document.createElement("canvas");
    small.width = small.height = SIZE / 4;
    const context = small.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#ink, 0, 0, small.width, small.height);
    return small.toDataURL("image/png");
  }

  /** Take ink that `toText` gave. */
  async fromText(text) {
    const picture = new Image();
    picture.src = text;
    try {
      await picture.decode();
    } catch {
      return; // a broken address; the pad stays empty
    }
    const context = this.#ink.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, SIZE, SIZE);
    this.empty = false;
    this.#show();
    this.#changed();
  }

  /** Show a picture instead of the ink; null shows the ink again. */
  showStill(canvas) {
    this.#still = canvas;
    this.#view.classList.toggle("still", canvas !== null);
    this.#show();
  }

  #press(event) {
    if (this.#still || event.button) return;
    this.#view.setPointerCapture(event.pointerId);
    this.#pointer = this.#place(event);
    this.#line(this.#pointer, this.#pointer);
  }

  #move(event) {
    if (!this.#pointer) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) {
      const place = this.#place(step);
      this.#line(this.#pointer, place);
      this.#pointer = place;
    }
  }

  #place(event) {
    const box = this.#view.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
  }

  #line(from, to) {
    const context = this.#ink.getContext("2d");
    context.strokeStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = PEN;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    this.empty = false;
    this.#show();
    this.#changed();
  }

  #key(event, send) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Enter") send();
    else if (this.#still) return;
    else if (/^[0-9]$/.test(event.key)) this.write(event.key);
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (event.key === " ") {
      this.#pen.down = !this.#pen.down;
      this.#pen.shown = true;
      if (this.#pen.down) this.#line(this.#pen, this.#pen);
      this.#show();
    } else if (moves[event.key]) {
      const from = { ...this.#pen };
      this.#pen.x = Math.min(SIZE, Math.max(0, this.#pen.x + STEP * moves[event.key][0]));
      this.#pen.y = Math.min(SIZE, Math.max(0, this.#pen.y + STEP * moves[event.key][1]));
      this.#pen.shown = true;
      if (this.#pen.down) this.#line(from, this.#pen);
      this.#show();
    } else return;
    event.preventDefault();
  }

  #show() {
    const context = this.#view.getContext("2d");
    context.imageSmoothingEnabled = !this.#still;
    context.drawImage(this.#still ?? this.#ink, 0, 0, SIZE, SIZE);
    if (this.#still) return;
    if (this.empty) {
      context.strokeStyle = "rgb(255 255 255 / 22%)";
      context.lineWidth = 3;
      context.setLineDash([10, 14]);
      context.strokeRect(SIZE / 7, SIZE / 7, (SIZE * 5) / 7, (SIZE * 5) / 7);
      context.setLineDash([]);
      context.fillStyle = "rgb(255 255 255 / 72%)";
      context.font = `500 ${SIZE / 13}px Inter, system-ui, sans-serif`;
      context.textAlign = "center";
      context.fillText("Draw a digit here", SIZE / 2, SIZE / 2 + SIZE / 39);
    }
    if (this.#pen.shown) {
      context.strokeStyle = this.#pen.down ? "#ff9154" : "#62c6ee";
      context.lineWidth = 5;
      context.beginPath();
      context.arc(this.#pen.x, this.#pen.y, PEN / 2 + 4, 0, 7);
      context.stroke();
    }
  }
}
