// Makes the figures of a report answer: points say their numbers, buttons hide series.
//
// A figure holds two still drawings, one for each width, and its specification as JSON. The drawing
// that is shown gives way to a live one of the same specification; the other one follows when the
// width asks for it. Should anything fail, the still drawing stays. Text from the report is only
// ever set as text, and nothing is loaded: the page's policy forbids it, and so does the loader.
(() => {
  "use strict";

  const NARROW = window.matchMedia("(max-width: 44rem)");
  const TIP_GAP = 14;

  const refuse = () => Promise.reject(new Error("a report loads nothing"));
  const LOADER = { load: refuse, sanitize: refuse, http: refuse, file: refuse };

  const element = (name, properties = {}, children = []) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // One box for all figures. It is a picture's label: those who cannot point read the numbers.
  const tip = element("dl", { id: "tip", hidden: true });
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);

  const hideTip = () => {
    tip.hidden = true;
  };

  const showTip = (event, said) => {
    tip.replaceChildren(
      ...Object.entries(said).flatMap(([name, value]) => [
        element("dt", { textContent: name }),
        element("dd", { textContent: String(value) }),
      ]),
    );
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const farthest = document.documentElement.clientWidth - width - 4;
    const left = Math.min(event.clientX + TIP_GAP, farthest);
    const above = event.clientY - height - TIP_GAP;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${above > 4 ? above : event.clientY + TIP_GAP}px`;
  };

  const onTip = (_handler, event, _item, said) => {
    if (said !== null && typeof said === "object") showTip(event, said);
    else hideTip();
  };

  const liveDrawing = async (holder, specification) => {
    const stage = element("div");
    const { view } = await window.vegaEmbed(stage, specification, {
      mode: "vega-lite",
      renderer: "svg",
      ast: true,
      actions: false,
      defaultStyle: false,
      hover: false,
      loader: LOADER,
      tooltip: onTip,
      config: { aria: false },
    });
    // A finger does not hover: what it taps is said until the next tap.
    view.addEventListener("click", (event, item) => onTip(null, event, item, item?.tooltip ?? null));
    holder.replaceChildren(stage);
    return view;
  };

  const swatch = ({ color, dash }) => {
    const image = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const size = { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": "true" };
    const look = { x1: 1, x2: 25, y1: 5, y2: 5, stroke: color, "stroke-width": 3 };
    if (dash.length) look["stroke-dasharray"] = dash.join(" ");
    for (const [name, value] of Object.entries(size)) image.setAttribute(name, value);
    for (const [name, value] of Object.entries(look)) line.setAttribute(name, value);
    image.append(line);
    return image;
  };

  const legend = (title, series, onChange) => {
    const hidden = new Set();
    const buttons = series.map((each) => {
      const button = element("button", { type: "button" }, [swatch(each), each.name]);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!hidden.delete(each.name)) hidden.add(each.name);
        button.setAttribute("aria-pressed", String(!hidden.has(each.name)));
        hideTip();
        onChange([...hidden]);
      });
      return button;
    });
    const group = element("div", { className: "legend" }, buttons);
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", `Shown in the figure: ${title}`);
    return group;
  };

  const enliven = async (figure) => {
    const given = JSON.parse(figure.querySelector("script").textContent);
    const { datasets, series } = given;
    const title = document.getElementById(figure.getAttribute("aria-labelledby")).textContent;
    const views = {};
    let hidden = [];

    const apply = (view) => view.signal("hidden", hidden).runAsync();
    const drawShown = async () => {
      const layout = NARROW.matches ? "narrow" : "wide";
      if (views[layout]) return;
      const holder = figure.querySelector(`.${layout}`);
      views[layout] = liveDrawing(holder, { ...given[layout], datasets });
      const view = await views[layout];
      if (series.length > 1) await apply(view);
    };

    await drawShown();
    NARROW.addEventListener("change", () => drawShown().catch(console.error));
    if (series.length > 1) {
      const onChange = (names) => {
        hidden = names;
        for (const view of Object.values(views)) view.then(apply).catch(console.error);
      };
      figure.prepend(legend(title, series, onChange));
    }
  };

  // What scrolls sideways can be scrolled by keyboard, and says what it is.
  const reachScrollers = () => {
    for (const scroller of document.querySelectorAll(".scroll")) {
      if (scroller.scrollWidth <= scroller.clientWidth) continue;
      scroller.tabIndex = 0;
      scroller.setAttribute("role", "region");
      scroller.setAttribute("aria-label", scroller.querySelector("caption").textContent);
    }
  };

  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  document.addEventListener("pointerdown", hideTip);
  window.addEventListener("scroll", hideTip, { passive: true });

  const start = async () => {
    reachScrollers();
    // One after another, so that the page stays usable meanwhile.
    for (const figure of document.querySelectorAll("figure")) {
      await enliven(figure).catch(console.error);
    }
    document.documentElement.dataset.live = "yes";
  };
  start();
})();
