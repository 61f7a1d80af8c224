// What the eavesdropper publishes: its state, and every picture that it rebuilds.

/**
 * Follow the eavesdropper.
 *
 * @param {number} port its port, on the host of this page
 * @param {{status: Function, picture: Function, away: Function}} handlers
 */
export function follow(port, handlers) {
  const address = new URL(location.href);
  const source = new EventSource(`${address.protocol}//${address.hostname}:${port}/events`);
  source.addEventListener("status", (event) => {
    const status = JSON.parse(event.data);
    handlers.status({ ...status, mean: status.mean && numbers(status.mean) });
  });
  source.addEventListener("picture", (event) => {
    const picture = JSON.parse(event.data);
    handlers.picture({ ...picture, pixels: numbers(picture.pixels) });
  });
  source.addEventListener("error", () => handlers.away());
  return source;
}

function numbers(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
