// Before the first paint: Airflow's own choice of light or dark, where its frame lets us read it.
// Airflow keeps it under "theme" (next-themes); "system" and nothing at all leave it to the browser.
(() => {
  const root = document.documentElement;
  const chosen = () => {
    try {
      const above = window.parent !== window ? window.parent.document.documentElement : null;
      if (above && above.classList.contains("dark")) return "dark";
      if (above && above.classList.contains("light")) return "light";
      return window.localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const apply = () => {
    const theme = chosen();
    const before = root.dataset.theme;
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    else delete root.dataset.theme;
    if (before !== root.dataset.theme) document.dispatchEvent(new Event("themechange"));
  };
  apply();
  window.addEventListener("storage", apply);
  try {
    if (window.parent !== window) {
      new MutationObserver(apply).observe(window.parent.document.documentElement, {
        attributes: true,
        attributeFilter: ["class"],
      });
    }
  } catch {
    // Framed by another origin: the browser's own preference counts.
  }
})();
