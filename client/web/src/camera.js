// The camera, and one clear line for every reason that it stays dark.

const REASONS = {
  NotAllowedError: "The camera was refused. Allow it in this site’s settings, or draw, or choose a file.",
  NotFoundError: "This device has no camera. Draw, or choose a file.",
  NotReadableError: "Another program uses the camera. Close it, or draw, or choose a file.",
};

export const INSECURE =
  "This page came over plain HTTP from another host, so the browser offers no camera. Open it as http://localhost " +
  "(adb reverse or ssh -L brings it there), or draw, or choose a file.";

/** Start the camera on a video element; throws a line that says why it cannot. */
export async function start(video) {
  if (!globalThis.isSecureContext || !navigator.mediaDevices) throw new Error(INSECURE);
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 640 } },
    });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The camera gave an error: ${error.message}. Draw, or choose a file.`);
  }
  await video.play();
}

/** Stop the camera and free it. */
export function stop(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** Return the current frame as a canvas, or null before the first. */
export function frame(video) {
  if (!video.videoWidth) return null;
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas;
}
