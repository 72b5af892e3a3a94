// Puts the newest state into the page. Without this script the page is whole, and as new as its last reload.
"use strict";
const live = document.getElementById("live");
if (live && live.dataset.events === "true" && window.EventSource) {
  const source = new EventSource("/ui/events");
  source.addEventListener("view", (event) => {
    // Whoever reads or marks something there is not interrupted.
    const marked = window.getSelection && !window.getSelection().isCollapsed;
    if (live.contains(document.activeElement) || marked || live.innerHTML === event.data) return;
    live.innerHTML = event.data;
  });
}
