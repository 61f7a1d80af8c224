// The service, over gRPC-web. A browser sends a request's body at once, so each call carries one picture's activation.

import { create } from "@bufbuild/protobuf";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { DType, PredictRequestSchema, SplitHead } from "./gen/split_head_pb.js";

const TIMEOUT = 10_000;
// One message up and one down: the bytes of such a call are the same as those of a stream with one message.
const predictMethod = { ...SplitHead.method.predict, methodKind: "unary" };

let bodyBytes = 0;
const transport = createGrpcWebTransport({
  baseUrl: new URL(".", document.baseURI).href,
  fetch: (address, request) => {
    bodyBytes = request.body.byteLength;
    return fetch(address, request);
  },
});

/** Ask whether the head fits this encoder; throws a line that says why not. */
export async function describe(manifest) {
  const asked = { model: manifest.model, cut: String(manifest.cut), activationShape: manifest.activation_shape };
  try {
    return await createClient(SplitHead, transport).describe(asked, { timeoutMs: TIMEOUT });
  } catch (error) {
    throw new Error(line(error));
  }
}

/** Send one activation; return the class probabilities and the size of the message that left. */
export async function predict(activation) {
  const bytes = new Uint8Array(activation.data.buffer, activation.data.byteOffset, activation.data.byteLength);
  const tensor = { dtype: DType.DTYPE_FLOAT32, shape: activation.shape, data: bytes };
  const request = create(PredictRequestSchema, { sequence: 0n, activation: tensor });
  try {
    const answer = await transport.unary(predictMethod, undefined, TIMEOUT, undefined, request);
    const { data } = answer.message.prediction;
    return { probabilities: new Float32Array(data.slice().buffer), bytes: bodyBytes, tensor: bytes };
  } catch (error) {
    throw new Error(line(error));
  }
}

function line(error) {
  const known = ConnectError.from(error);
  const away = /failed to fetch|networkerror|load failed/i.test(known.rawMessage);
  return away ? "The service cannot be reached. Is wireleak serve still running?" : known.rawMessage;
}
