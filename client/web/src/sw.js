// Keeps the page's own files, so that it installs as an app and opens without the network. Calls are never kept.

const CACHE = "wireleak-1";
const FILES = ["./", "style.css", "main.js", "onnxruntime.wasm", "manifest.webmanifest", "icon.svg", "icon-192.png"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(
    fetch(request)
      .then((answer) => {
        const copy = answer.clone();
        if (answer.ok) event.waitUntil(caches.open(CACHE).then((cache) => cache.put(request, copy)));
        return answer;
      })
      .catch(async () => (await caches.match(request)) ?? Response.error()),
  );
});
