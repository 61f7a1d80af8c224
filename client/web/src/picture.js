// Pictures as the network takes them: float32, channels first, scaled as the manifest says.

/** Return a canvas's content as the encoder's input. */
export function toInput(source, { shape, low = 0, high = 1 }, invert = false) {
  const [channels, height, width] = shape;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const side = Math.min(source.width, source.height * (width / height));
  const tall = side * (height / width);
  context.drawImage(source, (source.width - side) / 2, (source.height - tall) / 2, side, tall, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const count = width * height;
  const input = new Float32Array(channels * count);
  for (let pixel = 0; pixel < count; pixel++) {
    const [red, green, blue] = data.subarray(4 * pixel, 4 * pixel + 3);
    const light = channels === 1 ? [0.299 * red + 0.587 * green + 0.114 * blue] : [red, green, blue];
    light.forEach((value, channel) => {
      input[channel * count + pixel] = low + (high - low) * (invert ? 1 - value / 255 : value / 255);
    });
  }
  return input;
}

/** Stretch a photo's contrast, so that ink on paper looks like a drawing; for pictures of one channel. */
export function stretched(input) {
  const sorted = Float32Array.from(input).sort();
  const dark = sorted[Math.floor(sorted.length * 0.5)];
  const bright = sorted[Math.floor(sorted.length * 0.99)];
  if (bright - dark < 0.08) return input;
  return input.map((value) => Math.min(1, Math.max(0, (value - dark) / (bright - dark))));
}

/** Return whether a picture's border is bright, as paper is. */
export function onPaper(input, [, height, width]) {
  let sum = 0;
  let count = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (row && column && row < height - 1 && column < width - 1) continue;
      sum += input[row * width + column];
      count++;
    }
  }
  return sum / count > 0.5;
}

/** Draw a picture into a canvas, one canvas pixel for each of its own. */
export function paint(canvas, pixels, { shape, low = 0, high = 1 }) {
  const [channels, height, width] = shape;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const count = width * height;
  for (let pixel = 0; pixel < count; pixel++) {
    for (let color = 0; color < 3; color++) {
      const value = pixels[(channels === 1 ? 0 : color) * count + pixel];
      image.data[4 * pixel + color] = Math.round((255 * (value - low)) / (high - low));
    }
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Return the mean squared difference of two pictures. */
export function squaredError(one, other) {
  let sum = 0;
  for (let index = 0; index < one.length; index++) sum += (one[index] - other[index]) ** 2;
  return sum / one.length;
}

const STOPS = [
  [8, 10, 24],
  [22, 66, 102],
  [30, 136, 122],
  [142, 202, 90],
  [253, 240, 178],
];

/** Draw an activation: each channel is a map of its own, dark for the least value. */
export function paintMaps(canvas, { data, shape }) {
  const [, channels, height = 1, width = 1] = shape;
  const columns = Math.ceil(Math.sqrt(channels));
  const rows = Math.ceil(channels / columns);
  const gap = width * height > 1 ? 1 : 0;
  canvas.width = columns * (width + gap) - gap;
  canvas.height = rows * (height + gap) - gap;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  let low = Infinity;
  let high = -Infinity;
  for (const value of data) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  for (let index = 0; index < data.length; index++) {
    const channel = Math.floor(index / (height * width));
    const row = Math.floor(index / width) % height;
    const x = (channel % columns) * (width + gap) + (index % width);
    const y = Math.floor(channel / columns) * (height + gap) + row;
    const color = blend((data[index] - low) / (high - low || 1));
    image.data.set([...color, 255], 4 * (y * canvas.width + x));
  }
  context.putImageData(image, 0, 0);
}

function blend(part) {
  const place = part * (STOPS.length - 1);
  const below = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[below].map((value, index) => value + (STOPS[below + 1][index] - value) * (place - below));
}
