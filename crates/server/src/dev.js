// Of `serval dev`: shows over the page what does not build or start, and reloads the page when its webapp serves a new generation.
(() => {
  // In what is put into a page that has it already.
  if (window.servalDev) return;
  window.servalDev = true;
  const script = document.currentScript;
  const since = Number(script.dataset.since);
  let panel = null;

  // By properties alone: a Content-Security-Policy may forbid style attributes.
  const styled = (element, style) => Object.assign(element.style, style) && element;

  const show = (troubles) => {
    panel?.remove();
    panel = null;
    if (troubles.length === 0) return;
    panel = styled(document.createElement("div"), {
      position: "fixed", inset: "0", zIndex: "2147483647", overflow: "auto", padding: "2rem",
      background: "rgba(24, 24, 27, .96)", color: "#fafafa", textAlign: "left",
      font: "14px/1.5 ui-monospace, monospace",
    });
    panel.id = "serval-dev";
    panel.setAttribute("role", "alert");
    for (const { context, what, text } of troubles) {
      const head = styled(document.createElement("div"), { color: "#f87171", fontWeight: "bold", fontSize: "16px" });
      head.textContent = `${context}: ${what}`;
      const body = styled(document.createElement("pre"), { whiteSpace: "pre-wrap", margin: "1rem 0 2rem" });
      body.textContent = text;
      panel.append(head, body);
    }
    const close = styled(document.createElement("button"), {
      position: "absolute", top: "1rem", right: "1rem", font: "inherit", color: "inherit", background: "none",
      border: "1px solid currentColor", borderRadius: "4px", padding: ".25rem .75rem", cursor: "pointer",
    });
    close.textContent = "Close";
    close.onclick = () => show([]);
    panel.append(close);
    document.documentElement.append(panel);
  };

  // The webapp of this page, by the longest path; "/" is in the way of all.
  const isOfThisPage = (context, all) => {
    const path = `${location.pathname}/`;
    const within = (name) => name === "/" || path.startsWith(`${name.split("##")[0]}/`);
    const longest = Math.max(...all.filter(within).map((name) => name.split("##")[0].length));
    return within(context) && context.split("##")[0].length === longest;
  };

  const source = new EventSource("/.serval/dev");
  source.onmessage = ({ data }) => {
    const { served, troubles } = JSON.parse(data);
    const all = Object.keys(served);
    if (all.some((context) => served[context] > since && isOfThisPage(context, all))) {
      source.close();
      location.reload();
      return;
    }
    show(troubles);
  };
})();
