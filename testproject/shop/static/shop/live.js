// Keeps every element with data-live fresh: fetches its content from that address each second, not while the page is
// hidden, until the content says data-ended. Without this script the page is right whenever it is loaded.
"use strict";

for (const region of document.querySelectorAll("[data-live]")) {
  keepFresh(region);
}

async function keepFresh(region) {
  let shown = "";
  while (!region.querySelector("[data-ended]")) {
    await second();
    await pageVisible();
    const content = await load(region.dataset.live);
    if (content && content !== shown) {
      region.innerHTML = shown = content;
    }
  }
}

async function load(address) {
  try {
    const response = await fetch(address);
    return response.ok ? await response.text() : "";
  } catch {
    return ""; // The server is away: asked again.
  }
}

function second() {
  return new Promise((resolve) => setTimeout(resolve, 1000));
}

function pageVisible() {
  return new Promise((resolve) => {
    if (!document.hidden) {
      resolve();
      return;
    }
    const whenVisible = () => {
      if (!document.hidden) {
        document.removeEventListener("visibilitychange", whenVisible);
        resolve();
      }
    };
    document.addEventListener("visibilitychange", whenVisible);
  });
}
