// The encoder: the first layers of the network, run in this browser by ONNX Runtime Web.

import * as ort from "onnxruntime-web/wasm";

ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", document.baseURI).href };
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

/** Fetch the encoder and its manifest, and check that they belong together. */
export async function loadEncoder() {
  const [manifest, bytes] = await Promise.all([
    fetched("encoder/manifest.json").then((answer) => answer.json()),
    fetched("encoder/encoder.onnx").then((answer) => answer.arrayBuffer()),
  ]);
  // Browsers offer digests only to pages from this machine or over HTTPS.
  if (globalThis.crypto?.subtle && manifest.encoder_sha256) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== manifest.encoder_sha256) {
      throw new Error("The encoder is not the one that its manifest names. Export it again with wireleak export.");
    }
  }
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return new Encoder(manifest, session);
}

class Encoder {
  #session;

  constructor(manifest, session) {
    this.manifest = manifest;
    this.#session = session;
  }

  /** Return the activation of one picture (float32, row by row), as {data, shape}. */
  async run(picture) {
    const input = new ort.Tensor("float32", picture, [1, ...this.manifest.input.shape]);
    const results = await this.#session.run({ [this.#session.inputNames[0]]: input });
    const output = results[this.#session.outputNames[0]];
    return { data: output.data, shape: [...output.dims] };
  }
}

async function fetched(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`The service does not give out ${path} (status ${answer.status}).`);
  return answer;
}
