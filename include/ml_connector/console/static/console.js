// Our requests carry a header that no form of another site can send (web/access.py).
document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-Console"] = "1";
});

// Airflow's frame opens no windows (its sandbox lacks allow-popups). Its document is of the same
// origin, so a link that leaves is clicked there.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-outside]");
  if (!link || window.parent === window) return;
  event.preventDefault();
  const copy = window.parent.document.createElement("a");
  copy.href = link.href;
  copy.target = "_blank";
  copy.rel = "noopener";
  window.parent.document.body.append(copy);
  copy.click();
  copy.remove();
});

// "/" goes to the search, as in many tools; not while something is being typed.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && !typing && search && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});
