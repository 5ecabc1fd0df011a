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

// Airflow's frame shows no window.confirm (its sandbox lacks allow-modals): it would always say no.
const confirmed = (question, yes) =>
  new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    const text = document.createElement("p");
    text.textContent = question;
    const form = document.createElement("form");
    form.method = "dialog";
    for (const [label, value] of [["Cancel", ""], [yes, "yes"]]) {
      const button = document.createElement("button");
      button.textContent = label;
      button.value = value;
      form.append(button);
    }
    dialog.append(text, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });

document.addEventListener("htmx:confirm", async (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  const yes = event.detail.elt.querySelector("button[type=submit]")?.textContent || "Go on";
  if (await confirmed(event.detail.question, yes)) event.detail.issueRequest(true);
});

// Approve and Reject answer Airflow's own question with the user's session: Airflow checks the rights
// and stores who decided.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-answer]");
  if (!button) return;
  const question = button.dataset.confirm;
  if (question && !(await confirmed(question, button.textContent))) return;
  const buttons = document.querySelectorAll("button[data-answer]");
  const say = (text) => {
    document.getElementById("answered").textContent = text;
  };
  const answer = button.dataset.answer;
  const refusals = {
    401: "You are no longer logged in to Airflow. Load the page again.",
    403: "Airflow does not let you answer: it takes the right to answer required actions of this DAG.",
    404: "The run has not asked yet, or no longer asks. Load the page again in a moment.",
    409: "Somebody has answered already. Load the page again.",
  };
  const shown = button.dataset.shown;
  for (const each of buttons) each.disabled = true;
  try {
    // The plan may have changed since. The run checks that too, and asks again.
    const page = await fetch(location.href, { credentials: "same-origin" });
    const now = new DOMParser().parseFromString(await page.text(), "text/html");
    const asked = now.querySelector("button[data-answer]");
    if (asked && asked.dataset.shown !== shown) {
      say("The plan is no longer the one shown here. Load the page again.");
      return;
    }
    const response = await fetch(button.dataset.question, {
      method: "PATCH",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ chosen_options: [answer], params_input: { shown } }),
    });
    if (response.ok) {
      const next = document.getElementById("run") ? "This page follows the run." : "Load the page again to see the run's state.";
      say(`${answer === "Approve" ? "Approval" : "Rejection"} sent. ${next}`);
      document.body.dispatchEvent(new Event("answered"));
      return;
    }
    say(refusals[response.status] || `Airflow refused the answer (${response.status}). Answer in Airflow.`);
  } catch {
    say("Airflow cannot be reached. Try again.");
  }
  for (const each of buttons) each.disabled = false;
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
