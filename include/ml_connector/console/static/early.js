// What is pressed before htmx has loaded is done once it has: without it such a button does nothing,
// and such a form only loads its page again. A form with an action works by itself and is let go.
(() => {
  const held = new Map();
  const hold = (event) => {
    const one = event.target.closest("form[hx-post]:not([action]), button[hx-post], button[hx-get]");
    if (!one || (event.type === "submit") !== (one.localName === "form")) return;
    event.preventDefault();
    held.set(one, event.submitter);
  };
  document.addEventListener("submit", hold, true);
  document.addEventListener("click", hold, true);
  const release = () => {
    document.removeEventListener("submit", hold, true);
    document.removeEventListener("click", hold, true);
    for (const [one, submitter] of held) {
      if (one.localName === "form") one.requestSubmit(submitter);
      else one.click();
    }
  };
  document.addEventListener("htmx:load", release, { once: true });
})();
